package whatsapp_test

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/jpeg"
	"io"
	"testing"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"whatisup/local/whatsapp"
	"whatisup/local/whatsapp/whatsapptest"
)

func jpegOf(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := jpeg.Encode(&out, image.NewRGBA(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// lidOfFriend is how the friend is named in a group that names members by LID.
func lidOfFriend(c *client, sim *whatsapptest.Simulator) types.JID {
	c.t.Helper()
	phone, err := sim.Phone(world, friend)
	if err != nil {
		c.t.Fatal(err)
	}
	jid, err := types.ParseJID(phone.LID)
	if err != nil {
		c.t.Fatal(err)
	}
	return jid
}

func TestTypingAndPresence(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	c.Store.PushName = "Me"
	if err := c.SendPresence(t.Context(), types.PresenceAvailable); err != nil {
		t.Fatal(err)
	}
	if err := c.SubscribePresence(t.Context(), friendJID()); err != nil {
		t.Fatal(err)
	}
	if got := await[*events.Presence](c); got.Unavailable || got.From.Server != types.HiddenUserServer {
		t.Errorf("the presence is %+v", got)
	}
	act(t, sim, friend, `{"world":"`+world+`","kind":"offline"}`)
	if got := await[*events.Presence](c); !got.Unavailable || got.LastSeen.IsZero() {
		t.Errorf("the presence is %+v", got)
	}
	act(t, sim, friend, `{"world":"`+world+`","kind":"online"}`)
	await[*events.Presence](c)
	for state, want := range map[string]events.ChatPresence{
		"typing":    {State: types.ChatPresenceComposing},
		"recording": {State: types.ChatPresenceComposing, Media: types.ChatPresenceMediaAudio},
		"paused":    {State: types.ChatPresencePaused},
	} {
		act(t, sim, friend, `{"world":"`+world+`","kind":"typing","to":"`+own+`","state":"`+state+`"}`)
		if got := await[*events.ChatPresence](c); got.State != want.State || got.Media != want.Media || got.Sender.Server != types.HiddenUserServer {
			t.Errorf("%s: %+v", state, got)
		}
	}
	refused(t, sim, "POST", "phones/"+friend+"/actions", `{"world":"`+world+`","kind":"typing","to":"`+own+`","state":"asleep"}`, 400, "invalid_request")
}

func TestCalls(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	call := act(t, sim, friend, `{"world":"`+world+`","kind":"call","to":"`+own+`","video":true}`)
	offer := await[*events.CallOffer](c)
	if offer.CallID != call.CallID || offer.CallCreatorAlt.User != friend {
		t.Errorf("the offer is %+v", offer)
	}
	if _, video := offer.Data.GetOptionalChildByTag("video"); !video {
		t.Errorf("no video: %v", offer.Data)
	}
	act(t, sim, friend, `{"world":"`+world+`","kind":"hang_up","to":"`+own+`"}`)
	if got := await[*events.CallTerminate](c); got.CallID != call.CallID || got.Reason != "timeout" {
		t.Errorf("the end is %+v", got)
	}
	refused(t, sim, "POST", "phones/"+friend+"/actions", `{"world":"`+world+`","kind":"hang_up"}`, 404, "no_such_call")
	call = act(t, sim, friend, `{"world":"`+world+`","kind":"call","to":"`+own+`"}`)
	offer = await[*events.CallOffer](c)
	if err := c.RejectCall(t.Context(), offer.From, offer.CallID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the caller hears that", func() bool { return !sim.Rings(world, call.CallID) })
}

func TestProfilesAndBlocks(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.SetMediaHTTPClient(sim.HTTPClient(t, "", ""))
	c.pair(world, own)
	awaitText(c, write(t, sim, "hello"))
	if _, err := c.GetProfilePictureInfo(t.Context(), friendJID(), nil); err == nil {
		t.Error("a picture where there is none")
	}
	act(t, sim, friend, `{"world":"`+world+`","kind":"profile","name":"Ada","about":"at work","picture_base64":"`+base64.StdEncoding.EncodeToString(jpegOf(t))+`"}`)
	if got := await[*events.UserAbout](c); got.Status != "at work" {
		t.Errorf("told %+v", got)
	}
	changed := await[*events.Picture](c)
	picture, err := c.GetProfilePictureInfo(t.Context(), friendJID(), nil)
	if err != nil || picture.ID != changed.PictureID {
		t.Fatalf("the picture is %+v, %v", picture, err)
	}
	answer, err := sim.HTTPClient(t, "", "").Get(picture.URL)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if !bytes.Equal(got, jpegOf(t)) {
		t.Errorf("the picture has %d bytes: %s", len(got), answer.Status)
	}
	info, err := c.GetUserInfo(t.Context(), []types.JID{friendJID()})
	if err != nil || info[friendJID()].Status != "at work" || info[friendJID()].PictureID != picture.ID {
		t.Errorf("user info: %+v, %v", info, err)
	}
	if got := awaitText(c, write(t, sim, "hello again")); got.Info.PushName != "Ada" {
		t.Errorf("the name is %s", got.Info.PushName)
	}
	if err := c.SetStatusMessage(t.Context(), types.SetStatusInput{Text: proto.String("busy")}); err != nil {
		t.Error(err)
	}

	list, err := c.UpdateBlocklist(t.Context(), friendJID(), events.BlocklistChangeActionBlock)
	if err != nil || len(list.JIDs) != 1 {
		t.Fatalf("blocked: %+v, %v", list, err)
	}
	write(t, sim, "unheard")
	if list, err = c.UpdateBlocklist(t.Context(), friendJID(), events.BlocklistChangeActionUnblock); err != nil || len(list.JIDs) != 0 {
		t.Fatalf("unblocked: %+v, %v", list, err)
	}
	if got := awaitText(c, write(t, sim, "heard")); got.Message.GetConversation() != "heard" {
		t.Error(got)
	}
	for _, shown := range shows(t, sim, own, "").Data {
		if shown.Text == "unheard" {
			t.Error("the owner's phone shows what a blocked person wrote")
		}
	}
	// Somebody who blocks us: the server takes the message, and nobody sees it.
	act(t, sim, second, `{"world":"`+world+`","kind":"block","to":"`+own+`"}`)
	if _, err := c.SendMessage(t.Context(), jids(second)[0], text("anybody?")); err != nil {
		t.Error(err)
	}
	if got := shows(t, sim, second, "").Data; len(got) != 0 {
		t.Errorf("the phone shows %+v", got)
	}
}

func TestTrust(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.pair(world, own)
	setPhone(t, sim, friend, `{"restricts":"reachout"}`)
	if _, err := c.SendMessage(t.Context(), friendJID(), text("cold")); err == nil {
		t.Error("a stranger wrote")
	}
	act(t, sim, friend, `{"world":"`+world+`","kind":"trust","to":"`+own+`"}`)
	lid := lidOfFriend(c, sim)
	eventually(t, "the token is kept", func() bool {
		token, err := c.Store.PrivacyTokens.GetPrivacyToken(t.Context(), lid)
		return err == nil && token != nil
	})
	send(c, "warm")
}
