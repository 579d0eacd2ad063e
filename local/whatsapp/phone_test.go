package whatsapp_test

import (
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/local/whatsapp"
	"whatisup/local/whatsapp/whatsapptest"
)

func friendJID() types.JID { return types.NewJID(friend, types.DefaultUserServer) }

// setPhone replaces a phone's behaviour over the control interface.
func setPhone(t *testing.T, sim *whatsapptest.Simulator, number, behaviour string) whatsapp.Phone {
	t.Helper()
	status, phone := control[whatsapp.Phone](t, sim, "PUT", "phones/"+number+"?world="+world, behaviour)
	if status != 200 {
		t.Fatalf("set the phone %s: %d", number, status)
	}
	return phone
}

type screen struct {
	Data []whatsapp.Shown
	Next *uint64
}

func shows(t *testing.T, sim *whatsapptest.Simulator, number, query string) screen {
	t.Helper()
	status, out := control[screen](t, sim, "GET", "phones/"+number+"/messages?world="+world+query, "")
	if status != 200 {
		t.Fatalf("what the phone %s shows: %d", number, status)
	}
	return out
}

func act(t *testing.T, sim *whatsapptest.Simulator, number, action string) whatsapp.Done {
	t.Helper()
	status, out := control[whatsapp.Done](t, sim, "POST", "phones/"+number+"/actions", action)
	if status != 200 {
		t.Fatalf("action %s: %d", action, status)
	}
	return out
}

func receipt(c *client, id string, kind types.ReceiptType) *events.Receipt {
	c.t.Helper()
	return awaitThat(c, func(r *events.Receipt) bool { return r.MessageIDs[0] == id && r.Type == kind })
}

func send(c *client, what string) string {
	c.t.Helper()
	sent, err := c.SendMessage(c.t.Context(), friendJID(), text(what))
	if err != nil {
		c.t.Fatalf("cannot send %q: %v", what, err)
	}
	return sent.ID
}

func TestAPhonesBehaviour(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	if _, got := control[whatsapp.Phone](t, sim, "GET", "phones/"+friend+"?world="+world, ""); !got.OnWhatsApp ||
		got.Reads != "auto" || got.Replies != "none" || got.Offline || got.Restricts != nil || got.LID == "" {
		t.Errorf("the usual phone is %+v", got)
	}
	got := setPhone(t, sim, friend, `{"reads":"never","replies":"echo","restricts":"reachout","offline":true,"on_whatsapp":false}`)
	if got.OnWhatsApp || got.Reads != "never" || got.Replies != "echo" || !got.Offline || *got.Restricts != "reachout" {
		t.Errorf("it became %+v", got)
	}
	if got = setPhone(t, sim, "+31 6 1234-5678", `{"reads":"manual"}`); !got.OnWhatsApp || got.Reads != "manual" || got.Offline || got.Restricts != nil {
		t.Errorf("what is left out gets its default: %+v", got)
	}
	_, list := control[struct{ Data []whatsapp.Phone }](t, sim, "GET", "phones?world="+world, "")
	if len(list.Data) != 1 || list.Data[0].PhoneNumber != friend {
		t.Errorf("phones: %+v", list)
	}
	for _, wrong := range []string{`{"reads":"sometimes"}`, `{"replies":"rude"}`, `{"restricts":"all"}`, `{"unknown":1}`} {
		refused(t, sim, "PUT", "phones/"+friend+"?world="+world, wrong, 400, "invalid_request")
	}
	refused(t, sim, "GET", "phones/12?world="+world, "", 400, "invalid_request")
}

func TestReading(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	id := send(c, "read at once")
	receipt(c, id, types.ReceiptTypeDelivered)
	receipt(c, id, types.ReceiptTypeRead)

	setPhone(t, sim, friend, `{"reads":"manual"}`)
	id = send(c, "read by hand")
	receipt(c, id, types.ReceiptTypeDelivered)
	act(t, sim, friend, `{"world":"`+world+`","kind":"read","to":"`+own+`","message_id":"`+id+`"}`)
	receipt(c, id, types.ReceiptTypeRead)
	act(t, sim, friend, `{"world":"`+world+`","kind":"play","message_id":"`+id+`"}`)
	receipt(c, id, types.ReceiptTypePlayed)

	setPhone(t, sim, friend, `{"reads":"never"}`)
	never := send(c, "read in secret")
	receipt(c, never, types.ReceiptTypeDelivered)
	act(t, sim, friend, `{"world":"`+world+`","kind":"read","message_id":"`+never+`"}`)
	setPhone(t, sim, friend, `{}`)
	last := send(c, "read again")
	if got := awaitThat(c, func(r *events.Receipt) bool { return r.Type == types.ReceiptTypeRead }); got.MessageIDs[0] != last {
		t.Errorf("a receipt for %v came, which should never come", got.MessageIDs)
	}
	if got := shows(t, sim, friend, "&message_id="+never); len(got.Data) != 1 || got.Data[0].Read.IsZero() {
		t.Errorf("the phone shows %+v", got)
	}
	refused(t, sim, "POST", "phones/"+friend+"/actions", `{"world":"`+world+`","kind":"read","message_id":"none"}`, 404, "no_such_message")
}

