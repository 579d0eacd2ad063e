package devicestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"go.mau.fi/whatsmeow/store"
	wa "go.mau.fi/whatsmeow/types"
	"golang.org/x/sync/errgroup"

	"whatisup/shared/whatisup"
)

// asLog makes a bench whose links are logs, with rows that are folded after this
// many entries; 0 for as many as in production.
func (b *bench) asLog(window uint64) *bench {
	b.format, b.window = FormatLog, window
	return b
}

// A received text of up to 200 characters costs at most 1.6 write units in the
// devices table, folds included, over 1,000 of them from 50 chats, whether
// people take turns or not; no transaction is on its way. And a link with that
// behind it is loaded with at most 15 read units.
func TestReceivedMessageCosts(t *testing.T) {
	t.Parallel()
	const chats, count = 50, 1000
	order := map[string]func(r *rand.Rand, i int) int{
		"at random": func(r *rand.Rand, _ int) int { return r.IntN(chats) },
		"in turn":   func(_ *rand.Rand, i int) int { return i % chats },
	}
	for name, next := range order {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t).asLog(0)
			h := b.open(1)
			device := h.pair(t, 1)
			pre, err := device.PreKeys.GetOrGenPreKeys(t.Context(), 60)
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(5, 6))
			peers := make([]*peer, chats)
			ctx := t.Context()
			arrive := func(i int, text string) {
				t.Helper()
				lid := wa.JID{User: strings.TrimSuffix(peers[i].address.Name(), "_1"), Server: wa.HiddenUserServer}
				err := receive(ctx, device, peers[i].encrypt(text), func(text string) error {
					if _, _, err := device.Contacts.PutPushName(ctx, lid, fmt.Sprint("Person ", i)); err != nil {
						return err
					}
					m, _ := h.Handling()
					return h.Handled(ctx, m, h.logOf(m, text), unsent)
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			answer := func(i int) {
				t.Helper()
				body, err := send(ctx, device, peers[i].address, "a reply")
				if err == nil {
					_, err = peers[i].decrypt(body)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			for i := range peers { // people we know, in the middle of a conversation
				peers[i] = newPeer(t, i, device)
				peers[i].meet(device, pre[i])
				for range 3 {
					arrive(i, "hello")
					answer(i)
				}
			}
			h.settle(t)
			h.rec.reset()
			for i := range count {
				text := fmt.Sprint(i, " ") + strings.Repeat("How are you? ", 15)
				arrive(next(r, i), text[:1+r.IntN(min(199, len(text)-1))])
			}
			h.link.log.folds.Wait()
			h.settle(t) // what the last ones owe, too
			units := h.rec.unitsOf(testTable)
			inLog := h.rec.unitsOf(logTable)
			h.rec.mu.Lock()
			transactions := 0
			for _, op := range h.rec.calls {
				if op == "TransactWriteItems" {
					transactions++
				}
			}
			h.rec.mu.Unlock()
			each := units / count
			t.Logf("%.3f write units a message, %.1f with the log of events", each, each+inLog/count)
			if each > 1.6 {
				t.Errorf("a received message costs %.3f write units, want at most 1.6", each)
			}
			if transactions > 0 {
				t.Errorf("%d transactions", transactions)
			}

			next := b.open(2)
			next.rec.reset()
			loaded := next.load(t)
			_, reads := next.rec.units()
			w, _ := next.rec.counts()
			t.Logf("loading it: %.1f read units, %d writes", reads, w)
			if reads > 15 {
				t.Errorf("%.1f read units to load", reads)
			}
			for i := range peers { // and every session is the newest
				h, device = next, loaded
				arrive(i, "after it")
				answer(i)
			}
		})
	}
}

// With rows folded almost at once: random operations give the same results as
// whatsmeow's own store, also after deaths and restarts.
func TestLogSameAsSQLStore(t *testing.T) {
	t.Parallel()
	for _, window := range []uint64{1, 3, 9} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			t.Parallel()
			sameAsSQLStore(t, newBench(t).asLog(window), window)
		})
	}
}

