package whatsapp

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"strconv"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// Since 2026 WhatsApp asks some accounts for a passkey while a device is
// linked. The device is sent a WebAuthn challenge; its answer opens an exchange
// of keys with the phone, which ends with the device sending its adv secret,
// and then the link is made as after a scan.

// passkey is such an exchange.
type passkey struct {
	person    person
	adv       []byte // from the scanned code, to check that the same device goes on; nil after a pair code
	challenge []byte
	ref       string

	commitment []byte // to the identity and the nonce that the device shows later
	companion  *waCompanionReg.CompanionEphemeralIdentity
	identity   []byte // its encoding
	ours       *keys.KeyPair
	agreed     bool // the nonce was shown and fits
}

const relyingParty = "whatsapp.com"

var errPasskey = refuse(http.StatusConflict, "passkey_required", "the device was asked for the account's passkey")

// PasskeyOptions is the challenge, as WebAuthn's JSON form has it; bytes are
// base64url without padding.
type PasskeyOptions struct {
	Challenge        string              `json:"challenge"`
	Timeout          int                 `json:"timeout"`
	RelyingParty     string              `json:"rpId"`
	AllowCredentials []PasskeyCredential `json:"allowCredentials"`
	UserVerification string              `json:"userVerification"`
	Extensions       map[string]any      `json:"extensions,omitempty"`
}

// PasskeyCredential names a passkey.
type PasskeyCredential struct {
	ID         string   `json:"id"`
	Type       string   `json:"type"`
	Transports []string `json:"transports"`
}

// PasskeyAssertion is the answer to a challenge.
type PasskeyAssertion struct {
	ID       string `json:"id"`
	RawID    string `json:"rawId"`
	Type     string `json:"type"`
	Response struct {
		ClientDataJSON    string  `json:"clientDataJSON"`
		AuthenticatorData string  `json:"authenticatorData"`
		Signature         string  `json:"signature"`
		UserHandle        *string `json:"userHandle"`
	} `json:"response"`
}

// credential is the passkey of a person's account.
func (s *Server) credential(p person) (id []byte, key *ecdsa.PrivateKey) {
	secret := s.seed.bytes(p.label("passkey"))
	public := s.seed.bytes(p.label("passkey id"))
	curve := elliptic.P256()
	d := new(big.Int).SetBytes(secret[:])
	d.Mod(d, new(big.Int).Sub(curve.Params().N, big.NewInt(1))).Add(d, big.NewInt(1))
	key, err := ecdsa.ParseRawPrivateKey(curve, d.FillBytes(make([]byte, 32)))
	if err != nil {
		panic(err) // d is in the range
	}
	return public[:], key
}

// askPasskey begins the exchange.
func (s *Server) askPasskey(c *conn, p person, adv []byte) error {
	challenge := make([]byte, 32)
	_, _ = rand.Read(challenge)
	s.mu.Lock()
	c.registration.passkey = &passkey{person: p, adv: adv, challenge: challenge, ref: newRef()}
	s.mu.Unlock()
	options, err := s.passkeyOptions(p, challenge)
	if err != nil {
		return err
	}
	c.send(Node{Tag: "notification", Attrs: Attrs{
		"from": types.ServerJID, "type": "passkey_prologue_request", "id": newID(""), "t": strconv.FormatInt(s.now().Unix(), 10),
	}, Content: []Node{options}})
	return nil
}

func (s *Server) passkeyOptions(p person, challenge []byte) (Node, error) {
	id, _ := s.credential(p)
	options, err := json.Marshal(PasskeyOptions{
		Challenge:        base64URL(challenge),
		Timeout:          300_000,
		RelyingParty:     relyingParty,
		AllowCredentials: []PasskeyCredential{{ID: base64URL(id), Type: "public-key", Transports: []string{"internal", "hybrid"}}},
		UserVerification: "required",
	})
	return Node{Tag: "passkey_request_options", Content: options}, err
}

