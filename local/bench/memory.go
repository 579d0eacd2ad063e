package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// memory is everything that the library stores for one device, in memory and
// small: what no store could do without. It is the floor that the product's own
// store is measured against.
type memory struct {
	mu sync.Mutex

	identities map[string][32]byte
	sessions   map[string][]byte
	senderKeys map[[2]string][]byte

	preKeys  []preKey // by rising id
	nextKey  uint32
	uploaded uint32 // keys up to this one are at the server

	syncKeys map[string]store.AppStateSyncKey
	versions map[string]version
	macs     map[[2]string][]byte

	contacts map[types.JID]types.ContactInfo
	chats    map[types.JID]types.LocalChatSettings
	secrets  map[secretName]secret
	tokens   map[types.JID]store.PrivacyToken
	salt     []byte
	lids     map[types.JID]types.JID // both ways

	inbound  map[[32]byte]*store.BufferedEvent
	outgoing map[outgoingName]outgoing
}

var _ store.AllStores = (*memory)(nil)

type preKey struct {
	id   uint32
	priv [32]byte
}

func (k preKey) whole() *keys.PreKey {
	return &keys.PreKey{KeyPair: *keys.NewKeyPairFromPrivateKey(k.priv), KeyID: k.id}
}

type version struct {
	number uint64
	hash   [128]byte
}

type secretName struct {
	chat, sender types.JID
	id           types.MessageID
}

type secret struct {
	key    []byte
	sender types.JID
}

type outgoingName struct {
	chat types.JID
	id   types.MessageID
}

type outgoing struct {
	format string
	plain  []byte
	at     time.Time
}

// newDevice is an unpaired device with a store of its own.
func newDevice() *store.Device {
	var random [36]byte
	rand.Read(random[:])
	d := &store.Device{
		Log: waLog.Noop, Container: container{},
		NoiseKey: keys.NewKeyPair(), IdentityKey: keys.NewKeyPair(),
		AdvSecretKey: slices.Clone(random[:32]), RegistrationID: binary.BigEndian.Uint32(random[32:]),
	}
	d.SignedPreKey = d.IdentityKey.CreateSignedPreKey(1)
	return d
}

// container attaches the store when the device is paired, as the library wants it.
type container struct{}

func (container) PutDevice(_ context.Context, d *store.Device) error {
	if !d.Initialized {
		m := &memory{}
		d.SetAllStores(m)
		d.LIDs, d.Initialized = m, true
	}
	return nil
}

func (container) DeleteDevice(context.Context, *store.Device) error { return nil }

// put writes into a map that may not be there yet: most stay empty.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[k] = v
}

func (m *memory) PutIdentity(_ context.Context, address string, key [32]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	put(&m.identities, address, key)
	return nil
}

func (m *memory) DeleteAllIdentities(_ context.Context, phone string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	deleteOf(m.identities, phone)
	return nil
}

// deleteOf deletes a user's addresses, which are user:device.
func deleteOf[V any](all map[string]V, user string) {
	for address := range all {
		if strings.HasPrefix(address, user+":") {
			delete(all, address)
		}
	}
}

func (m *memory) DeleteIdentity(_ context.Context, address string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.identities, address)
	return nil
}

func (m *memory) IsTrustedIdentity(_ context.Context, address string, key [32]byte) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.identities[address]
	return !ok || known == key, nil
}

func (m *memory) GetSession(_ context.Context, address string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[address], nil
}

func (m *memory) HasSession(_ context.Context, address string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.sessions[address]
	return ok, nil
}

func (m *memory) GetManySessions(_ context.Context, addresses []string) (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string][]byte, len(addresses))
	for _, a := range addresses {
		out[a] = m.sessions[a]
	}
	return out, nil
}

func (m *memory) PutSession(_ context.Context, address string, session []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	put(&m.sessions, address, session)
	return nil
}

func (m *memory) PutManySessions(_ context.Context, sessions map[string][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for a, s := range sessions {
		put(&m.sessions, a, s)
	}
	return nil
}

func (m *memory) DeleteAllSessions(_ context.Context, phone string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	deleteOf(m.sessions, phone)
	return nil
}

func (m *memory) DeleteSession(_ context.Context, address string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, address)
	return nil
}

