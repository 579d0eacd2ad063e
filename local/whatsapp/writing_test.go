package whatsapp_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"whatisup/local/whatsapp"
	"whatisup/local/whatsapp/whatsapptest"
)

// post lets the friend send something over the control interface.
func post(t *testing.T, sim *whatsapptest.Simulator, fields string) string {
	t.Helper()
	status, out := control[map[string]any](t, sim, "POST", "messages", `{"world":"`+world+`","from":"`+friend+`","to":"`+own+`",`+fields+`}`)
	id, _ := out["message_id"].(string)
	if status != 200 || id == "" {
		t.Fatalf("send %s: %d %v", fields, status, out)
	}
	return id
}

// unwrapped is what a message says, without what it is wrapped in.
func unwrapped(m *events.Message) *waE2E.Message {
	inner := m.RawMessage
	for {
		next := inner
		for _, wrapper := range []*waE2E.FutureProofMessage{inner.GetViewOnceMessageV2(), inner.GetDocumentWithCaptionMessage(), inner.GetAssociatedChildMessage(), inner.GetEditedMessage()} {
			if wrapper.GetMessage() != nil {
				next = wrapper.GetMessage()
			}
		}
		if next == inner {
			return inner
		}
		inner = next
	}
}

func TestAPhoneSendsEveryKind(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	first := post(t, sim, `"text":"first"`)
	awaitText(c, first)
	for _, test := range []struct {
		fields string
		check  func(*waE2E.Message) bool
	}{
		{`"body":{"type":"text","text":"hi @4915112345678","mentions":["4915112345678"]}`, func(m *waE2E.Message) bool {
			return len(m.GetExtendedTextMessage().GetContextInfo().GetMentionedJID()) == 1
		}},
		{`"body":{"type":"text","text":"x"},"reply_to":"` + first + `","forwarded":true,"ephemeral_seconds":86400`, func(m *waE2E.Message) bool {
			context := m.GetExtendedTextMessage().GetContextInfo()
			return context.GetStanzaID() == first && context.GetQuotedMessage().GetConversation() == "first" && context.GetIsForwarded() &&
				context.GetExpiration() == 86400 && strings.HasSuffix(context.GetParticipant(), "@lid")
		}},
		{`"body":{"type":"text","text":"y"},"ad":{"title":"Shoes","source_id":"1","source_url":"https://example.com","click_id":"abc"}`, func(m *waE2E.Message) bool {
			return m.GetExtendedTextMessage().GetContextInfo().GetExternalAdReply().GetCtwaClid() == "abc"
		}},
		{`"body":{"type":"text","text":"see https://example.com","link_preview":{"url":"https://example.com","title":"Example"}}`, func(m *waE2E.Message) bool {
			return m.GetExtendedTextMessage().GetTitle() == "Example"
		}},
		{`"body":{"type":"location","latitude":52.5,"longitude":13.4,"name":"Here"}`, func(m *waE2E.Message) bool { return m.GetLocationMessage().GetName() == "Here" }},
		{`"body":{"type":"contacts","contacts":[{"name":"A","phone_numbers":["+31 6 1"]}]}`, func(m *waE2E.Message) bool {
			return strings.Contains(m.GetContactMessage().GetVcard(), "waid=3161")
		}},
		{`"body":{"type":"contacts","contacts":[{"name":"A"},{"name":"B"}]}`, func(m *waE2E.Message) bool { return len(m.GetContactsArrayMessage().GetContacts()) == 2 }},
		{`"body":{"type":"poll","question":"Which?","options":["a","b"]}`, func(m *waE2E.Message) bool { return m.GetPollCreationMessageV3().GetName() == "Which?" }},
		{`"body":{"type":"reaction","target":"` + first + `","emoji":"👍"}`, func(m *waE2E.Message) bool {
			return m.GetReactionMessage().GetText() == "👍" && m.GetReactionMessage().GetKey().GetFromMe()
		}},
		{`"body":{"type":"timer","seconds":604800}`, func(m *waE2E.Message) bool { return m.GetProtocolMessage().GetEphemeralExpiration() == 604800 }},
		{`"body":{"type":"image","view_once":true}`, func(m *waE2E.Message) bool { return m.GetImageMessage().GetViewOnce() }},
		{`"body":{"type":"document","caption":"read this","filename":"a.txt"}`, func(m *waE2E.Message) bool { return m.GetDocumentMessage().GetFileName() == "a.txt" }},
		{`"body":{"type":"audio","voice":true,"seconds":3}`, func(m *waE2E.Message) bool { return m.GetAudioMessage().GetPTT() }},
		{`"body":{"type":"video","note":true}`, func(m *waE2E.Message) bool { return m.GetPtvMessage() != nil }},
		{`"body":{"type":"sticker"}`, func(m *waE2E.Message) bool { return m.GetStickerMessage() != nil }},
		{`"body":{"type":"album","images":1}`, func(m *waE2E.Message) bool { return m.GetAlbumMessage().GetExpectedImageCount() == 1 }},
		{`"body":{"type":"image","target":"` + first + `"}`, func(m *waE2E.Message) bool { return m.GetImageMessage() != nil }},
		{`"body":{"type":"event","name":"Party"}`, func(m *waE2E.Message) bool { return m.GetEventMessage().GetName() == "Party" }},
		{`"body":{"type":"button_reply","id":"1","text":"Yes"}`, func(m *waE2E.Message) bool { return m.GetButtonsResponseMessage().GetSelectedDisplayText() == "Yes" }},
		{`"body":{"type":"list_reply","id":"1","text":"Yes"}`, func(m *waE2E.Message) bool { return m.GetListResponseMessage().GetTitle() == "Yes" }},
		{`"body":{"type":"order","id":"1"}`, func(m *waE2E.Message) bool { return m.GetOrderMessage().GetOrderID() == "1" }},
		{`"body":{"type":"invitation","group":"1@g.us","code":"x","name":"G"}`, func(m *waE2E.Message) bool { return m.GetGroupInviteMessage().GetGroupName() == "G" }},
		{`"raw":"` + rawBase64(t, &waE2E.Message{CommentMessage: &waE2E.CommentMessage{}}) + `"`, func(m *waE2E.Message) bool { return m.GetCommentMessage() != nil }},
	} {
		id := post(t, sim, test.fields)
		if got := awaitText(c, id); !test.check(unwrapped(got)) {
			t.Errorf("%s became %v", test.fields, got.RawMessage)
		}
	}
	for _, wrong := range []string{
		`"body":{"type":"text"}`, `"body":{"type":"poem"}`, `"body":{"type":"text","text":"x","colour":"red"}`, `"body":{"type":"poll","question":"?"}`,
		`"body":{"type":"location"}`, `"text":"a","raw":"eA=="`, `"raw":"////"`, `"body":{"type":"vote","target":"none","options":["a"]}`,
	} {
		refused(t, sim, "POST", "messages", `{"world":"`+world+`","from":"`+friend+`","to":"`+own+`",`+wrong+`}`, 400, "invalid_request")
	}
}

