package devicestore

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// setHead changes attributes of the device row; a nil value removes one.
func (b *bench) setHead(values map[string]types.AttributeValue) {
	b.t.Helper()
	row := b.head()
	for name, v := range values {
		if v == nil {
			delete(row, name)
		} else {
			row[name] = v
		}
	}
	if _, err := b.db.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: aws.String(testTable), Item: row}); err != nil {
		b.t.Fatal(err)
	}
}

// A link of a newer format is left alone, by name, but for its wipe.
func TestNewerFormat(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	fill(t, h, h.pair(t, 1))
	b.setHead(map[string]types.AttributeValue{attrFormat: num(uint64(formatKnown + 1))})
	before := b.snapshot()
	next := b.reopen(1)
	if _, err := next.Load(t.Context()); !errors.Is(err, ErrNewerFormat) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnavailable) {
		t.Errorf("load: %v", err)
	}
	if err := next.Close(t.Context()); err != nil || !maps.Equal(before, b.snapshot()) {
		t.Errorf("the table changed, or %v", err)
	}
	if err := b.reopen(1).Wipe(t.Context(), 1); err != nil {
		t.Errorf("wipe: %v", err)
	}
	for _, secret := range []string{attrLink, attrKey, attrHot, attrFormat} {
		if b.head()[secret] != nil {
			t.Errorf("the wiped row has %s", secret)
		}
	}
}

// A link that was stored before there were formats loads with everything that it
// has, and takes the present format with its first commit.
func TestOldFormat(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.format = FormatRows
	h := b.open(1)
	device := h.pair(t, 1)
	fill(t, h, device)
	l := h.link
	b.setHead(map[string]types.AttributeValue{
		attrFormat: nil,
		attrHot:    &types.AttributeValueMemberB{Value: l.key.Seal(l.hot.encode(), l.hotPlace(formatPlain, 0))},
	})
	next := b.open(2)
	loaded := next.load(t)
	if e, err := loaded.EventBuffer.GetBufferedEvent(t.Context(), [32]byte{9}); err != nil || e == nil || string(e.Plaintext) != "an unhandled text" {
		t.Errorf("the buffer: %v, %v", e, err)
	}
	if n, err := loaded.PreKeys.UploadedPreKeyCount(t.Context()); err != nil || n != 40 {
		t.Errorf("%d pre-keys, %v", n, err)
	}
	for _, m := range readers {
		if err := m.do(t.Context(), next, loaded); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
	if b.head()[attrFormat] != nil {
		t.Error("reading has changed the row")
	}
	if err := loaded.Sessions.PutSession(t.Context(), bobAddress, []byte("b")); err != nil {
		t.Fatal(err)
	}
	if format, _ := numberAttr(b.head(), attrFormat); format != formatNumbered {
		t.Errorf("format %d after a commit", format)
	}
	if s, err := b.open(3).load(t).Sessions.GetSession(t.Context(), bobAddress); err != nil || string(s) != "b" {
		t.Errorf("%q, %v", s, err)
	}
}

// What stood on the device row before some commit doesn't open after it, and is
// no outage.
func TestOlderHotState(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.format = FormatRows
	h := b.open(1)
	device := h.pair(t, 1)
	fill(t, h, device)
	old := b.head()[attrHot]
	if err := device.PreKeys.RemovePreKey(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	b.setHead(map[string]types.AttributeValue{attrHot: old})
	if _, err := b.reopen(1).Load(t.Context()); !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnavailable) {
		t.Errorf("load with an older state: %v", err)
	}
}

// The rows of a wiped link go while the instance lives, though the session that
// wiped it is over, and also if it died before it could remove any.
func TestSweptAfterTheSession(t *testing.T) {
	t.Parallel()
	all := newBench(t)
	run := func(t *testing.T, s *Store) {
		t.Helper()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		t.Cleanup(func() { stop(); <-done })
	}
	swept := func(t *testing.T, b *bench) {
		t.Helper()
		waitFor(t, "the sweep", func() bool { return b.head()[attrSweep] == nil })
		if n := b.left(linkPartition(b.instance, 1)); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	}
	t.Run("same host", func(t *testing.T) {
		t.Parallel()
		b := all.another(t)
		h := b.open(1)
		fill(t, h, h.pair(t, 1))
		run(t, h.store)
		if err := h.Wipe(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if err := h.Close(t.Context()); err != nil { // the session is at rest
			t.Fatal(err)
		}
		swept(t, b)
		waitFor(t, "the sweep to be forgotten", func() bool {
			h.store.mu.Lock()
			defer h.store.mu.Unlock()
			return len(h.store.sweeps) == 0
		})
	})
	for _, rests := range []bool{true, false} {
		name := "next host, at rest"
		if !rests {
			name = "next host, which pairs anew"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := all.another(t)
			h := b.open(1)
			fill(t, h, h.pair(t, 1))
			if err := h.Wipe(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			next := b.open(2)
			run(t, next.store)
			if rests {
				if err := next.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				next.pair(t, 2)
				next.maintain(t.Context(), time.Now().Add(peekAfter))
			}
			swept(t, b)
			if !rests && next.Err() != nil {
				t.Error(next.Err())
			}
		})
	}
	t.Run("no owner any more", func(t *testing.T) {
		t.Parallel()
		b := all.another(t)
		h := b.open(1)
		fill(t, h, h.pair(t, 1))
		if err := h.Wipe(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		b.adopt(2)
		run(t, h.store)
		waitFor(t, "the old owner to give up", func() bool {
			h.store.mu.Lock()
			defer h.store.mu.Unlock()
			return len(h.store.sweeps) == 0
		})
		if b.head()[attrSweep] == nil {
			t.Error("the old owner wrote to the device row")
		}
	})
}
