package whatsapp

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.mau.fi/libsignal/ecc"
	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/types"
)

// registration is a connection that wants to become a linked device. It can be
// scanned, or be sent a pair code, as long as it lives; it is linked once.
type registration struct {
	refs []string
	ends time.Time

	noise          [32]byte
	identity       []byte
	registrationID uint32
	signedKeyID    uint32
	signedKey      []byte
	signedKeySig   []byte
	platform       string

	// Guarded by Server.mu.
	busy    bool // a phone is linking it now, or has done so
	linked  bool
	code    *pairCode
	passkey *passkey
}

// register checks what the new device says of itself and gives it its codes.
func (c *conn) register(shaken *session) error {
	s, data := c.s, shaken.payload.GetDevicePairingData()
	if refused, _, ok := s.refused(c); ok {
		c.sendLast(refused.node())
		return nil
	}
	if s.meets(kindSilent, c) != nil {
		return nil
	}
	r, ok := readRegistration(data)
	if !ok {
		c.sendLast(failure{reason: 400}.node())
		return nil
	}
	r.noise = shaken.client
	r.ends = s.now().Add(s.cfg.RegistrationLife)
	count := s.cfg.Refs
	if f := s.meets(kindRefs, c); f != nil {
		count = f.Count
		if f.Seconds > 0 {
			r.ends = s.now().Add(f.duration())
		}
	}
	content := make([]Node, 0, count)
	for range count {
		ref := newRef()
		r.refs = append(r.refs, ref)
		content = append(content, Node{Tag: "ref", Content: []byte(ref)})
	}
	s.mu.Lock()
	c.registration = r
	for _, ref := range r.refs {
		s.refs[ref] = c
	}
	s.mu.Unlock()
	c.send(Node{Tag: "iq", Attrs: Attrs{
		"from": types.ServerJID,
		"type": "set",
		"id":   strconv.FormatUint(c.nextIQ.Add(1), 10) + "-pair-device",
	}, Content: []Node{{Tag: "pair-device", Content: content}}})
	return nil
}

func newRef() string {
	var raw [80]byte
	_, _ = rand.Read(raw[:])
	return "2@" + base64.StdEncoding.EncodeToString(raw[:])
}

func readRegistration(data *waWa6.ClientPayload_DevicePairingRegistrationData) (*registration, bool) {
	if len(data.GetERegid()) != 4 || len(data.GetEIdent()) != 32 || len(data.GetESkeyID()) != 3 ||
		!bytes.Equal(data.GetEKeytype(), []byte{ecc.DjbType}) {
		return nil, false
	}
	if !verify(data.GetEIdent(), data.GetESkeySig(), []byte{ecc.DjbType}, data.GetESkeyVal()) {
		return nil, false
	}
	var props waCompanionReg.DeviceProps
	if err := proto.Unmarshal(data.GetDeviceProps(), &props); err != nil {
		return nil, false
	}
	return &registration{
		identity:       data.GetEIdent(),
		registrationID: binary.BigEndian.Uint32(data.GetERegid()),
		signedKeyID:    binary.BigEndian.Uint32(append([]byte{0}, data.GetESkeyID()...)),
		signedKey:      data.GetESkeyVal(),
		signedKeySig:   data.GetESkeySig(),
		platform:       strings.ToLower(props.GetPlatformType().String()),
	}, true
}

// qr is the text of a code: what the server gave (ref) and what the device
// adds, which the server never sees: adv is known to device and phone alone.
type qr struct {
	ref      string
	noise    []byte
	identity []byte
	adv      []byte
}

const qrPrefix = "https://wa.me/settings/linked_devices#"

// parseQR reads a code of either form: the four fields alone, or after the
// address of the page, then with the kind of client as a fifth.
func parseQR(text string) (qr, error) {
	fields := strings.Split(strings.TrimPrefix(text, qrPrefix), ",")
	if len(fields) != 4 && len(fields) != 5 {
		return qr{}, badRequest("this is not the text of a code: it has %d fields", len(fields))
	}
	out := qr{ref: fields[0]}
	for i, into := range []*[]byte{&out.noise, &out.identity, &out.adv} {
		key, err := base64.StdEncoding.DecodeString(fields[i+1])
		if err != nil || len(key) != 32 {
			return qr{}, badRequest("this is not the text of a code: field %d is not a key", i+2)
		}
		*into = key
	}
	return out, nil
}

var errNothingToScan = refuse(http.StatusConflict, "nothing_to_scan", "no connection shows this code (any more)")