func rawBase64(t *testing.T, m *waE2E.Message) string {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

func TestEditsAndRevocations(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	// A phone edits in both forms, and takes back.
	id := post(t, sim, `"body":{"type":"text","text":"tpyo"}`)
	awaitText(c, id)
	edit := awaitText(c, post(t, sim, `"body":{"type":"edit","target":"`+id+`","text":"typo"}`))
	if !edit.IsEdit || edit.Message.GetProtocolMessage().GetKey().GetID() != id || edit.Info.Edit != types.EditAttributeMessageEdit {
		t.Errorf("the edit is %+v", edit)
	}
	secret := awaitText(c, post(t, sim, `"secret_edit":true,"body":{"type":"edit","target":"`+id+`","text":"typos"}`))
	opened, err := c.DecryptSecretEncryptedMessage(t.Context(), secret)
	if err != nil || opened.GetProtocolMessage().GetEditedMessage().GetConversation() != "typos" {
		t.Errorf("the encrypted edit is %v, %v", opened, err)
	}
	if got := shows(t, sim, friend, "&message_id="+id).Data[0]; got.Text != "typos" || got.Edited.IsZero() {
		t.Errorf("the phone shows %+v", got)
	}
	if got := awaitText(c, post(t, sim, `"body":{"type":"revoke","target":"`+id+`"}`)); got.Info.Edit != types.EditAttributeSenderRevoke {
		t.Errorf("the revocation is %+v", got.Info)
	}
	if got := shows(t, sim, own, "&message_id="+id).Data[0]; got.Revoked.IsZero() || got.Text != "" || string(got.Body) != "null" {
		t.Errorf("the owner's phone shows %+v", got)
	}

	// So does a device; what is not its own it cannot change.
	mine := send(c, "mine")
	if _, err := c.SendMessage(t.Context(), friendJID(), c.BuildEdit(friendJID(), mine, text("better"))); err != nil {
		t.Fatal(err)
	}
	if got := shows(t, sim, friend, "&message_id="+mine).Data[0]; got.Text != "better" || got.Edited.IsZero() {
		t.Errorf("the phone shows %+v", got)
	}
	theirs := write(t, sim, "theirs")
	foreign := c.BuildEdit(friendJID(), theirs, text("faked"))
	if _, err := c.SendMessage(t.Context(), friendJID(), foreign); err != nil {
		t.Fatal(err)
	}
	if got := shows(t, sim, friend, "&message_id="+theirs).Data[0]; got.Text != "theirs" {
		t.Errorf("somebody else's message became %+v", got)
	}
	if _, err := c.SendMessage(t.Context(), friendJID(), c.BuildRevoke(friendJID(), types.EmptyJID, mine)); err != nil {
		t.Fatal(err)
	}
	if got := shows(t, sim, friend, "&message_id="+mine).Data[0]; got.Revoked.IsZero() {
		t.Errorf("the phone shows %+v", got)
	}
}

func TestPollsAndVotes(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	// A device asks, the phone votes.
	sent, err := c.SendMessage(t.Context(), friendJID(), c.BuildPollCreation("Where?", []string{"here", "there"}, 1))
	if err != nil {
		t.Fatal(err)
	}
	done := act(t, sim, friend, `{"world":"`+world+`","kind":"vote","message_id":"`+sent.ID+`","options":["there"]}`)
	vote := awaitText(c, done.MessageID)
	opened, err := c.DecryptPollVote(t.Context(), vote)
	if want := sha256.Sum256([]byte("there")); err != nil || len(opened.GetSelectedOptions()) != 1 || !bytes.Equal(opened.GetSelectedOptions()[0], want[:]) {
		t.Errorf("the vote is %v, %v", opened, err)
	}
	// The phone asks, a device votes.
	poll := awaitText(c, post(t, sim, `"body":{"type":"poll","question":"When?","options":["now","later"],"selectable":2}`))
	answer, err := c.BuildPollVote(t.Context(), &poll.Info, []string{"now", "later"})
	if err != nil {
		t.Fatal(err)
	}
	voted, err := c.SendMessage(t.Context(), poll.Info.Chat, answer)
	if err != nil {
		t.Fatal(err)
	}
	var body whatsapp.Body
	got := shows(t, sim, friend, "&message_id="+voted.ID).Data
	if len(got) != 1 || json.Unmarshal(got[0].Body, &body) != nil || strings.Join(body.Options, " ") != "now later" || body.Target.ID != poll.Info.ID || body.Target.From != friend {
		t.Errorf("the phone shows %+v", got)
	}
}

func TestWhatADeviceSendsIsShown(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	theirs := awaitText(c, write(t, sim, "theirs"))
	for _, test := range []struct {
		name    string
		message *waE2E.Message
		want    string
	}{
		{"reaction", c.BuildReaction(theirs.Info.Chat, theirs.Info.Sender, theirs.Info.ID, "🎉"), `{"type":"reaction","target":{"message_id":"` + theirs.Info.ID + `","from":"` + friend + `"},"emoji":"🎉"}`},
		{"quote", &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("yes"), ContextInfo: &waE2E.ContextInfo{
			StanzaID: &theirs.Info.ID, Participant: proto.String(theirs.Info.Sender.String()), QuotedMessage: text("theirs"),
		}}}, `{"type":"text","text":"yes","context":{"quoted":{"message_id":"` + theirs.Info.ID + `","from":"` + friend + `"},"quoted_text":"theirs"}}`},
		{"location", &waE2E.Message{LocationMessage: &waE2E.LocationMessage{DegreesLatitude: proto.Float64(1), DegreesLongitude: proto.Float64(2)}}, `{"type":"location","latitude":1,"longitude":2}`},
		{"poll", c.BuildPollCreation("Q?", []string{"a", "b"}, 1), `{"type":"poll","question":"Q?","options":["a","b"],"selectable":1}`},
		{"unsupported", &waE2E.Message{CallLogMesssage: &waE2E.CallLogMessage{}}, `{"type":"unsupported","name":"callLogMesssage"}`},
	} {
		sent, err := c.SendMessage(t.Context(), friendJID(), test.message)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if got := shows(t, sim, friend, "&message_id="+sent.ID).Data; len(got) != 1 || string(got[0].Body) != test.want {
			t.Errorf("%s: the phone shows %s, want %s", test.name, got[0].Body, test.want)
		}
	}
}