// What a stale host folds changes nothing, whatever has become of the row since:
// stopped before each write of a fold, and resumed after another host has
// adopted the instance and folded the same rows, changed or deleted.
func TestStaleFoldWritesNothing(t *testing.T) {
	t.Parallel()
	all := newBench(t)
	changes := map[string]func(ctx context.Context, d *store.Device) error{
		"left": func(context.Context, *store.Device) error { return nil },
		"changed": func(ctx context.Context, d *store.Device) error {
			return d.Sessions.PutSession(ctx, annAddress, []byte("next"))
		},
		"deleted": func(ctx context.Context, d *store.Device) error { return d.Sessions.DeleteSession(ctx, annAddress) },
	}
	for name, change := range changes {
		for _, exists := range []bool{true, false} {
			for _, end := range []string{"folded", "wiped", "removed"} {
				t.Run(fmt.Sprintf("%s/exists=%v/%s", name, exists, end), func(t *testing.T) {
					t.Parallel()
					b := all.another(t).asLog(0)
					old := b.open(1)
					device := old.pair(t, 1)
					fill(t, old, device)
					if exists {
						old.settle(t)
						if err := device.Sessions.PutSession(t.Context(), annAddress, []byte("before")); err != nil {
							t.Fatal(err)
						}
					}
					// The first write of the fold stops; later ones are TestLogKilled's.
					stopped, resume := pauseBeforeWrite(old.rec, 0)
					result := make(chan error, 1)
					go func() { result <- old.link.foldAll(context.Background(), false) }()
					select {
					case <-stopped:
					case err := <-result:
						t.Fatalf("wrote nothing: %v", err)
					}
					next := b.open(2)
					loaded := next.load(t)
					if err := change(t.Context(), loaded); err != nil {
						t.Fatal(err)
					}
					next.settle(t)
					if end != "folded" {
						if err := next.Wipe(t.Context(), 1); err != nil {
							t.Fatal(err)
						}
						if err := next.Sweep(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					if end == "removed" {
						if err := next.Remove(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					before := b.snapshot()
					close(resume)
					if err := <-result; err == nil && end != "folded" {
						t.Error("a stale fold succeeds")
					}
					if after := b.snapshot(); !maps.Equal(before, after) {
						t.Errorf("a stale fold changed the table:\n%v\n%v", before, after)
					}
				})
			}
		}
	}
}

// pauseBeforeWrite is pauseBefore for a later write.
func pauseBeforeWrite(rec *recorder, n int) (stopped, resume chan struct{}) {
	stopped, resume = make(chan struct{}), make(chan struct{})
	left := make(chan int, 1)
	left <- n
	rec.hook(func(op string) error {
		if isWrite(op) {
			i := <-left
			left <- i - 1
			if i == 0 {
				close(stopped)
			}
			if i <= 0 {
				<-resume
			}
		}
		return nil
	}, nil)
	return stopped, resume
}

// A host is stopped before any write, its folds included, while another one
// takes over and works; then it goes on. Nothing of it is seen, and each row is
// what the last owner has made it.
func TestLogTakeovers(t *testing.T) {
	t.Parallel()
	all := newBench(t)
	for seed := range uint64(messages(120) / 4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 3))
			b := all.another(t).asLog(1 + r.Uint64N(6))
			h := b.open(1)
			device := h.pair(t, 1)
			truth := make(map[string]string)
			address := func() string { return fmt.Sprintf("49%d:0", r.IntN(6)) }
			// change changes one row as a session would, and what is true with it.
			change := func(d *store.Device) error {
				at := address()
				if r.IntN(4) == 0 {
					err := d.Sessions.DeleteSession(t.Context(), at)
					if err == nil {
						delete(truth, at)
					}
					return err
				}
				v := fmt.Sprintf("session %d of %s, %s", r.Uint64(), at, strings.Repeat("x", r.IntN(400)))
				err := d.Sessions.PutSession(t.Context(), at, []byte(v))
				if err == nil {
					truth[at] = v
				}
				return err
			}
			var stale []chan struct{}
			var results []chan error
			for epoch := 2; epoch < 8; epoch++ {
				for range r.IntN(12) {
					if err := change(device); err != nil {
						t.Fatal(err)
					}
				}
				h.link.log.folds.Wait()
				// It is stopped at a write of its next commits or folds.
				stopped, resume := pauseBeforeWrite(h.rec, r.IntN(5))
				result := make(chan error, 1)
				old, oldDevice := h, device
				go func() {
					var err error
					for i := 0; i < 8 && err == nil; i++ {
						// Not in truth: what it wrote before it was stopped is read below.
						err = oldDevice.Sessions.PutSession(context.Background(), fmt.Sprintf("49%d:0", i%6), []byte(fmt.Sprintf("by epoch %d, %d", epoch-1, i)))
					}
					if err == nil {
						err = old.link.foldAll(context.Background(), false)
					}
					result <- err
				}()
				<-stopped
				stale, results = append(stale, resume), append(results, result)
				h = b.open(whatisup.Epoch(epoch))
				device = h.load(t)
				for i := range 6 { // what there is now is the truth from here on
					at := fmt.Sprintf("49%d:0", i)
					s, err := device.Sessions.GetSession(t.Context(), at)
					if err != nil {
						t.Fatal(err)
					}
					if delete(truth, at); s != nil {
						truth[at] = string(s)
					}
				}
				for range r.IntN(8) {
					if err := change(device); err != nil {
						t.Fatal(err)
					}
				}
				if r.IntN(2) == 0 {
					close(stale[0])
					if err := <-results[0]; !errors.Is(err, ErrFenced) && !errors.Is(err, ErrDiverged) {
						t.Errorf("the stale host: %v", err)
					}
					stale, results = stale[1:], results[1:]
				}
			}
			for i := range stale {
				close(stale[i])
				if err := <-results[i]; !errors.Is(err, ErrFenced) && !errors.Is(err, ErrDiverged) {
					t.Errorf("the stale host: %v", err)
				}
			}
			h.settle(t)
			for _, fresh := range []bool{false, true} {
				if fresh {
					h = b.open(100)
					device = h.load(t)
				}
				for i := range 6 {
					at := fmt.Sprintf("49%d:0", i)
					s, err := device.Sessions.GetSession(t.Context(), at)
					if err != nil || string(s) != truth[at] {
						t.Errorf("%s: %.40q, %v; want %.40q", at, s, err, truth[at])
					}
				}
			}
		})
	}
}

