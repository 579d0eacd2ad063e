package devicestore

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// sampleSession is a session in the middle of a conversation.
func sampleSession() []byte {
	chains := make([]string, 5)
	for i := range chains {
		chains[i] = `{"SenderRatchetKeyPublic":"` + b64(33) + `","SenderRatchetKeyPrivate":"","ChainKey":{"Key":"` + b64(32) + `","Index":3},"MessageKeys":[]}`
	}
	return []byte(`{"SessionState":{"LocalIdentityPublic":"` + b64(33) + `","LocalRegistrationID":123456789,"NeedsRefresh":false,` +
		`"PendingKeyExchange":null,"PendingPreKey":null,"PreviousCounter":2,"ReceiverChains":[` + strings.Join(chains, ",") + `],` +
		`"RemoteIdentityPublic":"` + b64(33) + `","RemoteRegistrationID":987654321,"RootKey":"` + b64(32) + `","SenderBaseKey":"` + b64(33) + `",` +
		`"SenderChain":{"SenderRatchetKeyPublic":"` + b64(33) + `","SenderRatchetKeyPrivate":"` + b64(32) + `","ChainKey":{"Key":"` + b64(32) + `","Index":7},"MessageKeys":[]},` +
		`"SessionVersion":3},"PreviousStates":[]}`)
}

func b64(n int) string { return base64.StdEncoding.EncodeToString(random(n)) }

func TestPack(t *testing.T) {
	t.Parallel()
	var p packer
	for _, v := range [][]byte{{}, {1}, random(255), random(5000), bytes.Repeat([]byte("a"), 1<<20), sampleSession()} {
		packed := p.pack(v)
		got, err := p.unpack(packed)
		if err != nil || !bytes.Equal(got, v) {
			t.Errorf("%d bytes come back as %d, %v", len(v), len(got), err)
		}
		if len(packed) > len(v)+1 {
			t.Errorf("%d bytes grow to %d", len(v), len(packed))
		}
	}
	session := sampleSession()
	if n := len(p.pack(session)); n > 850 {
		t.Errorf("a session of %d bytes is packed to %d", len(session), n)
	} else {
		t.Logf("a session of %d bytes is packed to %d", len(session), n)
	}
	for _, bad := range [][]byte{nil, {9, 1}, {plainDeflate, 1, 2, 3}, p.pack(session)[:200]} {
		if _, err := p.unpack(bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("unpack of %d bad bytes: %v", len(bad), err)
		}
	}
}

// The dictionary is part of what is stored: a change makes rows unreadable.
func TestDictionaryIsFixed(t *testing.T) {
	t.Parallel()
	if sum := fmt.Sprintf("%x", sha256.Sum256([]byte(dictionary))); sum != "2103510d8fb86c8bdde890878b31f97461ba33181a1dec45dfbe2cf3dd5fd851" {
		t.Errorf("the dictionary has changed (%s): give the new one a format number of its own", sum)
	}
}

func FuzzDecode(f *testing.F) {
	h := &hot{preKeys: preKeyRange{next: 813, uploaded: 812, count: 800, singles: []uint32{813}, gone: []uint32{814}}, oldestToken: 5}
	h.done = []shortHash{{1}, {2}}
	h.pending = []*pendingEvent{{hash: [32]byte{1}, plaintext: []byte("text")}}
	f.Add(h.encode())
	f.Add([]byte{hotFormat})
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := decodeHot(b); err == nil {
			if again, err := decodeHot(h.encode()); err != nil || !bytes.Equal(again.encode(), h.encode()) {
				t.Errorf("does not come back: %v", err)
			}
		}
		var p packer
		_, _ = p.unpack(b)
		_, _ = decodeDevice(b)
		d := decoder{b: b}
		decodePending(&d)
	})
}

func BenchmarkPack(b *testing.B) {
	var p packer
	session := sampleSession()
	for b.Loop() {
		if _, err := p.unpack(p.pack(session)); err != nil {
			b.Fatal(err)
		}
	}
}
