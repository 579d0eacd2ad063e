package devicestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	local "whatisup/local/aws"
)

var errDenied = &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "no", Fault: smithy.FaultClient}

// An error that can't be mended closes the connection once, is returned as one
// that whatsmeow doesn't acknowledge on and that tells no secret, leaves nothing
// behind in memory, and ends the handle. With a new handle everything goes on.
func TestFailStop(t *testing.T) {
	t.Parallel()
	all := newBench(t)
	run := func(t *testing.T, m method, loaded bool) {
		t.Parallel()
		b := all.another(t)
		h := b.open(1)
		device := h.pair(t, 1)
		fill(t, h, device)
		if loaded {
			h = b.reopen(1)
			device = h.load(t)
		}
		var logs bytes.Buffer
		h.Handle.store.log = slog.New(slog.NewJSONHandler(&logs, nil))
		before := b.snapshot()
		h.rec.hook(func(op string) error {
			if m.name == "Handled" && op == "PutItem" {
				return nil // a log that takes no rows is waited for: TestLogTakesNoRows
			}
			return errDenied
		}, nil)
		if m.name == "Handled" {
			h.store.logWithin = 0
		}
		err := m.do(t.Context(), h, device)
		closedBefore := h.failed.Load() == 1
		switch {
		case err == nil:
			t.Fatal("no error")
		case !errors.Is(err, context.Canceled):
			t.Errorf("whatsmeow would acknowledge on %v", err)
		case !errors.Is(err, errDenied):
			t.Errorf("the cause is lost: %v", err)
		case !closedBefore:
			t.Errorf("the connection was closed %d times when the method returned", h.failed.Load())
		}
		if h.Err() == nil {
			t.Error("the handle has not failed")
		}
		h.maintain(t.Context(), time.Now().Add(time.Hour))
		text := fmt.Sprintf("%v %+v %#v %+v %+v", err, err, err, h.Handle, h.store) + logs.String()
		for _, secret := range []string{ann.User, annL.User, "unhandled text", "session of ann", "Ann", device.ID.User} {
			if strings.Contains(text, secret) {
				t.Errorf("%q stands in an error or a log: %s", secret, text)
			}
		}
		if !maps.Equal(before, b.snapshot()) {
			t.Error("the table changed")
		}
		for _, again := range append(append([]method{}, readers...), writers...) {
			if err := again.do(t.Context(), h, device); !errors.Is(err, context.Canceled) {
				t.Errorf("%s after the failure: %v", again.name, err)
			}
		}
		if n := h.failed.Load(); n != 1 {
			t.Errorf("the connection was closed %d times", n)
		}
		if n := len(h.link.cache.entries); n > 0 {
			t.Errorf("%d rows are left in the cache", n)
		}
		next := b.reopen(1)
		if err := m.do(t.Context(), next, next.load(t)); err != nil {
			t.Errorf("after reopening: %v", err)
		}
	}
	for _, m := range writers {
		t.Run("write/"+m.name, func(t *testing.T) { run(t, m, false) })
	}
	for _, m := range readers {
		t.Run("read/"+m.name, func(t *testing.T) { run(t, m, true) })
	}
}

