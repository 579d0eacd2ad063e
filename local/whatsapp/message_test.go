package whatsapp_test

import (
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"whatisup/local/whatsapp"
	"whatisup/local/whatsapp/whatsapptest"
)

const (
	own    = "4915112345678"
	friend = "31612345678"
)

func text(s string) *waE2E.Message { return &waE2E.Message{Conversation: proto.String(s)} }

// write lets the friend write to the client's number.
func write(t *testing.T, sim *whatsapptest.Simulator, what string) string {
	t.Helper()
	id, err := sim.SendText(t.Context(), whatsapp.Text{World: world, From: friend, To: own, Text: what})
	if err != nil {
		t.Fatalf("cannot write: %v", err)
	}
	return id
}

func awaitText(c *client, id string) *events.Message {
	c.t.Helper()
	return awaitThat(c, func(m *events.Message) bool {
		// In a group the sender's key is an event of its own.
		return m.Info.ID == id && (m.RawMessage.GetSenderKeyDistributionMessage() == nil || m.RawMessage.Conversation != nil)
	})
}

func delivered(m whatsapp.Message) bool { return !m.Delivered.IsZero() }

func TestTextsBothWays(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)

	// In, thrice: the first begins a session.
	for _, what := range []string{"hello", "are you there?", "grüße 🎈"} {
		id := write(t, sim, what)
		got := awaitText(c, id)
		if got.Message.GetConversation() != what {
			t.Errorf("got %q, want %q", got.Message.GetConversation(), what)
		}
		if got.Info.Sender.Server != types.HiddenUserServer || got.Info.SenderAlt.User != friend || got.Info.PushName != "Phone 5678" {
			t.Errorf("wrong sender: %+v", got.Info)
		}
		if _, err := sim.AwaitMessage(soon(t), whatsapp.MessageFilter{World: world, ID: id}, delivered); err != nil {
			t.Error(err)
		}
	}
	// By phone number, as some chats still are.
	id, err := sim.SendText(t.Context(), whatsapp.Text{World: world, From: "31600000001", To: own, Text: "old", Addressing: "pn"})
	if err != nil {
		t.Fatal(err)
	}
	if got := awaitText(c, id); got.Info.Sender.User != "31600000001" || got.Info.SenderAlt.Server != types.HiddenUserServer {
		t.Errorf("wrong sender: %+v", got.Info)
	}

	// Out, twice.
	for _, what := range []string{"yes", "still here"} {
		sent, err := c.SendMessage(t.Context(), types.NewJID(friend, types.DefaultUserServer), text(what))
		if err != nil {
			t.Fatalf("cannot send: %v", err)
		}
		got, err := sim.AwaitMessage(soon(t), whatsapp.MessageFilter{World: world, To: friend, ID: sent.ID}, nil)
		if err != nil || got.Text != what || got.From != own || got.Type != "text" {
			t.Errorf("the phone got %+v: %v", got, err)
		}
		receipt := awaitThat(c, func(r *events.Receipt) bool { return r.MessageIDs[0] == sent.ID })
		if receipt.Type != types.ReceiptTypeDelivered {
			t.Errorf("wrong receipt: %+v", receipt)
		}
		if err := sim.MarkRead(world, friend, own, sent.ID); err != nil {
			t.Fatal(err)
		}
		awaitThat(c, func(r *events.Receipt) bool {
			return r.MessageIDs[0] == sent.ID && r.Type == types.ReceiptTypeRead
		})
	}

	// The client reads the friend's message.
	if err := c.MarkRead(t.Context(), []types.MessageID{id}, time.Now(), types.NewJID("31600000001", types.DefaultUserServer), types.EmptyJID); err != nil {
		t.Fatal(err)
	}
	if _, err := sim.AwaitMessage(soon(t), whatsapp.MessageFilter{World: world, ID: id}, func(m whatsapp.Message) bool { return !m.Read.IsZero() }); err != nil {
		t.Error(err)
	}
	eventually(t, "everything is acknowledged", func() bool { return sim.Devices("")[0].Queued == 0 })
}