// SignPasskey is the user letting their authenticator answer a challenge.
func (s *Server) SignPasskey(world, number string, options PasskeyOptions) (PasskeyAssertion, error) {
	var out PasskeyAssertion
	if !validNumber(number) {
		return out, badRequest("phone_number must be 7 to 15 digits")
	}
	id, key := s.credential(person{orWorld(world), number})
	client, err := json.Marshal(map[string]any{
		"type": "webauthn.get", "challenge": options.Challenge, "origin": "https://web.whatsapp.com", "crossOrigin": false,
	})
	if err != nil {
		return out, err
	}
	party := sha256.Sum256([]byte(options.RelyingParty))
	data := append(party[:], 5, 0, 0, 0, 0) // user present and verified, counter 0
	signature, err := ecdsa.SignASN1(rand.Reader, key, passkeyDigest(data, client))
	if err != nil {
		return out, err
	}
	out.ID, out.RawID, out.Type = base64URL(id), base64URL(id), "public-key"
	out.Response.ClientDataJSON = base64URL(client)
	out.Response.AuthenticatorData = base64URL(data)
	out.Response.Signature = base64URL(signature)
	return out, nil
}

func passkeyDigest(data, client []byte) []byte {
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(join(data, hash[:]))
	return digest[:]
}

// proves checks an assertion as a relying party does.
func (s *Server) proves(pk *passkey, raw []byte) bool {
	var a PasskeyAssertion
	if json.Unmarshal(raw, &a) != nil {
		return false
	}
	decode := base64.RawURLEncoding.DecodeString
	client, err1 := decode(a.Response.ClientDataJSON)
	data, err2 := decode(a.Response.AuthenticatorData)
	signature, err3 := decode(a.Response.Signature)
	rawID, err4 := decode(a.RawID)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || len(data) < 37 {
		return false
	}
	var said struct {
		Type      string `json:"type"`
		Challenge string `json:"challenge"`
	}
	party := sha256.Sum256([]byte(relyingParty))
	id, key := s.credential(pk.person)
	return json.Unmarshal(client, &said) == nil && said.Type == "webauthn.get" && said.Challenge == base64URL(pk.challenge) &&
		bytes.Equal(rawID, id) && bytes.Equal(data[:32], party[:]) && data[32]&5 == 5 &&
		ecdsa.VerifyASN1(&key.PublicKey, passkeyDigest(data, client), signature)
}

// passkeyQuery answers the queries of the exchange.
func (s *Server) passkeyQuery(c *conn, q *Node) Node {
	s.mu.Lock()
	pk := c.registration.passkey
	s.mu.Unlock()
	if pk == nil {
		return iqError(q, 404, "item-not-found")
	}
	refused := iqError(q, 403, "forbidden")
	if _, ok := child(q, "ref"); ok {
		return result(q, Node{Tag: "ref", Content: []byte(pk.ref)})
	}
	if _, ok := child(q, "passkey_request_options"); ok {
		options, err := s.passkeyOptions(pk.person, pk.challenge)
		if err != nil {
			return iqError(q, 500, "internal-server-error")
		}
		return result(q, options)
	}
	if prologue, ok := child(q, "passkey_prologue"); ok {
		if !s.takePrologue(pk, prologue) {
			return refused
		}
		return s.continuePasskey(c, pk, q)
	}
	if nonce := content(q, "companion_nonce"); nonce != nil {
		sum := sha256.Sum256(join(pk.identity, nonce))
		if pk.ours == nil || !hmac.Equal(sum[:], pk.commitment) {
			return refused
		}
		pk.agreed = true
		return result(q)
	}
	if request := content(q, "encrypted_pairing_request"); request != nil {
		adv, ok := pk.open(request, c.registration)
		if !ok {
			return refused
		}
		s.linkByPasskey(c, pk, adv)
		return result(q)
	}
	return iqError(q, 400, "bad-request")
}

