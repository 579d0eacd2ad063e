package whatsapp_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/local/whatsapp"
	"whatisup/local/whatsapp/whatsapptest"
)

func inject(t *testing.T, sim *whatsapptest.Simulator, f whatsapp.Fault) int {
	t.Helper()
	n, err := sim.Inject(f)
	if err != nil {
		t.Fatalf("cannot inject %s: %v", f.Kind, err)
	}
	return n
}

var onlyA = whatsapp.Target{World: world, Instance: "a"}

func TestFaultsOfALiveConnection(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	a := openClient(t, sim, "", world, "a")
	a.pair(world, own)
	b := openClient(t, sim, "", world, "b")
	b.pair(world, friend)

	again := func(c *client) {
		t.Helper()
		c.Disconnect()
		c.connect()
		await[*events.Connected](c)
	}
	for _, kind := range []string{"drop", "unavailable"} {
		if n := inject(t, sim, whatsapp.Fault{Kind: kind, Target: onlyA}); n != 1 {
			t.Errorf("%s met %d connections", kind, n)
		}
		await[*events.Disconnected](a)
		again(a)
	}
	inject(t, sim, whatsapp.Fault{Kind: "restart", Target: onlyA})
	await[*events.Connected](a) // the client comes back by itself
	inject(t, sim, whatsapp.Fault{Kind: "replaced", Target: whatsapp.Target{PhoneNumber: own}})
	await[*events.StreamReplaced](a)
	again(a)
	if !sim.Devices(world)[1].Connected || sim.Devices(world)[1].Logins != 1 {
		t.Error("a fault met the other device")
	}
	if n := inject(t, sim, whatsapp.Fault{Kind: "storm"}); n != 2 {
		t.Errorf("the storm met %d connections", n)
	}
	await[*events.Disconnected](a)
	await[*events.Disconnected](b)
	again(a)
	inject(t, sim, whatsapp.Fault{Kind: "removed", Target: onlyA})
	if got := await[*events.LoggedOut](a); got.OnConnect {
		t.Error("it should have been told at once")
	}
}

func TestFaultsOfALogin(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		fault   whatsapp.Fault
		linked  bool // afterwards
		recover bool // by the next login, without the fault being cleared
		check   func(t *testing.T, c *client)
	}{
		{"outdated", whatsapp.Fault{Kind: "outdated"}, true, true, func(t *testing.T, c *client) { await[*events.ClientOutdated](c) }},
		{"minimum version", whatsapp.Fault{Kind: "min_version", Version: "2.3000.4000000000"}, true, false, func(t *testing.T, c *client) { await[*events.ClientOutdated](c) }},
		{"temporary ban", whatsapp.Fault{Kind: "banned", Seconds: 600}, true, false, func(t *testing.T, c *client) {
			if got := await[*events.TemporaryBan](c); got.Expire < 590*time.Second || got.Expire > 600*time.Second {
				t.Errorf("it ends in %v", got.Expire)
			}
		}},
		{"ban", whatsapp.Fault{Kind: "banned"}, false, false, func(t *testing.T, c *client) {
			if got := await[*events.LoggedOut](c); got.Reason != events.ConnectFailureUnknownLogout {
				t.Errorf("reason %v", got.Reason)
			}
		}},
		{"forbidden", whatsapp.Fault{Kind: "forbidden"}, false, false, func(t *testing.T, c *client) {
			if got := await[*events.LoggedOut](c); got.Reason != events.ConnectFailureMainDeviceGone {
				t.Errorf("reason %v", got.Reason)
			}
		}},
		{"logged out", whatsapp.Fault{Kind: "logged_out"}, false, false, func(t *testing.T, c *client) { await[*events.LoggedOut](c) }},
		{"other reason", whatsapp.Fault{Kind: "failure", Code: 429}, true, true, func(t *testing.T, c *client) {
			if got := await[*events.ConnectFailure](c); got.Reason != 429 {
				t.Errorf("reason %v", got.Reason)
			}
		}},
		{"unavailable for a time", whatsapp.Fault{Kind: "unavailable", Seconds: 600}, true, false, func(t *testing.T, c *client) { await[*events.Disconnected](c) }},
		{"replaced for a time", whatsapp.Fault{Kind: "replaced", Seconds: 600}, true, false, func(t *testing.T, c *client) { await[*events.StreamReplaced](c) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			sim := start(t, whatsapp.Config{})
			c := openClient(t, sim, "", world, "a")
			c.pair(world, own)
			c.Disconnect()
			eventually(t, "it is gone", func() bool { return !sim.Devices("")[0].Connected })
			test.fault.Target = onlyA
			inject(t, sim, test.fault)
			c.connect()
			test.check(t, c)
			if got := len(sim.Devices("")) == 1; got != test.linked {
				t.Errorf("linked afterwards: %v", got)
			}
			if !test.linked {
				return
			}
			if !test.recover {
				if n := sim.ClearFaults(onlyA, test.fault.Kind); n != 1 {
					t.Errorf("cleared %d faults", n)
				}
			}
			c.Disconnect()
			c.connect()
			await[*events.Connected](c)
		})
	}
}

