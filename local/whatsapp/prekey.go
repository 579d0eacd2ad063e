package whatsapp

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"

	"go.mau.fi/libsignal/ecc"
)

// A device's one-time keys are on disk, not in memory: 812 of them come with a
// new device, and 2,000 devices must fit.

const (
	maxPreKeys = 5000 // of one device
	lowPreKeys = 10   // below this the device is told
)

var errBadKeys = errors.New("malformed keys")

// preKey is the public half of a one-time key. They are stored in the order
// they came in, a number of them to a row, and used up in that order.
type preKey struct {
	id     [3]byte
	public [32]byte
}

const (
	preKeySize    = 3 + 32
	preKeysPerRow = 50
)

func storedPreKeys(bucket *bucket, prefix []byte) (out []preKey, err error) {
	err = under(bucket, prefix, func(_, row []byte) error {
		for ; len(row) >= preKeySize; row = row[preKeySize:] {
			out = append(out, preKey{[3]byte(row[:3]), [32]byte(row[3:preKeySize])})
		}
		return nil
	})
	return out, err
}

func storePreKeys(bucket *bucket, prefix []byte, keys []preKey) error {
	if err := deleteUnder(bucket, prefix); err != nil {
		return err
	}
	row := uint64(0)
	for chunk := range slices.Chunk(keys, preKeysPerRow) {
		value := make([]byte, 0, len(chunk)*preKeySize)
		for _, key := range chunk {
			value = append(append(value, key.id[:]...), key.public[:]...)
		}
		if err := bucket.Put(append(bytes.Clone(prefix), order64(row)...), value); err != nil {
			return err
		}
		row++
	}
	return nil
}

func (s *Server) preKeyCount(d *device) Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Node{Tag: "count", Attrs: Attrs{"value": strconv.Itoa(d.preKeys)}}
}

// uploadPreKeys takes one-time keys. The identity must be the linked one.
func (s *Server) uploadPreKeys(d *device, q *Node) Node {
	list, ok := child(q, "list")
	if !ok || string(content(q, "identity")) != string(d.Identity) {
		return iqError(q, 406, "not-acceptable")
	}
	keys, _ := list.Content.([]Node)
	if len(keys) == 0 || len(keys) > maxPreKeys {
		return iqError(q, 406, "not-acceptable")
	}
	skey, _ := child(q, "skey")
	count := 0
	err := s.db.update(func(tx *tx) error {
		if skey != nil {
			if err := s.putSignedKey(tx, d, skey); err != nil {
				return err
			}
		}
		bucket, prefix := tx.Bucket(bucketPreKeys), d.name().key()
		stored, err := storedPreKeys(bucket, prefix)
		if err != nil {
			return err
		}
		at := make(map[[3]byte]int, len(stored)+len(keys))
		for i, key := range stored {
			at[key.id] = i
		}
		for i := range keys {
			id, value := content(&keys[i], "id"), content(&keys[i], "value")
			if keys[i].Tag != "key" || len(id) != 3 || len(value) != 32 {
				return errBadKeys
			}
			key := preKey{[3]byte(id), [32]byte(value)}
			if known, ok := at[key.id]; ok {
				stored[known] = key // sent again, because our answer was lost
				continue
			}
			at[key.id] = len(stored)
			stored = append(stored, key)
		}
		if len(stored) > maxPreKeys {
			return errBadKeys
		}
		count = len(stored)
		return storePreKeys(bucket, prefix, stored)
	})
	switch {
	case errors.Is(err, errBadKeys):
		return iqError(q, 406, "not-acceptable")
	case err != nil:
		s.log.Error("cannot store one-time keys", "error", err)
		return iqError(q, 500, "internal-server-error")
	}
	s.mu.Lock()
	d.preKeys = count
	s.mu.Unlock()
	return result(q)
}

func (s *Server) putSignedKey(tx *tx, d *device, skey *Node) error {
	id, value, signature := content(skey, "id"), content(skey, "value"), content(skey, "signature")
	if len(id) != 3 || len(value) != 32 || !verify(d.Identity, signature, []byte{ecc.DjbType}, value) {
		return errBadKeys
	}
	s.mu.Lock()
	d.SignedKeyID = binary.BigEndian.Uint32(append([]byte{0}, id...))
	d.SignedKey, d.SignedKeySig = bytes.Clone(value), bytes.Clone(signature) // not the whole stanza
	record := d.deviceRecord
	s.mu.Unlock()
	return putJSON(tx.Bucket(bucketDevices), record.name().key(), record)
}

func (s *Server) rotateSignedKey(d *device, q *Node) Node {
	skey, ok := child(q, "rotate", "skey")
	if !ok {
		return iqError(q, 400, "bad-request")
	}
	err := s.db.update(func(tx *tx) error { return s.putSignedKey(tx, d, skey) })
	switch {
	case errors.Is(err, errBadKeys):
		return iqError(q, 406, "not-acceptable")
	case err != nil:
		s.log.Error("cannot store a signed key", "error", err)
		return iqError(q, 500, "internal-server-error")
	}
	return result(q)
}