// ScanQR is the user of a phone scanning a code. It returns when the device has
// confirmed the link; where the account is asked for a passkey it returns the
// error passkey_required, and the device has been told.
func (s *Server) ScanQR(ctx context.Context, world, text, number string) (Device, error) {
	if !validNumber(number) {
		return Device{}, badRequest("phone_number must be 7 to 15 digits")
	}
	number = canonical(number)
	code, err := parseQR(text)
	if err != nil {
		return Device{}, err
	}
	s.mu.Lock()
	c := s.refs[code.ref]
	if c == nil || c.world != world || c.registration == nil || c.registration.busy || c.ended() {
		s.mu.Unlock()
		return Device{}, errNothingToScan
	}
	r := c.registration
	if !bytes.Equal(code.noise, r.noise[:]) || !bytes.Equal(code.identity, r.identity) {
		s.mu.Unlock()
		return Device{}, badRequest("the keys in the code are not those of the connection that shows it")
	}
	r.busy = true
	s.mu.Unlock()
	defer s.unbusy(r)
	p := person{world, number}
	if _, ok := s.take(kindPasskey, c); ok {
		if err := s.askPasskey(c, p, code.adv); err != nil {
			return Device{}, err
		}
		return Device{}, errPasskey
	}
	return s.linkDevice(ctx, c, p, code.adv)
}

// Signatures of ADV, WhatsApp's account and device verification. The two bytes
// say what is signed.
var (
	advAccountSignature = []byte{6, 0}
	advDeviceSignature  = []byte{6, 1}
	advKeyIndexList     = []byte{6, 2}
)

// linkDevice is what the phone does with a device whose adv secret it has: it
// signs the device into the account, lets the server tell the device, and
// checks the device's own signature before anything is linked.
func (s *Server) linkDevice(ctx context.Context, c *conn, p person, adv []byte) (Device, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.PhoneTimeout)
	defer cancel()
	r := c.registration
	id, index, err := s.reserveDevice(p)
	if err != nil {
		return Device{}, err
	}
	account := s.identityKey(p)
	now := s.now()
	details, err := proto.Marshal(&waAdv.ADVDeviceIdentity{
		RawID:       proto.Uint32(s.rawID(p)),
		Timestamp:   proto.Uint64(uint64(now.Unix())),
		KeyIndex:    &index,
		AccountType: waAdv.ADVEncryptionType_E2EE.Enum(),
		DeviceType:  waAdv.ADVEncryptionType_E2EE.Enum(),
	})
	if err != nil {
		return Device{}, err
	}
	signed := &waAdv.ADVSignedDeviceIdentity{
		Details:             details,
		AccountSignatureKey: account.Pub[:],
		AccountSignature:    sign(account, advAccountSignature, details, r.identity),
	}
	signedBytes, err := proto.Marshal(signed)
	if err != nil {
		return Device{}, err
	}
	sealed, err := proto.Marshal(&waAdv.ADVSignedDeviceIdentityHMAC{
		Details: signedBytes,
		HMAC:    hmacSHA256(adv, signedBytes),
	})
	if err != nil {
		return Device{}, err
	}
	answer, err := c.ask(ctx, Node{Tag: "iq", Attrs: Attrs{
		"from": types.ServerJID,
		"type": "set",
		"t":    strconv.FormatInt(now.Unix(), 10),
	}, Content: []Node{{Tag: "pair-success", Content: []Node{
		{Tag: "device-identity", Content: sealed},
		{Tag: "device", Attrs: Attrs{"jid": s.jidOf(p, id), "lid": s.lidOf(p, id)}},
		{Tag: "platform", Attrs: Attrs{"name": "android"}},
	}}}})
	if err != nil {
		return Device{}, err
	}
	if str(answer, "type") != "result" {
		text := ""
		if e, ok := child(answer, "error"); ok {
			text = str(e, "text")
		}
		return Device{}, refuse(http.StatusUnprocessableEntity, "device_refused", "the device refused the link: %s", text)
	}

	var confirmed waAdv.ADVSignedDeviceIdentity
	if err = proto.Unmarshal(content(answer, "pair-device-sign", "device-identity"), &confirmed); err != nil ||
		!bytes.Equal(confirmed.GetDetails(), details) ||
		!bytes.Equal(confirmed.GetAccountSignature(), signed.AccountSignature) ||
		!verify(r.identity, confirmed.GetDeviceSignature(), advDeviceSignature, details, r.identity, account.Pub[:]) {
		c.sendLast(*streamError("401", "device_removed"))
		return Device{}, refuse(http.StatusUnprocessableEntity, "bad_device_signature", "the device's own signature does not fit")
	}
	signed.DeviceSignature = confirmed.GetDeviceSignature()
	if signedBytes, err = proto.Marshal(signed); err != nil {
		return Device{}, err
	}
	record := deviceRecord{
		World: p.world, Instance: c.instance, Number: p.number, ID: id,
		Noise: bytes.Clone(r.noise[:]), Identity: r.identity,
		RegistrationID: r.registrationID,
		SignedKeyID:    r.signedKeyID, SignedKey: r.signedKey, SignedKeySig: r.signedKeySig,
		KeyIndex: index, SignedIdentity: signedBytes,
		Platform: r.platform, LinkedAt: now,
	}
	if err = s.link(record); err != nil {
		return Device{}, err
	}
	s.mu.Lock()
	d := s.devices[record.name()]
	for _, ref := range r.refs {
		delete(s.refs, ref)
	}
	r.linked = true
	out := s.view(d)
	s.mu.Unlock()
	// The restart that WhatsApp asks for: the next connection is the login.
	c.sendLast(*streamError("515", ""))
	s.tellOwnDevices(d, "add")
	return out, nil
}
