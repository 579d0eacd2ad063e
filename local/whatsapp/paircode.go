package whatsapp

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// pairCode is a code that a device shows, to be typed on the phone with the
// number it was made for. The server never sees the code: it sees a key of the
// device, encrypted with the code.
type pairCode struct {
	ref     string
	number  string
	wrapped []byte // salt, iv and the encrypted key
	made    time.Time
	tries   int
	finish  chan *Node // what the device makes of the phone's answer
}

const (
	pairCodeTries  = 5
	pairCodeRounds = 131_072
)

var (
	errNoCode      = refuse(http.StatusConflict, "nothing_to_enter", "no device shows a code for this number")
	errWrongCode   = refuse(http.StatusUnprocessableEntity, "wrong_code", "this is not the code that the device shows")
	errCodeExpired = refuse(http.StatusGone, "code_expired", "the code that the device shows has expired")

	displayForm = regexp.MustCompile(`^(Chrome|Edge|Firefox|IE|Opera|Safari|Electron|WhatsApp|Android|Other) \([A-Za-z0-9 .]{1,40}\)$`)
)

// registrationQuery answers what a connection asks that is not linked yet.
func (s *Server) registrationQuery(c *conn, q *Node) {
	if reg, ok := child(q, "link_code_companion_reg"); ok {
		switch str(reg, "stage") {
		case "companion_hello":
			c.send(s.codeHello(c, q, reg))
		case "companion_finish":
			c.send(s.codeFinish(c, q, reg))
		default:
			c.send(iqError(q, 400, "bad-request"))
		}
		return
	}
	c.send(s.passkeyQuery(c, q))
}

// codeHello takes a device's wish to be linked by code. A new one takes the
// place of the one before.
func (s *Server) codeHello(c *conn, q, reg *Node) Node {
	jid := jidAttr(reg, "jid")
	wrapped := content(reg, "link_code_pairing_wrapped_companion_ephemeral_pub")
	if jid.Server != types.DefaultUserServer || !validNumber(jid.User) || len(wrapped) != 80 ||
		!displayForm.Match(content(reg, "companion_platform_display")) ||
		!bytes.Equal(content(reg, "companion_server_auth_key_pub"), c.registration.noise[:]) {
		return iqError(q, 400, "bad-request")
	}
	code := &pairCode{ref: newRef(), number: jid.User, wrapped: wrapped, made: s.now(), finish: make(chan *Node, 1)}
	s.mu.Lock()
	c.registration.code = code
	s.mu.Unlock()
	return result(q, Node{Tag: "link_code_companion_reg", Attrs: Attrs{"stage": "companion_hello"},
		Content: []Node{{Tag: "link_code_pairing_ref", Content: []byte(code.ref)}}})
}

// codeFinish hands the device's part to the phone that waits for it.
func (s *Server) codeFinish(c *conn, q, reg *Node) Node {
	s.mu.Lock()
	code := c.registration.code
	s.mu.Unlock()
	if code == nil || string(content(reg, "link_code_pairing_ref")) != code.ref {
		return iqError(q, 404, "item-not-found")
	}
	select {
	case code.finish <- reg:
	default:
	}
	return result(q)
}

// EnterCode is the user of a phone typing the code that a device shows.
func (s *Server) EnterCode(ctx context.Context, world, text, number string) (Device, error) {
	if !validNumber(number) {
		return Device{}, badRequest("phone_number must be 7 to 15 digits")
	}
	text = strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(text))
	if len(text) != 8 {
		return Device{}, badRequest("a code has eight characters")
	}
	p := person{world, canonical(number)}
	candidates := s.showingCode(p)
	if len(candidates) == 0 {
		return Device{}, errNoCode
	}
	var err error
	for _, c := range candidates {
		var device Device
		if device, err = s.tryCode(ctx, c, p, text); err == nil || ErrorCode(err) != errWrongCode.Code {
			return device, err
		}
	}
	return Device{}, err
}

// showingCode finds the devices that show a code for a number, the latest first.
func (s *Server) showingCode(p person) (out []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if r := c.registration; r != nil && c.world == p.world && r.code != nil && canonical(r.code.number) == p.number && !r.busy && !c.ended() {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *conn) int { return b.registration.code.made.Compare(a.registration.code.made) })
	return out[:min(len(out), 3)]
}