func TestTheOwnerWritesElsewhere(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	status, out := control[map[string]string](t, sim, "POST", "messages", `{"world":"`+world+`","from":"`+own+`","to":"`+friend+`","body":{"type":"text","text":"from my phone"}}`)
	if status != 200 {
		t.Fatalf("%d %v", status, out)
	}
	if got := awaitText(c, out["message_id"]); !got.Info.IsFromMe || got.Message.GetConversation() != "from my phone" || got.Info.DeviceSentMeta == nil {
		t.Errorf("the echo is %+v", got)
	}
}

func TestBroadcastsAndStatuses(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	got := awaitText(c, post(t, sim, `"broadcast":true,"body":{"type":"text","text":"to all"}`))
	if got.Info.Chat.Server != types.BroadcastServer || got.Info.SenderAlt.User != friend || got.Message.GetConversation() != "to all" {
		t.Errorf("through a list came %+v", got.Info)
	}
	got = awaitText(c, post(t, sim, `"status":true,"body":{"type":"text","text":"my day"}`))
	if got.Info.Chat != types.StatusBroadcastJID || got.Info.SenderAlt.User != friend {
		t.Errorf("the status is %+v", got.Info)
	}
}

func TestWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	awaitText(c, write(t, sim, "begin"))
	id := post(t, sim, `"unavailable":"view_once","body":{"type":"image","view_once":true}`)
	if got := awaitThat(c, func(u *events.UndecryptableMessage) bool { return u.Info.ID == id }); !got.IsUnavailable || got.UnavailableType != events.UnavailableTypeViewOnce {
		t.Errorf("the notice is %+v", got)
	}
	// The owner's phone, which the device has a session with since it has sent
	// something, is asked, and answers when it is back.
	send(c, "begin")
	act(t, sim, own, `{"world":"`+world+`","kind":"offline"}`)
	id = post(t, sim, `"undecryptable":true,"body":{"type":"text","text":"garbled"}`)
	awaitThat(c, func(u *events.UndecryptableMessage) bool { return u.Info.ID == id })
	act(t, sim, own, `{"world":"`+world+`","kind":"online"}`)
	if got := awaitText(c, id); got.UnavailableRequestID == "" || got.Message.GetConversation() != "garbled" {
		t.Errorf("the phone sent %+v", got)
	}
}

