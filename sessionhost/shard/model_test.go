package shard

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"whatisup/shared/whatisup"
)

// TestModel walks random sequences of calls, of what WhatsApp and phones do, of
// faults, deaths and hand-overs of hosts, and of time, and looks again and again
// whether what is stored, told and open agrees, and whether every state has a
// way out. SOAK makes it a hundred times as long.
func TestModel(t *testing.T) {
	steps := 10_000
	for seed := range uint64(4) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			walk(t, seed, steps/4)
		})
	}
}

// TestSoakModel is the walk of make soak.
func TestSoakModel(t *testing.T) {
	if os.Getenv("SOAK") == "" {
		t.Skip("make soak")
	}
	for seed := range uint64(100) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { walk(t, 1000+seed, 10_000) })
	}
}

const instances = 12

func walk(t *testing.T, seed uint64, steps int) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, seed)
		w.claim()
		var ids []whatisup.InstanceID
		for range instances {
			ids = append(ids, w.create())
		}
		var trail []string
		for n := range steps {
			id := ids[w.rnd.IntN(len(ids))]
			what := w.step(id)
			if what == "delete" {
				ids[slices.Index(ids, id)] = w.create()
			}
			trail = append(trail, fmt.Sprintf("%s %s", id[len(id)-4:], what))
			if n%250 == 249 {
				w.settle(ids)
				w.agree(ids)
				if t.Failed() {
					t.Logf("seed %d, step %d; the last steps:", seed, n)
					for _, line := range trail[max(0, len(trail)-400):] {
						for _, bad := range ids {
							if w.suspect[bad] && line[:4] == string(bad[len(bad)-4:]) || line[5:] == "host" {
								t.Log(line)
								break
							}
						}
					}
					break
				}
				w.wayOut(ids)
				if t.Failed() {
					break
				}
			}
		}
		w.drain()
		w.host.kit.Background.Wait()
	})
}

// step does one random thing and lets some time pass.
func (w *world) step(id whatisup.InstanceID) (what string) {
	now := time.Now()
	calls := []string{
		"fetch", "fetch", "fetch", "scan", "scan", "scan", "scan", "paircode", "connect", "connect", "stop", "logout", "delete",
		"drop", "drop", "restart", "replaced", "half_open", "stream", "removed",
		"unreachable", "silent", "outdated", "403", "406", "banned", "refused", "500", "clear",
		"host", "host", "store", "queue", "time", "time",
	}
	what = calls[w.rnd.IntN(len(calls))]
	lose := w.rnd.IntN(4) == 0 // the wake-up
	switch what {
	case "fetch":
		w.want(id, lose, func(i *whatisup.Instance) (whatisup.Wanted, bool) { return i.WantAttempt(now, "") })
	case "paircode":
		w.want(id, lose, func(i *whatisup.Instance) (whatisup.Wanted, bool) {
			if i.HasLink() {
				return i.Wanted, false
			}
			return i.WantPairCode("4912345678", now, "")
		})
	case "connect":
		w.want(id, lose, func(i *whatisup.Instance) (whatisup.Wanted, bool) { return i.WantConnect(now, "") })
	case "stop":
		w.want(id, lose, func(i *whatisup.Instance) (whatisup.Wanted, bool) { return i.WantStop(now, "") })
	case "logout":
		w.want(id, lose, func(i *whatisup.Instance) (whatisup.Wanted, bool) { return i.WantLogout(now, "") })
	case "delete":
		w.remove(id, lose)
	case "scan":
		w.scan(id, "49"+strconv.Itoa(1_000_000+w.rnd.IntN(1_000_000)))
	case "clear":
		w.mu.Lock()
		delete(w.faults, id)
		w.mu.Unlock()
	case "host":
		switch w.rnd.IntN(3) {
		case 0:
			w.drain()
		case 1:
			w.die()
			time.Sleep(time.Duration(w.rnd.IntN(30)) * time.Second) // nobody owns it
		case 2: // the new owner is there before the old one knows
			old := w.host
			w.claim()
			time.Sleep(time.Duration(w.rnd.IntN(500)) * time.Millisecond)
			now := w.host
			w.host = old
			w.die()
			w.host = now
			return what
		}
		w.claim()
	case "store":
		w.mu.Lock()
		w.storeDown = now.Add(time.Duration(w.rnd.IntN(8)) * time.Second)
		w.mu.Unlock()
	case "queue":
		w.mu.Lock()
		w.queueDown[w.Queues()[w.rnd.IntN(2)]] = now.Add(time.Duration(w.rnd.IntN(300)) * time.Second)
		w.mu.Unlock()
	case "time":
		time.Sleep(time.Duration(w.rnd.IntN(240)) * time.Second)
	default:
		w.misbehave(id, what, time.Duration(1+w.rnd.IntN(90))*time.Second)
	}
	switch w.rnd.IntN(4) {
	case 0:
		time.Sleep(time.Duration(w.rnd.IntN(8)) * time.Millisecond)
	case 1:
		time.Sleep(time.Duration(w.rnd.IntN(3000)) * time.Millisecond)
	}
	return what
}