func (s *Server) tryCode(ctx context.Context, c *conn, p person, text string) (Device, error) {
	r := c.registration
	s.mu.Lock()
	code := r.code
	if r.busy || code == nil {
		s.mu.Unlock()
		return Device{}, errNoCode
	}
	if code.tries++; code.tries > pairCodeTries || s.now().Sub(code.made) > s.cfg.PairCodeLife {
		s.mu.Unlock()
		return Device{}, errCodeExpired
	}
	r.busy = true
	s.mu.Unlock()
	defer s.unbusy(r)

	if _, ok := s.take(kindPasskey, c); ok {
		if err := s.askPasskey(c, p, nil); err != nil {
			return Device{}, err
		}
		return Device{}, errPasskey
	}
	adv, err := s.agreeByCode(ctx, c, code, p, text)
	if err != nil {
		return Device{}, err
	}
	return s.linkDevice(ctx, c, p, adv)
}

func (s *Server) unbusy(r *registration) {
	s.mu.Lock()
	r.busy = r.linked
	s.mu.Unlock()
}

// agreeByCode is the phone's side of the exchange. It ends with the adv secret
// that a scan would have given, or shows that the code was another.
func (s *Server) agreeByCode(ctx context.Context, c *conn, code *pairCode, p person, text string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.PhoneTimeout)
	defer cancel()
	theirs, err := throughCode(text, code.wrapped[:32], code.wrapped[32:48], code.wrapped[48:])
	if err != nil {
		return nil, err
	}
	ours := keys.NewKeyPair()
	shared, err := agree(ours.Priv, theirs)
	if err != nil {
		return nil, errWrongCode
	}
	var salt [32]byte
	var iv [16]byte
	_, _ = rand.Read(salt[:])
	_, _ = rand.Read(iv[:])
	sealed, err := throughCode(text, salt[:], iv[:], ours.Pub[:])
	if err != nil {
		return nil, err
	}
	account := s.identityKey(p)
	select {
	case <-code.finish: // of an earlier try
	default:
	}
	c.send(Node{Tag: "notification", Attrs: Attrs{
		"from": types.ServerJID, "type": "link_code_companion_reg", "id": newID(""), "t": strconv.FormatInt(s.now().Unix(), 10),
	}, Content: []Node{{Tag: "link_code_companion_reg", Attrs: Attrs{"stage": "primary_hello"}, Content: []Node{
		{Tag: "link_code_pairing_ref", Content: []byte(code.ref)},
		{Tag: "link_code_pairing_wrapped_primary_ephemeral_pub", Content: join(salt[:], iv[:], sealed)},
		{Tag: "primary_identity_pub", Content: account.Pub[:]},
	}}}})

	var finish *Node
	select {
	case finish = <-code.finish:
	case <-c.done:
		return nil, refuse(http.StatusConflict, "connection_lost", "the device closed the connection")
	case <-ctx.Done():
		return nil, refuse(http.StatusGatewayTimeout, "no_answer", "the device did not answer")
	}
	wrapped, identity := content(finish, "link_code_pairing_wrapped_key_bundle"), content(finish, "companion_identity_public")
	if len(wrapped) < 44 || !bytes.Equal(identity, c.registration.identity) {
		return nil, errWrongCode
	}
	key, err := hkdf.Key(sha256.New, shared, wrapped[:32], "link_code_pairing_key_bundle_encryption_key", 32)
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	bundle, err := aead.Open(nil, wrapped[32:44], wrapped[44:], nil)
	if err != nil || len(bundle) != 96 || !bytes.Equal(bundle[:32], identity) || !bytes.Equal(bundle[32:64], account.Pub[:]) {
		return nil, errWrongCode
	}
	identityShared, err := agree(account.Priv, identity)
	if err != nil {
		return nil, errWrongCode
	}
	return hkdf.Key(sha256.New, join(shared, identityShared, bundle[64:]), nil, "adv_secret", 32)
}

// throughCode encrypts or decrypts with a key made of the code.
func throughCode(text string, salt, iv, in []byte) ([]byte, error) {
	key, err := pbkdf2.Key(sha256.New, text, salt, pairCodeRounds, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(in))
	cipher.NewCTR(block, iv).XORKeyStream(out, in)
	return out, nil
}

// expireCode ends a code before its time, for a test.
func (s *Server) expireCode(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.registration != nil && c.registration.code != nil {
		c.registration.code.made = time.Time{}
	}
}
