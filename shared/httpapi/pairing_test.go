package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"whatisup/shared/httpapi"
	"whatisup/shared/qr"
	"whatisup/shared/qr/qrtest"
	"whatisup/shared/whatisup"
)

const rawCode = "https://wa.me/settings/linked_devices#2@AbC+/=,dEf==,GhI==,JkL=="

type qrBody struct {
	QR        string        `json:"qr"`
	Raw       string        `json:"raw"`
	ExpiresAt whatisup.Time `json:"expires_at"`
}

func TestQRCode(t *testing.T) {
	t.Parallel()
	f := start(t)
	h := f.host()
	f.commands.actAs(func(cmd whatisup.Command) { go h.show(cmd, rawCode) })
	path, _ := f.create(f.a.TestKey, "x")
	r := f.want(200, "", f.a.TestKey, "GET", path+"/qr", "")
	code := into[qrBody](t, r)
	if code.Raw != rawCode || qrtest.ReadURL(t, code.QR) != rawCode {
		t.Errorf("answered %s", r.body)
	}
	r = f.want(200, "", f.a.TestKey, "GET", path+"/qr", "", "Accept", "image/png, */*;q=0.8")
	if r.header.Get("Content-Type") != "image/png" || qrtest.Read(t, r.body) != rawCode {
		t.Errorf("the picture itself: %s", r.header)
	}
	r = f.want(200, "", f.a.TestKey, "GET", path+"/qr", "", "Accept", "application/json, image/png;q=0.5")
	if into[qrBody](t, r).Raw != rawCode {
		t.Errorf("answered %s", r.body)
	}
	status := into[whatisup.Detail](t, f.want(200, "", f.a.TestKey, "GET", path+"/status", ""))
	if status.Status != whatisup.QR || status.QRExpiresAt.IsZero() {
		t.Errorf("status %+v", status)
	}
}