func (m *memory) MigratePNToLID(_ context.Context, pn, lid types.JID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to := pn.SignalAddressUser(), lid.SignalAddressUser()
	move(m.sessions, from, to)
	move(m.identities, from, to)
	for name, key := range m.senderKeys {
		if device, ok := strings.CutPrefix(name[1], from+":"); ok {
			m.senderKeys[[2]string{name[0], to + ":" + device}] = key
			delete(m.senderKeys, name)
		}
	}
	return nil
}

func move[V any](all map[string]V, from, to string) {
	for address, v := range all {
		if device, ok := strings.CutPrefix(address, from+":"); ok {
			all[to+":"+device] = v
			delete(all, address)
		}
	}
}

// generate makes a key with the next number. The caller holds mu.
func (m *memory) generate() *keys.PreKey {
	m.nextKey++
	k := keys.NewPreKey(m.nextKey)
	m.preKeys = append(m.preKeys, preKey{k.KeyID, *k.Priv})
	return k
}

func (m *memory) GetOrGenPreKeys(_ context.Context, count uint32) ([]*keys.PreKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*keys.PreKey, 0, count)
	for _, k := range m.preKeys {
		if k.id > m.uploaded && len(out) < int(count) {
			out = append(out, k.whole())
		}
	}
	m.preKeys = slices.Grow(m.preKeys, int(count)-len(out))
	for len(out) < int(count) {
		out = append(out, m.generate())
	}
	return out, nil
}

func (m *memory) GenOnePreKey(context.Context) (*keys.PreKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.generate()
	m.uploaded = k.KeyID
	return k, nil
}

func (m *memory) find(id uint32) (int, bool) {
	return slices.BinarySearchFunc(m.preKeys, id, func(k preKey, id uint32) int { return int(k.id) - int(id) })
}

func (m *memory) GetPreKey(_ context.Context, id uint32) (*keys.PreKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.find(id); ok {
		return m.preKeys[at].whole(), nil
	}
	return nil, nil
}

func (m *memory) RemovePreKey(_ context.Context, id uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.find(id); ok {
		m.preKeys = slices.Delete(m.preKeys, at, at+1)
	}
	return nil
}

func (m *memory) MarkPreKeysAsUploaded(_ context.Context, upTo uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.uploaded = max(m.uploaded, upTo)
	return nil
}

func (m *memory) UploadedPreKeyCount(context.Context) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, k := range m.preKeys {
		if k.id <= m.uploaded {
			n++
		}
	}
	return n, nil
}

func (m *memory) PutSenderKey(_ context.Context, group, user string, key []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	put(&m.senderKeys, [2]string{group, user}, key)
	return nil
}

func (m *memory) GetSenderKey(_ context.Context, group, user string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.senderKeys[[2]string{group, user}], nil
}

func (m *memory) PutAppStateSyncKey(_ context.Context, id []byte, key store.AppStateSyncKey) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.syncKeys[string(id)]; !ok || key.Timestamp > old.Timestamp {
		put(&m.syncKeys, string(id), key)
	}
	return nil
}

func (m *memory) GetAppStateSyncKey(_ context.Context, id []byte) (*store.AppStateSyncKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := m.syncKeys[string(id)]; ok {
		return &k, nil
	}
	return nil, nil
}

func (m *memory) GetLatestAppStateSyncKeyID(context.Context) (latest []byte, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var at int64
	for id, k := range m.syncKeys {
		if latest == nil || k.Timestamp > at {
			latest, at = []byte(id), k.Timestamp
		}
	}
	return latest, nil
}

func (m *memory) GetAllAppStateSyncKeys(context.Context) (all []*store.AppStateSyncKey, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.syncKeys {
		all = append(all, &k)
	}
	return all, nil
}

func (m *memory) PutAppStateVersion(_ context.Context, name string, number uint64, hash [128]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	put(&m.versions, name, version{number, hash})
	return nil
}

func (m *memory) GetAppStateVersion(_ context.Context, name string) (uint64, [128]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.versions[name]
	return v.number, v.hash, nil
}

func (m *memory) DeleteAppStateVersion(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.versions, name)
	for mac := range m.macs {
		if mac[0] == name {
			delete(m.macs, mac)
		}
	}
	return nil
}

func (m *memory) PutAppStateMutationMACs(_ context.Context, name string, _ uint64, mutations []store.AppStateMutationMAC) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range mutations {
		put(&m.macs, [2]string{name, string(one.IndexMAC)}, one.ValueMAC)
	}
	return nil
}

