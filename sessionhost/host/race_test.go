package host

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

// A host that is told to go in the middle of a scan finishes it.
func TestDrainFinishesScan(t *testing.T) {
	t.Parallel()
	w := quick(t)
	first := w.host("one")
	const number = "492000000001"
	id := w.create()
	w.fetchQR(id)
	code := w.code(id)
	w.fault(id, whatsapp.Fault{Kind: "latency", Millis: 150, Seconds: 60})
	if _, err := w.sim.ScanQR(t.Context(), string(w.customer), code, number); err != nil {
		t.Fatal(err)
	}
	w.host("two")
	first.stop()
	w.status(id, whatisup.Connected, "")
	for _, e := range w.events(id) {
		if e.Name == whatisup.InstanceUpdated && string(e.Data) == `{"changed":["status"],"status":"pending","reason":"pairing_interrupted"}` {
			t.Error("the scan was interrupted")
		}
	}
}

// A host that dies between the scan and the first login leaves an unfinished
// link: the next one unlinks and wipes it, and says so.
func TestDeathOverScan(t *testing.T) {
	t.Parallel()
	w := quick(t).hasty()
	one, line := w.mortal("one")
	w.await("the shard", func() bool { return len(one.fleet.Owned()) == 1 })
	w.host("two")
	const number = "492000000010"
	id := w.create()
	w.fetchQR(id)
	code := w.code(id)
	w.fault(id, whatsapp.Fault{Kind: "latency", Millis: 300, Seconds: 3})
	if _, err := w.sim.ScanQR(t.Context(), string(w.customer), code, number); err != nil {
		t.Fatal(err)
	}
	line.cut()
	i := w.status(id, whatisup.Pending, whatisup.PairingInterrupted)
	if i.Observed.Link != 0 {
		t.Errorf("link %d is still there", i.Observed.Link)
	}
	w.await("the device unlinked", func() bool { return len(w.sim.Devices(string(w.customer))) == 0 })
	w.link(id, number)
	w.everyEventIsTold(id)
}

// A scan and a DELETE, or a logout, at one moment: whichever is first, in the
// end there is no device and no link.
func TestScanAgainstGivingUp(t *testing.T) {
	t.Parallel()
	w := quick(t)
	w.host("one")
	for name, giveUp := range map[string]func(whatisup.InstanceID){"delete": w.delete, "logout": w.logout} {
		for n := range 6 {
			number := fmt.Sprintf("4920000001%d%d", len(name), n)
			id := w.create()
			w.fetchQR(id)
			code := w.code(id)
			shard := w.get(id).Shard
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = w.sim.ScanQR(t.Context(), string(w.customer), code, number) })
			time.Sleep(rand.N(40 * time.Millisecond)) // anywhere within the scan
			giveUp(id)
			wg.Wait()
			if name == "delete" {
				w.await("finished tombstone", func() bool {
					hints, err := w.db.ShardInstances(t.Context(), whatisup.Test, shard)
					if err != nil {
						t.Fatal(err)
					}
					for _, h := range hints {
						if h.ID == id {
							return false
						}
					}
					return true
				})
			} else {
				w.await("a logged out instance", func() bool {
					o := w.get(id).Observed
					return o.Status == whatisup.Pending && o.Link == 0 && o.PhoneNumber == "" && o.Reason != whatisup.Starting
				})
			}
			w.await("no device", func() bool { _, ok := w.device(id); return !ok })
		}
	}
}

// Codes run out at the very moment of a new fetch: the fetch gets a code.
func TestFetchAgainstRunningOut(t *testing.T) {
	t.Parallel()
	w := quick(t)
	w.timing.CodeFirst, w.timing.CodeNext = slowness*10*time.Second, 10*time.Millisecond
	w.host("one")
	id := w.create()
	for range 8 {
		w.fetchQR(id)
		first := w.code(id)
		w.fault(id, whatsapp.Fault{Kind: "drop"}) // brings the end near
		w.await("an end or another code", func() bool {
			p, err := w.db.Pairing(t.Context(), id)
			return err == nil && p != nil && (p.Raw != first || !w.get(id).AttemptOpen())
		})
		time.Sleep(rand.N(100 * time.Millisecond))
		w.fetchQR(id)
		w.code(id)
	}
}

// Many fetches at one moment start one session and get one code.
func TestManyFetches(t *testing.T) {
	t.Parallel()
	w := quick(t)
	w.host("one")
	id := w.create()
	var wg sync.WaitGroup
	codes := make([]string, 8)
	for n := range codes {
		wg.Go(func() {
			w.fetchQR(id)
			codes[n] = w.code(id)
		})
	}
	wg.Wait()
	for _, c := range codes {
		if c != codes[0] {
			t.Error("two callers got different codes")
		}
	}
	if g := w.get(id).Wanted.Generation; g != 1 {
		t.Errorf("%d generations were begun", g)
	}
}

// Wake-ups that are lost cost latency only; those that come twice, late or for
// nobody cost nothing.
func TestWakeUps(t *testing.T) {
	t.Parallel()
	w := quick(t)
	w.host("one")
	id := w.create()
	i := w.get(id)
	wanted, _ := i.WantAttempt(time.Now(), "req_lost")
	if err := w.db.Want(t.Context(), i, wanted, nil); err != nil { // and no wake-up
		t.Fatal(err)
	}
	w.scan(id, "492000000301")
	w.status(id, whatisup.Connected, "")
	before, _ := w.device(id)
	for range 20 {
		w.wake(i.Shard, id)
	}
	w.wake(i.Shard, whatisup.NewInstanceID())
	mid := w.send("492000000301", "492000000302", "quiet")
	w.await("a message", func() bool { return w.received(id)[mid] == 1 })
	if after, _ := w.device(id); after.Logins != before.Logins {
		t.Errorf("%d logins came of wake-ups", after.Logins-before.Logins)
	}
}

// There is room for pairings in a fifth of a host only; links always come back.
func TestAtCapacity(t *testing.T) {
	t.Parallel()
	w := quick(t)
	cfg := w.config("one")
	cfg.MaxSessions = 5
	w.hostWith(cfg)
	a, b := w.create(), w.create()
	w.fetchQR(a)
	w.code(a)
	w.fetchQR(b)
	w.await("a refusal", func() bool { return w.get(b).Observed.FailedCause == whatisup.CodeAtCapacity })
	if i := w.get(b); i.AttemptOpen() || i.Observed.Status != whatisup.Pending {
		t.Errorf("%s, open: %v", i.Observed.Status, i.AttemptOpen())
	}
	w.scan(a, "492000000401")
	w.status(a, whatisup.Connected, "")
	w.link(b, "492000000402")
}