// preKeyDigest lets a client compare what the server has with what it thinks.
func (s *Server) preKeyDigest(d *device, q *Node) Node {
	hash := sha1.New()
	hash.Write(d.Identity)
	s.mu.Lock()
	skey := signedKeyNode(d.SignedKeyID, d.SignedKey, d.SignedKeySig)
	hash.Write(d.SignedKey)
	hash.Write(d.SignedKeySig)
	s.mu.Unlock()
	var ids []Node
	err := s.db.view(func(tx *tx) error {
		stored, err := storedPreKeys(tx.Bucket(bucketPreKeys), d.name().key())
		for _, key := range stored {
			ids = append(ids, Node{Tag: "id", Content: bytes.Clone(key.id[:])})
			hash.Write(key.public[:])
		}
		return err
	})
	if err != nil {
		return iqError(q, 500, "internal-server-error")
	}
	return result(q, Node{Tag: "digest", Content: []Node{
		{Tag: "registration", Content: binary.BigEndian.AppendUint32(nil, d.RegistrationID)},
		{Tag: "type", Content: []byte{ecc.DjbType}},
		{Tag: "identity", Content: d.Identity},
		skey,
		{Tag: "list", Content: ids},
		{Tag: "hash", Content: hash.Sum(nil)},
	}})
}

func threeBytes(id uint32) []byte { return binary.BigEndian.AppendUint32(nil, id)[1:] }

func signedKeyNode(id uint32, public, signature []byte) Node {
	return Node{Tag: "skey", Content: []Node{
		{Tag: "id", Content: threeBytes(id)},
		{Tag: "value", Content: public},
		{Tag: "signature", Content: signature},
	}}
}

var errNoDevice = errors.New("no such device")

// takePreKey uses up one of a device's one-time keys. Without one left it
// returns a nil key: a session can begin without.
func (s *Server) takePreKey(name deviceName) (d *device, id uint32, public []byte, err error) {
	s.mu.Lock()
	d = s.devices[name]
	s.mu.Unlock()
	if d == nil {
		return nil, 0, nil, errNoDevice
	}
	err = s.db.update(func(tx *tx) error {
		bucket, prefix := tx.Bucket(bucketPreKeys), name.key()
		row, keys := bucket.Cursor().Seek(prefix)
		if row == nil || !bytes.HasPrefix(row, prefix) || len(keys) < preKeySize {
			return nil
		}
		id = binary.BigEndian.Uint32(append([]byte{0}, keys[:3]...))
		public = bytes.Clone(keys[3:preKeySize])
		row, rest := bytes.Clone(row), bytes.Clone(keys[preKeySize:])
		if len(rest) == 0 {
			return bucket.Delete(row)
		}
		return bucket.Put(row, rest)
	})
	if err != nil || public == nil {
		return d, 0, nil, err
	}
	s.mu.Lock()
	d.preKeys--
	left := d.preKeys
	s.mu.Unlock()
	if left < lowPreKeys {
		s.notify(d, Node{Tag: "notification", Attrs: Attrs{"type": "encrypt"},
			Content: []Node{{Tag: "count", Attrs: Attrs{"value": strconv.Itoa(left)}}}})
	}
	return d, id, public, nil
}

// bundles answers who wants to begin sessions, with devices or with phones.
func (s *Server) bundles(c *conn, q *Node) Node {
	asked, _ := child(q, "key")
	users, _ := asked.Content.([]Node)
	if len(users) == 0 || len(users) > 1000 {
		return iqError(q, 400, "bad-request")
	}
	var list []Node
	for i := range users {
		jid := jidAttr(&users[i], "jid")
		answer := Node{Tag: "user", Attrs: Attrs{"jid": users[i].Attrs["jid"], "t": strconv.FormatInt(s.now().Unix(), 10)}}
		p, ok := s.personOf(c.world, jid)
		switch {
		case !ok:
			answer.Content = notFound()
		case jid.Device == 0:
			answer.Content = s.phoneBundle(p)
		default:
			answer.Content = s.deviceBundle(deviceName{p, jid.Device})
		}
		list = append(list, answer)
	}
	return result(q, Node{Tag: "list", Content: list})
}

func notFound() []Node {
	return []Node{{Tag: "error", Attrs: Attrs{"code": "404", "text": "item-not-found"}}}
}

func (s *Server) phoneBundle(p person) []Node {
	account := s.identityKey(p)
	signed := s.signedKeyOf(p, account)
	id := s.nextOneTime.Add(1)%0xFFFFFE + 1 // three bytes, never zero
	return []Node{
		{Tag: "registration", Content: binary.BigEndian.AppendUint32(nil, registrationIDOf(s, p))},
		{Tag: "type", Content: []byte{ecc.DjbType}},
		{Tag: "identity", Content: account.Pub[:]},
		signedKeyNode(signed.KeyID, signed.Pub[:], signed.Signature[:]),
		keyNode(id, s.oneTimeKeyOf(p, id).Pub[:]),
	}
}

func (s *Server) deviceBundle(name deviceName) []Node {
	d, id, public, err := s.takePreKey(name)
	if err != nil {
		return notFound()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Node{
		{Tag: "registration", Content: binary.BigEndian.AppendUint32(nil, d.RegistrationID)},
		{Tag: "type", Content: []byte{ecc.DjbType}},
		{Tag: "identity", Content: d.Identity},
		signedKeyNode(d.SignedKeyID, d.SignedKey, d.SignedKeySig),
	}
	if public != nil {
		out = append(out, keyNode(id, public))
	}
	return append(out, Node{Tag: "device-identity", Content: d.SignedIdentity})
}

func keyNode(id uint32, public []byte) Node {
	return Node{Tag: "key", Content: []Node{
		{Tag: "id", Content: threeBytes(id)},
		{Tag: "value", Content: public},
	}}
}
