package dynamo

import (
	"bytes"
	"compress/flate"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// A write is billed by the kilobyte, and JSON is mostly names: a body that would make a
// row pass one is deflated, and is bytes in its row then, and else text.
const packFrom = 700

var deflaters = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.DefaultCompression) // the level is a valid one
	return w
}}

// packed is a body as it stands in its row.
func packed(body string) types.AttributeValue {
	if len(body) < packFrom {
		return str(body)
	}
	b := bytes.NewBuffer(make([]byte, 0, len(body)))
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(b)
	_, err := io.WriteString(w, body)
	if err == nil {
		err = w.Close()
	}
	if err != nil || b.Len() >= len(body) {
		return str(body)
	}
	return &types.AttributeValueMemberB{Value: b.Bytes()}
}

// unpacked is a body out of its row.
func unpacked(v types.AttributeValue) ([]byte, error) {
	b, ok := v.(*types.AttributeValueMemberB)
	if !ok {
		return []byte(stringOf(v)), nil
	}
	return io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(b.Value)), packedMost))
}

// packedMost bounds what a row unpacks to, far above what an event may have.
const packedMost = 4 << 20
