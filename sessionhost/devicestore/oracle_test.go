package devicestore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	wa "go.mau.fi/whatsmeow/types"
	_ "modernc.org/sqlite"
)

// newOracle returns a paired device on whatsmeow's own store.
func newOracle(t *testing.T, device *store.Device) *store.Device {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "oracle.db")+"?_pragma=foreign_keys(1)&_pragma=synchronous(0)&_pragma=journal_mode(MEMORY)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	container := sqlstore.NewWithDB(db, "sqlite", nil)
	if err := container.Upgrade(t.Context()); err != nil {
		t.Fatal(err)
	}
	out := container.NewDevice()
	pairAs(out, device)
	if err := out.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out
}

// pairAs gives an unpaired device what pairing gives it, as another one has it.
func pairAs(device, like *store.Device) {
	device.ID, device.LID, device.Account = like.ID, like.LID, like.Account
	device.Platform, device.BusinessName, device.PushName = like.Platform, like.BusinessName, like.PushName
}

// pair gives an unpaired device a made-up identity.
func pair(device *store.Device, n int) {
	id := wa.JID{User: fmt.Sprintf("4917%07d", n), Device: 3, Server: wa.DefaultUserServer}
	device.ID = &id
	device.LID = wa.JID{User: fmt.Sprintf("8800%07d", n), Device: 3, Server: wa.HiddenUserServer}
	device.Account = &waAdv.ADVSignedDeviceIdentity{
		Details: bytes.Repeat([]byte{1}, 20), AccountSignatureKey: bytes.Repeat([]byte{2}, 32),
		AccountSignature: bytes.Repeat([]byte{3}, 64), DeviceSignature: bytes.Repeat([]byte{4}, 64),
	}
	device.Platform, device.BusinessName, device.PushName = "android", "A shop", "Someone"
}

// operation does one thing to a device and returns everything that can be seen
// of it. r gives both stores the same choices.
type operation struct {
	name string
	do   func(ctx context.Context, d *store.Device, r *rand.Rand) any
}

