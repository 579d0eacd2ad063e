package host

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

// short is a fault of a kind that is over before a call's time is.
func short(kind string) whatsapp.Fault {
	f := whatsapp.Fault{Kind: kind, Seconds: 1}
	switch kind {
	case "failure":
		f.Code = 500
	case "slow_handshake", "latency", "ack_late", "media_slow":
		f.Millis = 300
	case "min_version":
		f.Version = "2.9999.1"
	case "ack_error", "upload_error":
		f.Code = 500
	case "storm":
		f.Seconds = 0
	case "refs":
		f.Count = 3
	}
	return f
}

// Every promise about a link holds under every fault that the simulator has, met
// before the call or right after it, in every state that a call can meet. What
// WhatsApp has is read from its own list of devices. SOAK tries all of them, otherwise
// each fault meets two calls, in a state by chance.
func TestPromisesUnderEveryFault(t *testing.T) {
	t.Parallel()
	w := quick(t)
	w.host("one")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))

	// reach brings an instance into a state; those with a link say so.
	type state struct {
		name   string
		linked bool
		reach  func(w *world, id whatisup.InstanceID, number string)
	}
	states := []state{
		{"connected", true, func(w *world, id whatisup.InstanceID, number string) { w.link(id, number) }},
		{"stopped", true, func(w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			w.disconnect(id)
			w.status(id, whatisup.Disconnected, whatisup.Stopped)
		}},
		{"showing a code", false, func(w *world, id whatisup.InstanceID, _ string) { w.fetchQR(id); w.code(id) }},
		{"just scanned", true, func(w *world, id whatisup.InstanceID, number string) {
			w.fetchQR(id)
			w.scan(id, number)
		}},
		{"never linked", false, func(*world, whatisup.InstanceID, string) {}},
	}
	devices := func(w *world, id whatisup.InstanceID) (n int, connected bool) {
		for _, d := range w.sim.Devices(string(w.customer)) {
			if d.Instance == string(id) {
				n++
				connected = connected || d.Connected
			}
		}
		return n, connected
	}
	within := w.timing.Unlink + w.timing.Login
	calls := []struct {
		name string
		call func(w *world, id whatisup.InstanceID)
		hold func(w *world, id whatisup.InstanceID, s state, number string)
	}{
		{"logout", func(w *world, id whatisup.InstanceID) { w.logout(id) }, func(w *world, id whatisup.InstanceID, _ state, number string) {
			w.awaitFor(within, "no device at WhatsApp, and the state", func() bool {
				i := w.get(id)
				n, _ := devices(w, id)
				return n == 0 && i.Observed.Status == whatisup.Pending && i.Observed.Link == 0 && i.Observed.PhoneNumber == "" && !i.Unlinking()
			})
			w.clear(id)
			w.link(id, number)
		}},
		{"delete", func(w *world, id whatisup.InstanceID) { w.delete(id) }, func(w *world, id whatisup.InstanceID, _ state, _ string) {
			w.awaitFor(within, "no device at WhatsApp, and no key of the auth state", func() bool {
				n, _ := devices(w, id)
				return n == 0 && !slices.ContainsFunc(w.deviceRows(id), func(row map[string]types.AttributeValue) bool { return row["key"] != nil })
			})
		}},
		{"disconnect", func(w *world, id whatisup.InstanceID) { w.disconnect(id) }, func(w *world, id whatisup.InstanceID, s state, number string) {
			w.awaitFor(within, "no connection, and rest", func() bool {
				i := w.get(id)
				_, connected := devices(w, id)
				return !connected && i.Observed.ObservedGeneration == i.Wanted.Generation && i.Observed.Status != whatisup.Connected && i.Observed.Status != whatisup.Connecting && i.Observed.Status != whatisup.QR
			})
			if i := w.get(id); i.Observed.Link > 0 {
				if i.Observed.Reason != whatisup.Stopped {
					w.t.Errorf("linked and not wanted, it is %s (%s)", i.Observed.Status, i.Observed.Reason)
				}
				w.clear(id)
				w.connect(id)
				w.leadsBack(id, number) // by a scan, if WhatsApp has ended the link meanwhile
			}
		}},
		{"disconnect, then connect", func(w *world, id whatisup.InstanceID) { w.disconnect(id); w.connect(id) }, func(w *world, id whatisup.InstanceID, _ state, number string) {
			w.leadsBack(id, number)
		}},
		{"fetch of a code, then a scan", func(w *world, id whatisup.InstanceID) {
			if i := w.get(id); !i.HasLink() {
				w.fetchQR(id)
				if p, err := w.db.Pairing(w.t.Context(), id); err == nil && p.Scannable(w.get(id).Wanted.Generation, time.Now()) {
					w.sim.ScanQR(w.t.Context(), string(w.customer), p.Raw, "4919"+fmt.Sprint(rand.IntN(90_000_000)+10_000_000)) //nolint:errcheck // what comes of it is seen
				}
			}
		}, func(w *world, id whatisup.InstanceID, _ state, number string) {
			w.leadsBack(id, number)
			w.awaitFor(within, "one device", func() bool { n, connected := devices(w, id); return n == 1 && connected })
		}},
	}

	number := 0
	for n, kind := range whatsapp.FaultKinds {
		for m, call := range calls {
			tried := states
			if os.Getenv("SOAK") == "" {
				if (n+m+int(seed%5))%5 > 1 {
					continue
				}
				tried = []state{states[rnd.IntN(len(states))]}
			}
			for _, s := range tried {
				before := rnd.IntN(2) == 0
				number++
				n := fmt.Sprintf("49161%07d", number)
				t.Run(fmt.Sprintf("%s, %s, %s, before %v", kind, call.name, s.name, before), func(t *testing.T) {
					t.Parallel()
					own := *w
					own.t = t
					id := own.create()
					s.reach(&own, id, n)
					met := func() {
						if _, ok := own.device(id); kind != "removed" || ok {
							own.fault(id, short(kind))
						}
					}
					if before {
						met()
					}
					call.call(&own, id)
					if !before {
						met()
					}
					call.hold(&own, id, s, n)
				})
			}
		}
	}
}

// leadsBack has a way back to connected: by itself, by connect, or by a new scan where
// the link is gone.
func (w *world) leadsBack(id whatisup.InstanceID, number string) {
	w.t.Helper()
	var asked whatisup.Generation
	w.await("connected again", func() bool {
		i := w.get(id)
		o := &i.Observed
		if o.Status == whatisup.Connected && i.Wanted.Generation == o.ObservedGeneration {
			d, ok := w.device(id)
			return ok && d.Connected
		}
		switch {
		case o.Status == whatisup.QR:
			if p, err := w.db.Pairing(w.t.Context(), id); err == nil && p.Scannable(i.Wanted.Generation, time.Now()) {
				w.sim.ScanQR(w.t.Context(), string(w.customer), p.Raw, number) //nolint:errcheck // tried again
			}
		case i.Wanted.Generation == asked && i.Wanted.Generation != o.DoneGeneration: // under way
		case slices.Contains([]whatisup.Status{whatisup.Connecting, whatisup.Disconnected, whatisup.Failed}, o.Status) && o.Link > 0:
			if o.Status == whatisup.Failed || o.Reason == whatisup.KickedOtherDevice || o.Reason == whatisup.Stopped {
				w.connect(id)
				asked = w.get(id).Wanted.Generation
			}
		case o.Link == 0 && !i.AttemptOpen():
			w.clear(id)
			w.fetchQR(id)
			asked = w.get(id).Wanted.Generation
		}
		return false
	})
}