func (m *memory) DeleteAppStateMutationMACs(_ context.Context, name string, indexMACs [][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mac := range indexMACs {
		delete(m.macs, [2]string{name, string(mac)})
	}
	return nil
}

func (m *memory) GetAppStateMutationMAC(_ context.Context, name string, indexMAC []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.macs[[2]string{name, string(indexMAC)}], nil
}

// contact changes what is known of a user.
func (m *memory) contact(user types.JID, change func(*types.ContactInfo)) {
	user = user.ToNonAD()
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.contacts[user]
	change(&c)
	c.Found = true
	put(&m.contacts, user, c)
}

func (m *memory) PutPushName(_ context.Context, user types.JID, name string) (changed bool, before string, err error) {
	m.contact(user, func(c *types.ContactInfo) {
		changed, before = c.PushName != name, c.PushName
		c.PushName = name
	})
	return changed, before, nil
}

func (m *memory) PutBusinessName(_ context.Context, user types.JID, name string) (changed bool, before string, err error) {
	m.contact(user, func(c *types.ContactInfo) {
		changed, before = c.BusinessName != name, c.BusinessName
		c.BusinessName = name
	})
	return changed, before, nil
}

func (m *memory) PutContactName(_ context.Context, user types.JID, full, first string) error {
	m.contact(user, func(c *types.ContactInfo) { c.FullName, c.FirstName = full, first })
	return nil
}

func (m *memory) PutAllContactNames(ctx context.Context, contacts []store.ContactEntry) error {
	for _, c := range contacts {
		_ = m.PutContactName(ctx, c.JID, c.FullName, c.FirstName)
	}
	return nil
}

func (m *memory) PutManyRedactedPhones(_ context.Context, entries []store.RedactedPhoneEntry) error {
	for _, e := range entries {
		m.contact(e.JID, func(c *types.ContactInfo) { c.RedactedPhone = e.RedactedPhone })
	}
	return nil
}

func (m *memory) GetContact(_ context.Context, user types.JID) (types.ContactInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.contacts[user.ToNonAD()], nil
}

func (m *memory) GetAllContacts(context.Context) (map[types.JID]types.ContactInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[types.JID]types.ContactInfo, len(m.contacts))
	for user, c := range m.contacts {
		out[user] = c
	}
	return out, nil
}

// chat changes the settings of a chat.
func (m *memory) chat(chat types.JID, change func(*types.LocalChatSettings)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.chats[chat]
	change(&c)
	c.Found = true
	put(&m.chats, chat, c)
	return nil
}

func (m *memory) PutMutedUntil(_ context.Context, chat types.JID, until time.Time) error {
	return m.chat(chat, func(c *types.LocalChatSettings) { c.MutedUntil = until })
}

func (m *memory) PutPinned(_ context.Context, chat types.JID, pinned bool) error {
	return m.chat(chat, func(c *types.LocalChatSettings) { c.Pinned = pinned })
}

func (m *memory) PutArchived(_ context.Context, chat types.JID, archived bool) error {
	return m.chat(chat, func(c *types.LocalChatSettings) { c.Archived = archived })
}

func (m *memory) GetChatSettings(_ context.Context, chat types.JID) (types.LocalChatSettings, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.chats[chat], nil
}

func (m *memory) PutMessageSecrets(ctx context.Context, inserts []store.MessageSecretInsert) error {
	for _, s := range inserts {
		_ = m.PutMessageSecret(ctx, s.Chat, s.Sender, s.ID, s.Secret)
	}
	return nil
}

func (m *memory) PutMessageSecret(_ context.Context, chat, sender types.JID, id types.MessageID, key []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := secretName{chat.ToNonAD(), sender.ToNonAD(), id}
	if _, ok := m.secrets[name]; !ok {
		put(&m.secrets, name, secret{key, sender})
	}
	return nil
}

func (m *memory) GetMessageSecret(_ context.Context, chat, sender types.JID, id types.MessageID) ([]byte, types.JID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range []types.JID{chat.ToNonAD(), m.lids[chat.ToNonAD()]} {
		for _, s := range []types.JID{sender.ToNonAD(), m.lids[sender.ToNonAD()]} {
			if found, ok := m.secrets[secretName{c, s, id}]; ok {
				return found.key, found.sender, nil
			}
		}
	}
	return nil, types.EmptyJID, nil
}

func (m *memory) PutPrivacyTokens(_ context.Context, tokens ...store.PrivacyToken) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range tokens {
		t.User = t.User.ToNonAD()
		put(&m.tokens, t.User, t)
	}
	return nil
}