// Many callers at one time start one session and get one code.
func TestManyCallersOneAttempt(t *testing.T) {
	t.Parallel()
	f := start(t)
	h := f.host()
	path, id := f.create(f.a.TestKey, "x")
	var callers sync.WaitGroup
	for range 12 {
		callers.Go(func() {
			r, err := f.send(t.Context(), f.a.TestKey, "GET", path+"/qr", "")
			if err != nil || r.status != 200 {
				t.Errorf("%v %d %s", err, r.status, r.body)
			}
		})
	}
	// The host acts only when all of them have had their say.
	eventually(t, func() bool { return f.commands.count(whatisup.Wake) >= 12 })
	h.show(f.of(f.a.Customer, id), rawCode)
	callers.Wait()
	i, err := f.db.Instance(t.Context(), f.a.Customer, whatisup.Test, id)
	if err != nil || i.Wanted.Generation != 1 || len(i.Wanted.Attempts) != 1 {
		t.Errorf("%v: wanted %+v", err, i.Wanted)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// short makes waits end after a moment, as if the request had been long on its
// way.
func short(left time.Duration) func(*httpapi.Config) {
	return func(c *httpapi.Config) {
		now := c.Now
		c.Arrival = func(context.Context) time.Time { return now().Add(left - 10*time.Second) }
	}
}

type failure struct {
	Error struct {
		Details struct {
			Status      string
			Reason      *string
			Resolve     string
			NextRetryAt *string `json:"next_retry_at"`
		}
	}
}

func reasonOf(t *testing.T, r reply) string {
	t.Helper()
	if reason := into[failure](t, r).Error.Details.Reason; reason != nil {
		return *reason
	}
	return ""
}

func TestWaitEndsWithItsCause(t *testing.T) {
	t.Parallel()
	f := start(t, short(600*time.Millisecond))
	h := f.host()
	path, id := f.create(f.a.TestKey, "x")
	r := f.want(503, "no_session_host", f.a.TestKey, "GET", path+"/qr", "")
	if reasonOf(t, r) != "no_session_host" {
		t.Errorf("%s", r.body)
	}
	// A host lives, and has no code yet.
	if _, err := h.own(f.of(f.a.Customer, id)); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(6 * time.Second) // past what functions remember of leases
	r = f.want(503, "no_qr", f.a.TestKey, "GET", path+"/qr", "")
	if reasonOf(t, r) != "starting" {
		t.Errorf("%s", r.body)
	}
	f.want(503, "no_qr", f.a.TestKey, "POST", path+"/pair-code", `{"phone_number":"+4915112345678"}`)
	if n := f.commands.count(whatisup.SandboxScan); n != 0 {
		t.Errorf("%d commands", n)
	}
}

// The second wake-up goes out when nobody has taken the wish up for two seconds.
func TestSecondWake(t *testing.T) {
	t.Parallel()
	f := start(t)
	h := f.host()
	woken := 0
	f.commands.actAs(func(cmd whatisup.Command) {
		if woken++; woken == 2 {
			go h.show(cmd, rawCode)
		}
	})
	path, _ := f.create(f.a.TestKey, "x")
	began := time.Now()
	f.want(200, "", f.a.TestKey, "GET", path+"/qr", "")
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestAttemptEndsWithItsCause(t *testing.T) {
	t.Parallel()
	f := start(t)
	h := f.host()
	for _, c := range []struct {
		status whatisup.Status
		reason whatisup.Reason
		cause  whatisup.Code
		code   string
		told   string
	}{
		{whatisup.Pending, whatisup.Network, whatisup.CodeWhatsAppUnreachable, "whatsapp_unreachable", "network"},
		{whatisup.Pending, whatisup.NoReason, whatisup.CodeAtCapacity, "at_capacity", "at_capacity"},
		{whatisup.Failed, whatisup.ClientOutdated, "", "no_qr", "client_outdated"},
		{whatisup.Failed, whatisup.PasskeyRequired, "", "no_qr", "passkey_required"},
	} {
		f.commands.actAs(func(cmd whatisup.Command) { go h.fail(cmd, c.status, c.reason, c.cause) })
		path, _ := f.create(f.a.TestKey, "x")
		r := f.want(503, c.code, f.a.TestKey, "GET", path+"/qr", "")
		if reasonOf(t, r) != c.told {
			t.Errorf("%s: %s", c.code, r.body)
		}
		if retry, _ := strconv.Atoi(r.header.Get("Retry-After")); retry < 1 {
			t.Errorf("%s: Retry-After %q", c.code, r.header.Get("Retry-After"))
		}
	}
}

// What ends a wait: delete, stop, logout, and a scan of somebody else's copy of
// the code.
func TestWaitIsEnded(t *testing.T) {
	t.Parallel()
	f := start(t)
	h := f.host()
	for _, c := range []struct {
		name   string
		end    func(path string, id whatisup.InstanceID)
		status int
		code   string
		reason string
	}{
		{"delete", func(path string, _ whatisup.InstanceID) { f.want(204, "", f.a.TestKey, "DELETE", path, "") }, 404, "instance_not_found", ""},
		{"disconnect", func(path string, _ whatisup.InstanceID) {
			f.want(202, "", f.a.TestKey, "POST", path+"/disconnect", "")
		}, 503, "no_qr", "stopped"},
		{"logout", func(path string, _ whatisup.InstanceID) {
			f.want(202, "", f.a.TestKey, "POST", path+"/logout", "")
		}, 503, "no_qr", "stopped"},
		{"scan", func(_ string, id whatisup.InstanceID) {
			h.link(f.of(f.a.Customer, id), whatisup.Connecting, whatisup.NoReason)
		}, 409, "invalid_lifecycle_transition", ""},
	} {
		path, id := f.create(f.a.TestKey, "x")
		done := make(chan reply, 1)
		before := f.commands.count(whatisup.Wake)
		go func() {
			r, err := f.send(t.Context(), f.a.TestKey, "GET", path+"/qr", "")
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
		eventually(t, func() bool { return f.commands.count(whatisup.Wake) > before })
		c.end(path, id)
		r := <-done
		if r.status != c.status || r.code() != c.code || reasonOf(t, r) != c.reason {
			t.Errorf("%s: answered %d %s", c.name, r.status, r.body)
		}
	}
}

// A dead host's code, one that is about to end, and one of an earlier attempt
// are no codes.
func TestOnlyLivingCodesAreAnswered(t *testing.T) {
	t.Parallel()
	f := start(t, short(500*time.Millisecond))
	h := f.host()
	path, id := f.create(f.a.TestKey, "x")
	cmd := f.of(f.a.Customer, id)
	f.call(f.a.TestKey, "GET", path+"/qr", "")
	h.show(cmd, rawCode)
	f.want(200, "", f.a.TestKey, "GET", path+"/qr", "")
	i, err := f.db.Instance(t.Context(), f.a.Customer, whatisup.Test, id)
	if err != nil {
		t.Fatal(err)
	}
	good := whatisup.Pairing{
		Instance: id, Attempt: whatisup.AttemptID{Generation: i.Wanted.Generation, Epoch: i.Observed.Epoch},
		Raw: rawCode, ExpiresAt: f.clock.now().Add(20 * time.Second), AliveUntil: f.clock.now().Add(10 * time.Second),
	}
	for name, change := range map[string]func(*whatisup.Pairing){
		"good for two more seconds": func(p *whatisup.Pairing) { p.ExpiresAt = f.clock.now().Add(2 * time.Second) },
		"nobody vouches for it":     func(p *whatisup.Pairing) { p.AliveUntil = time.Time{} },
		"vouched for until now":     func(p *whatisup.Pairing) { p.AliveUntil = f.clock.now() },
		"withdrawn":                 func(p *whatisup.Pairing) { p.Raw = "" },
	} {
		p := good
		change(&p)
		if err := f.db.PutPairing(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if r := f.call(f.a.TestKey, "GET", path+"/qr", ""); r.status != 503 {
			t.Errorf("%s: answered %d", name, r.status)
		}
	}
	if err := f.db.PutPairing(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	plain := f.want(200, "", f.a.TestKey, "GET", path+"/qr", "")
	// What its host has drawn is answered; what is no drawing is made one.
	for drawn, same := range map[string]bool{rawCode: true, "": true, "another": false} {
		p := good
		if drawn != "" {
			code, err := qr.Draw(drawn)
			if err != nil {
				t.Fatal(err)
			}
			p.Modules = code
		}
		if err := f.db.PutPairing(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if r := f.want(200, "", f.a.TestKey, "GET", path+"/qr", ""); bytes.Equal(r.body, plain.body) != same {
			t.Errorf("drawn from %q, the same picture: %v", drawn, !same)
		}
	}
	// A new attempt begins: the old code is dead though its row still looks well.
	f.want(202, "", f.a.TestKey, "POST", path+"/logout", "")
	if r := f.call(f.a.TestKey, "GET", path+"/qr", ""); r.status != 503 {
		t.Errorf("an earlier attempt's code: answered %d %s", r.status, r.body)
	}
}

func TestLinkedInstanceIsNotPairedAnew(t *testing.T) {
	t.Parallel()
	f := start(t)
	h := f.host()
	for _, c := range []struct {
		status  whatisup.Status
		reason  whatisup.Reason
		retry   time.Duration
		resolve string
	}{
		{whatisup.Connected, whatisup.NoReason, 0, "logout"},
		{whatisup.Connecting, whatisup.NoReason, 0, "wait"},
		{whatisup.Disconnected, whatisup.Network, time.Minute, "wait"},
		{whatisup.Disconnected, whatisup.Stopped, 0, "connect"},
		{whatisup.Disconnected, whatisup.KickedOtherDevice, 0, "connect"},
		{whatisup.Failed, whatisup.Banned, time.Hour, "wait"},
		{whatisup.Failed, whatisup.ClientOutdated, 0, "wait"},
		{whatisup.Failed, whatisup.Internal, 0, "connect"},
	} {
		path, id := f.create(f.a.TestKey, "x")
		f.want(202, "", f.a.TestKey, "POST", path+"/connect", "")
		h.link(f.of(f.a.Customer, id), c.status, c.reason)
		f.clock.advance(6 * time.Second) // past what functions remember of leases
		if c.retry > 0 {
			h.observe(f.of(f.a.Customer, id), func(_ *whatisup.Instance, o *whatisup.Observed) {
				o.NextRetryAt = f.clock.now().Add(c.retry)
			})
		}
		for _, try := range []struct{ method, path, body string }{
			{"GET", "/qr", ""}, {"POST", "/pair-code", `{"phone_number":"4915112345678"}`},
		} {
			r := f.want(409, "invalid_lifecycle_transition", f.a.TestKey, try.method, path+try.path, try.body)
			d := into[failure](t, r).Error.Details
			if d.Status != string(c.status) || reasonOf(t, r) != string(c.reason) || d.Resolve != c.resolve || (d.NextRetryAt != nil) != (c.retry > 0) {
				t.Errorf("%s (%s): %s", c.status, c.reason, r.body)
			}
		}
		// What resolves it is allowed.
		switch c.resolve {
		case "connect":
			r := f.want(202, "", f.a.TestKey, "POST", path+"/connect", "")
			if into[whatisup.Detail](t, r).Status != whatisup.Connecting {
				t.Errorf("%s (%s): connect shows %s", c.status, c.reason, r.body)
			}
		case "logout":
			f.want(409, "invalid_lifecycle_transition", f.a.TestKey, "POST", path+"/connect", "")
		}
		r := f.want(202, "", f.a.TestKey, "POST", path+"/logout", "")
		if d := into[whatisup.Detail](t, r); d.Status != whatisup.Pending || *d.Reason != whatisup.LoggedOut {
			t.Errorf("%s (%s): logout shows %s", c.status, c.reason, r.body)
		}
		if w := into[whatisup.Wire](t, f.want(200, "", f.a.TestKey, "GET", path, "")); w.PhoneNumber != nil {
			t.Errorf("%s (%s): the number is still shown", c.status, c.reason)
		}
	}
}

func TestPairCode(t *testing.T) {
	t.Parallel()
	f := start(t)
	h := f.host()
	f.commands.actAs(func(cmd whatisup.Command) { go h.show(cmd, rawCode) })
	path, id := f.create(f.a.TestKey, "x")
	ask := func(status int, code, number string) reply {
		t.Helper()
		return f.want(status, code, f.a.TestKey, "POST", path+"/pair-code", `{"phone_number":"`+number+`"}`)
	}
	first := ask(200, "", "+4915112345678")
	if into[struct{ Code string }](t, first).Code != "ABCD-2345" {
		t.Errorf("%s", first.body)
	}
	serial := func() uint64 {
		i, err := f.db.Instance(t.Context(), f.a.Customer, whatisup.Test, id)
		if err != nil {
			t.Fatal(err)
		}
		return i.Wanted.PairSerial
	}
	if again := ask(200, "", "4915112345678"); string(again.body) != string(first.body) || serial() != 1 {
		t.Errorf("the same number again: %s", again.body)
	}
	ask(200, "", "4915112345679")
	if serial() != 2 {
		t.Error("another number did not replace the code")
	}
	ask(422, "pair_code_failed", "6612345678")
	ask(429, "pairing_throttled", "6612345678")
	f.clock.advance(whatisup.PairCodeEvery)
	ask(422, "pair_code_failed", "6612345678")
	if serial() != 4 {
		t.Errorf("serial %d: a refused code is asked for anew", serial())
	}
	// The QR call joins the same attempt.
	f.want(200, "", f.a.TestKey, "GET", path+"/qr", "")
}

// Each pair code rings somebody's phone, and WhatsApp's limit meets all customers
// of a host.
func TestPairCodesAreThrottled(t *testing.T) {
	t.Parallel()
	f := start(t)
	h := f.host()
	f.commands.actAs(func(cmd whatisup.Command) { go h.show(cmd, rawCode) })
	type caller struct{ key, path string }
	instanceOf := func(key string) caller {
		path, _ := f.create(key, "x")
		return caller{key, path}
	}
	ask := func(c caller, number, reason string, least, most int) {
		t.Helper()
		status, code := 200, ""
		if reason != "" {
			status, code = 429, "pairing_throttled"
		}
		r := f.want(status, code, c.key, "POST", c.path+"/pair-code", `{"phone_number":"`+number+`"}`)
		if reason == "" {
			return
		}
		after, _ := strconv.Atoi(r.header.Get("Retry-After"))
		if !strings.Contains(string(r.body), `"`+reason+`"`) || after < least || after > most {
			t.Errorf("%s for %s: Retry-After %d, %s", number, reason, after, r.body)
		}
	}

	one := instanceOf(f.a.TestKey)
	for _, number := range []string{"4915100000001", "4915100000002", "4915100000003"} {
		ask(one, number, "", 0, 0)
	}
	ask(one, "4915100000003", "", 0, 0)                                         // the code that it has
	ask(one, "4915100000004", "pair_code_numbers", 890, 900)                    // a fourth number
	ask(one, "4915100000001", "pair_code_of_number", 1, 60)                     // one that was sent a code this minute
	ask(instanceOf(f.a.TestKey), "4915100000001", "pair_code_of_number", 1, 60) // also from another instance
	ask(instanceOf(f.b.TestKey), "4915100000001", "", 0, 0)                     // but a world is a customer's own
	f.clock.advance(whatisup.PairCodeEvery)
	h.fail(f.of(f.a.Customer, whatisup.InstanceID(strings.TrimPrefix(one.path, "/v1/instances/"))), whatisup.Pending, whatisup.QRTimeout, "")
	ask(one, "4915100000001", "", 0, 0)
	ask(one, "4915100000004", "pair_code_numbers", 830, 840)
	f.clock.advance(14*time.Minute + time.Second)
	h.fail(f.of(f.a.Customer, whatisup.InstanceID(strings.TrimPrefix(one.path, "/v1/instances/"))), whatisup.Pending, whatisup.QRTimeout, "")
	ask(one, "4915100000004", "", 0, 0)

	// Live keys share one world.
	live := instanceOf(f.a.LiveKey)
	ask(live, "4915100000009", "", 0, 0)
	ask(instanceOf(f.b.LiveKey), "4915100000009", "pair_code_of_number", 1, 60)

	// WhatsApp's own limit is told as ours, and nobody asks meanwhile.
	ask(instanceOf(f.b.TestKey), "6712345678", "whatsapp", 590, 600)
	two := instanceOf(f.b.TestKey)
	f.clock.advance(whatisup.PairCodeEvery)
	ask(two, "6712345678", "whatsapp", 590, 600)
	f.clock.advance(time.Minute)
	ask(two, "6712345678", "whatsapp", 530, 540)
}

func TestPairingIsThrottled(t *testing.T) {
	t.Parallel()
	f := start(t)
	h := f.host()
	path, id := f.create(f.a.TestKey, "x")
	cmd := f.of(f.a.Customer, id)
	attempt := func() {
		t.Helper()
		f.commands.actAs(func(cmd whatisup.Command) { go h.show(cmd, rawCode) })
		f.want(200, "", f.a.TestKey, "GET", path+"/qr", "")
		f.commands.actAs(nil)
		h.fail(cmd, whatisup.Pending, whatisup.QRTimeout, "")
	}
	for range whatisup.AttemptsKept {
		attempt()
		f.clock.advance(time.Minute)
	}
	r := f.want(429, "pairing_throttled", f.a.TestKey, "GET", path+"/qr", "")
	if s, _ := strconv.Atoi(r.header.Get("Retry-After")); s < 590 || s > 600 {
		t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
	}
	f.want(429, "pairing_throttled", f.a.TestKey, "POST", path+"/connect", "")
	f.want(429, "pairing_throttled", f.a.TestKey, "POST", path+"/pair-code", `{"phone_number":"4915112345678"}`)
	f.clock.advance(10 * time.Minute)
	attempt()
}

// A customer has at most 200 attempts open. Those that are over don't count,
// even while their places last.
func TestOpenAttemptsAreLimited(t *testing.T) {
	t.Parallel()
	f := start(t)
	path, id := f.create(f.a.TestKey, "over")
	f.want(202, "", f.a.TestKey, "POST", path+"/connect", "")
	f.host().fail(f.of(f.a.Customer, id), whatisup.Pending, whatisup.QRTimeout, "")
	var paths []string
	for range 200 {
		id := whatisup.NewInstanceID()
		cfg := whatisup.Config{Customer: f.a.Customer, Mode: whatisup.Test, ID: id, Name: "x", Version: 1, UpdatedAt: id.CreatedAt()}
		e, err := whatisup.NewEvent(whatisup.InstanceCreated, cfg.Customer, cfg.Mode, id, id.CreatedAt(), struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.db.CreateInstance(t.Context(), cfg, whatisup.Created{Event: e}); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, "/v1/instances/"+string(id))
	}
	for _, p := range paths {
		f.want(202, "", f.a.TestKey, "POST", p+"/connect", "")
	}
	r := f.want(429, "pairing_throttled", f.a.TestKey, "POST", path+"/connect", "")
	if reasonOf(t, r) != "open_attempts" {
		t.Errorf("%s", r.body)
	}
	f.want(202, "", f.a.TestKey, "POST", paths[0]+"/disconnect", "")
	f.want(202, "", f.a.TestKey, "POST", path+"/connect", "")
}

var errBroken = errors.New("broken")

// A lost wake-up costs time, never the call.
func TestWakeUpMayBeLost(t *testing.T) {
	t.Parallel()
	f := start(t)
	h := f.host()
	f.commands.fail = errBroken
	path, id := f.create(f.a.TestKey, "x")
	f.want(202, "", f.a.TestKey, "POST", path+"/connect", "")
	h.show(f.of(f.a.Customer, id), rawCode)
	f.want(200, "", f.a.TestKey, "GET", path+"/qr", "")
}
