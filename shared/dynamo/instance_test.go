package dynamo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"whatisup/shared/whatisup"
)

// newInstance stores a fresh instance and reads it back.
func newInstance(t *testing.T, db *DB, change func(*whatisup.Config)) *whatisup.Instance {
	t.Helper()
	cfg := whatisup.Config{
		Customer: whatisup.NewCustomerID(), Mode: whatisup.Test, ID: whatisup.NewInstanceID(),
		Name: "support-line", UpdatedAt: time.Now(),
	}
	if change != nil {
		change(&cfg)
	}
	if err := db.CreateInstance(t.Context(), cfg, whatisup.Created{Event: event(t, cfg, whatisup.InstanceCreated)}); err != nil {
		t.Fatal(err)
	}
	i, err := db.Instance(t.Context(), cfg.Customer, cfg.Mode, cfg.ID)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func event(t *testing.T, c whatisup.Config, name whatisup.EventName) whatisup.Event {
	t.Helper()
	e, err := whatisup.NewEvent(name, c.Customer, c.Mode, c.ID, time.Now(), map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func ref(i *whatisup.Instance) whatisup.Ref {
	return whatisup.Ref{Customer: i.Config.Customer, Mode: i.Config.Mode, ID: i.Config.ID}
}

// own makes epoch the present one of the instance's shard, as a claim does.
func own(t *testing.T, db *DB, i *whatisup.Instance) whatisup.Epoch {
	t.Helper()
	l, err := db.Lease(t.Context(), i.Config.Mode, i.Shard)
	if err != nil {
		t.Fatal(err)
	}
	l, err = db.ClaimLease(t.Context(), i.Config.Mode, l, whatisup.Host{}, "host")
	if err != nil {
		t.Fatal(err)
	}
	return l.Epoch
}

// logged counts the events of an instance in the log, by name.
func logged(t *testing.T, db *DB, i *whatisup.Instance) map[whatisup.EventName]int {
	t.Helper()
	n := map[whatisup.EventName]int{}
	for l, err := range db.EventsBefore(t.Context(), i.Config.Customer, i.Config.Mode, "", 100) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Event.Instance == i.Config.ID {
			n[l.Event.Name]++
		}
	}
	return n
}

func TestInstanceIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	db := open(t)
	for name, metadata := range map[string]string{
		"none":   ``,
		"inline": `{"a": 1.000000000000000000000000000000000000000000001, "b": [null]}`,
		"apart":  `{"a":"` + strings.Repeat("x", 15000) + `"}`,
	} {
		i := newInstance(t, db, func(c *whatisup.Config) { c.Metadata = json.RawMessage(metadata) })
		if string(i.Config.Metadata) != metadata {
			t.Errorf("%s: %d bytes of metadata came back as %d", name, len(metadata), len(i.Config.Metadata))
		}
		if i.Config.Name != "support-line" || i.Observed.Status != whatisup.Pending || i.Shard != db.ShardOf(i.Config.ID) {
			t.Errorf("%s: read as %+v", name, i)
		}
		if i.Unsent.From == "" || i.Unsent.From != i.Unsent.Last || i.Unsent.At.IsZero() {
			t.Errorf("%s: unsent is %+v", name, i.Unsent)
		}
		if n := logged(t, db, i); n[whatisup.InstanceCreated] != 1 {
			t.Errorf("%s: the log has %v", name, n)
		}
	}
}

func TestAnotherCustomersInstanceIsNotThere(t *testing.T) {
	t.Parallel()
	db := open(t)
	i := newInstance(t, db, nil)
	for _, r := range []whatisup.Ref{
		{Customer: whatisup.NewCustomerID(), Mode: i.Config.Mode, ID: i.Config.ID},
		{Customer: i.Config.Customer, Mode: whatisup.Live, ID: i.Config.ID},
		{Customer: i.Config.Customer, Mode: i.Config.Mode, ID: whatisup.NewInstanceID()},
	} {
		if _, err := db.Instance(t.Context(), r.Customer, r.Mode, r.ID); !errors.Is(err, whatisup.ErrNotFound) {
			t.Errorf("%v: %v", r, err)
		}
	}
}

func TestInstancesNewestFirst(t *testing.T) {
	t.Parallel()
	db := open(t)
	customer := whatisup.NewCustomerID()
	var made []whatisup.InstanceID
	for n := range 30 {
		i := newInstance(t, db, func(c *whatisup.Config) {
			c.Customer = customer
			c.Name = fmt.Sprint(n)
			if n%3 == 0 {
				c.Metadata = json.RawMessage(`{"a":"` + strings.Repeat("x", 2000) + `"}`)
			}
		})
		made = append(made, i.Config.ID)
	}
	list := func(before whatisup.InstanceID, about, most int) (ids []whatisup.InstanceID) {
		for i, err := range db.Instances(t.Context(), customer, whatisup.Test, before, about) {
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprint(len(made) - 1 - len(ids)); before == "" && i.Config.Name != want {
				t.Fatalf("name %q, want %q", i.Config.Name, want)
			}
			if ids = append(ids, i.Config.ID); len(ids) == most {
				break
			}
		}
		return ids
	}
	all := list("", 0, 0)
	if len(all) != len(made) {
		t.Fatalf("%d of %d", len(all), len(made))
	}
	for n, id := range all {
		if id != made[len(made)-1-n] {
			t.Fatal("not newest first")
		}
	}
	// Page by page, however small the pages that are read.
	var paged []whatisup.InstanceID
	for before := whatisup.InstanceID(""); ; {
		page := list(before, 1, 7)
		if len(page) == 0 {
			break
		}
		paged = append(paged, page...)
		before = page[len(page)-1]
	}
	if fmt.Sprint(paged) != fmt.Sprint(all) {
		t.Error("pages differ from the whole")
	}
}

func TestUpdateConfig(t *testing.T) {
	t.Parallel()
	db := open(t)
	i := newInstance(t, db, nil)
	ctx := t.Context()
	for _, metadata := range []string{`{"a":1}`, `{"a":"` + strings.Repeat("x", 5000) + `"}`, `{}`} {
		cfg := i.Config
		cfg.Name, cfg.Metadata, cfg.UpdatedAt = "renamed", json.RawMessage(metadata), time.Now()
		if err := db.UpdateConfig(ctx, i, cfg, event(t, cfg, whatisup.InstanceUpdated)); err != nil {
			t.Fatal(err)
		}
		if err := db.UpdateConfig(ctx, i, cfg, event(t, cfg, whatisup.InstanceUpdated)); !errors.Is(err, whatisup.ErrConflict) {
			t.Fatalf("on an old read: %v", err)
		}
		var err error
		was := i.Config.Version
		if i, err = db.Instance(ctx, cfg.Customer, cfg.Mode, cfg.ID); err != nil {
			t.Fatal(err)
		}
		if i.Config.Name != "renamed" || string(i.Config.Metadata) != metadata || i.Config.Version != was+1 {
			t.Fatalf("read as %+v", i.Config)
		}
	}
	if n := logged(t, db, i); n[whatisup.InstanceUpdated] != 3 {
		t.Errorf("the log has %v", n)
	}
	if err := db.DeleteInstance(ctx, i, event(t, i.Config, whatisup.InstanceDeleted), nil); err != nil {
		t.Fatal(err)
	}
	if err := db.UpdateConfig(ctx, i, i.Config, event(t, i.Config, whatisup.InstanceUpdated)); !errors.Is(err, whatisup.ErrNotFound) {
		t.Errorf("after delete: %v", err)
	}
}

func TestWantIsOptimistic(t *testing.T) {
	t.Parallel()
	db := open(t)
	i := newInstance(t, db, nil)
	var started atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() { // each reads, wants an attempt, and tries again on conflict
			for {
				read, err := db.Instance(t.Context(), i.Config.Customer, i.Config.Mode, i.Config.ID)
				if err != nil {
					t.Error(err)
					return
				}
				w, changed := read.WantAttempt(time.Now(), whatisup.NewRequestID())
				if !changed {
					return
				}
				err = db.Want(t.Context(), read, w, nil)
				if err == nil {
					started.Add(1)
					return
				}
				if !errors.Is(err, whatisup.ErrConflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := started.Load(); n != 1 {
		t.Errorf("%d attempts began for 16 calls", n)
	}
	read, err := db.Instance(t.Context(), i.Config.Customer, i.Config.Mode, i.Config.ID)
	if err != nil || read.Wanted.Generation != 1 || len(read.Wanted.Attempts) != 1 {
		t.Errorf("%+v, %v", read.Wanted, err)
	}
}

func TestDeleteLeavesATombstoneForTheHost(t *testing.T) {
	t.Parallel()
	db := open(t)
	ctx := t.Context()
	i := newInstance(t, db, func(c *whatisup.Config) {
		c.Metadata = json.RawMessage(`{"a":"` + strings.Repeat("x", 5000) + `"}`)
	})
	epoch := own(t, db, i)
	i, err := db.Adopt(ctx, ref(i), epoch)
	if err != nil {
		t.Fatal(err)
	}
	// The host writes between the read and the delete: the delete must not copy
	// the old state.
	read, err := db.Instance(ctx, i.Config.Customer, i.Config.Mode, i.Config.ID)
	if err != nil {
		t.Fatal(err)
	}
	linked := i.Observed
	linked.Status, linked.Link, linked.PhoneNumber = whatisup.Connecting, 1, "4915112345678"
	if err := db.Observe(ctx, i, linked, event(t, i.Config, whatisup.InstanceUpdated)); err != nil {
		t.Fatal(err)
	}
	if err := db.DeleteInstance(ctx, read, event(t, i.Config, whatisup.InstanceDeleted), nil); !errors.Is(err, whatisup.ErrConflict) {
		t.Fatalf("delete over a newer state: %v", err)
	}
	if read, err = db.Instance(ctx, i.Config.Customer, i.Config.Mode, i.Config.ID); err != nil {
		t.Fatal(err)
	}
	if err := db.DeleteInstance(ctx, read, event(t, i.Config, whatisup.InstanceDeleted), nil); err != nil {
		t.Fatal(err)
	}
	if err := db.DeleteInstance(ctx, read, event(t, i.Config, whatisup.InstanceDeleted), nil); !errors.Is(err, whatisup.ErrNotFound) {
		t.Errorf("second delete: %v", err)
	}
	for range db.Instances(ctx, i.Config.Customer, i.Config.Mode, "", 0) {
		t.Error("the list still has it")
	}
	// The host's next write fails as gone, and brings nothing back.
	if err := db.Observe(ctx, i, linked); !errors.Is(err, whatisup.ErrNotFound) {
		t.Errorf("observe after delete: %v", err)
	}
	hints, err := db.ShardInstances(ctx, i.Config.Mode, i.Shard)
	if err != nil || len(hints) != 1 || !hints[0].Deleted || !hints[0].Work(epoch, time.Now()) || hints[0].Link != 1 {
		t.Fatalf("hints %+v, %v", hints, err)
	}
	dead, err := db.Adopt(ctx, ref(i), epoch)
	if err != nil {
		t.Fatal(err)
	}
	if dead.Observed.Link != 1 || !dead.Unlinking() || dead.DeletedAt.IsZero() || len(dead.Config.Metadata) != 0 {
		t.Errorf("tombstone %+v", dead)
	}
	if u := dead.Unsent; u.From == "" || u != read.Unsent || dead.Observed.Unsent.From == "" {
		t.Errorf("unsent: %+v of the API, %+v of the host", dead.Unsent, dead.Observed.Unsent)
	}
	if err := db.FinishDeleted(ctx, dead); !errors.Is(err, whatisup.ErrConflict) {
		t.Errorf("finished while the device row is there: %v", err)
	}
	// The host tells the end, once.
	if n := logged(t, db, i); n[whatisup.InstanceDeleted] != 0 || dead.Farewell == nil {
		t.Errorf("the log has %v before the host is done, which has %+v to tell", n, dead.Farewell)
	}
	for range 2 {
		if err := db.TellDeleted(ctx, dead); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := db.Owned(ctx, ref(i)); err != nil || again.Farewell != nil {
		t.Errorf("the tombstone has still to tell %+v, %v", again, err)
	}
	dropDevice(t, db, i.Config.ID)
	if err := db.FinishDeleted(ctx, dead); err != nil {
		t.Fatal(err)
	}
	if hints, err = db.ShardInstances(ctx, i.Config.Mode, i.Shard); err != nil || len(hints) != 0 {
		t.Errorf("still in the shard: %+v, %v", hints, err)
	}
	if _, err := db.Adopt(ctx, ref(i), epoch); !errors.Is(err, whatisup.ErrNotFound) {
		t.Errorf("adopted after the end: %v", err)
	}
	if n := logged(t, db, i); n[whatisup.InstanceCreated] != 1 || n[whatisup.InstanceDeleted] != 1 || n[whatisup.InstanceUpdated] != 1 {
		t.Errorf("the log has %v", n)
	}
}

func TestAnOldOwnerWritesNothing(t *testing.T) {
	t.Parallel()
	db := open(t)
	ctx := t.Context()
	i := newInstance(t, db, nil)
	first := own(t, db, i)
	old, err := db.Adopt(ctx, ref(i), first)
	if err != nil {
		t.Fatal(err)
	}
	second := own(t, db, i)
	// The shard has moved, the instance is not adopted yet: the old owner may
	// still finish, but can't adopt anew.
	if _, err := db.Adopt(ctx, ref(i), first); !errors.Is(err, whatisup.ErrFenced) {
		t.Errorf("adopt with an old epoch: %v", err)
	}
	qr := old.Observed
	qr.Status = whatisup.QR
	if err := db.Observe(ctx, old, qr); err != nil {
		t.Errorf("before the adoption: %v", err)
	}
	fresh, err := db.Adopt(ctx, ref(i), second)
	if err != nil {
		t.Fatal(err)
	}
	if fresh.Observed.Status != whatisup.QR || fresh.Observed.Epoch != second {
		t.Errorf("adopted as %+v", fresh.Observed)
	}
	if err := db.Observe(ctx, old, qr, event(t, i.Config, whatisup.QRUpdated)); !errors.Is(err, whatisup.ErrFenced) {
		t.Errorf("with an event: %v", err)
	}
	if err := db.Observe(ctx, old, qr); !errors.Is(err, whatisup.ErrFenced) {
		t.Errorf("alone: %v", err)
	}
	if err := db.HostSent(ctx, old); !errors.Is(err, whatisup.ErrFenced) {
		t.Errorf("sent: %v", err)
	}
	if n := logged(t, db, i); n[whatisup.QRUpdated] != 0 {
		t.Error("an old owner's event is in the log")
	}
}

// What is unsent is marked, from its first event to its newest, until it is sent;
// however much it is, the rows don't grow.
func TestUnsentIsMarkedUntilSent(t *testing.T) {
	t.Parallel()
	db := open(t)
	ctx := t.Context()
	i := newInstance(t, db, nil)
	i, err := db.Adopt(ctx, ref(i), own(t, db, i))
	if err != nil {
		t.Fatal(err)
	}
	o := i.Observed
	var first, last whatisup.Event
	for n := range 600 {
		o.Status = []whatisup.Status{whatisup.QR, whatisup.Connecting, whatisup.Connected}[n%3]
		last = event(t, i.Config, whatisup.InstanceUpdated)
		if n == 0 {
			first = last
		}
		if err := db.Observe(ctx, i, o, last); err != nil {
			t.Fatal(err)
		}
		o = i.Observed
	}
	read, err := db.Owned(ctx, ref(i))
	if err != nil || read.Observed.Since.IsZero() || read.Rev != i.Rev {
		t.Fatalf("rev %d (mine %d), %v", read.Rev, i.Rev, err)
	}
	if u := read.Observed.Unsent; u.From != whatisup.MarkOf(&first) || u.Last != whatisup.MarkOf(&last) || u.At.IsZero() {
		t.Errorf("unsent is %+v", u)
	}
	if err := db.HostSent(ctx, i); err != nil {
		t.Fatal(err)
	}
	if err := db.Sent(ctx, read); err != nil {
		t.Fatal(err)
	}
	if read, err = db.Owned(ctx, ref(i)); err != nil || read.Observed.Unsent.From != "" || read.Unsent.From != "" {
		t.Fatalf("%+v, %+v unsent, %v", read.Observed.Unsent, read.Unsent, err)
	}
	hints, err := db.ShardInstances(ctx, i.Config.Mode, i.Shard)
	if err != nil || len(hints) != 1 || !hints[0].UnsentAt.IsZero() || hints[0].Work(i.Observed.Epoch, time.Now()) {
		t.Errorf("hints %+v, %v", hints, err)
	}
}

// An event that is marked while others are being sent keeps its mark.
func TestSentLeavesWhatCameMeanwhile(t *testing.T) {
	t.Parallel()
	db := open(t)
	ctx := t.Context()
	i := newInstance(t, db, nil)
	changed := i.Config
	changed.Name = "other"
	if err := db.UpdateConfig(ctx, i, changed, event(t, i.Config, whatisup.InstanceUpdated)); err != nil {
		t.Fatal(err)
	}
	if err := db.Sent(ctx, i); err != nil { // as it was read before
		t.Fatal(err)
	}
	read, err := db.Owned(ctx, ref(i))
	if err != nil || read.Unsent.From != i.Unsent.From || read.Unsent.Last == i.Unsent.Last {
		t.Fatalf("unsent is %+v, was %+v, %v", read.Unsent, i.Unsent, err)
	}
	if err := db.Sent(ctx, read); err != nil {
		t.Fatal(err)
	}
	if read, err = db.Owned(ctx, ref(i)); err != nil || read.Unsent.From != "" {
		t.Errorf("unsent is %+v, %v", read.Unsent, err)
	}
}

// What queues lack is stored under the epoch, whatever else the host writes, and
// goes with the instance into its tombstone.
func TestOwe(t *testing.T) {
	t.Parallel()
	db := open(t)
	ctx := t.Context()
	i := newInstance(t, db, nil)
	i, err := db.Adopt(ctx, ref(i), own(t, db, i))
	if err != nil {
		t.Fatal(err)
	}
	epoch := i.Observed.Epoch
	owed := map[string]whatisup.Position{"https://one": whatisup.NewPosition(), "https://two": whatisup.NewPosition()}
	if err := db.Owe(ctx, ref(i), epoch, owed); err != nil {
		t.Fatal(err)
	}
	if err := db.Owe(ctx, ref(i), epoch-1, nil); !errors.Is(err, whatisup.ErrFenced) {
		t.Errorf("an earlier owner: %v", err)
	}
	o := i.Observed
	o.Status = whatisup.QR
	if err := db.Observe(ctx, i, o); err != nil {
		t.Fatal(err)
	}
	read, err := db.Owned(ctx, ref(i))
	if err != nil || !maps.Equal(read.Observed.Owed, owed) {
		t.Fatalf("owed is %v, %v", read.Observed.Owed, err)
	}
	if err := db.DeleteInstance(ctx, read, event(t, i.Config, whatisup.InstanceDeleted), nil); err != nil {
		t.Fatal(err)
	}
	if read, err = db.Owned(ctx, ref(i)); err != nil || !maps.Equal(read.Observed.Owed, owed) {
		t.Fatalf("the tombstone owes %v, %v", read.Observed.Owed, err)
	}
	hints, err := db.ShardInstances(ctx, i.Config.Mode, i.Shard)
	if err != nil || len(hints) != 1 || hints[0].OwedAt.IsZero() {
		t.Errorf("hints %+v, %v", hints, err)
	}
	delete(owed, "https://one")
	for _, want := range []map[string]whatisup.Position{owed, {}} {
		if err := db.Owe(ctx, ref(i), epoch, want); err != nil {
			t.Fatal(err)
		}
		if read, err = db.Owned(ctx, ref(i)); err != nil || !maps.Equal(read.Observed.Owed, want) {
			t.Errorf("the tombstone owes %v, not %v, %v", read.Observed.Owed, want, err)
		}
	}
}

func TestInstanceLimit(t *testing.T) {
	t.Parallel()
	db := open(t)
	customer := whatisup.NewCustomerID()
	create := func() (whatisup.Config, error) {
		cfg := whatisup.Config{Customer: customer, Mode: whatisup.Test, ID: whatisup.NewInstanceID(), Name: "x", UpdatedAt: time.Now()}
		return cfg, db.CreateInstance(t.Context(), cfg, whatisup.Created{Event: event(t, cfg, whatisup.InstanceCreated), MaxInstances: 3})
	}
	var wg sync.WaitGroup
	var made, refused atomic.Int32
	for range 8 {
		wg.Go(func() {
			switch _, err := create(); {
			case err == nil:
				made.Add(1)
			case errors.Is(err, whatisup.ErrTooMany):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 3 || refused.Load() != 5 {
		t.Fatalf("%d made, %d refused", made.Load(), refused.Load())
	}
	for i, err := range db.Instances(t.Context(), customer, whatisup.Test, "", 1) {
		if err != nil {
			t.Fatal(err)
		}
		if err := db.DeleteInstance(t.Context(), i, event(t, i.Config, whatisup.InstanceDeleted), nil); err != nil {
			t.Fatal(err)
		}
		break
	}
	if _, err := create(); err != nil {
		t.Errorf("after a delete there is room: %v", err)
	}
}

func TestPairingRowBelongsToTheNewestAttempt(t *testing.T) {
	t.Parallel()
	db := open(t)
	ctx := t.Context()
	id := whatisup.NewInstanceID()
	now := time.Now()
	if p, err := db.Pairing(ctx, id); p != nil || err != nil {
		t.Fatalf("%+v, %v", p, err)
	}
	code := func(g whatisup.Generation, e whatisup.Epoch, n uint64) whatisup.Pairing {
		return whatisup.Pairing{
			Instance: id, Attempt: whatisup.AttemptID{Generation: g, Epoch: e, N: n},
			Raw: fmt.Sprint(g, e, n), Modules: []byte{byte(g), byte(n)}, ExpiresAt: now.Add(time.Minute), AliveUntil: now.Add(whatisup.AliveFor),
		}
	}
	for _, c := range []struct {
		p      whatisup.Pairing
		fenced bool
	}{
		{code(1, 2, 1), false}, {code(1, 2, 1), false}, {code(1, 2, 0), true}, {code(1, 1, 9), true},
		{code(1, 2, 2), false}, {code(1, 3, 0), false}, {code(2, 1, 0), false}, {code(1, 9, 9), true},
	} {
		if err := db.PutPairing(ctx, c.p); errors.Is(err, whatisup.ErrFenced) != c.fenced || err != nil && !c.fenced {
			t.Errorf("%v: %v", c.p.Attempt, err)
		}
	}
	p, err := db.Pairing(ctx, id)
	if err != nil || !p.Scannable(2, now) || p.Scannable(1, now) || p.Raw != "2 1 0" || !bytes.Equal(p.Modules, []byte{2, 0}) {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := db.VouchPairing(ctx, id, code(1, 9, 9).Attempt, now); !errors.Is(err, whatisup.ErrFenced) {
		t.Errorf("vouching for an old attempt: %v", err)
	}
	if err := db.VouchPairing(ctx, id, p.Attempt, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if p, err = db.Pairing(ctx, id); err != nil || p.Scannable(2, now) {
		t.Errorf("scannable after it was withdrawn: %v", err)
	}
}

func TestResult(t *testing.T) {
	t.Parallel()
	db := open(t)
	want := whatisup.Result{Command: whatisup.NewCommandID(), Error: whatisup.CodeNothingToScan, Message: "no code", MessageID: "m", Answer: []byte(`{"data":[]}`)}
	if r, err := db.Result(t.Context(), want.Command); r != nil || err != nil {
		t.Fatal(r, err)
	}
	if err := db.PutResult(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if r, err := db.Result(t.Context(), want.Command); err != nil || !reflect.DeepEqual(*r, want) {
		t.Fatal(r, err)
	}
	want.Answer = make([]byte, whatisup.MaxAnswer+1)
	if err := db.PutResult(t.Context(), want); err == nil {
		t.Error("an answer that no row holds was kept")
	}
}

func TestAnUnknownOutcomeIsUnavailable(t *testing.T) {
	t.Parallel()
	db := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.Instance(ctx, whatisup.NewCustomerID(), whatisup.Test, whatisup.NewInstanceID()); !errors.Is(err, whatisup.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
