package devicestore

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/seal"
)

// A row's value on its way to the table: compressed if that helps, sealed, and
// cut into pieces that fit an item. On the way back the pieces are joined
// before the whole is opened, so a torn or mixed value does not open.
const (
	compressFrom = 4 << 10   // smaller values gain nothing worth the time
	pieceSize    = 350 << 10 // an item may have 400 KB with its keys
	maxSealed    = 3 << 20   // a transaction may have 4 MB; room for its company
	maxPlain     = 16 << 20  // what a sealed value may inflate to
)

// The attributes of every row but the device row.
const (
	attrPK    = "pk"
	attrSK    = "sk"
	attrValue = "v"
	attrParts = "parts"
	attrTTL   = "ttl"
)

const (
	plainStored  = 0
	plainDeflate = 1
)

// pack frames a value for sealing.
func pack(value []byte) []byte {
	if len(value) >= compressFrom {
		var b bytes.Buffer
		b.WriteByte(plainDeflate)
		w, _ := zlib.NewWriterLevel(&b, zlib.BestSpeed) // the level is a valid one
		_, _ = w.Write(value)                           // a bytes.Buffer takes everything
		_ = w.Close()
		if b.Len() < len(value) {
			return b.Bytes()
		}
	}
	return append([]byte{plainStored}, value...)
}

// unpack undoes pack.
func unpack(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, ErrCorrupt
	}
	switch b[0] {
	case plainStored:
		return b[1:], nil
	case plainDeflate:
		r, err := zlib.NewReader(bytes.NewReader(b[1:]))
		if err != nil {
			return nil, ErrCorrupt
		}
		value, err := io.ReadAll(io.LimitReader(r, maxPlain+1))
		if err != nil || len(value) > maxPlain {
			return nil, ErrCorrupt
		}
		return value, nil
	default:
		return nil, ErrCorrupt
	}
}

// item is one item of a transaction, before it is one.
type item struct {
	key map[string]types.AttributeValue
	put map[string]types.AttributeValue // nil: delete
}

// partKey is the sort key of a continuation row.
func partKey(sk string, i int) string { return "~" + sk + "#" + strconv.Itoa(i) }

// rowItems returns the items that store the value, and how many continuation
// rows there are. Continuation rows of an earlier, longer value go.
func rowItems(key *seal.Key, at seal.Place, w *write, oldParts int) ([]item, int, error) {
	if w.value == nil {
		items := []item{{key: primaryKey(at.Partition, at.Key)}}
		for i := range oldParts {
			items = append(items, item{key: primaryKey(at.Partition, partKey(at.Key, i))})
		}
		return items, 0, nil
	}
	if len(w.value) > maxPlain {
		return nil, 0, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(w.value))
	}
	sealed := key.Seal(pack(w.value), at)
	if len(sealed) > maxSealed {
		return nil, 0, fmt.Errorf("%w: %d bytes sealed", ErrTooLarge, len(sealed))
	}
	first := sealed[:min(pieceSize, len(sealed))]
	rest := sealed[len(first):]
	put := primaryKey(at.Partition, at.Key)
	put[attrValue] = &types.AttributeValueMemberB{Value: first}
	if !w.expires.IsZero() {
		put[attrTTL] = num(uint64(w.expires.Unix()))
	}
	items := []item{{key: primaryKey(at.Partition, at.Key), put: put}}
	parts := 0
	for ; len(rest) > 0; parts++ {
		piece := rest[:min(pieceSize, len(rest))]
		rest = rest[len(piece):]
		p := primaryKey(at.Partition, partKey(at.Key, parts))
		p[attrValue] = &types.AttributeValueMemberB{Value: piece}
		if !w.expires.IsZero() {
			p[attrTTL] = num(uint64(w.expires.Unix()))
		}
		items = append(items, item{key: primaryKey(at.Partition, partKey(at.Key, parts)), put: p})
	}
	if parts > 0 {
		put[attrParts] = num(uint64(parts))
	}
	for i := parts; i < oldParts; i++ {
		items = append(items, item{key: primaryKey(at.Partition, partKey(at.Key, i))})
	}
	return items, parts, nil
}

// openRow opens a value whose pieces have been joined.
func openRow(key *seal.Key, at seal.Place, sealed []byte) ([]byte, error) {
	plain, err := key.Open(sealed, at)
	if err != nil {
		return nil, fmt.Errorf("%w: row of kind %q", ErrCorrupt, at.Kind)
	}
	return unpack(plain)
}

// kindOf is the part of a sort key that names what a row is, for messages and
// as a part of the place it is sealed for.
func kindOf(sk string) string {
	for i := range len(sk) {
		if sk[i] == '#' {
			return sk[:i]
		}
	}
	return sk
}

func primaryKey(pk, sk string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{attrPK: str(pk), attrSK: str(sk)}
}

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func num(n uint64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatUint(n, 10)}
}

func stringAttr(item map[string]types.AttributeValue, name string) string {
	if v, ok := item[name].(*types.AttributeValueMemberS); ok {
		return v.Value
	}
	return ""
}

func bytesAttr(item map[string]types.AttributeValue, name string) []byte {
	if v, ok := item[name].(*types.AttributeValueMemberB); ok {
		return v.Value
	}
	return nil
}

// numberAttr returns 0, false for an attribute that is missing or no number.
func numberAttr(item map[string]types.AttributeValue, name string) (uint64, bool) {
	v, ok := item[name].(*types.AttributeValueMemberN)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(v.Value, 10, 64)
	return n, err == nil
}

// expired says whether a row's time is over, though it may still be there.
func expired(item map[string]types.AttributeValue, now time.Time) bool {
	ttl, ok := numberAttr(item, attrTTL)
	return ok && now.Unix() >= int64(ttl)
}