func TestTheOwnersPhoneReads(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	id := write(t, sim, "for the phone too")
	awaitText(c, id)
	act(t, sim, own, `{"world":"`+world+`","kind":"read","message_id":"`+id+`"}`)
	if got := receipt(c, id, types.ReceiptTypeRead); !got.IsFromMe || got.Chat.Server != types.HiddenUserServer {
		t.Errorf("the owner's reading is %+v", got)
	}
	setPhone(t, sim, own, `{"reads":"never"}`)
	id = write(t, sim, "in secret")
	awaitText(c, id)
	act(t, sim, own, `{"world":"`+world+`","kind":"read","message_id":"`+id+`"}`)
	if got := receipt(c, id, types.ReceiptTypeReadSelf); !got.IsFromMe {
		t.Errorf("the owner's reading is %+v", got)
	}
}

func TestAnEcho(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	setPhone(t, sim, friend, `{"replies":"echo"}`)
	id := send(c, "hello?")
	got := awaitThat(c, func(m *events.Message) bool { return m.Message.GetConversation() == "hello?" })
	if got.Info.ID == id || got.Info.SenderAlt.User != friend {
		t.Errorf("the echo is %+v", got.Info)
	}
}

func TestAnAbsentPhone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sim := start(t, whatsapp.Config{DataDir: dir})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	act(t, sim, friend, `{"world":"`+world+`","kind":"offline"}`)
	first, second := send(c, "one"), send(c, "two")
	if list := shows(t, sim, friend, "").Data; len(list) != 0 {
		t.Errorf("an absent phone shows %+v", list)
	}
	refused(t, sim, "POST", "messages", `{"world":"`+world+`","from":"`+friend+`","to":"`+own+`","text":"x"}`, 409, "phone_offline")
	if _, err := sim.SendText(t.Context(), whatsapp.Text{World: world, From: "31600000009", To: friend, Text: "from a phone"}); err != nil {
		t.Fatal(err)
	}
	path := c.path
	c.close()
	sim.Stop() // what waits outlives the process
	sim = start(t, whatsapp.Config{DataDir: dir})
	c = openClient(t, sim, path, world, "a")
	c.connect()
	await[*events.Connected](c)
	act(t, sim, friend, `{"world":"`+world+`","kind":"online"}`)
	receipt(c, first, types.ReceiptTypeDelivered)
	receipt(c, second, types.ReceiptTypeDelivered)
	var texts []string
	for _, m := range shows(t, sim, friend, "").Data {
		texts = append(texts, m.From+" "+m.Text)
	}
	if got := strings.Join(texts, ", "); got != own+" one, "+own+" two, 31600000009 from a phone" {
		t.Errorf("the phone shows %s", got)
	}
}

func TestWhatAPhoneShows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sim := start(t, whatsapp.Config{DataDir: dir})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	ids := []string{send(c, "one"), send(c, "two"), send(c, "three")}
	// The same id again, encrypted anew: it is answered, and shown once.
	if _, err := c.SendMessage(t.Context(), friendJID(), text("one"), whatsmeow.SendRequestExtra{ID: ids[0]}); err != nil {
		t.Fatalf("sent again: %v", err)
	}
	write(t, sim, "four")
	sim.Stop()
	sim = start(t, whatsapp.Config{DataDir: dir})
	first := shows(t, sim, friend, "&limit=2")
	if len(first.Data) != 2 || first.Next == nil || first.Data[0].ID != ids[0] || first.Data[0].Text != "one" || first.Data[0].From != own ||
		first.Data[0].Chat != own || first.Data[0].Type != "text" || string(first.Data[0].Body) != `{"type":"text","text":"one"}` || first.Data[0].At.IsZero() {
		t.Fatalf("the first page is %+v", first)
	}
	rest := shows(t, sim, friend, "&after="+strconv.FormatUint(*first.Next, 10))
	if len(rest.Data) != 2 || rest.Next != nil || rest.Data[0].ID != ids[2] || rest.Data[1].Text != "four" || rest.Data[1].From != friend {
		t.Errorf("the second page is %+v", rest)
	}
	// The owner's own phone shows what its device has sent, and what came.
	if own := shows(t, sim, own, ""); len(own.Data) != 4 || own.Data[0].Chat != friend {
		t.Errorf("the owner's phone shows %+v", own)
	}
}

