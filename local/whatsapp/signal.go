package whatsapp

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/serialize"
	signal "go.mau.fi/libsignal/session"
	"go.mau.fi/libsignal/signalerror"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/libsignal/util/optional"

	"go.mau.fi/whatsmeow/util/keys"
)

var serializer = serialize.NewProtoBufSerializer()

// phone is a phone at work: the holder of its lock, and libsignal's store for
// its sessions with linked devices. Keys are derived; sessions are read from
// the database and written back by commit, together with what was made of them.
type phone struct {
	s       *Server
	p       person
	account *keys.KeyPair
	changed map[deviceName][]byte
	read    map[deviceName][]byte // what is stored, as it was read

	senderKeys map[string][]byte      // of groups, that have changed
	sealed     map[string]groupSealed // messages of this moment, by id
}

const signedKeyID = 1

var phoneHash = maphash.MakeSeed()

// withPhone lets a phone work. Only one goroutine does so at a time.
func (s *Server) withPhone(p person, work func(*phone) error) (err error) {
	lock := &s.phones[maphash.String(phoneHash, p.label("phone"))%uint64(len(s.phones))]
	lock.Lock()
	defer lock.Unlock()
	defer func() {
		// libsignal trusts the shape of what it is given in some places.
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errUnreadable, r)
		}
	}()
	return work(&phone{
		s: s, p: p, account: s.identityKey(p),
		changed: map[deviceName][]byte{}, read: map[deviceName][]byte{}, senderKeys: map[string][]byte{}, sealed: map[string]groupSealed{},
	})
}

var errUnreadable = errors.New("a ciphertext cannot be read")

// commit makes changed sessions durable in the transaction given; see database.update.
func (p *phone) commit(tx *tx) error {
	bucket := tx.Bucket(bucketSessions)
	for name, session := range p.changed {
		if err := bucket.Put(name.key(p.p.number), session); err != nil {
			return err
		}
	}
	for key, record := range p.senderKeys {
		if err := tx.Bucket(bucketSenderKeys).Put([]byte(key), record); err != nil {
			return err
		}
	}
	return nil
}

func (p *phone) save() error { return p.s.db.update(p.commit) }

func addressOf(name deviceName) *protocol.SignalAddress {
	return protocol.NewSignalAddress(name.number, uint32(name.id))
}

func (p *phone) nameOf(address *protocol.SignalAddress) deviceName {
	return deviceName{person{p.p.world, address.Name()}, uint16(address.DeviceID())}
}

func (s *Server) signedKeyOf(p person, account *keys.KeyPair) *keys.PreKey {
	pair := s.seed.keyPair(p.label("signed key"))
	return &keys.PreKey{KeyPair: *pair, KeyID: signedKeyID, Signature: account.Sign(pair)}
}

// One-time keys of a phone are derived from their numbers, so that any number
// that was given out can be read back.
func (s *Server) oneTimeKeyOf(p person, id uint32) *keys.KeyPair {
	return s.seed.keyPair(p.label(fmt.Sprintf("one-time key %d", id)))
}

func registrationIDOf(s *Server, p person) uint32 {
	b := s.seed.bytes(p.label("registration id"))
	return binary.BigEndian.Uint32(b[:4])%16380 + 1
}

func signalPair(pair *keys.KeyPair) *ecc.ECKeyPair {
	return ecc.NewECKeyPair(ecc.NewDjbECPublicKey(*pair.Pub), ecc.NewDjbECPrivateKey(*pair.Priv))
}

// libsignal's store.SignalProtocol:

func (p *phone) GetIdentityKeyPair() *identity.KeyPair {
	return identity.NewKeyPair(identity.NewKey(ecc.NewDjbECPublicKey(*p.account.Pub)), ecc.NewDjbECPrivateKey(*p.account.Priv))
}

func (p *phone) GetLocalRegistrationID() uint32 { return registrationIDOf(p.s, p.p) }

func (p *phone) SaveIdentity(context.Context, *protocol.SignalAddress, *identity.Key) error {
	return nil // the server knows the identity of every device
}