func TestMediaBothWays(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.SetMediaHTTPClient(sim.HTTPClient(t, "", ""))
	c.pair(world, own)
	picture := bytes.Repeat([]byte("not quite a picture "), 1000)
	in := awaitText(c, post(t, sim, `"body":{"type":"image","caption":"look","media_base64":"`+base64.StdEncoding.EncodeToString(picture)+`"}`))
	got, err := c.Download(t.Context(), in.Message.GetImageMessage())
	if err != nil || !bytes.Equal(got, picture) || in.Message.GetImageMessage().GetCaption() != "look" {
		t.Fatalf("got %d bytes: %v", len(got), err)
	}

	up, err := c.Upload(t.Context(), picture, whatsmeow.MediaImage)
	if err != nil {
		t.Fatal(err)
	}
	image := &waE2E.ImageMessage{URL: &up.URL, DirectPath: &up.DirectPath, MediaKey: up.MediaKey, FileEncSHA256: up.FileEncSHA256,
		FileSHA256: up.FileSHA256, FileLength: &up.FileLength, Mimetype: proto.String("image/jpeg"), Caption: proto.String("mine")}
	sent, err := c.SendMessage(t.Context(), friendJID(), &waE2E.Message{ImageMessage: image})
	if err != nil {
		t.Fatal(err)
	}
	if got := shows(t, sim, friend, "&message_id="+sent.ID).Data[0]; got.Text != "mine" || !strings.Contains(string(got.Body), `"readable":true`) {
		t.Errorf("the phone shows %s", got.Body)
	}
	lost := proto.Clone(image).(*waE2E.ImageMessage)
	lost.DirectPath = proto.String("/v/" + world + "/nothing?ccb=1")
	if sent, err = c.SendMessage(t.Context(), friendJID(), &waE2E.Message{ImageMessage: lost}); err != nil {
		t.Fatal(err)
	}
	receipt(c, sent.ID, types.ReceiptTypeServerError)
}