func TestTwoLinkedDevicesWriteToEachOther(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	a := openClient(t, sim, "", world, "a")
	a.pair(world, own)
	b := openClient(t, sim, "", world, "b")
	b.pair(world, friend)
	second := openClient(t, sim, "", world, "a2") // of the same account as a
	second.pair(world, own)

	sent, err := a.SendMessage(t.Context(), types.NewJID(friend, types.DefaultUserServer), text("device to device"))
	if err != nil {
		t.Fatal(err)
	}
	if got := awaitText(b, sent.ID); got.Message.GetConversation() != "device to device" || got.Info.SenderAlt.User != own {
		t.Errorf("got %+v", got)
	}
	awaitThat(a, func(r *events.Receipt) bool { return r.MessageIDs[0] == sent.ID && r.Sender.Device != 0 })
	if copied := awaitText(second, sent.ID); !copied.Info.IsFromMe || copied.Message.GetConversation() != "device to device" {
		t.Errorf("the other device of the account got %+v", copied)
	}
	// What the phone itself sends reaches its devices too.
	id, err := sim.SendText(t.Context(), whatsapp.Text{World: world, From: own, To: friend, Text: "from the phone"})
	if err != nil {
		t.Fatal(err)
	}
	if got := awaitText(a, id); !got.Info.IsFromMe || got.Info.Chat.User != b.Store.LID.User {
		t.Errorf("the phone's copy is %+v", got.Info)
	}
	if got := awaitText(b, id); got.Message.GetConversation() != "from the phone" {
		t.Errorf("got %+v", got)
	}
}

func TestADamagedTextIsAskedForAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		count    int
		sessions bool
	}{
		{"first message", 1, false},
		{"three times", 3, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			sim := start(t, whatsapp.Config{})
			c := openClient(t, sim, "", world, "a")
			c.pair(world, own)
			if test.sessions {
				awaitText(c, write(t, sim, "begin"))
				if _, err := c.SendMessage(t.Context(), types.NewJID(friend, types.DefaultUserServer), text("begin")); err != nil {
					t.Fatal(err)
				}
			}
			for _, kind := range []string{"corrupt_in", "corrupt_out"} {
				if _, err := sim.Inject(whatsapp.Fault{Kind: kind, Count: test.count, Target: whatsapp.Target{World: world, Instance: "a"}}); err != nil {
					t.Fatal(err)
				}
			}
			id := write(t, sim, "damaged")
			if got := awaitText(c, id); got.Message.GetConversation() != "damaged" {
				t.Errorf("got %+v", got)
			}
			got, err := sim.AwaitMessage(soon(t), whatsapp.MessageFilter{World: world, ID: id}, delivered)
			if err != nil || got.Retries != test.count {
				t.Errorf("asked again %d times, want %d: %v", got.Retries, test.count, err)
			}
			sent, err := c.SendMessage(t.Context(), types.NewJID(friend, types.DefaultUserServer), text("answer"))
			if err != nil {
				t.Fatal(err)
			}
			got, err = sim.AwaitMessage(soon(t), whatsapp.MessageFilter{World: world, ID: sent.ID}, nil)
			if err != nil || got.Text != "answer" || got.Retries != test.count {
				t.Errorf("the phone got %+v: %v", got, err)
			}
			awaitText(c, write(t, sim, "afterwards"))
		})
	}
}

func TestTextsWaitForADevice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sim := start(t, whatsapp.Config{DataDir: dir})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	path := c.path
	c.close()
	eventually(t, "it is gone", func() bool { return !sim.Devices("")[0].Connected })
	ids := []string{write(t, sim, "one"), write(t, sim, "two")}
	sim.Stop() // the queue and the sessions outlive the process
	sim = start(t, whatsapp.Config{DataDir: dir})
	ids = append(ids, write(t, sim, "three"))

	c = openClient(t, sim, path, world, "a")
	c.connect()
	for i, what := range []string{"one", "two", "three"} {
		if got := await[*events.Message](c); got.Info.ID != ids[i] || got.Message.GetConversation() != what {
			t.Fatalf("message %d is %s", i, got.Message.GetConversation())
		}
	}
	if got := await[*events.OfflineSyncCompleted](c); got.Count != 3 {
		t.Errorf("the server announced %d", got.Count)
	}
	eventually(t, "everything is acknowledged", func() bool { return sim.Devices("")[0].Queued == 0 })
}