func (p *phone) IsTrustedIdentity(_ context.Context, address *protocol.SignalAddress, key *identity.Key) (bool, error) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	d := p.s.devices[p.nameOf(address)]
	public := key.PublicKey().PublicKey()
	return d != nil && bytes.Equal(d.Identity, public[:]), nil
}

func (p *phone) LoadPreKey(_ context.Context, id uint32) (*record.PreKey, error) {
	return record.NewPreKey(id, signalPair(p.s.oneTimeKeyOf(p.p, id)), nil), nil
}

func (p *phone) StorePreKey(context.Context, uint32, *record.PreKey) error { return nil }
func (p *phone) ContainsPreKey(context.Context, uint32) (bool, error)      { return true, nil }
func (p *phone) RemovePreKey(context.Context, uint32) error                { return nil }

func (p *phone) LoadSignedPreKey(_ context.Context, id uint32) (*record.SignedPreKey, error) {
	if id != signedKeyID {
		return nil, nil
	}
	key := p.s.signedKeyOf(p.p, p.account)
	return record.NewSignedPreKey(id, 0, signalPair(&key.KeyPair), *key.Signature, nil), nil
}

func (p *phone) LoadSignedPreKeys(context.Context) ([]*record.SignedPreKey, error) { return nil, nil }
func (p *phone) StoreSignedPreKey(context.Context, uint32, *record.SignedPreKey) error {
	return nil
}
func (p *phone) ContainsSignedPreKey(_ context.Context, id uint32) (bool, error) {
	return id == signedKeyID, nil
}
func (p *phone) RemoveSignedPreKey(context.Context, uint32) error { return nil }

func (p *phone) stored(name deviceName) (data []byte, err error) {
	if changed, ok := p.changed[name]; ok {
		return changed, nil
	}
	if read, ok := p.read[name]; ok {
		return read, nil
	}
	known := p.s.sessions.peek(sessionName{p.p, name})
	err = p.s.db.view(func(tx *tx) error {
		if data = tx.Bucket(bucketSessions).Get(name.key(p.p.number)); bytes.Equal(data, known.stored) {
			data = known.stored
		} else {
			data = bytes.Clone(data)
		}
		return nil
	})
	if err == nil {
		p.read[name] = data
	}
	return data, err
}

func (p *phone) LoadSession(_ context.Context, address *protocol.SignalAddress) (*record.Session, error) {
	data, err := p.stored(p.nameOf(address))
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return record.NewSession(serializer.Session, serializer.State), nil
	}
	if known, ok := p.s.sessions.take(sessionName{p.p, p.nameOf(address)}); ok && bytes.Equal(known.stored, data) {
		return known.session, nil
	}
	return record.NewSessionFromBytes(data, serializer.Session, serializer.State)
}

func (p *phone) StoreSession(_ context.Context, address *protocol.SignalAddress, session *record.Session) error {
	data := session.Serialize()
	p.changed[p.nameOf(address)] = data
	if !session.IsFresh() && len(data) <= maxKnownSession { // one that is read from its bytes is never fresh
		p.s.sessions.put(sessionName{p.p, p.nameOf(address)}, knownSession{data, session})
	}
	return nil
}

// sessionName is a phone and the device that it has a session with.
type sessionName struct {
	at   person
	with deviceName
}

// knownSession is a session as it was when it was stored last. It is good for as long
// as the same is stored, and belongs to the phone that works.
type knownSession struct {
	stored  []byte
	session *record.Session
}

// maxKnownSession is the size of a session that is worth to be known: one with keys
// of many messages that have not come is larger, and rare.
const maxKnownSession = 8 << 10

func (p *phone) ContainsSession(_ context.Context, address *protocol.SignalAddress) (bool, error) {
	data, err := p.stored(p.nameOf(address))
	return len(data) > 0, err
}

func (p *phone) GetSubDeviceSessions(context.Context, string) ([]uint32, error) { return nil, nil }