func (w *world) create() whatisup.InstanceID {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := whatisup.NewInstanceID()
	now := time.Now()
	w.live[id] = &whatisup.Instance{
		Config:   whatisup.Config{Customer: customer, Mode: whatisup.Test, ID: id, UpdatedAt: now},
		Observed: whatisup.Observed{Status: whatisup.Pending, Since: now, UpdatedAt: now},
	}
	return id
}

func (w *world) want(id whatisup.InstanceID, lose bool, f func(*whatisup.Instance) (whatisup.Wanted, bool)) {
	w.mu.Lock()
	i := w.live[id]
	if wanted, changed := f(i); changed {
		i.Wanted = wanted
	}
	w.mu.Unlock()
	if !lose {
		w.host.shard.Wake(refTo(id))
	}
}

func (w *world) remove(id whatisup.InstanceID, lose bool) {
	w.mu.Lock()
	i := w.live[id]
	delete(w.live, id)
	i.DeletedAt = time.Now()
	i.Wanted.Online, i.Wanted.UnlinkThrough = false, whatisup.Everything
	w.dead[id] = i
	w.mu.Unlock()
	if !lose {
		w.host.shard.Wake(refTo(id))
	}
}

// settle ends every fault and waits until nothing moves any more: longer than
// the longest back-off, ban and attempt.
func (w *world) settle(ids []whatisup.InstanceID) {
	w.mu.Lock()
	clear(w.faults)
	w.storeDown = time.Time{}
	clear(w.queueDown)
	w.mu.Unlock()
	time.Sleep(20 * time.Minute)
	synctest.Wait()
}