func TestFaultsBeforeTheLink(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	inject(t, sim, whatsapp.Fault{Kind: "refs", Count: 1, Target: onlyA})
	c := openClient(t, sim, "", world, "a")
	c.connect()
	if got := await[*events.QR](c); len(got.Codes) != 1 {
		t.Errorf("%d codes", len(got.Codes))
	}
	inject(t, sim, whatsapp.Fault{Kind: "outdated", Target: onlyA})
	await[*events.Disconnected](c)
	c.connect()
	await[*events.ClientOutdated](c)
	c.Disconnect()

	inject(t, sim, whatsapp.Fault{Kind: "unreachable", Seconds: 600, Target: onlyA})
	if err := c.Connect(); err == nil {
		t.Error("it was reachable")
	}
	other := openClient(t, sim, "", world, "b")
	other.connect()
	await[*events.QR](other)
	sim.ClearFaults(whatsapp.Target{}, "")
	c.connect()
	if got := await[*events.QR](c); len(got.Codes) != 6 {
		t.Errorf("%d codes", len(got.Codes))
	}
}

func TestCodesRunOut(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{RegistrationLife: time.Second})
	c := openClient(t, sim, "", world, "a")
	c.connect()
	code := await[*events.QR](c).Codes[0]
	await[*events.Disconnected](c)
	if _, err := sim.ScanQR(t.Context(), world, code, own); whatsapp.ErrorCode(err) != "nothing_to_scan" {
		t.Errorf("a dead code was scanned: %v", err)
	}
}