func TestFaultsOfMedia(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.SetMediaHTTPClient(sim.HTTPClient(t, "", ""))
	c.pair(world, own)
	inject := func(f whatsapp.Fault) {
		t.Helper()
		f.World, f.Instance = world, "a"
		if _, err := sim.Inject(f); err != nil {
			t.Fatal(err)
		}
	}
	retry := func(in *events.Message) *events.MediaRetry {
		t.Helper()
		if err := c.SendMediaRetryReceipt(t.Context(), &in.Info, in.Message.GetImageMessage().GetMediaKey()); err != nil {
			t.Fatal(err)
		}
		return awaitThat(c, func(r *events.MediaRetry) bool { return r.MessageID == in.Info.ID })
	}
	inject(whatsapp.Fault{Kind: "media_gone"})
	in := awaitText(c, post(t, sim, `"body":{"type":"image"}`))
	if _, err := c.Download(t.Context(), in.Message.GetImageMessage()); err == nil {
		t.Fatal("the file is not gone")
	}
	answer, err := whatsmeow.DecryptMediaRetryNotification(retry(in), in.Message.GetImageMessage().GetMediaKey())
	if err != nil {
		t.Fatal(err)
	}
	in.Message.GetImageMessage().DirectPath = answer.DirectPath
	if _, err := c.Download(t.Context(), in.Message.GetImageMessage()); err != nil {
		t.Errorf("at the new path: %v", err)
	}
	inject(whatsapp.Fault{Kind: "media_gone", Code: 2})
	in = awaitText(c, post(t, sim, `"body":{"type":"image"}`))
	if got := retry(in); got.Error == nil || got.Error.Code != 2 {
		t.Errorf("the phone answered %+v", got)
	}
	inject(whatsapp.Fault{Kind: "upload_error", Code: 507})
	if _, err := c.Upload(t.Context(), []byte("x"), whatsmeow.MediaImage); err == nil {
		t.Error("the upload was taken")
	}
	if _, err := c.Upload(t.Context(), []byte("x"), whatsmeow.MediaImage); err != nil {
		t.Error(err)
	}
}
