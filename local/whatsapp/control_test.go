package whatsapp_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/local/whatsapp"
	"whatisup/local/whatsapp/whatsapptest"
)

// control calls the control interface and decodes its answer.
func control[T any](t *testing.T, sim *whatsapptest.Simulator, method, path, body string) (int, T) {
	t.Helper()
	request, err := http.NewRequestWithContext(soon(t), method, sim.Endpoint()+"/control/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var out T
	if err := json.NewDecoder(answer.Body).Decode(&out); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer.StatusCode, out
}

type refusal struct {
	Error struct{ Code, Message string }
}

func refused(t *testing.T, sim *whatsapptest.Simulator, method, path, body string, status int, code string) {
	t.Helper()
	gotStatus, got := control[refusal](t, sim, method, path, body)
	if gotStatus != status || got.Error.Code != code || got.Error.Message == "" {
		t.Errorf("%s %s: %d %+v, want %d %s", method, path, gotStatus, got, status, code)
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestControl(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	_, root := control[map[string]string](t, sim, "GET", "root", "")
	if want := sim.Root(); root["root"] != hex.EncodeToString(want[:]) || !strings.HasPrefix(root["ca"], "-----BEGIN CERTIFICATE") {
		t.Errorf("root: %v", root)
	}
	if _, devices := control[[]whatsapp.Device](t, sim, "GET", "devices", ""); len(devices) != 0 {
		t.Errorf("devices: %v", devices)
	}
	refused(t, sim, "POST", "scan", `{"world":"world-1","instance":"a","phone_number":"4915112345678"}`, 409, "nothing_to_scan")
	refused(t, sim, "POST", "scan", `{"qr":"nonsense","phone_number":"4915112345678"}`, 400, "invalid_request")
	refused(t, sim, "POST", "unlink", `{"phone_number":"4915112345678"}`, 404, "no_such_device")
	refused(t, sim, "POST", "unlink", `{}`, 400, "invalid_request")
	refused(t, sim, "POST", "faults", `{"kind":"earthquake"}`, 400, "invalid_request")
	refused(t, sim, "POST", "faults", `{"kind":"drop","unknown":1}`, 400, "invalid_request")
	refused(t, sim, "POST", "faults", `{"kind":"silent","seconds":-1}`, 400, "invalid_request")
	refused(t, sim, "POST", "messages", `{"from":"1","to":"4915112345678","text":"x"}`, 400, "invalid_request")
	refused(t, sim, "POST", "enter-code", `{"code":"1234","phone_number":"4915112345678"}`, 400, "invalid_request")
	refused(t, sim, "GET", "messages?after=x", "", 400, "invalid_request")

	c := openClient(t, sim, "", world, "a")
	c.connect()
	code := await[*events.QR](c).Codes[0]
	refused(t, sim, "POST", "scan", `{"world":"world-1","instance":"a","phone_number":"4915112345678"}`, 400, "qr_required")
	refused(t, sim, "POST", "scan", marshal(t, map[string]string{"world": world, "qr": code, "phone_number": "0123"}), 400, "invalid_request")
	status, device := control[whatsapp.Device](t, sim, "POST", "scan", marshal(t, map[string]string{"world": world, "qr": code, "phone_number": own}))
	if status != 200 || device.PhoneNumber != own || device.Instance != "a" {
		t.Fatalf("scan: %d %+v", status, device)
	}
	await[*events.Connected](c)
	_, devices := control[[]whatsapp.Device](t, sim, "GET", "devices?world="+world, "")
	if len(devices) != 1 || devices[0].JID != device.JID || devices[0].Logins != 1 || devices[0].World != world {
		t.Errorf("devices: %+v", devices)
	}

	// Long polling: the answer comes with the message.
	type answer struct {
		list []whatsapp.Message
		took time.Duration
	}
	polled := make(chan answer, 1)
	go func() {
		defer close(polled)
		start := time.Now()
		_, list := control[[]whatsapp.Message](t, sim, "GET", "messages?wait=20&world="+world+"&to="+friend, "")
		polled <- answer{list, time.Since(start)}
	}()
	sent, err := c.SendMessage(t.Context(), types.NewJID(friend, types.DefaultUserServer), text("poll me"))
	if err != nil {
		t.Fatal(err)
	}
	if got := <-polled; len(got.list) != 1 || got.list[0].ID != sent.ID || got.list[0].Text != "poll me" || got.took > 15*time.Second {
		t.Errorf("polled %+v", got)
	}
	_, written := control[map[string]string](t, sim, "POST", "messages",
		marshal(t, map[string]string{"world": world, "from": friend, "to": own, "text": "hello"}))
	awaitText(c, written["message_id"])
	if status, _ := control[struct{}](t, sim, "POST", "read", marshal(t, map[string]string{
		"world": world, "phone_number": friend, "from": own, "message_id": sent.ID})); status != 200 {
		t.Errorf("read: %d", status)
	}
	awaitThat(c, func(r *events.Receipt) bool { return r.Type == types.ReceiptTypeRead })

	if _, err := sim.AwaitMessage(soon(t), whatsapp.MessageFilter{World: world, ID: written["message_id"]}, delivered); err != nil {
		t.Fatal(err)
	}

	// The journal holds both directions and the login, and no plaintext.
	_, journal := control[[]whatsapp.Entry](t, sim, "GET", "journal?limit=10000&device="+device.JID, "")
	seen := map[string]bool{}
	for i, e := range journal {
		seen[e.Direction+" "+e.Tag] = true
		if i > 0 && e.Position <= journal[i-1].Position || e.Device != device.JID || strings.Contains(e.Stanza, "poll me") {
			t.Errorf("wrong entry %+v", e)
		}
	}
	for _, want := range []string{"out success", "in message", "out message", "in iq", "out iq", "in receipt", "out ack"} {
		if !seen[want] {
			t.Errorf("the journal has no %q: %v", want, seen)
		}
	}
	if logins := sim.Journal(whatsapp.JournalFilter{Target: whatsapp.Target{World: world}, Tag: "login"}); len(logins) != 1 {
		t.Errorf("logins: %+v", logins)
	}

	_, faults := control[map[string]int](t, sim, "POST", "faults", `{"kind":"latency","millis":1,"world":"world-1","instance":"a","seconds":60}`)
	if faults["connections"] != 0 {
		t.Errorf("faults: %v", faults)
	}
	if _, standing := control[map[string][]whatsapp.Fault](t, sim, "GET", "faults", ""); len(standing["faults"]) != 1 {
		t.Errorf("standing: %v", standing)
	}
	if _, cleared := control[map[string]int](t, sim, "DELETE", "faults", ""); cleared["faults"] != 1 {
		t.Errorf("cleared: %v", cleared)
	}
	_, unlinked := control[map[string]int](t, sim, "POST", "unlink", `{"world":"world-1","instance":"a"}`)
	if unlinked["devices"] != 1 {
		t.Errorf("unlinked: %v", unlinked)
	}
	await[*events.LoggedOut](c)
}

func TestControlIsNotForOtherPages(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	request, err := http.NewRequestWithContext(t.Context(), "POST", sim.Endpoint()+"/control/faults", bytes.NewReader([]byte(`{"kind":"storm"}`)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Origin", "https://evil.example")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign page was let in: %s", answer.Status)
	}
}

func TestTheJournalForgets(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{JournalBytes: 16 << 10})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	for range 100 {
		if err := c.SetPassive(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	entries := sim.Journal(whatsapp.JournalFilter{})
	if len(entries) == 0 || len(entries) > 80 {
		t.Errorf("%d entries are kept", len(entries))
	}
	if logins := sim.Journal(whatsapp.JournalFilter{Tag: "login"}); len(logins) != 1 || entries[0].Position > logins[0].Position {
		t.Errorf("the login was forgotten: %+v", logins)
	}
	last := entries[len(entries)-1]
	if later := sim.Journal(whatsapp.JournalFilter{After: last.Position - 1, Limit: 1}); len(later) != 1 || later[0].Position != last.Position {
		t.Errorf("after %d: %+v", last.Position-1, later)
	}
	if later := sim.Journal(whatsapp.JournalFilter{After: last.Position + 100}); len(later) != 0 {
		t.Errorf("entries of the future: %+v", later)
	}
}

func TestHooks(t *testing.T) {
	t.Parallel()
	sim := whatsapptest.Start(t, whatsapp.Config{Hooks: whatsapp.Hooks{
		IQ: func(from whatsapp.Connection, query *whatsapp.Node) (*whatsapp.Node, bool) {
			if query.Attrs["xmlns"] != "blocklist" || from.Instance != "a" {
				return nil, false
			}
			return &whatsapp.Node{Tag: "iq", Attrs: whatsapp.Attrs{"id": query.Attrs["id"], "type": "error", "from": types.ServerJID},
				Content: []whatsapp.Node{{Tag: "error", Attrs: whatsapp.Attrs{"code": "429", "text": "rate-overlimit"}}}}, true
		},
	}})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	if _, err := c.GetBlocklist(t.Context()); err == nil || !strings.Contains(err.Error(), "429") {
		t.Errorf("the hook was not asked: %v", err)
	}
}

func TestPlainAndTLSOnOnePort(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{Revision: 42})
	for _, url := range []string{"http://" + sim.Address, "https://web.whatsapp.com"} {
		client := http.DefaultClient
		if strings.HasPrefix(url, "https") {
			client = sim.HTTPClient(t, "", "")
		}
		for _, path := range []string{"/", "/sw.js"} {
			answer, err := client.Get(url + path)
			if err != nil {
				t.Errorf("%s%s: %v", url, path, err)
				continue
			}
			var page bytes.Buffer
			_, _ = page.ReadFrom(answer.Body)
			_ = answer.Body.Close()
			if !strings.Contains(page.String(), `client_revision`) || !strings.Contains(page.String(), `:42,`) {
				t.Errorf("%s%s: %s", url, path, page.String())
			}
		}
	}
}