// Throttling, conflicts, faults of the service and lost answers are mended, and
// what was asked for happens exactly once.
func TestMended(t *testing.T) {
	t.Parallel()
	kinds := []local.FaultKind{local.Throttle, local.Conflict, local.Internal, local.Lost}
	all := newBench(t)
	try := func(m method, kind local.FaultKind) {
		t.Helper()
		b := all.another(t)
		h := b.open(1)
		device := h.pair(t, 1)
		fill(t, h, device)
		n := h.link.commits
		for _, op := range []string{"TransactWriteItems", "UpdateItem", "GetItem", "Query", "BatchGetItem"} {
			if kind == local.Conflict && !isWrite(op) {
				continue
			}
			if err := b.cloud.Inject(local.Fault{Kind: kind, Service: "dynamodb", Operation: op, Times: 2}); err != nil {
				t.Fatal(err)
			}
		}
		err := m.do(t.Context(), h, device)
		b.cloud.ClearFaults()
		if err != nil {
			t.Errorf("%s, %s: %v", m.name, kind, err)
		}
		if n := h.failed.Load(); n != 0 {
			t.Errorf("%s, %s: the connection was closed %d times", m.name, kind, n)
		}
		if m.name == "DeleteDevice" {
			return
		}
		if m.name == "Confirm" && h.link.isLog() {
			return // it changes the device row alone
		}
		if got := h.link.commits; got < n+1 || m.name == "PutSession" && got != n+1 {
			t.Errorf("%s, %s: %d commits", m.name, kind, got-n)
		}
		if row := b.lastCommit(); row != h.link.commits {
			t.Errorf("%s, %s: the row has commit %d, the handle %d", m.name, kind, row, h.link.commits)
		}
	}
	for i, m := range writers {
		try(m, kinds[i%len(kinds)])
		if m.name == "PutSession" || m.name == "DoDecryptionTxn" || m.name == "DeleteDevice" {
			for _, kind := range kinds {
				try(m, kind)
			}
		}
	}
}

// A batch that DynamoDB leaves half done is asked for again.
func TestUnprocessedKeys(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	fill(t, h, device)
	h = b.reopen(1)
	device = h.load(t)
	if err := b.cloud.Inject(local.Fault{Kind: local.Unprocessed, Service: "dynamodb", Operation: "BatchGetItem", Times: 1}); err != nil {
		t.Fatal(err)
	}
	if err := device.Sessions.PutSession(t.Context(), bobAddress, []byte("b")); err != nil {
		t.Fatal(err)
	}
	h.link.cache.trim(0)
	got, err := device.Sessions.GetManySessions(t.Context(), []string{annAddress, bobAddress})
	if err != nil || got[annAddress] == nil || got[bobAddress] == nil {
		t.Errorf("%v, %v", got, err)
	}
}

// down is a table that never answers, or always refuses for the moment.
type down struct {
	DynamoDB
	err error // nil: no answer before the context ends
}

func (d down) TransactWriteItems(ctx context.Context, _ *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	if d.err != nil {
		return nil, d.err
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// A table that stays away is waited for within bounds, and not after the fence's
// context has ended.
func TestWaitsAreBounded(t *testing.T) {
	t.Parallel()
	throttled := &types.TransactionCanceledException{CancellationReasons: []types.CancellationReason{{Code: ptr("ThrottlingError")}}}
	for name, err := range map[string]error{"no answer": nil, "throttled": throttled} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			h := b.open(1)
			device := h.pair(t, 1)
			link := h.link
			synctest.Test(t, func(t *testing.T) {
				trust, lose := context.WithCancel(t.Context())
				defer lose()
				for _, lost := range []bool{false, true} {
					closed := 0
					s := New(Config{Table: testTable, DynamoDB: down{err: err}, Keyring: b.keyring})
					g := s.Open(b.instance, Fence{Epoch: 1, Context: trust, Fail: func(error) { closed++ }})
					l := newLink(g, 1)
					l.key, l.stored = link.key, true
					g.link = l
					d := *device
					l.attach(&d)
					if lost {
						time.AfterFunc(time.Second, lose)
					}
					begin := time.Now()
					err := d.Identities.PutIdentity(withRow(l, annAddress), annAddress, [32]byte{7})
					took := time.Since(begin)
					if !errors.Is(err, context.Canceled) {
						t.Errorf("lost=%v: %v", lost, err)
					}
					switch {
					case lost && took != time.Second:
						t.Errorf("returned %v after the call, the trust ended at 1s", took)
					case !lost && (took > commitTimeout+time.Second || took < commitTimeout-2*time.Second):
						t.Errorf("gave up after %v", took)
					case !lost && closed != 1:
						t.Errorf("the connection was closed %d times", closed)
					case !lost && !errors.Is(err, ErrUnavailable):
						t.Errorf("%v", err)
					}
				}
			})
		})
	}
}