func TestAwaitShown(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	setPhone(t, sim, friend, `{"reads":"manual"}`)
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	type answer struct {
		shown whatsapp.Shown
		err   error
	}
	waited := make(chan answer, 1)
	go func() {
		shown, err := sim.AwaitShown(t.Context(), world, friend, whatsapp.ShownFilter{From: own}, func(m whatsapp.Shown) bool { return !m.Read.IsZero() })
		waited <- answer{shown, err}
	}()
	id := send(c, "wait for me")
	if list := shows(t, sim, friend, "&wait=20&from="+own).Data; len(list) != 1 || list[0].ID != id {
		t.Errorf("polled %+v", list)
	}
	act(t, sim, friend, `{"world":"`+world+`","kind":"read","message_id":"`+id+`"}`)
	if got := <-waited; got.err != nil || got.shown.ID != id {
		t.Errorf("waited for %+v", got)
	}
}

func TestNumbersOfOtherForms(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	setPhone(t, sim, "31600000404", `{"on_whatsapp":false}`)
	for asked, known := range map[string]string{
		"5521987654321": "5521987654321", "552187654321": "5521987654321", // Rio keeps the ninth digit
		"5531987654321": "553187654321", "553187654321": "553187654321", // Belo Horizonte does not
		"5215512345678": "525512345678", "525512345678": "525512345678",
		"5491123456789": "541123456789", "541123456789": "541123456789",
		"31600000404": "",
	} {
		got, err := c.IsOnWhatsApp(t.Context(), []string{"+" + asked})
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: %v, %v", asked, got, err)
		}
		if got[0].IsIn != (known != "") || known != "" && (got[0].PhoneNumber.User != known || got[0].JID.Server != types.HiddenUserServer) || got[0].Query != "+"+asked {
			t.Errorf("%s: %+v, want %s", asked, got[0], known)
		}
	}
	if _, err := c.SendMessage(t.Context(), types.NewJID("31600000404", types.DefaultUserServer), text("anybody?")); err == nil || !strings.Contains(err.Error(), "no LID") {
		t.Errorf("to a number that is not on WhatsApp: %v", err)
	}
	if _, err := c.SendMessage(t.Context(), types.NewJID("5215512345678", types.DefaultUserServer), text("anybody?")); err == nil {
		t.Error("to a number in another form: no error")
	}
	if _, err := sim.SendText(t.Context(), whatsapp.Text{World: world, From: "+52 1 55 1234 5678", To: own, Text: "hola"}); err != nil {
		t.Fatal(err)
	}
	if got := await[*events.Message](c); got.Info.SenderAlt.User != "525512345678" {
		t.Errorf("the sender is %+v", got.Info)
	}
}

func TestRestrictions(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	setPhone(t, sim, friend, `{"restricts":"reachout"}`)
	for range 2 {
		if _, err := c.SendMessage(t.Context(), friendJID(), text("cold")); err == nil || !strings.HasSuffix(err.Error(), " 463") {
			t.Errorf("a cold message: %v", err)
		}
	}
	if got := await[*events.NotifyAccountReachoutTimelock](c); !got.IsActive || got.EnforcementType == "" {
		t.Errorf("the lock is %+v", got)
	}
	setPhone(t, sim, friend, `{"restricts":"new_chats"}`)
	if got := await[*events.NotifyAccountReachoutTimelock](c); got.IsActive {
		t.Errorf("the end of the lock is %+v", got)
	}
	if _, err := c.SendMessage(t.Context(), friendJID(), text("cold")); err == nil || !strings.HasSuffix(err.Error(), " 475") {
		t.Errorf("over the cap: %v", err)
	}
	awaitText(c, write(t, sim, "I write first")) // then it is no new chat
	send(c, "an answer")

	if _, err := sim.Inject(whatsapp.Fault{Kind: "timelock", Seconds: 60, Target: whatsapp.Target{World: world, Instance: "a"}}); err != nil {
		t.Fatal(err)
	}
	if got := await[*events.NotifyAccountReachoutTimelock](c); !got.IsActive || time.Until(got.TimeEnforcementEnds.Time) < 50*time.Second {
		t.Errorf("the lock is %+v", got)
	}
	if _, err := c.SendMessage(t.Context(), types.NewJID("31600000010", types.DefaultUserServer), text("cold")); err == nil || !strings.HasSuffix(err.Error(), " 463") {
		t.Errorf("during the lock: %v", err)
	}
	send(c, "to a friend")
	sim.ClearFaults(whatsapp.Target{}, "timelock")
	if got := await[*events.NotifyAccountReachoutTimelock](c); got.IsActive {
		t.Errorf("the end of the lock is %+v", got)
	}
}

