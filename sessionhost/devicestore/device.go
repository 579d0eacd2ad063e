package devicestore

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/store"
	wa "go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
)

// errNoJID is what saving an unpaired device returns.
var errNoJID = errors.New("devicestore: device has no JID yet")

// newDevice makes the keys of an unpaired device.
func (l *link) newDevice() *store.Device {
	device := &store.Device{
		Log:          waLog.Noop,
		Container:    l,
		NoiseKey:     keys.NewKeyPair(),
		IdentityKey:  keys.NewKeyPair(),
		AdvSecretKey: make([]byte, 32),
	}
	var id [4]byte
	_, _ = crand.Read(device.AdvSecretKey) // never fails
	_, _ = crand.Read(id[:])
	device.RegistrationID = binary.BigEndian.Uint32(id[:])
	device.SignedPreKey = device.IdentityKey.CreateSignedPreKey(1)
	return device
}

// attach gives the device its stores.
func (l *link) attach(device *store.Device) {
	device.SetAllStores(l)
	device.LIDs = l
	device.Container = l
	device.Initialized = true
}

// PutDevice stores the device. For a device that has just been paired that
// makes the link, in one transaction that requires the epoch, that there is no
// link, and that this number is above every earlier one. A wiped link is never
// brought back. Saving what is stored already costs nothing.
func (l *link) PutDevice(ctx context.Context, device *store.Device) error {
	if device.ID == nil {
		return errNoJID
	}
	if err := l.usable(); err != nil {
		return err
	}
	if _, err := l.dataKey(ctx); err != nil {
		return l.h.fail(err)
	}
	value, err := encodeDevice(device)
	if err != nil {
		return err
	}
	l.mu.Lock()
	unchanged, create := bytes.Equal(l.device, value), !l.stored
	l.mu.Unlock()
	if !unchanged {
		c := &change{create: create}
		c.put(kindDevice, value)
		if err := l.commit(ctx, c, nil); err != nil {
			return err
		}
		l.mu.Lock()
		l.device = value
		l.mu.Unlock()
	}
	if !device.Initialized {
		l.attach(device)
	}
	return nil
}

// DeleteDevice is whatsmeow's own way of giving a link up: on a logout it is
// told of, and when pairing fails halfway. It is [Handle.Wipe].
func (l *link) DeleteDevice(ctx context.Context, device *store.Device) error {
	if device.ID == nil {
		return errNoJID
	}
	if err := l.usable(); err != nil {
		return err
	}
	// The session ends the connection, and with it ctx, as soon as it hears of
	// the logout; the wipe is not to be cut off by that.
	if err := l.h.Wipe(context.WithoutCancel(ctx), l.number); err != nil {
		return l.h.fail(err)
	}
	return nil
}

// load reads what every connection needs: the device, and the messages that
// were decrypted and not handled. It is one query.
func (l *link) load(ctx context.Context, row head) (*store.Device, error) {
	plain, err := l.key.Open(row.sealedHot, l.hotPlace(row.format, row.commits))
	if err != nil {
		return nil, fmt.Errorf("%w: hot state", ErrCorrupt)
	}
	if l.hot, err = decodeHot(plain); err != nil {
		return nil, err
	}
	rows, err := l.query(ctx, "!")
	if err != nil {
		return nil, err
	}
	return l.begin(rows)
}

const deviceFormat = 1

// encodeDevice gives the same bytes for the same device.
func encodeDevice(d *store.Device) ([]byte, error) {
	if d.NoiseKey == nil || d.IdentityKey == nil || d.SignedPreKey == nil || d.SignedPreKey.Signature == nil || d.Account == nil {
		return nil, errors.New("devicestore: device is incomplete")
	}
	account, err := proto.MarshalOptions{Deterministic: true}.Marshal(d.Account)
	if err != nil {
		return nil, fmt.Errorf("devicestore: encode account: %w", err)
	}
	b := []byte{deviceFormat}
	b = append(b, d.NoiseKey.Priv[:]...)
	b = append(b, d.IdentityKey.Priv[:]...)
	b = append(b, d.SignedPreKey.Priv[:]...)
	b = append(b, d.SignedPreKey.Signature[:]...)
	b = append(b, d.FacebookUUID[:]...)
	b = binary.AppendUvarint(b, uint64(d.SignedPreKey.KeyID))
	b = binary.AppendUvarint(b, uint64(d.RegistrationID))
	b = binary.AppendVarint(b, d.LIDMigrationTimestamp)
	for _, v := range [...][]byte{
		d.AdvSecretKey, account, []byte(d.ID.String()), []byte(d.LID.String()), []byte(d.Platform),
		[]byte(d.BusinessName), []byte(d.PushName), []byte(d.CompanionMetaNonce),
	} {
		b = appendBytes(b, v)
	}
	return b, nil
}

func decodeDevice(b []byte) (*store.Device, error) {
	d := decoder{b: b}
	if d.byte() != deviceFormat {
		return nil, fmt.Errorf("%w: device", ErrCorrupt)
	}
	out := &store.Device{Log: waLog.Noop, SignedPreKey: &keys.PreKey{}, Account: &waAdv.ADVSignedDeviceIdentity{}}
	out.NoiseKey = keys.NewKeyPairFromPrivateKey([32]byte(d.take(32)))
	out.IdentityKey = keys.NewKeyPairFromPrivateKey([32]byte(d.take(32)))
	out.SignedPreKey.KeyPair = *keys.NewKeyPairFromPrivateKey([32]byte(d.take(32)))
	signature := [64]byte(d.take(64))
	out.SignedPreKey.Signature = &signature
	out.FacebookUUID = uuid.UUID(d.take(16))
	out.SignedPreKey.KeyID = uint32(d.uvarint())
	out.RegistrationID = uint32(d.uvarint())
	out.LIDMigrationTimestamp = d.varint()
	out.AdvSecretKey = d.bytes()
	account, id, lid := d.bytes(), string(d.bytes()), string(d.bytes())
	out.Platform, out.BusinessName = string(d.bytes()), string(d.bytes())
	out.PushName, out.CompanionMetaNonce = string(d.bytes()), string(d.bytes())
	jid, err := wa.ParseJID(id)
	if d.failed || err != nil || proto.Unmarshal(account, out.Account) != nil {
		return nil, fmt.Errorf("%w: device", ErrCorrupt)
	}
	out.ID = &jid
	if lid != "" {
		if out.LID, err = wa.ParseJID(lid); err != nil {
			return nil, fmt.Errorf("%w: device", ErrCorrupt)
		}
	}
	return out, nil
}
