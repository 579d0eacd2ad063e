package devicestore

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.mau.fi/whatsmeow/store"
)

// itemSize is what DynamoDB counts of an item.
func itemSize(item map[string]types.AttributeValue) int {
	n := 0
	for name, v := range item {
		n += len(name)
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			n += len(v.Value)
		case *types.AttributeValueMemberB:
			n += len(v.Value)
		case *types.AttributeValueMemberN:
			n += (len(v.Value)+1)/2 + 1
		case *types.AttributeValueMemberNS:
			for _, s := range v.Value {
				n += (len(s)+1)/2 + 2
			}
		case *types.AttributeValueMemberBOOL:
			n++
		}
	}
	return n
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = crand.Read(b)
	return b
}

// Values over the size of an item come back whole, shrink and grow, and one that
// no transaction can hold is refused as such and leaves everything as it was.
func TestLargeValues(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	h.store.commitTimeout, h.store.readTimeout = patience, patience // megabytes, on a busy machine
	device := h.pair(t, 1)
	ctx := t.Context()
	put := func(v []byte) error { return device.SenderKeys.PutSenderKey(ctx, "g@g.us", annAddress, v) }
	var last []byte
	for _, n := range []int{100, 400 << 10, 1 << 20, 2900 << 10, 500 << 10, 10, 360 << 10, 0} {
		v := random(n)
		if err := put(v); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		last = v
		for _, fresh := range []bool{false, true} {
			if fresh {
				h.link.cache.trim(0)
			}
			got, err := device.SenderKeys.GetSenderKey(ctx, "g@g.us", annAddress)
			if err != nil || !bytes.Equal(got, v) {
				t.Fatalf("%d bytes come back as %d, %v", n, len(got), err)
			}
		}
		parts := 0
		for _, row := range b.rows() {
			if size := itemSize(row); size > 400<<10 {
				t.Errorf("an item of %d bytes", size)
			}
			if strings.HasPrefix(stringAttr(row, attrSK), "~") {
				parts++
			}
		}
		if want := max(0, (n+seals-1)/pieceSize); parts != want {
			t.Errorf("%d bytes: %d continuation rows, want %d", n, parts, want)
		}
	}
	before := b.lastCommit()
	if err := put(random(4 << 20)); !errors.Is(err, ErrTooLarge) || errors.Is(err, context.Canceled) {
		t.Errorf("4 MB: %v", err)
	}
	if err := put(make([]byte, maxPlain+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("17 MB: %v", err)
	}
	if after := b.lastCommit(); after != before || h.Err() != nil {
		t.Errorf("a refused value left a trace: %v", h.Err())
	}
	if got, err := device.SenderKeys.GetSenderKey(ctx, "g@g.us", annAddress); err != nil || !bytes.Equal(got, last) {
		t.Errorf("after the refusal: %d bytes, %v", len(got), err)
	}
	// A large value that deflates well fits.
	if err := put(make([]byte, 10<<20)); err != nil {
		t.Errorf("10 MB of zeros: %v", err)
	}
	// What is staged never stands in the way of what is not.
	for i := range 20 {
		if err := device.EventBuffer.AddOutgoingEvent(ctx, ann, fmt.Sprint(i), "wa", random(stagedBytes-100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(random(2900 << 10)); err != nil {
		t.Errorf("large value beside staged ones: %v", err)
	}
}

// seals is what framing and sealing add, less one for the rounding.
const seals = 29

// A session with thousands of skipped keys, and a plaintext with inline history.
func TestLargeSessionsAndPlaintexts(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	one, err := device.PreKeys.GetOrGenPreKeys(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, 1, device)
	p.meet(device, one[0])
	handle := func(text string) error {
		m, _ := h.Handling()
		return h.Handled(t.Context(), m, h.logOf(m, text), unsent)
	}
	if err := receive(t.Context(), device, p.encrypt("hello"), handle); err != nil {
		t.Fatal(err)
	}
	skipped := make([]ciphertext, 1990)
	for i := range skipped {
		skipped[i] = p.encrypt(fmt.Sprint(i))
	}
	if err := receive(t.Context(), device, p.encrypt("after a gap"), handle); err != nil {
		t.Fatal(err)
	}
	raw, err := device.Sessions.GetSession(t.Context(), p.address.String())
	if err != nil || len(raw) < 300<<10 {
		t.Fatalf("a session of %d bytes, %v", len(raw), err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	h = b.reopen(1)
	device = h.load(t)
	for _, i := range []int{0, 1000, 1989} {
		if err := receive(t.Context(), device, skipped[i], handle); err != nil {
			t.Errorf("skipped message %d: %v", i, err)
		}
	}
	large := fmt.Sprintf("%x", random(700<<10))
	if err := receive(t.Context(), device, p.encrypt(large), func(text string) error {
		if text != large {
			t.Error("a large plaintext comes out changed")
		}
		return errors.New("not now")
	}); err == nil {
		t.Fatal("the handler's refusal is lost")
	}
	h = b.reopen(1)
	h.load(t)
	n := 0
	for _, pending := range h.link.events.pending {
		if string(pending.plaintext) != large {
			t.Error("a large plaintext is loaded changed")
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d messages wait", n)
	}
}

// Caches have limits, and an idle link is small.
func TestMemory(t *testing.T) {
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	ctx := t.Context()
	for i := range 20 {
		many := make(map[string][]byte)
		for j := range 50 {
			many[fmt.Sprintf("49%d:%d", i, j)] = random(1100)
		}
		if err := device.Sessions.PutManySessions(ctx, many); err != nil {
			t.Fatal(err)
		}
	}
	l := h.link
	if got := l.cache.size; got > 256<<10 {
		t.Errorf("a busy link keeps %d bytes", got)
	}
	h.maintain(ctx, time.Now().Add(foldAfter+time.Second))
	if got := l.cache.size; got > idleCacheBytes {
		t.Errorf("an idle link keeps %d bytes", got)
	}

	// What links cost that have been paired, used and left alone.
	const n = 100
	devices := make([]*store.Device, n)
	handles := make([]*host, n)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	s := New(Config{Table: testTable, DynamoDB: b.db, Keyring: b.keyring, Format: testFormat})
	for i := range devices {
		c := b.another(t)
		c.adopt(1)
		handles[i] = &host{store: s}
		handles[i].Handle = s.Open(c.instance, Fence{Epoch: 1, Context: t.Context()})
		devices[i] = handles[i].pair(t, 1)
		many := make(map[string][]byte)
		for j := range 30 {
			many[fmt.Sprintf("49%d:0", j)] = random(1100)
		}
		if err := devices[i].Sessions.PutManySessions(ctx, many); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range s.open() {
		h.maintain(ctx, time.Now().Add(foldAfter+time.Second))
	}
	each := (int64(heap()) - int64(before)) / n
	t.Logf("an idle link costs %d bytes, its device included", each)
	if each > 20<<10 {
		t.Errorf("an idle link costs %d bytes, want at most 20 KB", each)
	}
	runtime.KeepAlive(devices)
	runtime.KeepAlive(handles)
}