func ptr[T any](v T) *T { return &v }

// withRow lets the link know that the address has no identity, so that no read
// is needed.
func withRow(l *link, address string) context.Context {
	l.cache.put(l.peerKey(peerIdentity, address), nil)
	return context.Background()
}

// A caller who goes away in the middle of a write neither undoes nor breaks
// anything; one who goes away in the middle of a read gets its own error.
func TestCallerGoesAway(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	fill(t, h, device)

	writing, leave := context.WithCancel(t.Context())
	h.rec.hook(func(op string) error { leave(); return nil }, nil)
	if err := device.Sessions.PutSession(writing, annAddress, []byte("next")); err != nil || writing.Err() == nil {
		t.Errorf("write: %v", err)
	}
	reading, leave := context.WithCancel(t.Context())
	// The read fails as well, for its end reaches it a moment after the caller's.
	h.rec.hook(func(op string) error { leave(); return errors.New("connection lost") }, nil)
	h.link.cache.trim(0)
	if h.link.isLog() {
		h.rec.hook(nil, nil)
		h.settle(t)
		h.rec.hook(func(op string) error { leave(); return errors.New("connection lost") }, nil)
	}
	if _, err := device.Sessions.GetSession(reading, annAddress); !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
	h.rec.hook(nil, nil)
	if h.Err() != nil || h.failed.Load() != 0 {
		t.Errorf("the handle failed: %v", h.Err())
	}
	if s, err := device.Sessions.GetSession(t.Context(), annAddress); err != nil || s == nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A write that was given up and lands late does no harm: if somebody has written
// since, it fails, and if nobody has, the next write notices.
func TestLateArrival(t *testing.T) {
	t.Parallel()
	for _, written := range []bool{true, false} {
		b := newBench(t)
		h := b.open(1)
		device := h.pair(t, 1)
		fill(t, h, device)
		stopped, resume := pauseBefore(h.rec)
		late := make(chan error, 1)
		go func() { late <- device.Sessions.PutSession(t.Context(), annAddress, []byte("late")) }()
		<-stopped

		// The session has given up and opened another handle under the same epoch.
		next := b.reopen(1)
		loaded := next.load(t)
		if written {
			if err := loaded.Sessions.PutSession(t.Context(), annAddress, []byte("next")); err != nil {
				t.Fatal(err)
			}
		}
		close(resume)
		err := <-late
		if written {
			if !errors.Is(err, ErrDiverged) {
				t.Errorf("the late write: %v", err)
			}
			if s, err := loaded.Sessions.GetSession(t.Context(), annAddress); err != nil || string(s) != "next" {
				t.Errorf("got %q, %v", s, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("the late write: %v", err)
		}
		if err := loaded.Sessions.PutSession(t.Context(), annAddress, []byte("next")); !errors.Is(err, ErrDiverged) || !errors.Is(err, context.Canceled) {
			t.Errorf("a write on top of an unknown one: %v", err)
		}
		again := b.reopen(1)
		if s, err := again.load(t).Sessions.GetSession(t.Context(), annAddress); err != nil || string(s) != "late" {
			t.Errorf("got %q, %v", s, err)
		}
	}
}

// Without KMS a scan fails, and nothing is stored.
func TestPairingWithoutKMS(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	h.Handle.store.commitTimeout = 50 * time.Millisecond
	before := b.snapshot()
	if err := b.cloud.Inject(local.Fault{Kind: local.Internal, Service: "kms"}); err != nil {
		t.Fatal(err)
	}
	device := h.New(1)
	pair(device, 1)
	if err := device.Save(t.Context()); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("save: %v", err)
	}
	if h.failed.Load() != 1 || !maps.Equal(before, b.snapshot()) {
		t.Errorf("closed %d times; table changed: %v", h.failed.Load(), !maps.Equal(before, b.snapshot()))
	}
}
