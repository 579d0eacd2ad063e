package whatsapp

import (
	"testing"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/util/optional"
)

// Two phones begin a session before they hear of the other's, and then use both
// in turns, as a phone and a linked device may: each message can be read.
func TestBothBeginASession(t *testing.T) {
	t.Parallel()
	_, s := serve(t, Config{})
	people := [2]person{{"w", "4915100000001"}, {"w", "4915100000002"}}
	s.mu.Lock()
	for _, p := range people {
		s.devices[deviceName{p, 0}] = &device{deviceRecord: deviceRecord{Identity: s.identityKey(p).Pub[:]}}
	}
	s.mu.Unlock()
	write := func(from int, text string, begin bool) Node {
		t.Helper()
		var enc Node
		if err := s.withPhone(people[from], func(p *phone) (err error) {
			var bundle *prekey.Bundle
			if to := people[1-from]; begin {
				account := s.identityKey(to)
				signed := s.signedKeyOf(to, account)
				bundle = prekey.NewBundle(registrationIDOf(s, to), 0, optional.NewEmptyUint32(), signed.KeyID, nil,
					ecc.NewDjbECPublicKey(*signed.Pub), *signed.Signature, identity.NewKey(ecc.NewDjbECPublicKey(*account.Pub)))
			}
			if enc, err = p.encrypt(t.Context(), deviceName{people[1-from], 0}, []byte(text), bundle); err != nil {
				return err
			}
			return p.save()
		}); err != nil {
			t.Fatalf("write %q: %v", text, err)
		}
		return enc
	}
	read := func(at int, enc Node, text string) {
		t.Helper()
		if err := s.withPhone(people[at], func(p *phone) error {
			plain, err := p.decrypt(t.Context(), deviceName{people[1-at], 0}, str(&enc, "type"), enc.Content.([]byte))
			if err != nil {
				return err
			}
			if string(plain) != text {
				t.Errorf("read %q, want %q", plain, text)
			}
			return p.save()
		}); err != nil {
			t.Fatalf("read %q: %v", text, err)
		}
	}
	ours, theirs := write(0, "ours", true), write(1, "theirs", true)
	read(0, theirs, "theirs")         // we go over to their session,
	early := write(0, "early", false) // as this shows,
	read(1, ours, "ours")             // and they to ours,
	read(0, write(1, "from them", false), "from them")
	read(1, early, "early")
	// Theirs was tried in vain before ours was taken, and the other way round.
	for range 3 {
		read(0, write(1, "on", false), "on")
		read(1, write(0, "and on", false), "and on")
	}
}