// A link goes from rows to the log and back, as often as one likes, and loses
// nothing, also if a host dies around any of the writes, and an owner that still
// has it in the other format can't write any more.
func TestReformat(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.format = FormatRows
	h := b.open(1)
	device := h.pair(t, 1)
	fill(t, h, device)
	epoch := whatisup.Epoch(1)
	want := make(map[string]string)
	for round := range 24 {
		at := fmt.Sprintf("49%d:0", round%5)
		v := fmt.Sprintf("session %d %s", round, strings.Repeat("y", 300))
		if err := device.Sessions.PutSession(t.Context(), at, []byte(v)); err != nil {
			t.Fatal(err)
		}
		want[at] = v
		old, oldDevice := h, device
		epoch++
		b.adopt(epoch)
		b.format = []Format{FormatLog, FormatRows}[round%2]
		for try := 0; ; try++ {
			h = b.reopen(epoch)
			h.die(1+(round/2+try)%7, round%4 < 2)
			d, err := h.Load(t.Context())
			if err == nil {
				h.rec.hook(nil, nil)
				device = d.Store
				break
			}
			if try > 30 {
				t.Fatal(err)
			}
		}
		if format, _ := numberAttr(b.head(), attrFormat); Format(format) != b.format {
			t.Fatalf("round %d: format %d", round, format)
		}
		before := b.snapshot()
		if err := oldDevice.Sessions.PutSession(t.Context(), at, []byte("stale")); !errors.Is(err, ErrFenced) && !errors.Is(err, ErrDiverged) {
			t.Errorf("round %d: a stale owner of the other format: %v", round, err)
		}
		if old.link.isLog() {
			_ = old.link.foldAll(t.Context(), false)
		}
		if !maps.Equal(before, b.snapshot()) {
			t.Fatalf("round %d: a stale owner of the other format changed the table", round)
		}
		for at, v := range want {
			if s, err := device.Sessions.GetSession(t.Context(), at); err != nil || string(s) != v {
				t.Fatalf("round %d: %s: %.40q, %v", round, at, s, err)
			}
		}
		if e, err := device.EventBuffer.GetBufferedEvent(t.Context(), [32]byte{9}); err != nil || e == nil || string(e.Plaintext) != "an unhandled text" {
			t.Fatalf("round %d: the buffer: %v, %v", round, e, err)
		}
	}
	for _, m := range readers {
		if err := m.do(t.Context(), h, device); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

// An entry that no row has and that is gone, or may be, ends the link by name; old
// rows are never taken for the present.
func TestGapInTheLog(t *testing.T) {
	t.Parallel()
	all := newBench(t)
	remove := func(b *bench, n uint64) {
		t.Helper()
		_, err := b.db.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: aws.String(testTable), Key: primaryKey(linkPartition(b.instance, 1), entryKey(n))})
		if err != nil {
			t.Fatal(err)
		}
	}
	cases := map[string]func(b *bench, h *host){
		"the first":   func(b *bench, h *host) { remove(b, 1) },
		"one between": func(b *bench, h *host) { remove(b, h.link.commits-1) },
		"old": func(b *bench, h *host) {
			for _, row := range b.rows() {
				if _, ok := entryNumber(stringAttr(row, attrSK)); ok {
					row[attrTTL] = num(uint64(time.Now().Add(entryLife - entryTrust - time.Hour).Unix()))
					if _, err := b.db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(testTable), Item: row}); err != nil {
						t.Error(err)
					}
				}
			}
		},
		"all": func(b *bench, h *host) {
			for n := range h.link.commits {
				remove(b, n+1)
			}
			b.setHead(map[string]types.AttributeValue{attrOpened: num(uint64(time.Now().Add(-entryTrust - time.Hour).Unix()))})
		},
	}
	for name, cut := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := all.another(t).asLog(0)
			h := b.open(1)
			fill(t, h, h.pair(t, 1))
			cut(b, h)
			before := b.snapshot()
			if _, err := b.reopen(1).Load(t.Context()); !errors.Is(err, ErrLost) || errors.Is(err, ErrUnavailable) {
				t.Errorf("load: %v", err)
			}
			if !maps.Equal(before, b.snapshot()) {
				t.Error("the table changed")
			}
		})
	}
	// What rows have may go.
	b := all.another(t).asLog(0)
	h := b.open(1)
	fill(t, h, h.pair(t, 1))
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range h.link.commits {
		remove(b, n+1)
	}
	next := b.open(2)
	device := next.load(t)
	for _, m := range readers {
		if err := m.do(t.Context(), next, device); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
	// A handle that lives long says so before it looks dead.
	b.setHead(map[string]types.AttributeValue{attrOpened: num(uint64(time.Now().Add(-30 * 24 * time.Hour).Unix()))})
	next.maintain(t.Context(), time.Now().Add(openedLife+time.Minute))
	if h := parseHead(b.head()); time.Since(h.opened) > time.Minute {
		t.Errorf("opened %v", h.opened)
	}
}