func TestSilence(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	if n := inject(t, sim, whatsapp.Fault{Kind: "silent", Seconds: 600, Target: onlyA}); n != 1 {
		t.Errorf("met %d connections", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.SetPassive(ctx, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a half-open connection answered: %v", err)
	}
	if !c.IsConnected() {
		t.Error("the connection is closed, not silent")
	}
	// A new one opens, and its handshake is never answered.
	other := newClient(t, sim, c.Store, world, "a")
	connecting := make(chan error, 1)
	go func() { connecting <- other.Connect() }()
	if _, err := sim.AwaitStanza(soon(t), whatsapp.JournalFilter{Target: onlyA, Tag: "silence"}, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-connecting:
		t.Errorf("the handshake ended: %v", err)
	default:
	}
	if n := sim.ClearFaults(onlyA, "silent"); n != 1 {
		t.Errorf("cleared %d", n)
	}
	await[*events.Disconnected](c) // half-open connections end with the fault
	<-connecting
	c.Disconnect()
	c.connect()
	await[*events.Connected](c)
}

func TestLatencyAndSlowHandshake(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	inject(t, sim, whatsapp.Fault{Kind: "latency", Millis: 200, Target: onlyA})
	start := time.Now()
	if err := c.SetPassive(t.Context(), false); err != nil || time.Since(start) < 200*time.Millisecond {
		t.Errorf("answered after %v: %v", time.Since(start), err)
	}
	sim.ClearFaults(whatsapp.Target{}, "")
	c.Disconnect()
	inject(t, sim, whatsapp.Fault{Kind: "slow_handshake", Millis: 300, Target: onlyA})
	start = time.Now()
	c.connect()
	if time.Since(start) < 300*time.Millisecond {
		t.Errorf("the handshake took %v", time.Since(start))
	}
	await[*events.Connected](c)
}

func TestPairCode(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.connect()
	await[*events.QR](c)
	if _, err := sim.EnterCode(t.Context(), world, "ABCD-EFGH", own); whatsapp.ErrorCode(err) != "nothing_to_enter" {
		t.Errorf("there was no code: %v", err)
	}
	if _, err := c.PairPhone(t.Context(), own, true, whatsmeow.PairClientChrome, "My own client"); err == nil {
		t.Error("an odd display name was accepted")
	}
	expired, err := c.PairPhone(t.Context(), own, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	if err != nil {
		t.Fatal(err)
	}
	inject(t, sim, whatsapp.Fault{Kind: "expire_code", Target: onlyA})
	if _, err := sim.EnterCode(t.Context(), world, expired, own); whatsapp.ErrorCode(err) != "code_expired" {
		t.Errorf("the code had expired: %v", err)
	}
	code, err := c.PairPhone(t.Context(), "+"+own, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sim.EnterCode(t.Context(), world, "1111-1111", own); whatsapp.ErrorCode(err) != "wrong_code" {
		t.Errorf("the code was wrong: %v", err)
	}
	if _, err := sim.EnterCode(t.Context(), world, code, friend); whatsapp.ErrorCode(err) != "nothing_to_enter" {
		t.Errorf("the number was wrong: %v", err)
	}
	device, err := sim.EnterCode(t.Context(), world, strings.ToLower(code), own)
	if err != nil || device.PhoneNumber != own {
		t.Fatalf("cannot enter the code: %+v, %v", device, err)
	}
	await[*events.PairSuccess](c)
	await[*events.Connected](c)
	awaitText(c, write(t, sim, "hello"))
}

func TestPasskey(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	inject(t, sim, whatsapp.Fault{Kind: "passkey", Target: onlyA})
	c := openClient(t, sim, "", world, "a")
	c.connect()
	code := await[*events.QR](c).Codes[0]
	if _, err := sim.ScanQR(t.Context(), world, code, own); whatsapp.ErrorCode(err) != "passkey_required" {
		t.Fatalf("want passkey_required, got %v", err)
	}
	request := await[*events.PairPasskeyRequest](c)
	var options whatsapp.PasskeyOptions
	convert(t, request.PublicKey, &options)

	sign := func(number string) *types.WebAuthnResponse {
		assertion, err := sim.SignPasskey(world, number, options)
		if err != nil {
			t.Fatal(err)
		}
		var answer types.WebAuthnResponse
		convert(t, assertion, &answer)
		return &answer
	}
	if err := c.SendPasskeyResponse(t.Context(), sign(friend)); err == nil {
		t.Error("somebody else's passkey was accepted")
	}
	if err := c.SendPasskeyResponse(t.Context(), sign(own)); err != nil {
		t.Fatalf("the passkey was refused: %v", err)
	}
	await[*events.PairPasskeyConfirmation](c)
	if err := c.SendPasskeyConfirmation(t.Context()); err != nil {
		t.Fatal(err)
	}
	await[*events.PairSuccess](c)
	await[*events.Connected](c)
	if got := sim.Devices(world); len(got) != 1 || got[0].PhoneNumber != own {
		t.Errorf("linked: %+v", got)
	}
}

func convert(t *testing.T, from, to any) {
	t.Helper()
	data, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(data, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}