// takePrologue checks the answer to the challenge, and keeps the key that the
// device brings and its commitment.
func (s *Server) takePrologue(pk *passkey, prologue *Node) bool {
	payload := content(prologue, "prologue_payload")
	var parsed waCompanionReg.ProloguePayload
	var companion waCompanionReg.CompanionEphemeralIdentity
	if !s.proves(pk, content(prologue, "webauthn_assertion")) ||
		proto.Unmarshal(payload, &parsed) != nil ||
		proto.Unmarshal(parsed.GetCompanionEphemeralIdentity(), &companion) != nil ||
		len(companion.GetPublicKey()) != 32 || companion.GetRef() != pk.ref || len(parsed.GetCommitment().GetHash()) != 32 {
		return false
	}
	if proof := content(prologue, "pairing_handoff_proof"); proof != nil && pk.adv != nil {
		key, err := hkdf.Key(sha256.New, pk.adv, nil, "shortcake-passkey-handoff-v1", 32)
		if err != nil || !hmac.Equal(proof, hmacSHA256(key, payload)) {
			return false
		}
	}
	pk.companion, pk.identity = &companion, parsed.GetCompanionEphemeralIdentity()
	pk.commitment = parsed.GetCommitment().GetHash()
	return true
}

// continuePasskey is the phone showing its key.
func (s *Server) continuePasskey(c *conn, pk *passkey, q *Node) Node {
	pk.ours, pk.agreed = keys.NewKeyPair(), false
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce)
	primary, err := proto.Marshal(&waCompanionReg.PrimaryEphemeralIdentity{PublicKey: pk.ours.Pub[:], Nonce: nonce})
	if err != nil {
		return iqError(q, 500, "internal-server-error")
	}
	c.send(result(q))
	return Node{Tag: "notification", Attrs: Attrs{
		"from": types.ServerJID, "type": "crsc_continuation", "id": newID(""), "t": strconv.FormatInt(s.now().Unix(), 10),
	}, Content: []Node{{Tag: "primary_ephemeral_identity", Content: primary}}}
}

// open reads the device's request to be linked, which holds its adv secret.
func (pk *passkey) open(request []byte, r *registration) (adv []byte, ok bool) {
	var wrapped waCompanionReg.EncryptedPairingRequest
	if !pk.agreed || proto.Unmarshal(request, &wrapped) != nil || len(wrapped.GetIV()) != 12 {
		return nil, false
	}
	shared, err := agree(pk.ours.Priv, pk.companion.GetPublicKey())
	if err != nil {
		return nil, false
	}
	salt := fmt.Sprintf("Companion Pairing %d with ref %s", pk.companion.GetDeviceType(), pk.ref)
	key, err := hkdf.Key(sha256.New, shared, []byte(salt), "Pairing Information Encryption Key", 32)
	if err != nil {
		return nil, false
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, false
	}
	plain, err := aead.Open(nil, wrapped.GetIV(), wrapped.GetEncryptedPayload(), nil)
	var pairing waCompanionReg.PairingRequest
	if err != nil || proto.Unmarshal(plain, &pairing) != nil ||
		!bytes.Equal(pairing.GetCompanionPublicKey(), r.noise[:]) || !bytes.Equal(pairing.GetCompanionIdentityKey(), r.identity) {
		return nil, false
	}
	return pairing.GetAdvSecret(), len(pairing.GetAdvSecret()) == 32
}

// linkByPasskey ends the exchange on a goroutine of its own, because linking
// waits for an answer on the connection that asked for it.
func (s *Server) linkByPasskey(c *conn, pk *passkey, adv []byte) {
	r := c.registration
	s.mu.Lock()
	busy := r.busy
	r.busy = true
	s.mu.Unlock()
	if busy {
		return
	}
	s.wg.Go(func() {
		defer s.unbusy(r)
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.PhoneTimeout)
		defer cancel()
		if _, err := s.linkDevice(ctx, c, pk.person, adv); err != nil {
			s.log.Warn("a device was not linked after its passkey", "world", c.world, "instance", c.instance, "error", err)
		}
	})
}

func (s *Server) controlPasskey(r *http.Request) (any, error) {
	in, err := body[struct {
		World       string         `json:"world"`
		PhoneNumber string         `json:"phone_number"`
		Options     PasskeyOptions `json:"options"`
	}](r)
	if err != nil {
		return nil, err
	}
	return s.SignPasskey(in.World, in.PhoneNumber, in.Options)
}