func (p *phone) DeleteSession(_ context.Context, address *protocol.SignalAddress) error {
	p.changed[p.nameOf(address)] = nil
	return nil
}

func (p *phone) DeleteAllSessions(context.Context) error { return nil }

// encrypt returns an enc node for a linked device. Without a session, or with
// a bundle, it begins a session.
func (p *phone) encrypt(ctx context.Context, to deviceName, plaintext []byte, bundle *prekey.Bundle) (Node, error) {
	address := addressOf(to)
	builder := signal.NewBuilderFromSignal(p, address, serializer)
	if bundle == nil {
		exists, err := p.ContainsSession(ctx, address)
		if err != nil {
			return Node{}, err
		}
		if !exists {
			if bundle, err = p.s.takeBundle(to); err != nil {
				return Node{}, err
			}
		}
	}
	if bundle != nil {
		if err := builder.ProcessBundle(ctx, bundle); err != nil {
			return Node{}, fmt.Errorf("begin a session: %w", err)
		}
	}
	sealed, err := signal.NewCipher(builder, address).Encrypt(ctx, pad(plaintext))
	if err != nil {
		return Node{}, err
	}
	enc := Node{Tag: "enc", Attrs: Attrs{"v": "2", "type": "msg"}, Content: sealed.Serialize()}
	if sealed.Type() == protocol.PREKEY_TYPE {
		enc.Attrs["type"] = "pkmsg"
	}
	return enc, nil
}

// decrypt reads an enc node from a linked device.
func (p *phone) decrypt(ctx context.Context, from deviceName, kind string, sealed []byte) ([]byte, error) {
	address := addressOf(from)
	builder := signal.NewBuilderFromSignal(p, address, serializer)
	session, err := p.LoadSession(ctx, address)
	if err != nil {
		return nil, err
	}
	var message *protocol.SignalMessage
	switch kind {
	case "pkmsg":
		first, err := protocol.NewPreKeySignalMessageFromBytes(sealed, serializer.PreKeySignalMessage, serializer.SignalMessage)
		if err != nil {
			return nil, err
		}
		if _, err := builder.Process(ctx, session, first); err != nil {
			return nil, err
		}
		message = first.WhisperMessage()
	case "msg":
		if session.IsFresh() {
			return nil, signalerror.ErrNoSessionForUser
		}
		if message, err = protocol.NewSignalMessageFromBytes(sealed, serializer.SignalMessage); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%w: kind %q", errUnreadable, kind)
	}
	plaintext, session, err := read(ctx, signal.NewCipher(builder, address), session, message)
	if err != nil {
		return nil, err
	}
	if err := p.StoreSession(ctx, address, session); err != nil {
		return nil, err
	}
	return unpad(plaintext)
}

// read reads a ciphertext with the one of a record's states that it was made
// with, and returns the record with that state in front. Each state is tried as
// a copy, as a phone does: libsignal's own loop over them (DecryptWithRecord)
// moves a state's ratchet on before the authentication code has been compared,
// so the states that do not fit are spoilt. That shows where both sides have
// begun a session at the same time and both sessions are in use.
func read(ctx context.Context, cipher *signal.Cipher, session *record.Session, message *protocol.SignalMessage) ([]byte, *record.Session, error) {
	states := session.Structure()
	for i, candidate := range append([]*record.StateStructure{states.SessionState}, states.PreviousStates...) {
		state, err := record.NewStateFromStructure(candidate, serializer.State)
		if err != nil {
			return nil, nil, err
		}
		plaintext, _, err := cipher.DecryptWithState(ctx, state, message)
		if errors.Is(err, signalerror.ErrOldCounter) {
			return nil, nil, err
		}
		if err != nil {
			continue
		}
		if i > 0 {
			states.PreviousStates = slices.Insert(slices.Delete(states.PreviousStates, i-1, i), 0, states.SessionState)
		}
		if session, err = record.NewSessionFromStructure(states, serializer.Session, serializer.State); err != nil {
			return nil, nil, err
		}
		session.SetState(state)
		return plaintext, session, nil
	}
	return nil, nil, signalerror.ErrNoValidSessions
}