func TestWhatIsNotAcknowledgedComesAgain(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	c.EnableDecryptedEventBuffer = true
	refuse := true
	tries := make(chan string, 10)
	c.RemoveEventHandlers()
	c.AddEventHandlerWithSuccessStatus(func(event any) bool {
		m, ok := event.(*events.Message)
		if !ok {
			return true
		}
		refused := refuse
		refuse = false
		tries <- m.Info.ID
		return !refused
	})
	id := write(t, sim, "important")
	if got := <-tries; got != id {
		t.Fatalf("got %s first", got)
	}
	c.Disconnect()
	if sim.Devices("")[0].Queued != 1 {
		t.Error("the server thinks it was read")
	}
	c.connect()
	if got := <-tries; got != id {
		t.Fatalf("got %s after the login", got)
	}
	eventually(t, "it is acknowledged", func() bool { return sim.Devices("")[0].Queued == 0 })
}

func TestWorldsAreApart(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	a := openClient(t, sim, "", "world-a", "a")
	a.pair("world-a", own)
	b := openClient(t, sim, "", "world-b", "b")
	b.pair("world-b", own)
	if a.Store.LID == b.Store.LID {
		t.Error("one number has one LID in two worlds")
	}
	id, err := sim.SendText(t.Context(), whatsapp.Text{World: "world-b", From: friend, To: own, Text: "for b"})
	if err != nil {
		t.Fatal(err)
	}
	awaitText(b, id)
	if len(sim.Messages(whatsapp.MessageFilter{World: "world-a"})) != 0 || len(sim.Devices("world-a")) != 1 {
		t.Error("something of one world is seen in another")
	}
	if _, err := sim.Inject(whatsapp.Fault{Kind: "drop", Target: whatsapp.Target{World: "world-a"}}); err != nil {
		t.Fatal(err)
	}
	await[*events.Disconnected](a)
	if !sim.Devices("world-b")[0].Connected {
		t.Error("a fault of one world met another")
	}
}

func TestWhatAClientAsks(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	here, err := c.IsOnWhatsApp(t.Context(), []string{"+" + friend, "+12"})
	if err != nil || len(here) != 2 || !here[0].IsIn || here[1].IsIn || here[0].JID.Server != types.HiddenUserServer {
		t.Errorf("who is on WhatsApp: %+v, %v", here, err)
	}
	info, err := c.GetUserInfo(t.Context(), []types.JID{types.NewJID(own, types.DefaultUserServer)})
	if err != nil || len(info) != 1 {
		t.Fatalf("user info: %+v, %v", info, err)
	}
	for _, user := range info {
		if len(user.Devices) != 2 || user.LID != c.Store.LID.ToNonAD() {
			t.Errorf("user info: %+v", user)
		}
	}
	if _, err := c.TryFetchPrivacySettings(t.Context(), true); err != nil {
		t.Error(err)
	}
	if _, err := c.GetBlocklist(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.FetchAppState(t.Context(), "critical_block", true, false); err != nil {
		t.Error(err)
	}
	if err := c.SendPresence(t.Context(), types.PresenceAvailable); err == nil {
		t.Error("presence needs a push name")
	}
	if _, err := c.internals().RefreshMediaConn(t.Context(), true); err != nil {
		t.Error(err)
	}
	groups, err := c.GetJoinedGroups(t.Context())
	if err != nil || len(groups) != 0 {
		t.Errorf("groups: %v, %v", groups, err)
	}
}
