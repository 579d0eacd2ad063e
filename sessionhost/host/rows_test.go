package host

import (
	"flag"
	"os"
	"strconv"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"

	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

func TestMain(m *testing.M) {
	// Half-open connections are found by the library's keepalive, which is as slow
	// as a deployment wants it. The variables are the process's own.
	whatsmeow.KeepAliveIntervalMin, whatsmeow.KeepAliveIntervalMax = 400*time.Millisecond, 800*time.Millisecond
	whatsmeow.KeepAliveResponseDeadline = slowness * 3 * time.Second
	// The tests wait more than they work.
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(max(12/slowness, 3))); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// quick is a world whose times are short enough to wait for.
func quick(t *testing.T) *world { return quickWith(t, 1) }

func quickWith(t *testing.T, shards int) *world {
	w := newWorld(t, shards)
	w.timing.FirstCode = slowness * 4 * time.Second
	w.timing.Login = slowness * 6 * time.Second
	w.timing.Down = 1500 * time.Millisecond
	w.timing.Grace = 2 * time.Second
	w.timing.Replaced = 500 * time.Millisecond
	w.timing.Stable = 500 * time.Millisecond
	w.timing.Unlink = slowness * 6 * time.Second
	w.timing.Reconcile = 500 * time.Millisecond
	w.timing.Tries = 3
	w.timing.Outdated = slowness * 5 * time.Second
	return w
}

// fault makes WhatsApp misbehave for one instance.
func (w *world) fault(id whatisup.InstanceID, f whatsapp.Fault) {
	w.t.Helper()
	f.Target = whatsapp.Target{World: string(w.customer), Instance: string(id)}
	if _, err := w.sim.Inject(f); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) clear(id whatisup.InstanceID) {
	w.sim.ClearFaults(whatsapp.Target{World: string(w.customer), Instance: string(id)}, "")
}

func (w *world) scan(id whatisup.InstanceID, number string) {
	w.t.Helper()
	if _, err := w.sim.ScanQR(w.t.Context(), string(w.customer), w.code(id), number); err != nil {
		w.t.Fatal(err)
	}
}

// device is the instance's linked device at WhatsApp, if there is one.
func (w *world) device(id whatisup.InstanceID) (whatsapp.Device, bool) {
	for _, d := range w.sim.Devices(string(w.customer)) {
		if d.Instance == string(id) {
			return d, true
		}
	}
	return whatsapp.Device{}, false
}

// count is how many events of the name the log holds for the instance.
func (w *world) count(id whatisup.InstanceID, name whatisup.EventName) int {
	n := 0
	for _, e := range w.events(id) {
		if e.Name == name {
			n++
		}
	}
	return n
}

// relink shows that there is a way back to connected.
func (w *world) relink(id whatisup.InstanceID, number string) {
	w.t.Helper()
	w.link(id, number)
}

// TestWhatHappens has one case for each row of the contract's table, each for an
// instance of its own.
func TestWhatHappens(t *testing.T) {
	t.Parallel()
	w := quick(t)
	w.host("one")

	cases := []struct {
		name string
		run  func(t *testing.T, w *world, id whatisup.InstanceID, number string)
	}{
		{"a scan links", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
		}},
		{"the dial fails", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.fault(id, whatsapp.Fault{Kind: "unreachable", Seconds: 60})
			w.fetchQR(id)
			i := w.status(id, whatisup.Pending, whatisup.Network)
			if i.Observed.FailedCause != whatisup.CodeWhatsAppUnreachable || i.Observed.DoneGeneration != i.Wanted.Generation {
				t.Errorf("cause %q, done %d of %d", i.Observed.FailedCause, i.Observed.DoneGeneration, i.Wanted.Generation)
			}
			w.clear(id)
			w.relink(id, number)
		}},
		{"the handshake is never answered", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.fault(id, whatsapp.Fault{Kind: "silent", Seconds: 60})
			w.fetchQR(id)
			i := w.statusWithin(w.timing.FirstCode+3*time.Second, id, whatisup.Pending, whatisup.Network)
			if i.Observed.FailedCause != whatisup.CodeWhatsAppUnreachable {
				t.Errorf("cause %q", i.Observed.FailedCause)
			}
			w.clear(id)
			w.relink(id, number)
		}},
		{"the socket drops while a code is shown", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.fetchQR(id)
			first := w.code(id)
			before, _ := w.db.Pairing(t.Context(), id)
			w.fault(id, whatsapp.Fault{Kind: "drop"})
			w.await("another code", func() bool { return w.code(id) != first })
			after, _ := w.db.Pairing(t.Context(), id)
			if before.Attempt.Generation != after.Attempt.Generation || after.Attempt.N <= before.Attempt.N {
				t.Errorf("attempt %v became %v", before.Attempt, after.Attempt)
			}
			w.scan(id, number)
			w.status(id, whatisup.Connected, "")
		}},
		{"the socket drops for good while a code is shown", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.fetchQR(id)
			w.code(id)
			w.fault(id, whatsapp.Fault{Kind: "unreachable", Seconds: 60})
			w.status(id, whatisup.Pending, whatisup.Network)
			if p, _ := w.db.Pairing(t.Context(), id); p.Scannable(w.get(id).Wanted.Generation, time.Now()) {
				t.Error("a code of a closed socket can be fetched")
			}
			w.clear(id)
			w.relink(id, number)
		}},
		{"the codes run out", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			if _, err := w.sim.Inject(whatsapp.Fault{
				Target: whatsapp.Target{World: string(w.customer), Instance: string(id)}, Kind: "refs", Count: 1, Seconds: 1,
			}); err != nil {
				t.Fatal(err)
			}
			w.fetchQR(id)
			w.code(id)
			i := w.status(id, whatisup.Pending, whatisup.QRTimeout)
			if i.AttemptOpen() {
				t.Error("the attempt is still open")
			}
			w.clear(id) // the next codes are to last
			w.relink(id, number)
		}},
		{"drop", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			before, _ := w.device(id)
			w.fault(id, whatsapp.Fault{Kind: "drop"})
			w.await("a new login", func() bool { d, _ := w.device(id); return d.Logins > before.Logins })
			w.status(id, whatisup.Connected, "")
		}},
		{"restart, 503", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			for _, kind := range []string{"restart", "unavailable"} {
				before, _ := w.device(id)
				w.fault(id, whatsapp.Fault{Kind: kind})
				w.await("a new login after "+kind, func() bool { d, _ := w.device(id); return d.Logins > before.Logins })
				w.status(id, whatisup.Connected, "")
			}
		}},
		{"no answer for long", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			w.fault(id, whatsapp.Fault{Kind: "unreachable", Seconds: 60})
			w.status(id, whatisup.Connecting, "")
			w.status(id, whatisup.Disconnected, whatisup.Network)
			w.clear(id)
			w.connect(id)
			w.status(id, whatisup.Connected, "")
		}},
		{"500 at login", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			w.fault(id, whatsapp.Fault{Kind: "failure", Code: 500})
			w.status(id, whatisup.Connecting, "")
			w.status(id, whatisup.Connected, "")
		}},
		{"half-open", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			before, _ := w.device(id)
			w.fault(id, whatsapp.Fault{Kind: "half_open", Seconds: 60})
			w.await("a new login", func() bool { d, _ := w.device(id); return d.Logins > before.Logins })
			w.status(id, whatisup.Connected, "")
		}},
		{"replaced", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			before, _ := w.device(id)
			w.fault(id, whatsapp.Fault{Kind: "replaced"})
			w.status(id, whatisup.Connecting, "")
			w.await("it back", func() bool { d, _ := w.device(id); return d.Logins > before.Logins })
			w.status(id, whatisup.Connected, "")
			w.fault(id, whatsapp.Fault{Kind: "replaced"})
			w.status(id, whatisup.Disconnected, whatisup.KickedOtherDevice)
			w.connect(id)
			w.status(id, whatisup.Connected, "")
		}},
		{"removed on the phone", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			w.fault(id, whatsapp.Fault{Kind: "removed"})
			i := w.status(id, whatisup.Disconnected, whatisup.RemovedOnPhone)
			if i.Observed.Link != 0 || string(i.Observed.PhoneNumber) != number {
				t.Errorf("link %d, number kept: %v", i.Observed.Link, string(i.Observed.PhoneNumber) == number)
			}
			w.relink(id, number+"1")
			events := w.events(id)
			last := string(events[len(events)-1].Data)
			if want := `{"phone_number":"` + number + `1","previous_phone_number":"` + number + `","link":"new"}`; last != want {
				t.Errorf("the last event says %s, not %s", last, want)
			}
		}},
		{"403", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			w.fault(id, whatsapp.Fault{Kind: "forbidden"})
			w.status(id, whatisup.Disconnected, whatisup.SessionInvalidated)
			w.relink(id, number)
		}},
		{"406", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			w.fault(id, whatsapp.Fault{Kind: "banned"})
			i := w.status(id, whatisup.Failed, whatisup.Banned)
			if i.Observed.Link != 0 {
				t.Error("the link is still there")
			}
			w.relink(id, number)
		}},
		{"402 with an end", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			w.fault(id, whatsapp.Fault{Kind: "banned", Seconds: 6})
			i := w.status(id, whatisup.Failed, whatisup.Banned)
			if i.Observed.Link == 0 || i.Observed.NextRetryAt.IsZero() {
				t.Errorf("link %d, next try %v", i.Observed.Link, i.Observed.NextRetryAt)
			}
			w.status(id, whatisup.Connected, "")
		}},
		{"405", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			w.fault(id, whatsapp.Fault{Kind: "outdated"})
			i := w.status(id, whatisup.Failed, whatisup.ClientOutdated)
			if i.Observed.Link == 0 {
				t.Error("the link is gone")
			}
			before, _ := w.device(id)
			// It is not tried in a loop: several looks through the shard later
			// there is no new login.
			time.Sleep(3 * w.timing.Reconcile)
			if d, _ := w.device(id); d.Logins != before.Logins {
				t.Errorf("%d logins, not %d", d.Logins, before.Logins)
			}
			w.connect(id)
			w.status(id, whatisup.Connected, "")
		}},
		{"405, and no newer client", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			w.fault(id, whatsapp.Fault{Kind: "outdated", Seconds: 600})
			i := w.status(id, whatisup.Failed, whatisup.ClientOutdated)
			next := i.Observed.NextRetryAt
			if next.IsZero() || time.Until(next) > w.timing.Outdated {
				t.Errorf("the next try is at %v", next)
			}
			w.await("a later announcement", func() bool { return w.get(id).Observed.NextRetryAt.After(next) })
			w.clear(id)
			w.status(id, whatisup.Connected, "")
		}},
		{"405 before a link", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.fault(id, whatsapp.Fault{Kind: "outdated"})
			w.fetchQR(id)
			w.status(id, whatisup.Failed, whatisup.ClientOutdated)
			w.relink(id, number)
		}},
		{"refused again and again", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			w.fault(id, whatsapp.Fault{Kind: "failure", Code: 429, Seconds: 60})
			w.status(id, whatisup.Connecting, "")
			w.status(id, whatisup.Failed, whatisup.Internal)
			w.clear(id)
			w.connect(id)
			w.status(id, whatisup.Connected, "")
		}},
		{"a passkey is asked for", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.fault(id, whatsapp.Fault{Kind: "passkey"})
			w.fetchQR(id)
			if _, err := w.sim.ScanQR(t.Context(), string(w.customer), w.code(id), number); err == nil {
				t.Fatal("the scan went through")
			}
			w.status(id, whatisup.Failed, whatisup.PasskeyRequired)
			w.relink(id, number)
		}},
		{"disconnect and connect", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			w.disconnect(id)
			w.status(id, whatisup.Disconnected, whatisup.Stopped)
			w.await("a closed connection", func() bool { d, ok := w.device(id); return ok && !d.Connected })
			w.connect(id)
			w.status(id, whatisup.Connected, "")
		}},
		{"disconnect while pairing", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.fetchQR(id)
			w.code(id)
			w.disconnect(id)
			w.status(id, whatisup.Pending, "")
			w.relink(id, number)
		}},
		{"logout", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			w.logout(id)
			i := w.status(id, whatisup.Pending, whatisup.LoggedOut)
			if i.Observed.Link != 0 || i.Observed.PhoneNumber != "" {
				t.Error("link or number are still there")
			}
			if _, ok := w.device(id); ok {
				t.Error("the device is still linked at WhatsApp")
			}
			w.relink(id, number)
		}},
		{"logout while stopped", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			w.disconnect(id)
			w.status(id, whatisup.Disconnected, whatisup.Stopped)
			w.logout(id)
			w.status(id, whatisup.Pending, whatisup.LoggedOut)
			if _, ok := w.device(id); ok {
				t.Error("the device is still linked at WhatsApp")
			}
		}},
		{"logout while WhatsApp is out of reach", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			w.fault(id, whatsapp.Fault{Kind: "unreachable", Seconds: 60})
			w.status(id, whatisup.Connecting, "")
			w.logout(id)
			w.status(id, whatisup.Pending, whatisup.LoggedOut)
			w.clear(id)
			w.relink(id, number+"2")
		}},
		{"logout while pairing", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.fetchQR(id)
			w.code(id)
			w.logout(id)
			w.status(id, whatisup.Pending, whatisup.LoggedOut)
			w.relink(id, number)
		}},
		{"logout of what was never linked, then a fetch at once", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.logout(id)
			w.relink(id, number)
		}},
		{"logout followed at once by a fetch", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.link(id, number)
			before, _ := w.device(id)
			w.logout(id)
			w.relink(id, number)
			after, ok := w.device(id)
			if !ok || after.JID == before.JID {
				t.Errorf("device %s, before %s", after.JID, before.JID)
			}
			if n := len(w.sim.Devices(string(w.customer))); n == 0 {
				t.Error("no device")
			}
		}},
		{"a link by code", func(t *testing.T, w *world, id whatisup.InstanceID, number string) {
			w.want(id, func(i *whatisup.Instance) (whatisup.Wanted, bool) {
				return i.WantPairCode(whatisup.PhoneNumber(number), time.Now(), "req_code")
			})
			var code string
			w.await("a pair code", func() bool {
				p, _ := w.db.Pairing(t.Context(), id)
				if p != nil {
					code = p.Code
				}
				return code != ""
			})
			if _, err := w.sim.EnterCode(t.Context(), string(w.customer), code, number); err != nil {
				t.Fatal(err)
			}
			w.status(id, whatisup.Connected, "")
		}},
	}
	for n, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// The world's own helpers report to the case.
			own := *w
			own.t = t
			c.run(t, &own, own.create(), "4917"+string(rune('0'+n/10))+string(rune('0'+n%10))+"000000")
		})
	}
}