// corrupt damages the authentication code of a ciphertext of either kind, so
// that it can be parsed and not be read.
func corrupt(enc *Node) {
	sealed, _ := enc.Content.([]byte)
	sealed = bytes.Clone(sealed)
	enc.Content = sealed
	end := len(sealed)
	if str(enc, "type") == "pkmsg" {
		if message, err := protocol.NewPreKeySignalMessageFromBytes(sealed, serializer.PreKeySignalMessage, serializer.SignalMessage); err == nil {
			inner := message.WhisperMessage().Serialize()
			if at := bytes.Index(sealed, inner); at >= 0 {
				end = at + len(inner)
			}
		}
	}
	if end > 0 {
		sealed[end-1] ^= 0x55
	}
}

func pad(plaintext []byte) []byte {
	var n [1]byte
	_, _ = crand.Read(n[:])
	if n[0] &= 15; n[0] == 0 {
		n[0] = 15
	}
	return append(bytes.Clone(plaintext), bytes.Repeat(n[:], int(n[0]))...)
}

func unpad(plaintext []byte) ([]byte, error) {
	if len(plaintext) == 0 {
		return nil, fmt.Errorf("%w: empty", errUnreadable)
	}
	n := int(plaintext[len(plaintext)-1])
	if n == 0 || n > len(plaintext) {
		return nil, fmt.Errorf("%w: bad padding", errUnreadable)
	}
	return plaintext[:len(plaintext)-n], nil
}

// takeBundle takes what is needed to begin a session with a linked device,
// with a one-time key while there are any.
func (s *Server) takeBundle(name deviceName) (*prekey.Bundle, error) {
	d, id, public, err := s.takePreKey(name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	oneTime, oneTimeID := ecc.ECPublicKeyable(nil), optional.NewEmptyUint32()
	if public != nil {
		oneTime, oneTimeID = ecc.NewDjbECPublicKey([32]byte(public)), optional.NewOptionalUint32(id)
	}
	return prekey.NewBundle(d.RegistrationID, uint32(d.ID), oneTimeID, d.SignedKeyID,
		oneTime, ecc.NewDjbECPublicKey([32]byte(d.SignedKey)), [64]byte(d.SignedKeySig),
		identity.NewKey(ecc.NewDjbECPublicKey([32]byte(d.Identity)))), nil
}

// bundleFrom reads the keys that a retry receipt brings along.
func bundleFrom(d *device, registration []byte, n *Node) (*prekey.Bundle, bool) {
	skey, ok := child(n, "skey")
	id, value, signature := content(n, "skey", "id"), content(n, "skey", "value"), content(n, "skey", "signature")
	if !ok || len(registration) != 4 || len(id) != 3 || len(value) != 32 || skey == nil ||
		!bytes.Equal(content(n, "identity"), d.Identity) || !verify(d.Identity, signature, []byte{ecc.DjbType}, value) {
		return nil, false
	}
	oneTime, oneTimeID := ecc.ECPublicKeyable(nil), optional.NewEmptyUint32()
	if kid, kvalue := content(n, "key", "id"), content(n, "key", "value"); len(kid) == 3 && len(kvalue) == 32 {
		oneTime = ecc.NewDjbECPublicKey([32]byte(kvalue))
		oneTimeID = optional.NewOptionalUint32(binary.BigEndian.Uint32(append([]byte{0}, kid...)))
	}
	return prekey.NewBundle(binary.BigEndian.Uint32(registration), uint32(d.ID), oneTimeID,
		binary.BigEndian.Uint32(append([]byte{0}, id...)), oneTime, ecc.NewDjbECPublicKey([32]byte(value)),
		[64]byte(signature), identity.NewKey(ecc.NewDjbECPublicKey([32]byte(d.Identity)))), true
}

// isOld says that a ciphertext was read before.
func isOld(err error) bool { return errors.Is(err, signalerror.ErrOldCounter) }