// A change that no entry has room for is a transaction of its rows.
func TestLargeChange(t *testing.T) {
	t.Parallel()
	b := newBench(t).asLog(0)
	h := b.open(1)
	device := h.pair(t, 1)
	fill(t, h, device)
	many := make(map[string][]byte)
	for i := range 60 {
		many[fmt.Sprintf("49%d:0", i)] = random(3000)
	}
	many[annAddress] = random(3000)
	h.rec.reset()
	if err := device.Sessions.PutManySessions(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	if w, _ := h.rec.counts(); w != 1 {
		t.Errorf("%d writes", w)
	}
	if err := device.Sessions.PutSession(t.Context(), annAddress, []byte("small again")); err != nil {
		t.Fatal(err)
	}
	many[annAddress] = []byte("small again")
	for _, epoch := range []int{1, 2} {
		if epoch == 2 {
			h = b.open(2)
			device = h.load(t)
		}
		for at, v := range many {
			if s, err := device.Sessions.GetSession(t.Context(), at); err != nil || !bytes.Equal(s, v) {
				t.Fatalf("%s: %d bytes, %v", at, len(s), err)
			}
		}
	}
}

// A change that no entry has room for comes while a row of it is being folded beside it:
// the fold writes what it has taken before, and the handle goes on.
func TestLargeChangeBesideAFold(t *testing.T) {
	t.Parallel()
	b := newBench(t).asLog(4)
	h := b.open(1)
	device := h.pair(t, 1)
	put := func(v []byte) {
		t.Helper()
		if err := device.Sessions.PutSession(t.Context(), annAddress, v); err != nil {
			t.Fatal(err)
		}
	}
	put([]byte("first"))
	h.settle(t) // it has a row now, which folds put without a transaction
	folds, written := make(chan struct{}), make(chan struct{})
	var began, once sync.Once
	h.rec.mu.Lock()
	h.rec.puts = func(sk string) {
		if kindOf(sk) != kindPeer {
			return
		}
		began.Do(func() { close(folds) })
		select { // the large change, if it does not wait
		case <-written:
		case <-time.After(300 * time.Millisecond):
		}
	}
	h.rec.mu.Unlock()
	h.rec.hook(nil, func(op string, err error) error {
		if op == "TransactWriteItems" {
			once.Do(func() { close(written) })
		}
		return err
	})
	for i := range 5 {
		put(fmt.Appendf(nil, "small %d", i))
	}
	<-folds
	put(random(entryBytes * 2))
	h.rec.hook(nil, nil)
	put([]byte("last"))
	h.link.log.folds.Wait()
	if h.failed.Load() != 0 || h.Err() != nil {
		t.Fatalf("the handle has failed: %v", h.Err())
	}
	h = b.open(2)
	if v, err := h.load(t).Sessions.GetSession(t.Context(), annAddress); err != nil || string(v) != "last" {
		t.Errorf("%d bytes, %v", len(v), err)
	}
}

// Changes that wait while an entry is being put share the next one, but for those
// that have read what others of them write.
func TestSharedEntry(t *testing.T) {
	t.Parallel()
	b := newBench(t).asLog(0)
	h := b.open(1)
	device := h.pair(t, 1)
	ctx := t.Context()
	const others = 8
	for i := range others + 2 { // so that they are known, and no read is needed
		if err := device.Identities.PutIdentity(ctx, fmt.Sprintf("49%d:0", i), [32]byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := device.Sessions.GetSession(ctx, annAddress); err != nil {
		t.Fatal(err)
	}
	stopped, resume := pauseBefore(h.rec)
	var some errgroup.Group
	put := func(i int, key byte) {
		some.Go(func() error {
			return device.Sessions.PutSession(ctx, fmt.Sprintf("49%d:0", i), []byte{key})
		})
	}
	for i := range others + 2 {
		if _, err := device.Sessions.GetSession(ctx, fmt.Sprintf("49%d:0", i)); err != nil {
			t.Fatal(err)
		}
	}
	put(others, 1)
	<-stopped
	h.rec.reset()
	for i := range others {
		put(i, 2)
	}
	// Two that add to one row: neither may be lost.
	for n := range 2 {
		some.Go(func() error {
			return h.link.atomically(ctx, func(ctx context.Context, x *txn) error {
				v, err := h.link.get(ctx, h.link.peerKey(peerSession, annAddress))
				x.put(h.link.peerKey(peerSession, annAddress), append(slices.Clone(v), byte('a'+n)))
				return err
			})
		})
	}
	waitFor(t, "all of them to wait", func() bool {
		h.link.mu.Lock()
		defer h.link.mu.Unlock()
		return len(h.link.queue) == others+2
	})
	close(resume)
	if err := some.Wait(); err != nil {
		t.Fatal(err)
	}
	if w, _ := h.rec.counts(); w > 2 {
		t.Errorf("%d changes took %d writes", others+2, w)
	}
	for _, h := range []*host{h, b.open(2)} {
		if h.link == nil {
			device = h.load(t)
		}
		if s, err := device.Sessions.GetSession(ctx, annAddress); err != nil || len(s) != 2 || s[0] == s[1] {
			t.Errorf("two additions made %q, %v", s, err)
		}
		for i := range others {
			if s, err := device.Sessions.GetSession(ctx, fmt.Sprintf("49%d:0", i)); err != nil || len(s) != 1 || s[0] != 2 {
				t.Errorf("session %d: %v, %v", i, s, err)
			}
		}
	}
}

// A difference makes the next value of the one before, and of no other.
func FuzzDifference(f *testing.F) {
	f.Add([]byte("a record with a chain key AAAA and an index 1"), []byte("a record with a chain key BBBB and an index 2"))
	f.Add(sampleSession(), sampleSession())
	f.Add([]byte{}, []byte("x"))
	f.Add([]byte("x"), []byte{})
	f.Fuzz(func(t *testing.T, base, next []byte) {
		diff := difference(base, next)
		got, ok := patched(base, diff)
		if !ok || !bytes.Equal(got, next) {
			t.Fatalf("%q, %v", got, ok)
		}
		if other := append(slices.Clone(base), 'x'); len(diff) > 4 {
			if _, ok := patched(other, diff); ok {
				t.Error("fits another value")
			}
		}
		patched(next, base) // whatever it is, it doesn't panic
	})
}