func TestFaultsOfSending(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	send(c, "begin")
	inject := func(f whatsapp.Fault) {
		t.Helper()
		f.World, f.Instance = world, "a"
		if _, err := sim.Inject(f); err != nil {
			t.Fatal(err)
		}
	}
	inject(whatsapp.Fault{Kind: "ack_error", Code: 479})
	if _, err := c.SendMessage(t.Context(), friendJID(), text("refused")); err == nil || !strings.HasSuffix(err.Error(), " 479") {
		t.Errorf("refused with %v", err)
	}
	inject(whatsapp.Fault{Kind: "ack_twice"})
	send(c, "answered twice")
	inject(whatsapp.Fault{Kind: "ack_late", Millis: 300})
	begun := time.Now()
	id := send(c, "answered late")
	if took := time.Since(begun); took < 300*time.Millisecond {
		t.Errorf("the answer came after %v", took)
	}
	receipt(c, id, types.ReceiptTypeRead) // which had come before
	inject(whatsapp.Fault{Kind: "ack_lost"})
	sent, err := c.SendMessage(t.Context(), friendJID(), text("not answered"), whatsmeow.SendRequestExtra{Timeout: 200 * time.Millisecond})
	if err == nil {
		t.Error("the answer was not lost")
	}
	receipt(c, sent.ID, types.ReceiptTypeDelivered)
	if _, err := c.SendMessage(t.Context(), friendJID(), text("not answered"), whatsmeow.SendRequestExtra{ID: sent.ID}); err != nil {
		t.Errorf("sent again: %v", err)
	}
	inject(whatsapp.Fault{Kind: "retry_receipt", Count: 2})
	id = send(c, "asked for again")
	if got, err := sim.AwaitMessage(soon(t), whatsapp.MessageFilter{World: world, ID: id}, nil); err != nil || got.Retries != 2 {
		t.Errorf("asked again %d times: %v", got.Retries, err)
	}
	count := map[string]int{}
	for _, m := range shows(t, sim, friend, "").Data {
		count[m.Text]++
	}
	if count["refused"] != 0 || count["answered twice"] != 1 || count["not answered"] != 1 || count["asked for again"] != 1 {
		t.Errorf("the phone shows %v", count)
	}
	for _, wrong := range []string{`{"kind":"ack_error"}`, `{"kind":"ack_late"}`, `{"kind":"media_gone","code":7}`, `{"kind":"media_slow"}`} {
		refused(t, sim, "POST", "faults", wrong, 400, "invalid_request")
	}
}

func TestFaultsOfReceiving(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	awaitText(c, write(t, sim, "begin"))
	target := whatsapp.Target{World: world, Instance: "a"}
	for _, kind := range []string{"duplicate_in", "reencrypt_in", "reorder_in"} {
		if _, err := sim.Inject(whatsapp.Fault{Kind: kind, Target: target}); err != nil {
			t.Fatal(err)
		}
		if kind == "reorder_in" {
			break
		}
		id := write(t, sim, kind)
		awaitText(c, id)
		if kind == "reencrypt_in" {
			awaitText(c, id) // the library tells of it twice
		}
	}
	late, early := write(t, sim, "late"), write(t, sim, "early")
	if got := await[*events.Message](c); got.Info.ID != early {
		t.Errorf("first came %s", got.Message.GetConversation())
	}
	awaitText(c, late)
	eventually(t, "everything is acknowledged", func() bool { return sim.Devices("")[0].Queued == 0 })
}

func TestLatencyIsOfTheWay(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{Latency: 50 * time.Millisecond})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	send(c, "begin")
	begun := time.Now()
	if _, err := c.internals().RefreshMediaConn(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < 50*time.Millisecond {
		t.Errorf("an answer came after %v", took)
	}
}

func TestOnlyOwnNamesAreAnswered(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{Names: []string{"simulator"}})
	for host, want := range map[string]int{
		"evil.example:8090": 421, "localhost:8090": 200, "127.0.0.1": 200, "[::1]:8090": 200, "simulator": 200, "LOCALHOST.": 200, "": 200,
	} {
		request, err := http.NewRequestWithContext(t.Context(), "GET", sim.Endpoint()+"/control/devices", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("as %q: %s, want %d", host, answer.Status, want)
		}
	}
}

func TestNoOutsideAddressIsNamed(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{DataDir: filepath.Join(t.TempDir(), "sim")})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	media, err := c.internals().RefreshMediaConn(t.Context(), true)
	if err != nil || len(media.Hosts) != 1 || media.Hosts[0].Hostname != sim.Address {
		t.Errorf("the media host is %+v, %v; want %s", media, err, sim.Address)
	}
}
