package devicestore

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/store"
	wa "go.mau.fi/whatsmeow/types"
)

// method is one method of a store interface, called so that it has to ask the
// table.
type method struct {
	name string
	do   func(ctx context.Context, h *host, d *store.Device) error
}

var (
	ann = wa.JID{User: "491700001", Server: wa.DefaultUserServer}
	// Long, so that no number that is printed beside it holds it by chance.
	annL = wa.JID{User: "120363880017742", Server: wa.HiddenUserServer}
	bob  = wa.JID{User: "491700002", Server: wa.DefaultUserServer}
	bobL = wa.JID{User: "88002", Server: wa.HiddenUserServer}
)

const annAddress, bobAddress = "491700001:0", "491700002:0"

// fill gives a device something of everything.
func fill(t *testing.T, h *host, d *store.Device) {
	t.Helper()
	index := make([]byte, 32)
	err := h.link.atomically(t.Context(), func(ctx context.Context, _ *txn) error { // one write: this is done often
		_, err := d.PreKeys.GetOrGenPreKeys(ctx, 60)
		return errors.Join(err,
			d.PreKeys.MarkPreKeysAsUploaded(ctx, 40),
			d.Identities.PutIdentity(ctx, annAddress, [32]byte{1}),
			d.Sessions.PutSession(ctx, annAddress, []byte("session of ann, no JSON")),
			d.SenderKeys.PutSenderKey(ctx, "g@g.us", annAddress, []byte("sender key")),
			d.AppStateKeys.PutAppStateSyncKey(ctx, []byte("id"), store.AppStateSyncKey{Data: []byte("data"), Timestamp: 5}),
			d.AppState.PutAppStateVersion(ctx, "regular", 3, [128]byte{1}),
			d.AppState.PutAppStateMutationMACs(ctx, "regular", 3, []store.AppStateMutationMAC{{IndexMAC: index, ValueMAC: index}}),
			d.Contacts.PutContactName(ctx, ann, "Ann", "Ann A"),
			d.ChatSettings.PutPinned(ctx, ann, true),
			d.MsgSecrets.PutMessageSecret(ctx, ann, ann, "M1", []byte("message secret")),
			d.PrivacyTokens.PutPrivacyTokens(ctx, store.PrivacyToken{User: ann, Token: []byte("token"), Timestamp: time.Unix(1000, 0)}),
			d.NCTSalt.PutNCTSalt(ctx, []byte("salt")),
			d.LIDs.PutLIDMapping(ctx, annL, ann),
			d.EventBuffer.AddOutgoingEvent(ctx, ann, "O1", "wa", []byte("an outgoing text")),
			d.EventBuffer.PutBufferedEvent(ctx, [32]byte{9}, []byte("an unhandled text"), time.Unix(2000, 0)))
	})
	err = errors.Join(err, d.EventBuffer.PutBufferedEvent(t.Context(), [32]byte{8}, junk1k, time.Unix(2000, 0)))
	if err != nil {
		t.Fatal(err)
	}
}

// junk1k doesn't compress and doesn't fit the device row.
var junk1k = func() []byte {
	b := make([]byte, 1024)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}()

// staged runs a method whose write is staged, and writes it.
func flushed(f func(ctx context.Context, d *store.Device) error) func(context.Context, *host, *store.Device) error {
	return func(ctx context.Context, h *host, d *store.Device) error {
		if err := f(ctx, d); err != nil {
			return err
		}
		return h.link.flush(ctx)
	}
}

func plain(f func(ctx context.Context, d *store.Device) error) func(context.Context, *host, *store.Device) error {
	return func(ctx context.Context, _ *host, d *store.Device) error { return f(ctx, d) }
}

