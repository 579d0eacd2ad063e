// Package mediacrypt encrypts and decrypts WhatsApp's files as streams: AES-256-CBC
// under a key of the file's own, then the first ten bytes of an HMAC-SHA256 over
// initialization vector and ciphertext. Whatever the file's size, it is never in
// memory, and never on disk.
//
// A file that is read has to be whole before anybody may see it: [Opener.Check] is for
// the end, when the authentication code and both hashes are known.
package mediacrypt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"hash"
	"io"

	"whatisup/shared/whatisup"
)

// KeySize is the size of a file's key.
const KeySize = 32

// Overhead is by how much an encrypted file may be longer than the file.
const Overhead = aes.BlockSize + macSize

const macSize = 10

// SealedSize is the size of the encrypted file.
func SealedSize(plain int64) int64 { return (plain/aes.BlockSize+1)*aes.BlockSize + macSize }

// ErrMismatch: the file is not what its message says.
var ErrMismatch = errors.New("the file is not what the message says of it")

// infos are WhatsApp's names of the kinds of keys.
var infos = map[whatisup.BodyType]string{
	whatisup.BodyImage: "WhatsApp Image Keys", whatisup.BodySticker: "WhatsApp Image Keys", whatisup.BodyVideo: "WhatsApp Video Keys",
	whatisup.BodyAudio: "WhatsApp Audio Keys", whatisup.BodyDocument: "WhatsApp Document Keys",
}

type keys struct{ iv, cipher, mac []byte }

func expand(key []byte, kind whatisup.BodyType) (keys, error) {
	info, ok := infos[kind]
	if !ok || len(key) != KeySize {
		return keys{}, ErrMismatch
	}
	b, err := hkdf.Key(sha256.New, key, nil, info, 112)
	if err != nil {
		return keys{}, err
	}
	return keys{b[:16], b[16:48], b[48:80]}, nil
}

const chunk = 32 << 10 // a multiple of the block size

// Sealer reads a file and gives it encrypted.
type Sealer struct {
	r             io.Reader
	cbc           cipher.BlockMode
	mac           hash.Hash
	plain, sealed hash.Hash
	size          int64
	buffer        []byte
	out           []byte
	done          bool
}

// Seal encrypts what is read from r. The key must be random and used for one file.
func Seal(r io.Reader, key []byte, kind whatisup.BodyType) (*Sealer, error) {
	k, err := expand(key, kind)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(k.cipher)
	if err != nil {
		return nil, err
	}
	s := &Sealer{
		r: r, cbc: cipher.NewCBCEncrypter(block, k.iv), mac: hmac.New(sha256.New, k.mac), plain: sha256.New(), sealed: sha256.New(),
		buffer: make([]byte, chunk, chunk+aes.BlockSize),
	}
	s.mac.Write(k.iv)
	return s, nil
}

func (s *Sealer) Read(p []byte) (int, error) {
	for len(s.out) == 0 {
		if s.done {
			return 0, io.EOF
		}
		n, err := io.ReadFull(s.r, s.buffer[:chunk])
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return 0, err
		}
		s.plain.Write(s.buffer[:n])
		s.size += int64(n)
		b := s.buffer[:n]
		if err != nil { // the end
			pad := aes.BlockSize - n%aes.BlockSize
			b = append(b, bytes.Repeat([]byte{byte(pad)}, pad)...)
			s.done = true
		}
		s.cbc.CryptBlocks(b, b)
		s.mac.Write(b)
		if s.done {
			b = append(b[:len(b):len(b)], s.mac.Sum(nil)[:macSize]...)
		}
		s.sealed.Write(b)
		s.out = b
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

// Sums are the file's hash, the encrypted file's, and the file's size, after the end.
func (s *Sealer) Sums() (plain, sealed []byte, size int64) {
	return s.plain.Sum(nil), s.sealed.Sum(nil), s.size
}

// Opener reads an encrypted file and gives the file. Nothing of it may be used before
// Check.
type Opener struct {
	r             io.Reader
	cbc           cipher.BlockMode
	mac           hash.Hash
	plain, sealed hash.Hash
	size          int64
	left          int64 // of what may still be read
	pending       []byte
	plainBytes    []byte // what out is part of
	out           []byte
	done          bool
	authentic     bool
}

// Open decrypts what is read from r, at most as much as a file of most bytes can have.
func Open(r io.Reader, key []byte, kind whatisup.BodyType, most int64) (*Opener, error) {
	k, err := expand(key, kind)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(k.cipher)
	if err != nil {
		return nil, err
	}
	o := &Opener{
		r: r, cbc: cipher.NewCBCDecrypter(block, k.iv), mac: hmac.New(sha256.New, k.mac), plain: sha256.New(), sealed: sha256.New(),
		left: most + Overhead, pending: make([]byte, 0, chunk+Overhead), plainBytes: make([]byte, chunk+Overhead),
	}
	o.mac.Write(k.iv)
	return o, nil
}

// ErrTooLong: the file is longer than is taken.
var ErrTooLong = errors.New("the file is longer than is taken")

func (o *Opener) Read(p []byte) (int, error) {
	for len(o.out) == 0 {
		if o.done {
			return 0, io.EOF
		}
		// What is held back is the authentication code and, before it, the last block,
		// until it is known that they are the last.
		held := len(o.pending)
		n, err := io.ReadFull(o.r, o.pending[held:cap(o.pending)])
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return 0, err
		}
		if o.left -= int64(n); o.left < 0 {
			return 0, ErrTooLong
		}
		all := o.pending[:held+n]
		o.sealed.Write(all[held:])
		if err != nil {
			if o.out, err = o.last(all); err != nil {
				return 0, err
			}
			o.done = true
		} else {
			body := (len(all) - Overhead) / aes.BlockSize * aes.BlockSize
			o.mac.Write(all[:body])
			o.out = o.plainBytes[:body]
			o.cbc.CryptBlocks(o.out, all[:body])
			o.pending = append(o.pending[:0], all[body:]...)
		}
		o.plain.Write(o.out)
		o.size += int64(len(o.out))
	}
	n := copy(p, o.out)
	o.out = o.out[n:]
	return n, nil
}

func (o *Opener) last(all []byte) ([]byte, error) {
	body := len(all) - macSize
	if body < aes.BlockSize || body%aes.BlockSize != 0 {
		return nil, ErrMismatch
	}
	o.mac.Write(all[:body])
	if !hmac.Equal(o.mac.Sum(nil)[:macSize], all[body:]) {
		return nil, ErrMismatch
	}
	out := o.plainBytes[:body]
	o.cbc.CryptBlocks(out, all[:body])
	pad := int(out[body-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, ErrMismatch
	}
	o.authentic = true
	return out[:body-pad], nil
}

// Check says, after the end, whether the file is the one that its message names. A
// hash that the message does not have is not compared.
func (o *Opener) Check(plain, sealed []byte) error {
	switch {
	case !o.authentic,
		len(plain) > 0 && !hmac.Equal(plain, o.plain.Sum(nil)),
		len(sealed) > 0 && !hmac.Equal(sealed, o.sealed.Sum(nil)):
		return ErrMismatch
	}
	return nil
}

// Sum is the file's hash and size, after the end.
func (o *Opener) Sum() (plain []byte, size int64) { return o.plain.Sum(nil), o.size }
