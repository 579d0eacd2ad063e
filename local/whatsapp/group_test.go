package whatsapp_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/local/whatsapp"
)

const (
	second = "31600000002"
	third  = "31600000003"
)

func jids(numbers ...string) (out []types.JID) {
	for _, number := range numbers {
		out = append(out, types.NewJID(number, types.DefaultUserServer))
	}
	return out
}

func TestAGroupOfADevice(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	a := openClient(t, sim, "", world, "a")
	a.pair(world, own)
	b := openClient(t, sim, "", world, "b")
	b.pair(world, friend)
	setPhone(t, sim, "31600000404", `{"on_whatsapp":false}`)

	g, err := a.CreateGroup(t.Context(), whatsmeow.ReqCreateGroup{Name: "Friends", Participants: jids(friend, second, "31600000404")})
	if err != nil {
		t.Fatal(err)
	}
	if g.Name != "Friends" || g.AddressingMode != types.AddressingModeLID || g.OwnerPN.User != own {
		t.Errorf("the group is %+v", g)
	}
	joined := await[*events.JoinedGroup](b)
	if joined.JID != g.JID || joined.Name != "Friends" || len(joined.Participants) != 3 {
		t.Errorf("the member was told of %+v", joined)
	}
	info, err := a.GetGroupInfo(t.Context(), g.JID)
	if err != nil || len(info.Participants) != 3 || !info.Participants[0].IsSuperAdmin || info.Participants[1].PhoneNumber.User != friend {
		t.Fatalf("the group is %+v, %v", info, err)
	}

	// Out: to a device, which answers, and to the phones, which tell that they have it.
	sent, err := a.SendMessage(t.Context(), g.JID, text("hello all"))
	if err != nil {
		t.Fatal(err)
	}
	if got := awaitText(b, sent.ID); got.Info.Chat != g.JID || got.Info.SenderAlt.User != own || got.Message.GetConversation() != "hello all" {
		t.Errorf("the member got %+v", got)
	}
	for range 3 { // two phones and a device
		if got := awaitThat(a, func(r *events.Receipt) bool { return r.Type == types.ReceiptTypeDelivered || r.Type == "inactive" }); got.Chat != g.JID || got.Sender.IsEmpty() || got.MessageIDs[0] != sent.ID {
			t.Errorf("a receipt is %+v", got)
		}
	}
	for _, number := range []string{friend, second, own} {
		if got := shows(t, sim, number, "&chat="+g.JID.String()).Data; len(got) != 1 || got[0].Text != "hello all" || got[0].From != own {
			t.Errorf("%s shows %+v", number, got)
		}
	}
	for _, what := range []string{"again", "and again"} { // with the key that is there
		if sent, err = b.SendMessage(t.Context(), g.JID, text(what)); err != nil {
			t.Fatal(err)
		}
		if got := awaitText(a, sent.ID); got.Message.GetConversation() != what {
			t.Errorf("got %+v", got)
		}
	}

	// In: from a phone, twice, with a quote.
	for _, what := range []string{"from a phone", "and once more"} {
		id, err := sim.Write(t.Context(), whatsapp.Writing{Text: whatsapp.Text{World: world, From: second, Text: what}, Group: g.JID.String()})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []*client{a, b} {
			if got := awaitText(c, id); got.Info.Chat != g.JID || got.Info.SenderAlt.User != second || got.Message.GetConversation() != what {
				t.Errorf("got %+v", got)
			}
		}
	}
	if _, err := sim.Write(t.Context(), whatsapp.Writing{Text: whatsapp.Text{World: world, From: third, Text: "x"}, Group: g.JID.String()}); whatsapp.ErrorCode(err) != "not_in_group" {
		t.Errorf("a stranger wrote: %v", err)
	}
}