// writers are all methods that write, on a device that fill has filled.
var writers = []method{
	{"PutIdentity", plain(func(ctx context.Context, d *store.Device) error {
		return d.Identities.PutIdentity(ctx, annAddress, [32]byte{2})
	})},
	{"PutIdentity of a new user", plain(func(ctx context.Context, d *store.Device) error {
		return d.Identities.PutIdentity(ctx, bobAddress, [32]byte{2})
	})},
	{"DeleteIdentity", plain(func(ctx context.Context, d *store.Device) error { return d.Identities.DeleteIdentity(ctx, annAddress) })},
	{"DeleteAllIdentities", plain(func(ctx context.Context, d *store.Device) error {
		return d.Identities.DeleteAllIdentities(ctx, ann.User)
	})},
	{"PutSession", plain(func(ctx context.Context, d *store.Device) error {
		return d.Sessions.PutSession(ctx, annAddress, []byte("another session"))
	})},
	{"PutManySessions", plain(func(ctx context.Context, d *store.Device) error {
		return d.Sessions.PutManySessions(ctx, map[string][]byte{annAddress: []byte("a"), bobAddress: []byte("b")})
	})},
	{"DeleteSession", plain(func(ctx context.Context, d *store.Device) error { return d.Sessions.DeleteSession(ctx, annAddress) })},
	{"DeleteAllSessions", plain(func(ctx context.Context, d *store.Device) error { return d.Sessions.DeleteAllSessions(ctx, ann.User) })},
	{"MigratePNToLID", plain(func(ctx context.Context, d *store.Device) error { return d.Sessions.MigratePNToLID(ctx, ann, annL) })},
	{"GetOrGenPreKeys", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.PreKeys.GetOrGenPreKeys(ctx, 50)
		return err
	})},
	{"GenOnePreKey", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.PreKeys.GenOnePreKey(ctx)
		return err
	})},
	{"RemovePreKey", plain(func(ctx context.Context, d *store.Device) error { return d.PreKeys.RemovePreKey(ctx, 7) })},
	{"MarkPreKeysAsUploaded", plain(func(ctx context.Context, d *store.Device) error { return d.PreKeys.MarkPreKeysAsUploaded(ctx, 60) })},
	{"PutSenderKey", plain(func(ctx context.Context, d *store.Device) error {
		return d.SenderKeys.PutSenderKey(ctx, "g@g.us", annAddress, []byte("next"))
	})},
	{"PutAppStateSyncKey", plain(func(ctx context.Context, d *store.Device) error {
		return d.AppStateKeys.PutAppStateSyncKey(ctx, []byte("id"), store.AppStateSyncKey{Data: []byte("d2"), Timestamp: 9})
	})},
	{"PutAppStateVersion", plain(func(ctx context.Context, d *store.Device) error {
		return d.AppState.PutAppStateVersion(ctx, "regular", 4, [128]byte{2})
	})},
	{"DeleteAppStateVersion", plain(func(ctx context.Context, d *store.Device) error {
		return d.AppState.DeleteAppStateVersion(ctx, "regular")
	})},
	{"PutAppStateMutationMACs", plain(func(ctx context.Context, d *store.Device) error {
		mac := make([]byte, 32)
		mac[0] = 7
		return d.AppState.PutAppStateMutationMACs(ctx, "regular", 4, []store.AppStateMutationMAC{{IndexMAC: mac, ValueMAC: mac}})
	})},
	{"DeleteAppStateMutationMACs", plain(func(ctx context.Context, d *store.Device) error {
		return d.AppState.DeleteAppStateMutationMACs(ctx, "regular", [][]byte{make([]byte, 32)})
	})},
	{"PutPushName", flushed(func(ctx context.Context, d *store.Device) error {
		_, _, err := d.Contacts.PutPushName(ctx, ann, "Annie")
		return err
	})},
	{"PutBusinessName", flushed(func(ctx context.Context, d *store.Device) error {
		_, _, err := d.Contacts.PutBusinessName(ctx, bob, "Bob's")
		return err
	})},
	{"PutContactName", plain(func(ctx context.Context, d *store.Device) error {
		return d.Contacts.PutContactName(ctx, ann, "Anna", "Anna A")
	})},
	{"PutAllContactNames", plain(func(ctx context.Context, d *store.Device) error {
		return d.Contacts.PutAllContactNames(ctx, []store.ContactEntry{{JID: bob, FirstName: "Bob"}})
	})},
	{"PutManyRedactedPhones", plain(func(ctx context.Context, d *store.Device) error {
		return d.Contacts.PutManyRedactedPhones(ctx, []store.RedactedPhoneEntry{{JID: bobL, RedactedPhone: "+49…"}})
	})},
	{"PutMutedUntil", plain(func(ctx context.Context, d *store.Device) error {
		return d.ChatSettings.PutMutedUntil(ctx, ann, store.MutedForever)
	})},
	{"PutPinned", plain(func(ctx context.Context, d *store.Device) error { return d.ChatSettings.PutPinned(ctx, bob, true) })},
	{"PutArchived", plain(func(ctx context.Context, d *store.Device) error { return d.ChatSettings.PutArchived(ctx, ann, true) })},
	{"PutMessageSecret", flushed(func(ctx context.Context, d *store.Device) error {
		return d.MsgSecrets.PutMessageSecret(ctx, ann, ann, "M2", []byte("s"))
	})},
	{"PutMessageSecrets", flushed(func(ctx context.Context, d *store.Device) error {
		return d.MsgSecrets.PutMessageSecrets(ctx, []store.MessageSecretInsert{{Chat: bob, Sender: bob, ID: "M3", Secret: []byte("s")}})
	})},
	{"PutPrivacyTokens", plain(func(ctx context.Context, d *store.Device) error {
		return d.PrivacyTokens.PutPrivacyTokens(ctx, store.PrivacyToken{User: ann, Token: []byte("t2"), Timestamp: time.Unix(3000, 0)})
	})},
	{"DeleteExpiredPrivacyTokens", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.PrivacyTokens.DeleteExpiredPrivacyTokens(ctx, time.Unix(2000, 0))
		return err
	})},
	{"PutNCTSalt", plain(func(ctx context.Context, d *store.Device) error { return d.NCTSalt.PutNCTSalt(ctx, []byte("s2")) })},
	{"DeleteNCTSalt", plain(func(ctx context.Context, d *store.Device) error { return d.NCTSalt.DeleteNCTSalt(ctx) })},
	{"PutBufferedEvent", plain(func(ctx context.Context, d *store.Device) error {
		return d.EventBuffer.PutBufferedEvent(ctx, [32]byte{1}, []byte("text"), time.Unix(1, 0))
	})},
	{"DoDecryptionTxn", plain(func(ctx context.Context, d *store.Device) error {
		return d.EventBuffer.DoDecryptionTxn(ctx, func(ctx context.Context) error {
			return errors.Join(
				d.Sessions.PutSession(ctx, annAddress, []byte("stepped")),
				d.PreKeys.RemovePreKey(ctx, 3),
				d.EventBuffer.PutBufferedEvent(ctx, [32]byte{2}, []byte("text"), time.Unix(1, 0)))
		})
	})},
	{"ClearBufferedEventPlaintext", flushed(func(ctx context.Context, d *store.Device) error {
		return d.EventBuffer.ClearBufferedEventPlaintext(ctx, [32]byte{9})
	})},
	{"AddOutgoingEvent", flushed(func(ctx context.Context, d *store.Device) error {
		return d.EventBuffer.AddOutgoingEvent(ctx, ann, "O2", "wa", []byte("text"))
	})},
	{"AddOutgoingEvent, large", plain(func(ctx context.Context, d *store.Device) error {
		return d.EventBuffer.AddOutgoingEvent(ctx, ann, "O3", "wa", make([]byte, stagedBytes))
	})},
	{"PutLIDMapping", plain(func(ctx context.Context, d *store.Device) error { return d.LIDs.PutLIDMapping(ctx, bobL, bob) })},
	{"PutManyLIDMappings", plain(func(ctx context.Context, d *store.Device) error {
		return d.LIDs.PutManyLIDMappings(ctx, []store.LIDMapping{{LID: bobL, PN: ann}})
	})},
	{"PutDevice", plain(func(ctx context.Context, d *store.Device) error {
		d.PushName = "another name"
		return d.Save(ctx)
	})},
	{"DeleteDevice", plain(func(ctx context.Context, d *store.Device) error { return d.Container.DeleteDevice(ctx, d) })},
	{"Confirm", func(ctx context.Context, h *host, _ *store.Device) error { return h.Confirm(ctx) }},
	{"Handled", func(ctx context.Context, h *host, d *store.Device) error {
		if _, err := d.EventBuffer.GetBufferedEvent(ctx, [32]byte{9}); err != nil {
			return err
		}
		m, ok := h.Handling()
		if !ok {
			return errors.New("nothing is being handled")
		}
		return h.Handled(ctx, m, h.logOf(m, "an unhandled text"), unsent)
	}},
}

