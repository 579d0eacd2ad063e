package dynamo

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// A body comes out of its row as it went in, and a long one takes less room there.
func TestPacked(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 2000)
	_, _ = rand.Read(noise) // never fails
	for name, body := range map[string]string{
		"nothing": "", "short": `{"event":"message.status"}`, "long": strings.Repeat(`{"delivered_at":null,"read_at":null}`, 40),
		"very long": strings.Repeat("a long text of many words and few surprises ", 5000), "in hex": hex.EncodeToString(noise), "noise": string(noise),
	} {
		v := packed(body)
		got, err := unpacked(v)
		if err != nil || string(got) != body {
			t.Errorf("%s: %d bytes came back of %d, %v", name, len(got), len(body), err)
		}
		b, deflated := v.(*types.AttributeValueMemberB)
		if want := name == "long" || name == "very long" || name == "in hex"; deflated != want || deflated && len(b.Value) >= len(body)*2/3 {
			t.Errorf("%s: deflated %v, %d bytes in its row for %d", name, deflated, len(b.Value), len(body))
		}
	}
	if _, err := unpacked(&types.AttributeValueMemberB{Value: []byte("no such thing")}); err == nil {
		t.Error("what was never packed was unpacked")
	}
}
