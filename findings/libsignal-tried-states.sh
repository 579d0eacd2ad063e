#!/usr/bin/env bash
# libsignal tries the states of a session record one after the other until one decrypts
# a message. One expects that a state which did not fit is left as it was. Its ratchet
# is moved on before the authentication code is compared, and stays so. When two people
# write to each other at the same time, twice, the next message of one of them can no
# longer be read.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat > main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"os"

	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/logger"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/serialize"
	"go.mau.fi/libsignal/session"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/libsignal/tests"
	"go.mau.fi/libsignal/util/keyhelper"
)

var (
	ctx  = context.Background()
	form = serialize.NewProtoBufSerializer()
)

type quiet struct{}

func (quiet) Debug(string, string)   {}
func (quiet) Info(string, string)    {}
func (quiet) Warning(string, string) {}
func (quiet) Error(string, string)   {}
func (quiet) Configure(string)       {}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// sessions is a store of one record, which is read and written as bytes.
type sessions struct {
	*tests.InMemorySession
	saved []byte
}

func (s *sessions) ContainsSession(context.Context, *protocol.SignalAddress) (bool, error) {
	return s.saved != nil, nil
}

func (s *sessions) LoadSession(context.Context, *protocol.SignalAddress) (*record.Session, error) {
	if s.saved == nil {
		return record.NewSession(form.Session, form.State), nil
	}
	return record.NewSessionFromBytes(s.saved, form.Session, form.State)
}

func (s *sessions) StoreSession(_ context.Context, _ *protocol.SignalAddress, r *record.Session) error {
	s.saved = r.Serialize()
	return nil
}

// person has keys, and a session record for the other person.
type person struct {
	bundle   *prekey.Bundle
	sessions *sessions
	builder  *session.Builder
	cipher   *session.Cipher
	other    *protocol.SignalAddress
}

func newPerson(other string) *person {
	identity, err := keyhelper.GenerateIdentityKeyPair()
	check(err)
	preKeys, err := keyhelper.GeneratePreKeys(1, 5, form.PreKeyRecord)
	check(err)
	signed, err := keyhelper.GenerateSignedPreKey(identity, 0, form.SignedPreKeyRecord)
	check(err)

	p := &person{sessions: &sessions{}, other: protocol.NewSignalAddress(other, 1)}
	pre, sig := tests.NewInMemoryPreKey(), tests.NewInMemorySignedPreKey()
	for _, k := range preKeys {
		check(pre.StorePreKey(ctx, k.ID().Value, k))
	}
	check(sig.StoreSignedPreKey(ctx, signed.ID(), signed))
	p.builder = session.NewBuilder(p.sessions, pre, sig, tests.NewInMemoryIdentityKey(identity, 7), p.other, form)
	p.cipher = session.NewCipher(p.builder, p.other)
	p.bundle = prekey.NewBundle(7, 1, preKeys[0].ID(), signed.ID(), preKeys[0].KeyPair().PublicKey(),
		signed.KeyPair().PublicKey(), signed.Signature(), identity.PublicKey())
	return p
}

func (p *person) send(text string) protocol.CiphertextMessage {
	m, err := p.cipher.Encrypt(ctx, []byte(text))
	check(err)
	return m
}

// first reads a message that begins a session.
func (p *person) first(m protocol.CiphertextMessage) {
	parsed, err := protocol.NewPreKeySignalMessageFromBytes(m.Serialize(), form.PreKeySignalMessage, form.SignalMessage)
	check(err)
	_, err = p.cipher.DecryptMessage(ctx, parsed)
	check(err)
}

// read reads a later message.
func (p *person) read(m protocol.CiphertextMessage) error {
	parsed, err := protocol.NewSignalMessageFromBytes(m.Serialize(), form.SignalMessage)
	check(err)
	_, err = p.cipher.Decrypt(ctx, parsed)
	return err
}

func main() {
	var l logger.Loggable = quiet{}
	logger.Setup(&l)
	alice, bob := newPerson("bob"), newPerson("alice")

	// Both begin at the same time: each has two sessions then, in opposite order.
	check(alice.builder.ProcessBundle(ctx, bob.bundle))
	check(bob.builder.ProcessBundle(ctx, alice.bundle))
	fromAlice, fromBob := alice.send("hello"), bob.send("hello")
	alice.first(fromBob)
	bob.first(fromAlice)

	// Both write again at the same time, each in the session that is first for them.
	fromAlice, fromBob = alice.send("how are you?"), bob.send("how are you?")
	before := alice.sessions.saved
	fmt.Println("Alice reads Bob's second message:", alice.read(fromBob))
	fmt.Println("Bob reads Alice's second message:", bob.read(fromAlice))

	// Bob answers in the session in which Alice has written.
	third := bob.send("fine")
	seen := alice.read(third)
	fmt.Println("Alice reads Bob's third message: ", seen)

	// The same message, with Alice's record as it was before she tried a state in vain.
	alice.sessions.saved = before
	untouched := alice.read(third)
	fmt.Println("the same, with the record of before:", untouched)

	if seen == nil || untouched != nil {
		fmt.Println("CHANGED: a state that did not fit is left as it was")
		os.Exit(1)
	}
}
GO

go mod init finding 2> /dev/null
go get go.mau.fi/libsignal@v0.2.2 2> /dev/null
go mod tidy 2> /dev/null
go list -m go.mau.fi/libsignal
go run .
