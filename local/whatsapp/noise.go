package whatsapp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waWa6"
)

// The server's side of Noise_XX_25519_AESGCM_SHA256 as WhatsApp speaks it. Two
// things differ from the textbook: the four bytes that open the connection are
// the prologue, and the empty payload of the first message is not mixed in.

const noiseName = "Noise_XX_25519_AESGCM_SHA256\x00\x00\x00\x00"

var errHandshake = errors.New("handshake failed")

type noise struct {
	hash    []byte
	chain   []byte
	aead    cipher.AEAD
	counter uint32
}

func newNoise(prologue []byte) *noise {
	n := &noise{hash: []byte(noiseName), chain: []byte(noiseName)}
	n.mixHash(prologue)
	return n
}

func (n *noise) mixHash(data []byte) {
	h := sha256.New()
	h.Write(n.hash)
	h.Write(data)
	n.hash = h.Sum(nil)
}

func (n *noise) mixKey(private *ecdh.PrivateKey, public []byte) error {
	shared, err := agreeWith(private, public)
	if err != nil {
		return err
	}
	chain, key, err := expandTwo(n.chain, shared)
	if err != nil {
		return err
	}
	n.chain, n.counter = chain, 0
	n.aead, err = newAEAD(key)
	return err
}

func (n *noise) encrypt(plaintext []byte) []byte {
	sealed := n.aead.Seal(nil, nonce(n.counter), plaintext, n.hash)
	n.counter++
	n.mixHash(sealed)
	return sealed
}

func (n *noise) decrypt(sealed []byte) ([]byte, error) {
	plaintext, err := n.aead.Open(nil, nonce(n.counter), sealed, n.hash)
	if err != nil {
		return nil, err
	}
	n.counter++
	n.mixHash(sealed)
	return plaintext, nil
}

// split ends the handshake: the first key is the client's to write with.
func (n *noise) split() (read, write cipher.AEAD, err error) {
	first, second, err := expandTwo(n.chain, nil)
	if err != nil {
		return nil, nil, err
	}
	if read, err = newAEAD(first); err != nil {
		return nil, nil, err
	}
	write, err = newAEAD(second)
	return read, write, err
}

func expandTwo(salt, secret []byte) (first, second []byte, err error) {
	out, err := hkdf.Key(sha256.New, secret, salt, "", 64)
	if err != nil {
		return nil, nil, err
	}
	return out[:32], out[32:], nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func nonce(counter uint32) []byte {
	iv := make([]byte, 12)
	binary.BigEndian.PutUint32(iv[8:], counter)
	return iv
}

// session is what a finished handshake leaves behind.
type session struct {
	client  [32]byte // the client's static key: the device's proof of identity
	payload *waWa6.ClientPayload
	read    cipher.AEAD
	write   cipher.AEAD
}

// handshake runs the server's side over any carrier of frames.
func handshake(prologue []byte, static *ecdh.PrivateKey, chain []byte, receive func() ([]byte, error), send func([]byte) error) (*session, error) {
	var hello, finish waWa6.HandshakeMessage
	frame, err := receive()
	if err != nil {
		return nil, err
	}
	if err = proto.Unmarshal(frame, &hello); err != nil {
		return nil, fmt.Errorf("%w: client hello: %v", errHandshake, err)
	}
	theirs := hello.GetClientHello().GetEphemeral()
	if len(theirs) != 32 {
		return nil, fmt.Errorf("%w: no ephemeral key in the client hello", errHandshake)
	}
	n := newNoise(prologue)
	n.mixHash(theirs)
	ours, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	n.mixHash(ours.PublicKey().Bytes())
	if err = n.mixKey(ours, theirs); err != nil {
		return nil, fmt.Errorf("%w: %v", errHandshake, err)
	}
	sealedStatic := n.encrypt(static.PublicKey().Bytes())
	if err = n.mixKey(static, theirs); err != nil {
		return nil, fmt.Errorf("%w: %v", errHandshake, err)
	}
	reply, err := proto.Marshal(&waWa6.HandshakeMessage{ServerHello: &waWa6.HandshakeMessage_ServerHello{
		Ephemeral: ours.PublicKey().Bytes(),
		Static:    sealedStatic,
		Payload:   n.encrypt(chain),
	}})
	if err != nil {
		return nil, err
	}
	if err = send(reply); err != nil {
		return nil, err
	}

	if frame, err = receive(); err != nil {
		return nil, err
	}
	if err = proto.Unmarshal(frame, &finish); err != nil {
		return nil, fmt.Errorf("%w: client finish: %v", errHandshake, err)
	}
	clientStatic, err := n.decrypt(finish.GetClientFinish().GetStatic())
	if err != nil || len(clientStatic) != 32 {
		return nil, fmt.Errorf("%w: the client's static key cannot be read", errHandshake)
	}
	if err = n.mixKey(ours, clientStatic); err != nil {
		return nil, fmt.Errorf("%w: %v", errHandshake, err)
	}
	plain, err := n.decrypt(finish.GetClientFinish().GetPayload())
	if err != nil {
		return nil, fmt.Errorf("%w: the client's payload cannot be read", errHandshake)
	}
	out := &session{client: [32]byte(clientStatic), payload: new(waWa6.ClientPayload)}
	if err = proto.Unmarshal(plain, out.payload); err != nil {
		return nil, fmt.Errorf("%w: client payload: %v", errHandshake, err)
	}
	out.read, out.write, err = n.split()
	return out, err
}