// seen is an operation's results. Errors count as one: their texts differ.
func seen(err error, values ...any) any {
	if err != nil {
		return "error"
	}
	return fmt.Sprintf("%#v", values)
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// junk is a value that no protobuf decoder takes for a session.
func junk(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return append([]byte{0xff, 0xff, 0xff}, b...)
}

func key32(r *rand.Rand) (k [32]byte) {
	k[0], k[31] = byte(r.IntN(3)), 1
	return k
}

var (
	oraclePhones  = []string{"491700001", "491700002", "4917000012"}
	oracleLIDs    = []string{"88001_1", "88002_1"}
	oracleDevices = []string{"0", "1", "17"}
)

func oracleAddress(r *rand.Rand) string {
	return pick(r, slices.Concat(oraclePhones, oracleLIDs)...) + ":" + pick(r, oracleDevices...)
}

func pnJID(user string) wa.JID  { return wa.JID{User: user, Server: wa.DefaultUserServer} }
func lidJID(user string) wa.JID { return wa.JID{User: user, Server: wa.HiddenUserServer} }

func oracleUser(r *rand.Rand) wa.JID {
	if r.IntN(2) == 0 {
		return pnJID(pick(r, oraclePhones...))
	}
	return lidJID(pick(r, "88001", "88002"))
}

func oracleHash(r *rand.Rand) (h [32]byte) {
	h[0] = byte(r.IntN(6))
	return h
}

// The clock of the whole run: version and time stamps that only grow, so that
// no two are equal.
type ticker struct {
	n        int64
	migrated [2]int
}

func (c *ticker) next() int64 { c.n++; return c.n }

func operations(clock *ticker, highest *uint32) []operation {
	group := func(r *rand.Rand) string { return pick(r, "g1@g.us", "g2@g.us") }
	name := func(r *rand.Rand) string { return pick(r, "critical", "regular") }
	mac := func(r *rand.Rand, first byte) []byte {
		b := make([]byte, 32)
		b[0], b[1] = first, byte(r.IntN(3))
		return b
	}
	base := time.Unix(1_800_000_000, 0)
	return []operation{
		{"PutIdentity", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.Identities.PutIdentity(ctx, oracleAddress(r), key32(r)))
		}},
		{"IsTrustedIdentity", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			ok, err := d.Identities.IsTrustedIdentity(ctx, oracleAddress(r), key32(r))
			return seen(err, ok)
		}},
		{"DeleteIdentity", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.Identities.DeleteIdentity(ctx, oracleAddress(r)))
		}},
		{"DeleteAllIdentities", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.Identities.DeleteAllIdentities(ctx, pick(r, oraclePhones...)))
		}},
		{"PutSession", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.Sessions.PutSession(ctx, oracleAddress(r), junk(r, 50+r.IntN(3000))))
		}},
		{"PutManySessions", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.Sessions.PutManySessions(ctx, map[string][]byte{
				oracleAddress(r): junk(r, 100), oracleAddress(r): junk(r, 9000),
			}))
		}},
		{"GetSession", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			a := oracleAddress(r)
			s, err := d.Sessions.GetSession(ctx, a)
			has, err2 := d.Sessions.HasSession(ctx, a)
			return seen(errors.Join(err, err2), s, has)
		}},
		{"GetManySessions", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			m, err := d.Sessions.GetManySessions(ctx, []string{oracleAddress(r), oracleAddress(r)})
			var all []any
			for _, k := range slices.Sorted(maps.Keys(m)) {
				all = append(all, k, m[k])
			}
			return seen(err, all)
		}},
		{"DeleteSession", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.Sessions.DeleteSession(ctx, oracleAddress(r)))
		}},
		{"DeleteAllSessions", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.Sessions.DeleteAllSessions(ctx, pick(r, oraclePhones...)))
		}},
		{"MigratePNToLID", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			i := r.IntN(40) // rarely: it happens once a number
			if i > 1 || clock.migrated[i] >= 2 {
				return nil // once on each store: ours forgets with a restart that it has
			}
			clock.migrated[i]++
			return seen(d.Sessions.MigratePNToLID(ctx, pnJID(oraclePhones[i]), lidJID([]string{"88001", "88002"}[i])))
		}},
		{"PutSenderKey", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.SenderKeys.PutSenderKey(ctx, group(r), oracleAddress(r), junk(r, 200)))
		}},
		{"GetSenderKey", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			k, err := d.SenderKeys.GetSenderKey(ctx, group(r), oracleAddress(r))
			return seen(err, k)
		}},
		{"GetOrGenPreKeys", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			keys, err := d.PreKeys.GetOrGenPreKeys(ctx, uint32(1+r.IntN(60)))
			var ids []uint32
			for _, k := range keys {
				ids = append(ids, k.KeyID)
				*highest = max(*highest, k.KeyID)
			}
			return seen(err, ids)
		}},
		{"GenOnePreKey", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			k, err := d.PreKeys.GenOnePreKey(ctx)
			if err == nil {
				*highest = max(*highest, k.KeyID)
				return seen(nil, k.KeyID)
			}
			return seen(err)
		}},
		{"GetPreKey", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			k, err := d.PreKeys.GetPreKey(ctx, uint32(r.IntN(int(*highest)+3)))
			if k == nil {
				return seen(err, nil)
			}
			return seen(err, k.KeyID)
		}},
		{"RemovePreKey", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			// Never the highest: sqlstore would give its id out again, this store
			// never does.
			if *highest < 2 {
				return nil
			}
			return seen(d.PreKeys.RemovePreKey(ctx, 1+uint32(r.IntN(int(*highest)-1))))
		}},
		{"MarkPreKeysAsUploaded", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.PreKeys.MarkPreKeysAsUploaded(ctx, uint32(r.IntN(int(*highest)+2))))
		}},
		{"UploadedPreKeyCount", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			n, err := d.PreKeys.UploadedPreKeyCount(ctx)
			return seen(err, n)
		}},
		{"PutAppStateSyncKey", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			ts := clock.next()
			if r.IntN(4) == 0 {
				ts -= 1_000_000 // older than what is there
			}
			return seen(d.AppStateKeys.PutAppStateSyncKey(ctx, []byte{byte(r.IntN(5))}, store.AppStateSyncKey{
				Data: junk(r, 32), Fingerprint: junk(r, 8), Timestamp: ts,
			}))
		}},
		{"GetAppStateSyncKey", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			k, err := d.AppStateKeys.GetAppStateSyncKey(ctx, []byte{byte(r.IntN(6))})
			if k == nil {
				return seen(err, nil)
			}
			return seen(err, *k)
		}},
		{"GetLatestAppStateSyncKeyID", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			id, err := d.AppStateKeys.GetLatestAppStateSyncKeyID(ctx)
			return seen(err, id)
		}},
		{"GetAllAppStateSyncKeys", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			keys, err := d.AppStateKeys.GetAllAppStateSyncKeys(ctx)
			var all []any
			for _, k := range keys {
				all = append(all, *k)
			}
			return seen(err, all)
		}},
		{"PutAppStateVersion", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			var hash [128]byte
			hash[0] = byte(r.IntN(256))
			return seen(d.AppState.PutAppStateVersion(ctx, name(r), uint64(clock.next()), hash))
		}},
		{"GetAppStateVersion", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			v, hash, err := d.AppState.GetAppStateVersion(ctx, name(r))
			return seen(err, v, hash)
		}},
		{"DeleteAppStateVersion", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.AppState.DeleteAppStateVersion(ctx, name(r)))
		}},
		{"PutAppStateMutationMACs", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			n, version := name(r), uint64(clock.next())
			if v, _, err := d.AppState.GetAppStateVersion(ctx, n); v == 0 {
				return seen(err, "no version") // sqlstore refuses MACs without one
			}
			var macs []store.AppStateMutationMAC
			for first := range byte(r.IntN(5)) {
				macs = append(macs, store.AppStateMutationMAC{IndexMAC: mac(r, first), ValueMAC: mac(r, byte(r.IntN(200)))})
			}
			return seen(d.AppState.PutAppStateMutationMACs(ctx, n, version, macs))
		}},
		{"DeleteAppStateMutationMACs", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.AppState.DeleteAppStateMutationMACs(ctx, name(r), [][]byte{mac(r, byte(r.IntN(4))), mac(r, byte(r.IntN(4)))}))
		}},
		{"GetAppStateMutationMAC", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			v, err := d.AppState.GetAppStateMutationMAC(ctx, name(r), mac(r, byte(r.IntN(4))))
			return seen(err, v)
		}},
		{"PutPushName", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			changed, old, err := d.Contacts.PutPushName(ctx, oracleUser(r), pick(r, "", "Ann", "Bob"))
			return seen(err, changed, old)
		}},
		{"PutBusinessName", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			changed, old, err := d.Contacts.PutBusinessName(ctx, oracleUser(r), pick(r, "", "Shop", "Bar"))
			return seen(err, changed, old)
		}},
		{"PutContactName", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.Contacts.PutContactName(ctx, oracleUser(r), pick(r, "", "A", "B"), pick(r, "", "A B", "B C")))
		}},
		{"PutAllContactNames", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.Contacts.PutAllContactNames(ctx, []store.ContactEntry{
				{JID: oracleUser(r), FirstName: "X", FullName: "X Y"}, {JID: oracleUser(r), FirstName: "Z", FullName: pick(r, "Z", "ZZ")},
			}))
		}},
		{"PutManyRedactedPhones", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.Contacts.PutManyRedactedPhones(ctx, []store.RedactedPhoneEntry{{JID: oracleUser(r), RedactedPhone: pick(r, "+49…1", "+49…2")}}))
		}},
		{"GetContact", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			c, err := d.Contacts.GetContact(ctx, oracleUser(r))
			return seen(err, c)
		}},
		{"GetAllContacts", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			m, err := d.Contacts.GetAllContacts(ctx)
			all := make(map[string]wa.ContactInfo)
			for jid, c := range m {
				all[jid.String()] = c
			}
			return seen(err, fmt.Sprint(all))
		}},
		{"PutMutedUntil", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.ChatSettings.PutMutedUntil(ctx, oracleUser(r), pick(r, time.Time{}, store.MutedForever, base)))
		}},
		{"PutPinned", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.ChatSettings.PutPinned(ctx, oracleUser(r), r.IntN(2) == 0))
		}},
		{"PutArchived", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.ChatSettings.PutArchived(ctx, oracleUser(r), r.IntN(2) == 0))
		}},
		{"GetChatSettings", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			s, err := d.ChatSettings.GetChatSettings(ctx, oracleUser(r))
			return seen(err, s.Found, s.Pinned, s.Archived, s.MutedUntil.Unix())
		}},
		{"PutMessageSecret", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			// One secret a message: between two, this store may keep the later one.
			chat, id := oracleUser(r), pick(r, "M1", "M2", "M3")
			return seen(d.MsgSecrets.PutMessageSecret(ctx, chat, chat, id, []byte(chat.String()+id)))
		}},
		{"PutMessageSecrets", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			chat := lidJID("88009")
			return seen(d.MsgSecrets.PutMessageSecrets(ctx, []store.MessageSecretInsert{
				{Chat: chat, Sender: chat, ID: "N1", Secret: []byte("1")}, {Chat: chat, Sender: chat, ID: "N2", Secret: []byte("2")},
			}))
		}},
		{"GetMessageSecret", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			chat := oracleUser(r)
			s, from, err := d.MsgSecrets.GetMessageSecret(ctx, chat, chat, pick(r, "M1", "N1"))
			return seen(err, len(s) > 0, from.IsEmpty())
		}},
		{"PutPrivacyTokens", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			tok := store.PrivacyToken{User: oracleUser(r), Token: junk(r, 4), Timestamp: base.Add(time.Duration(clock.next()) * time.Second)}
			if r.IntN(3) == 0 {
				tok.Timestamp = tok.Timestamp.Add(-time.Hour)
			}
			if r.IntN(2) == 0 {
				tok.SenderTimestamp = base.Add(time.Duration(r.IntN(9)) * time.Minute)
			}
			return seen(d.PrivacyTokens.PutPrivacyTokens(ctx, tok))
		}},
		{"GetPrivacyToken", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			tok, err := d.PrivacyTokens.GetPrivacyToken(ctx, oracleUser(r))
			if tok == nil {
				return seen(err, nil)
			}
			return seen(err, tok.User, tok.Token, tok.Timestamp.Unix(), tok.SenderTimestamp.IsZero(), tok.SenderTimestamp.Unix())
		}},
		{"DeleteExpiredPrivacyTokens", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			n, err := d.PrivacyTokens.DeleteExpiredPrivacyTokens(ctx, base.Add(time.Duration(clock.n-int64(r.IntN(3000)))*time.Second))
			return seen(err, n)
		}},
		{"PutNCTSalt", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.NCTSalt.PutNCTSalt(ctx, junk(r, 16)))
		}},
		{"GetNCTSalt", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			s, err := d.NCTSalt.GetNCTSalt(ctx)
			return seen(err, s)
		}},
		{"DeleteNCTSalt", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.NCTSalt.DeleteNCTSalt(ctx))
		}},
		{"PutBufferedEvent", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			// A message that was handled can be buffered again here once it is
			// forgotten; whatsmeow asks first, and so does this.
			hash := oracleHash(r)
			plaintext, at := junk(r, r.IntN(2000)), base.Add(time.Duration(r.IntN(100))*time.Second)
			if known, err := d.EventBuffer.GetBufferedEvent(ctx, hash); known != nil || err != nil {
				return seen(err, "known")
			}
			return seen(d.EventBuffer.PutBufferedEvent(ctx, hash, plaintext, at))
		}},
		{"GetBufferedEvent", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			e, err := d.EventBuffer.GetBufferedEvent(ctx, oracleHash(r))
			if e == nil {
				return seen(err, nil)
			}
			if e.Plaintext == nil {
				return seen(err, "done") // this store keeps no times of those
			}
			return seen(err, e.Plaintext, e.ServerTime.Unix())
		}},
		{"ClearBufferedEventPlaintext", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.EventBuffer.ClearBufferedEventPlaintext(ctx, oracleHash(r)))
		}},
		{"DeleteOldBufferedHashes", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.EventBuffer.DeleteOldBufferedHashes(ctx))
		}},
		{"DoDecryptionTxn", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			a, hash, refuse := oracleAddress(r), oracleHash(r), r.IntN(3) == 0
			session, identity, id := junk(r, 300), key32(r), uint32(r.IntN(int(*highest)+1))
			known, err := d.EventBuffer.GetBufferedEvent(ctx, hash)
			if known != nil || err != nil {
				return seen(err, "known")
			}
			var inside any
			err = d.EventBuffer.DoDecryptionTxn(ctx, func(ctx context.Context) error {
				before, err := d.Sessions.GetSession(ctx, a)
				if err != nil {
					return err
				}
				steps := []error{
					d.Sessions.PutSession(ctx, a, session),
					d.Identities.DeleteIdentity(ctx, a),
					d.Identities.PutIdentity(ctx, a, identity),
				}
				if id != *highest {
					steps = append(steps, d.PreKeys.RemovePreKey(ctx, id))
				}
				after, err := d.Sessions.GetSession(ctx, a)
				trusted, err2 := d.Identities.IsTrustedIdentity(ctx, a, identity)
				inside = seen(errors.Join(append(steps, err, err2)...), before, after, trusted)
				if refuse {
					return errors.New("undecryptable")
				}
				return d.EventBuffer.PutBufferedEvent(ctx, hash, []byte("text"), base)
			})
			return fmt.Sprint(inside, seen(err))
		}},
		{"AddOutgoingEvent", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			chat := oracleUser(r)
			return seen(d.EventBuffer.AddOutgoingEvent(ctx, chat, pick(r, "O1", "O2")+chat.User, "wa", junk(r, pick(r, 10, 50_000))))
		}},
		{"GetOutgoingEvent", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			chat := oracleUser(r)
			format, b, err := d.EventBuffer.GetOutgoingEvent(ctx, chat, wa.EmptyJID, pick(r, "O1", "O2")+chat.User)
			return seen(err, format, b)
		}},
		{"DeleteOldOutgoingEvents", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.EventBuffer.DeleteOldOutgoingEvents(ctx))
		}},
		{"PutLIDMapping", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			return seen(d.LIDs.PutLIDMapping(ctx, lidJID(pick(r, "88001", "88002", "88003")), pnJID(pick(r, oraclePhones...))))
		}},
		{"PutManyLIDMappings", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			lids, pns := []string{"88001", "88002", "88003"}, slices.Clone(oraclePhones)
			r.Shuffle(3, func(i, j int) { pns[i], pns[j] = pns[j], pns[i] })
			return seen(d.LIDs.PutManyLIDMappings(ctx, []store.LIDMapping{
				{LID: lidJID(lids[0]), PN: pnJID(pns[0])}, {LID: pnJID("1"), PN: pnJID("2")},
				{LID: lidJID(lids[1]), PN: pnJID(pns[1])}, {LID: lidJID(lids[2]), PN: pnJID(pns[2])},
			}))
		}},
		{"GetPNForLID", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			jid := lidJID(pick(r, "88001", "88002", "88003"))
			jid.Device = 4
			pn, err := d.LIDs.GetPNForLID(ctx, jid)
			return seen(err, pn)
		}},
		{"GetLIDForPN", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			jid := pnJID(pick(r, oraclePhones...))
			jid.Device = 5
			lid, err := d.LIDs.GetLIDForPN(ctx, jid)
			_, bad := d.LIDs.GetLIDForPN(ctx, lidJID("1"))
			return seen(err, lid, bad != nil)
		}},
		{"GetManyLIDsForPNs", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			m, err := d.LIDs.GetManyLIDsForPNs(ctx, []wa.JID{pnJID(oraclePhones[0]), {User: oraclePhones[1], Device: 9, Server: wa.DefaultUserServer}, lidJID("88001")})
			return seen(err, fmt.Sprint(m))
		}},
		{"Save", func(ctx context.Context, d *store.Device, r *rand.Rand) any {
			d.PushName = pick(r, "Me", "Myself")
			return seen(d.Save(ctx))
		}},
	}
}