// agree holds rows, auth state, WhatsApp, the log and the queues against each
// other.
func (w *world) agree(ids []whatisup.InstanceID) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.suspect = make(map[whatisup.InstanceID]bool)
	for _, s := range w.illegal {
		w.t.Errorf("illegal step %s", s)
	}
	now := time.Now()
	for _, id := range ids {
		i := w.live[id]
		bad := func(format string, args ...any) {
			w.t.Helper()
			w.suspect[id] = true
			o := i.Observed
			w.t.Errorf("%s, %s (%s), link %d, wanted %v, generation %d, observed %d, done %d, unlink %d, epoch %d of %d: %s", id[len(id)-4:],
				o.Status, o.Reason, o.Link, i.Wanted.Online, i.Wanted.Generation, o.ObservedGeneration, o.DoneGeneration,
				i.Wanted.UnlinkThrough, o.Epoch, w.epoch, fmt.Sprintf(format, args...))
		}
		o := &i.Observed
		v := whatisup.View(i, whatisup.Owner{Seen: now}, now)
		reason := whatisup.NoReason
		if v.Reason != nil {
			reason = *v.Reason
		}
		if !slices.ContainsFunc(whatisup.Meanings, func(m whatisup.Meaning) bool { return m.Status == v.Status && m.Reason == reason }) {
			bad("%s (%s) is shown, which means nothing", v.Status, reason)
		}
		auth := w.auth[id]
		if auth == nil {
			auth = &authRow{}
		}
		_, l := w.connection(id)
		if (v.Status == whatisup.Connected) != (l != nil) {
			bad("shown as %s, a connection is open: %v", v.Status, l != nil)
		}
		if auth.link != o.Link {
			bad("the auth state is of link %d", auth.link)
		}
		if o.Link > 0 {
			if p, ok := w.devices[auth.device]; !ok && o.Status == whatisup.Connected || ok && p.number != string(o.PhoneNumber) {
				bad("WhatsApp knows device %d: %v", auth.device, ok)
			}
		}
		if i.AttemptOpen() || i.Unlinking() {
			bad("something is still under way: attempt %v, unlinking %v", i.AttemptOpen(), i.Unlinking())
		}
		if w.showing[id] != nil {
			bad("a connection shows a code")
		}
		if o.ObservedGeneration != i.Wanted.Generation && (i.Wanted.Generation > 0) {
			bad("not taken up")
		}
		switch {
		case o.Status == whatisup.QR, o.Reason == whatisup.Starting, o.Status == whatisup.Connecting:
			bad("it does not come to rest")
		case o.Link > 0 && i.Wanted.Online && o.Status != whatisup.Connected && o.Reason != whatisup.KickedOtherDevice &&
			o.Reason != whatisup.Internal && o.Reason != whatisup.ClientOutdated:
			bad("it is wanted online")
		case o.Link > 0 && !i.Wanted.Online && !(o.Status == whatisup.Disconnected && o.Reason == whatisup.Stopped):
			bad("it is not wanted online")
		case o.Link == 0 && (o.Status == whatisup.Connected || o.Reason == whatisup.Stopped || o.Reason == whatisup.Network && o.Status == whatisup.Disconnected):
			bad("there is no link")
		}
		if o.Unsent.From != "" || len(o.Owed) > 0 {
			bad("events are unsent since %s, and owed since %v", o.Unsent.From, o.Owed)
		}
	}
	for id := range w.dead {
		if !w.finished[id] {
			w.t.Errorf("the deleted %s is not wiped: %+v, auth %+v", id, w.dead[id].Observed, w.auth[id])
		}
		if w.auth[id] != nil {
			w.t.Errorf("auth state of the deleted %s is left", id)
		}
		if _, l := w.connection(id); l != nil {
			w.t.Errorf("a connection of the deleted %s is open", id)
		}
	}
	once := make(map[whatisup.EventID]bool)
	for _, e := range w.log {
		if once[e.ID] {
			w.t.Errorf("event %s stands in the log twice", e.Name)
		}
		once[e.ID] = true
		for _, q := range w.Queues() {
			if w.told[q][e.ID] == 0 {
				w.t.Errorf("event %s of %s, %s, is not on queue %s", e.Name, e.Instance, e.OccurredAt, q)
			}
		}
	}
	// A queue gets the events of an instance in the order of the log.
	for _, q := range w.Queues() {
		next := make(map[whatisup.InstanceID][]whatisup.EventID)
		for _, e := range w.log {
			next[e.Instance] = append(next[e.Instance], e.ID)
		}
		for _, e := range w.arrived[q] {
			if of := next[e.Instance]; len(of) == 0 || of[0] != e.ID {
				w.t.Errorf("event %s of %s, %s, is out of order on queue %s", e.Name, e.Instance, e.OccurredAt, q)
				w.suspect[e.Instance] = true
			}
			if n := slices.Index(next[e.Instance], e.ID); n >= 0 {
				next[e.Instance] = slices.Delete(next[e.Instance], n, n+1)
			}
		}
	}
	w.log = nil
	clear(w.told)
	clear(w.arrived)
}

// wayOut shows that from every state connect, or logout and then a fetch, leads
// back to connected.
func (w *world) wayOut(ids []whatisup.InstanceID) {
	w.t.Helper()
	for n, id := range ids {
		if n%3 != 0 {
			continue
		}
		w.mu.Lock()
		linked := w.live[id].HasLink()
		was := w.live[id].Observed
		w.mu.Unlock()
		if linked {
			if was.Status != whatisup.Connected {
				w.want(id, false, func(i *whatisup.Instance) (whatisup.Wanted, bool) { return i.WantConnect(time.Now(), "") })
			}
		} else {
			w.want(id, false, func(i *whatisup.Instance) (whatisup.Wanted, bool) { return i.WantLogout(time.Now(), "") })
			w.want(id, false, func(i *whatisup.Instance) (whatisup.Wanted, bool) { return i.WantAttempt(time.Now(), "") })
			time.Sleep(2 * time.Second)
			w.scan(id, "4999999999")
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		w.mu.Lock()
		is := w.live[id].Observed
		w.mu.Unlock()
		if is.Status != whatisup.Connected && !(linked && is.Link == 0) {
			w.t.Errorf("from %s (%s) there was no way back: %s (%s)", was.Status, was.Reason, is.Status, is.Reason)
		}
	}
}
