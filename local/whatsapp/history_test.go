package whatsapp_test

import (
	"testing"
	"time"

	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/local/whatsapp"
)

func TestAPhoneBringsItsDeviceUpToDate(t *testing.T) {
	t.Parallel()
	sim := start(t, whatsapp.Config{})
	c := openClient(t, sim, "", world, "a")
	c.SetMediaHTTPClient(sim.HTTPClient(t, "", ""))
	for _, what := range []string{"one", "two"} {
		write(t, sim, what)
	}
	c.pair(world, own)
	act(t, sim, friend, `{"world":"`+world+`","kind":"profile","name":"Ada"}`)
	act(t, sim, own, `{"world":"`+world+`","kind":"save_contact","to":"`+friend+`","name":"Ada Friend"}`)
	act(t, sim, own, `{"world":"`+world+`","kind":"sync","name":"Me"}`)
	history := awaitThat(c, func(h *events.HistorySync) bool {
		return h.Data.GetSyncType() == waHistorySync.HistorySync_INITIAL_BOOTSTRAP
	}).Data
	if len(history.GetConversations()) != 1 || len(history.GetConversations()[0].GetMessages()) != 2 || len(history.GetNctSalt()) != 32 ||
		len(history.GetPhoneNumberToLidMappings()) != 1 || len(history.GetConversations()[0].GetTcToken()) == 0 {
		t.Errorf("the history is %v", history)
	}
	if names := awaitThat(c, func(h *events.HistorySync) bool { return h.Data.GetSyncType() == waHistorySync.HistorySync_PUSH_NAME }).Data; len(names.GetPushnames()) != 1 {
		t.Errorf("the names are %v", names)
	}
	eventually(t, "the client has the contact", func() bool {
		contact, err := c.Store.Contacts.GetContact(t.Context(), friendJID())
		return err == nil && contact.FullName == "Ada Friend"
	})
	eventually(t, "the client has its name and the salt", func() bool {
		salt, err := c.Store.NCTSalt.GetNCTSalt(t.Context())
		return err == nil && len(salt) == 32 && c.Store.PushName == "Me"
	})
}

func TestAppState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sim := start(t, whatsapp.Config{DataDir: dir})
	a := openClient(t, sim, "", world, "a")
	a.pair(world, own)
	b := openClient(t, sim, "", world, "b")
	b.pair(world, own)
	for _, c := range []*client{a, b} {
		c.SetMediaHTTPClient(sim.HTTPClient(t, "", ""))
	}
	act(t, sim, own, `{"world":"`+world+`","kind":"sync"}`)
	for _, c := range []*client{a, b} {
		eventually(t, "it has the key", func() bool {
			id, err := c.Store.AppStateKeys.GetLatestAppStateSyncKeyID(t.Context())
			return err == nil && len(id) > 0
		})
	}
	// The phone changes something, twice the same, and both devices hear of it.
	act(t, sim, own, `{"world":"`+world+`","kind":"pin","to":"`+friend+`"}`)
	act(t, sim, own, `{"world":"`+world+`","kind":"pin","to":"`+friend+`","on":false}`)
	act(t, sim, own, `{"world":"`+world+`","kind":"mute","to":"`+friend+`","seconds":3600}`)
	act(t, sim, own, `{"world":"`+world+`","kind":"archive","to":"`+friend+`"}`)
	for _, c := range []*client{a, b} {
		eventually(t, "the device knows", func() bool {
			chat, err := c.Store.ChatSettings.GetChatSettings(t.Context(), lidOfFriend(c, sim))
			return err == nil && chat.Found && !chat.Pinned && chat.Archived && time.Until(chat.MutedUntil) > 50*time.Minute
		})
	}
	// A device does, and the other hears of it.
	lid := lidOfFriend(a, sim)
	eventually(t, "the change is taken", func() bool { return a.SendAppState(t.Context(), appstate.BuildMute(lid, false, 0)) == nil })
	if got := awaitThat(b, func(e *events.Mute) bool { return !e.Action.GetMuted() }); got.JID != lid {
		t.Errorf("unmuted: %+v", got)
	}
}