func (m *memory) GetPrivacyToken(_ context.Context, user types.JID) (*store.PrivacyToken, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range []types.JID{user.ToNonAD(), m.lids[user.ToNonAD()]} {
		if t, ok := m.tokens[u]; ok {
			return &t, nil
		}
	}
	return nil, nil
}

func (m *memory) DeleteExpiredPrivacyTokens(_ context.Context, cutoff time.Time) (n int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for user, t := range m.tokens {
		if t.Timestamp.Before(cutoff) {
			delete(m.tokens, user)
			n++
		}
	}
	return n, nil
}

func (m *memory) PutNCTSalt(_ context.Context, salt []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.salt = salt
	return nil
}

func (m *memory) GetNCTSalt(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.salt, nil
}

func (m *memory) DeleteNCTSalt(ctx context.Context) error { return m.PutNCTSalt(ctx, nil) }

func (m *memory) GetBufferedEvent(_ context.Context, hash [32]byte) (*store.BufferedEvent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inbound[hash], nil
}

func (m *memory) PutBufferedEvent(_ context.Context, hash [32]byte, plain []byte, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	put(&m.inbound, hash, &store.BufferedEvent{Plaintext: plain, InsertTime: time.Now(), ServerTime: at})
	return nil
}

// DoDecryptionTxn needs no transaction: nothing here can fail half way.
func (m *memory) DoDecryptionTxn(ctx context.Context, fn func(context.Context) error) error {
	return fn(ctx)
}

func (m *memory) ClearBufferedEventPlaintext(_ context.Context, hash [32]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.inbound[hash]; ok {
		m.inbound[hash] = &store.BufferedEvent{InsertTime: old.InsertTime, ServerTime: old.ServerTime}
	}
	return nil
}

// kept is how long the library wants hashes and sent messages to be kept.
const (
	keptInbound  = 14 * 24 * time.Hour
	keptOutgoing = 7 * 24 * time.Hour
)

func (m *memory) DeleteOldBufferedHashes(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for hash, e := range m.inbound {
		if time.Since(e.InsertTime) > keptInbound {
			delete(m.inbound, hash)
		}
	}
	return nil
}

func (m *memory) GetOutgoingEvent(_ context.Context, chat, alt types.JID, id types.MessageID) (string, []byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range []types.JID{chat, alt} {
		if e, ok := m.outgoing[outgoingName{c.ToNonAD(), id}]; ok {
			return e.format, e.plain, nil
		}
	}
	return "", nil, nil
}

func (m *memory) AddOutgoingEvent(_ context.Context, chat types.JID, id types.MessageID, format string, plain []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	put(&m.outgoing, outgoingName{chat.ToNonAD(), id}, outgoing{format, plain, time.Now()})
	return nil
}

func (m *memory) DeleteOldOutgoingEvents(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, e := range m.outgoing {
		if time.Since(e.at) > keptOutgoing {
			delete(m.outgoing, name)
		}
	}
	return nil
}

func (m *memory) PutManyLIDMappings(ctx context.Context, mappings []store.LIDMapping) error {
	for _, one := range mappings {
		_ = m.PutLIDMapping(ctx, one.LID, one.PN)
	}
	return nil
}

func (m *memory) PutLIDMapping(_ context.Context, lid, pn types.JID) error {
	lid, pn = lid.ToNonAD(), pn.ToNonAD()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lids[lid] != pn || m.lids[pn] != lid {
		put(&m.lids, lid, pn)
		put(&m.lids, pn, lid)
	}
	return nil
}

// other is the same device under the user's other name.
func (m *memory) other(jid types.JID) types.JID {
	m.mu.Lock()
	defer m.mu.Unlock()
	found, ok := m.lids[jid.ToNonAD()]
	if !ok {
		return types.EmptyJID
	}
	found.Device = jid.Device
	return found
}

func (m *memory) GetPNForLID(_ context.Context, lid types.JID) (types.JID, error) {
	return m.other(lid), nil
}

func (m *memory) GetLIDForPN(_ context.Context, pn types.JID) (types.JID, error) {
	return m.other(pn), nil
}

func (m *memory) GetManyLIDsForPNs(_ context.Context, pns []types.JID) (map[types.JID]types.JID, error) {
	out := make(map[types.JID]types.JID, len(pns))
	for _, pn := range pns {
		if lid := m.other(pn); !lid.IsEmpty() {
			out[pn] = lid
		}
	}
	return out, nil
}