func TestMembersOfAGroup(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	a := openClient(t, sim, "", world, "a")
	a.pair(world, own)
	b := openClient(t, sim, "", world, "b")
	b.pair(world, friend)
	g, err := a.CreateGroup(t.Context(), whatsmeow.ReqCreateGroup{Name: "G", Participants: jids(friend)})
	if err != nil {
		t.Fatal(err)
	}
	await[*events.JoinedGroup](b)
	act(t, sim, third, `{"world":"`+world+`","kind":"profile","group_add":"none"}`)
	outcome, err := a.UpdateGroupParticipants(t.Context(), g.JID, jids(second, third, friend), whatsmeow.ParticipantChangeAdd)
	if err != nil || len(outcome) != 3 || outcome[0].Error != 0 || outcome[1].Error != 403 || outcome[1].AddRequest == nil || outcome[2].Error != 409 {
		t.Errorf("adding: %+v, %v", outcome, err)
	}
	if got := awaitThat(b, func(e *events.GroupInfo) bool { return len(e.Join) > 0 }); len(got.Join) != 1 || got.SenderPN.User != own {
		t.Errorf("the member was told of %+v", got)
	}
	if _, err := b.UpdateGroupParticipants(t.Context(), g.JID, jids(second), whatsmeow.ParticipantChangeRemove); !errors.Is(err, whatsmeow.ErrIQNotAuthorized) {
		t.Errorf("a member removed another: %v", err)
	}
	if _, err := a.UpdateGroupParticipants(t.Context(), g.JID, jids(friend), whatsmeow.ParticipantChangePromote); err != nil {
		t.Fatal(err)
	}
	awaitThat(b, func(e *events.GroupInfo) bool { return len(e.Promote) == 1 })
	if _, err := b.UpdateGroupParticipants(t.Context(), g.JID, jids(second), whatsmeow.ParticipantChangeRemove); err != nil {
		t.Fatal(err)
	}
	awaitThat(a, func(e *events.GroupInfo) bool { return len(e.Leave) == 1 })
	if _, err := a.UpdateGroupParticipants(t.Context(), g.JID, jids(friend), whatsmeow.ParticipantChangeDemote); err != nil {
		t.Fatal(err)
	}
	awaitThat(b, func(e *events.GroupInfo) bool { return len(e.Demote) == 1 })

	// By the link, and by a new one.
	link, err := a.GetGroupInviteLink(t.Context(), g.JID, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.GetGroupInviteLink(t.Context(), g.JID, false); !errors.Is(err, whatsmeow.ErrGroupInviteLinkUnauthorized) {
		t.Errorf("a member got the link: %v", err)
	}
	act(t, sim, second, `{"world":"`+world+`","kind":"join","link":"`+link+`"}`)
	if got := awaitThat(b, func(e *events.GroupInfo) bool { return len(e.Join) > 0 }); got.JoinReason != "invite" {
		t.Errorf("joined: %+v", got)
	}
	renewed, err := a.GetGroupInviteLink(t.Context(), g.JID, true)
	if err != nil || renewed == link {
		t.Errorf("the new link is %s: %v", renewed, err)
	}
	if _, err := b.JoinGroupWithLink(t.Context(), link); !errors.Is(err, whatsmeow.ErrInviteLinkInvalid) {
		t.Errorf("by the old link: %v", err)
	}
	if err := b.LeaveGroup(t.Context(), g.JID); err != nil {
		t.Fatal(err)
	}
	awaitThat(a, func(e *events.GroupInfo) bool { return len(e.Leave) == 1 })
	if _, err := b.GetGroupInfo(t.Context(), g.JID); !errors.Is(err, whatsmeow.ErrNotInGroup) {
		t.Errorf("who has left looks: %v", err)
	}
	if info, err := b.GetGroupInfoFromLink(t.Context(), renewed); err != nil || info.Name != "G" {
		t.Errorf("through the link: %+v, %v", info, err)
	}
	if jid, err := b.JoinGroupWithLink(t.Context(), renewed); err != nil || jid != g.JID {
		t.Errorf("by the link: %v, %v", jid, err)
	}
	if list, err := b.GetJoinedGroups(t.Context()); err != nil || len(list) != 1 || len(list[0].Participants) != 3 {
		t.Errorf("the list: %+v, %v", list, err)
	}
}

func TestSettingsOfAGroup(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	a := openClient(t, sim, "", world, "a")
	a.pair(world, own)
	b := openClient(t, sim, "", world, "b")
	b.pair(world, friend)
	done := act(t, sim, own, `{"world":"`+world+`","kind":"create_group","subject":"G","members":["`+friend+`"]}`)
	jid := await[*events.JoinedGroup](b).JID
	await[*events.JoinedGroup](a)
	if done.Group == nil || done.Group.ID != jid.String() {
		t.Fatalf("created: %+v", done)
	}
	change := func(what string, err error, told func(*events.GroupInfo) bool) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		awaitThat(b, told)
	}
	change("subject", a.SetGroupName(t.Context(), jid, "New"), func(e *events.GroupInfo) bool { return e.Name != nil && e.Name.Name == "New" })
	change("description", a.SetGroupTopic(t.Context(), jid, "", "", "About"), func(e *events.GroupInfo) bool { return e.Topic != nil && e.Topic.Topic == "About" })
	change("announce", a.SetGroupAnnounce(t.Context(), jid, true), func(e *events.GroupInfo) bool { return e.Announce != nil && e.Announce.IsAnnounce })
	change("locked", a.SetGroupLocked(t.Context(), jid, true), func(e *events.GroupInfo) bool { return e.Locked != nil && e.Locked.IsLocked })
	change("timer", a.SetDisappearingTimer(t.Context(), jid, whatsmeow.DisappearingTimer24Hours, time.Now()), func(e *events.GroupInfo) bool {
		return e.Ephemeral != nil && e.Ephemeral.DisappearingTimer == 86400
	})
	id, err := a.SetGroupPhoto(t.Context(), jid, jpegOf(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := await[*events.Picture](b); got.JID != jid || got.PictureID != id {
		t.Errorf("the member was told of %+v", got)
	}
	if picture, err := b.GetProfilePictureInfo(t.Context(), jid, nil); err != nil || picture.ID != id {
		t.Errorf("the picture is %+v, %v", picture, err)
	}
	info, err := b.GetGroupInfo(t.Context(), jid)
	if err != nil || info.Name != "New" || info.Topic != "About" || !info.IsAnnounce || !info.IsLocked || info.DisappearingTimer != 86400 {
		t.Errorf("the group is %+v, %v", info, err)
	}
	if _, err := b.SendMessage(t.Context(), jid, text("may I?")); err == nil || !strings.HasSuffix(err.Error(), " 405") {
		t.Errorf("a member wrote: %v", err)
	}
	if err := b.SetGroupName(t.Context(), jid, "Mine"); !errors.Is(err, whatsmeow.ErrIQNotAuthorized) {
		t.Errorf("a member changed the subject: %v", err)
	}
	act(t, sim, own, `{"world":"`+world+`","kind":"settings","group":"`+jid.String()+`","announce":false,"locked":false}`)
	if _, err := b.SendMessage(t.Context(), jid, text("now I may")); err != nil {
		t.Error(err)
	}
}

func TestAStaleGroup(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	a := openClient(t, sim, "", world, "a")
	a.pair(world, own)
	done := act(t, sim, own, `{"world":"`+world+`","kind":"create_group","subject":"G","members":["`+friend+`"],"addressing":"pn"}`)
	jid := await[*events.JoinedGroup](a).JID
	if sent, err := a.SendMessage(t.Context(), jid, text("by number")); err != nil {
		t.Fatal(err)
	} else if got := awaitThat(a, func(r *events.Receipt) bool { return r.MessageIDs[0] == sent.ID }); got.Sender.User != friend {
		t.Errorf("the receipt is %+v", got)
	}
	act(t, sim, own, `{"world":"`+world+`","kind":"settings","group":"`+done.Group.ID+`","addressing":"lid"}`)
	if _, err := a.SendMessage(t.Context(), jid, text("stale")); err == nil || !strings.HasSuffix(err.Error(), " 421") {
		t.Errorf("by the old form: %v", err)
	}
	if _, err := a.GetGroupInfo(t.Context(), jid); err != nil {
		t.Fatal(err)
	}
	if _, err := a.SendMessage(t.Context(), jid, text("fresh")); err != nil {
		t.Error(err)
	}
	// A phone that cannot read asks again, and gets all in one.
	if _, err := sim.Inject(whatsapp.Fault{Kind: "corrupt_out", Target: whatsapp.Target{World: world, Instance: "a"}}); err != nil {
		t.Fatal(err)
	}
	sent, err := a.SendMessage(t.Context(), jid, text("damaged"))
	if err != nil {
		t.Fatal(err)
	}
	receipt(a, sent.ID, types.ReceiptTypeRead)
	// So does a device.
	if _, err := sim.Inject(whatsapp.Fault{Kind: "corrupt_in", Target: whatsapp.Target{World: world, Instance: "a"}}); err != nil {
		t.Fatal(err)
	}
	id, err := sim.Write(t.Context(), whatsapp.Writing{Text: whatsapp.Text{World: world, From: friend, Text: "damaged too"}, Group: jid.String()})
	if err != nil {
		t.Fatal(err)
	}
	if got := awaitText(a, id); got.Message.GetConversation() != "damaged too" {
		t.Errorf("got %+v", got)
	}
	// An admin takes back what a member wrote.
	if _, err := a.SendMessage(t.Context(), jid, a.BuildRevoke(jid, lidOfFriend(a, sim), id)); err != nil {
		t.Fatal(err)
	}
	if got := shows(t, sim, friend, "&message_id="+id).Data; len(got) != 1 || got[0].Revoked.IsZero() {
		t.Errorf("the phone shows %+v", got)
	}
}

func TestACommunity(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	a := openClient(t, sim, "", world, "a")
	a.pair(world, own)
	parent, err := a.CreateGroup(t.Context(), whatsmeow.ReqCreateGroup{Name: "Town", GroupParent: types.GroupParent{IsParent: true}})
	if err != nil || !parent.IsParent {
		t.Fatalf("%+v, %v", parent, err)
	}
	groups, err := a.GetSubGroups(t.Context(), parent.JID)
	if err != nil || len(groups) != 1 || !groups[0].IsDefaultSubGroup {
		t.Fatalf("%+v, %v", groups, err)
	}
	if _, err := a.SendMessage(t.Context(), groups[0].JID, text("to the town")); err != nil {
		t.Error(err)
	}
}

func TestManyTellInOneReceipt(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	a := openClient(t, sim, "", world, "a")
	a.pair(world, own)
	var members []string
	for i := range 7 {
		members = append(members, "3160000010"+strconv.Itoa(i))
	}
	g, err := a.CreateGroup(t.Context(), whatsmeow.ReqCreateGroup{Name: "Many", Participants: jids(members...)})
	if err != nil {
		t.Fatal(err)
	}
	sent, err := a.SendMessage(t.Context(), g.JID, text("hello all"))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []types.ReceiptType{types.ReceiptTypeDelivered, types.ReceiptTypeRead} {
		told := map[string]bool{}
		for range members {
			told[receipt(a, sent.ID, kind).Sender.User] = true
		}
		if len(told) != len(members) {
			t.Errorf("%d members told %q", len(told), kind)
		}
	}
	stanzas := 0
	for _, e := range sim.Journal(whatsapp.JournalFilter{Target: whatsapp.Target{World: world}, Tag: "receipt"}) {
		if e.ID == sent.ID && e.Direction == whatsapp.Out {
			stanzas++
		}
	}
	if stanzas != 2 {
		t.Errorf("that took %d stanzas, not 2", stanzas)
	}
}

func TestReceiptsWaitForADevice(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	a := openClient(t, sim, "", world, "a")
	a.pair(world, own)
	g, err := a.CreateGroup(t.Context(), whatsmeow.ReqCreateGroup{Name: "Slow", Participants: jids(friend, second)})
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []string{friend, second} {
		act(t, sim, number, `{"world":"`+world+`","kind":"offline"}`)
	}
	sent, err := a.SendMessage(t.Context(), g.JID, text("later"))
	if err != nil {
		t.Fatal(err)
	}
	path := a.path
	a.close()
	eventually(t, "it is gone", func() bool { return !sim.Devices("")[0].Connected })
	for _, number := range []string{friend, second} {
		act(t, sim, number, `{"world":"`+world+`","kind":"online"}`)
	}
	a = openClient(t, sim, path, world, "a")
	a.connect()
	told := map[string]bool{}
	for range 4 { // two phones, delivered and read
		got := awaitThat(a, func(r *events.Receipt) bool { return r.MessageIDs[0] == sent.ID })
		told[got.Sender.User+" "+string(got.Type)] = true
	}
	if len(told) != 4 {
		t.Errorf("told: %v", told)
	}
	eventually(t, "everything is acknowledged", func() bool { return sim.Devices("")[0].Queued == 0 })
}