// readers are all methods that read the table, on a device just loaded.
var readers = []method{
	{"IsTrustedIdentity", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.Identities.IsTrustedIdentity(ctx, annAddress, [32]byte{1})
		return err
	})},
	{"GetSession", plain(func(ctx context.Context, d *store.Device) error {
		s, err := d.Sessions.GetSession(ctx, annAddress)
		if err == nil && s == nil {
			return errors.New("an empty session in place of an error")
		}
		return err
	})},
	{"HasSession", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.Sessions.HasSession(ctx, annAddress)
		return err
	})},
	{"GetManySessions", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.Sessions.GetManySessions(ctx, []string{annAddress, bobAddress})
		return err
	})},
	{"MigratePNToLID", plain(func(ctx context.Context, d *store.Device) error { return d.Sessions.MigratePNToLID(ctx, bob, bobL) })},
	{"GetPreKey", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.PreKeys.GetPreKey(ctx, 3)
		return err
	})},
	{"GetOrGenPreKeys", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.PreKeys.GetOrGenPreKeys(ctx, 5)
		return err
	})},
	{"GetSenderKey", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.SenderKeys.GetSenderKey(ctx, "g@g.us", annAddress)
		return err
	})},
	{"GetAppStateSyncKey", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.AppStateKeys.GetAppStateSyncKey(ctx, []byte("id"))
		return err
	})},
	{"GetLatestAppStateSyncKeyID", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.AppStateKeys.GetLatestAppStateSyncKeyID(ctx)
		return err
	})},
	{"GetAllAppStateSyncKeys", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.AppStateKeys.GetAllAppStateSyncKeys(ctx)
		return err
	})},
	{"GetAppStateVersion", plain(func(ctx context.Context, d *store.Device) error {
		_, _, err := d.AppState.GetAppStateVersion(ctx, "regular")
		return err
	})},
	{"GetAppStateMutationMAC", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.AppState.GetAppStateMutationMAC(ctx, "regular", make([]byte, 32))
		return err
	})},
	{"PutPushName", plain(func(ctx context.Context, d *store.Device) error {
		_, _, err := d.Contacts.PutPushName(ctx, ann, "Annie")
		return err
	})},
	{"GetContact", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.Contacts.GetContact(ctx, ann)
		return err
	})},
	{"GetAllContacts", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.Contacts.GetAllContacts(ctx)
		return err
	})},
	{"GetChatSettings", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.ChatSettings.GetChatSettings(ctx, ann)
		return err
	})},
	{"GetMessageSecret", plain(func(ctx context.Context, d *store.Device) error {
		_, _, err := d.MsgSecrets.GetMessageSecret(ctx, ann, ann, "M1")
		return err
	})},
	{"GetPrivacyToken", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.PrivacyTokens.GetPrivacyToken(ctx, ann)
		return err
	})},
	{"GetNCTSalt", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.NCTSalt.GetNCTSalt(ctx)
		return err
	})},
	{"GetOutgoingEvent", plain(func(ctx context.Context, d *store.Device) error {
		_, _, err := d.EventBuffer.GetOutgoingEvent(ctx, ann, annL, "O1")
		return err
	})},
	{"GetPNForLID", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.LIDs.GetPNForLID(ctx, annL)
		return err
	})},
	{"GetLIDForPN", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.LIDs.GetLIDForPN(ctx, ann)
		return err
	})},
	{"GetManyLIDsForPNs", plain(func(ctx context.Context, d *store.Device) error {
		_, err := d.LIDs.GetManyLIDsForPNs(ctx, []wa.JID{ann, bob})
		return err
	})},
}
