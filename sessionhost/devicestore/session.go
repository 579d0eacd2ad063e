package devicestore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.mau.fi/libsignal/state/record"
	wa "go.mau.fi/whatsmeow/types"
)

func (l *link) GetSession(ctx context.Context, address string) ([]byte, error) {
	if err := l.usable(); err != nil {
		return nil, err
	}
	return l.get(ctx, l.peerKey(peerSession, address))
}

func (l *link) HasSession(ctx context.Context, address string) (bool, error) {
	if has, err := l.keyHolders(ctx, address); err != nil || has[address] {
		return false, err
	}
	session, err := l.GetSession(ctx, address)
	return session != nil, err
}

// GetManySessions leaves out the devices that have the key of the group that is sent
// to. The library gives the key to every device that it can encrypt for, with every
// message; one that it has no session with it skips. It asks for the bundles of those
// that are answered without a session, and not of those that are left out.
func (l *link) GetManySessions(ctx context.Context, addresses []string) (map[string][]byte, error) {
	if len(addresses) == 0 {
		return nil, nil
	}
	if err := l.usable(); err != nil {
		return nil, err
	}
	has, err := l.keyHolders(ctx, addresses...)
	if err != nil {
		return nil, err
	}
	if len(has) > 0 {
		addresses = slices.DeleteFunc(slices.Clone(addresses), func(a string) bool { return has[a] })
	}
	sks := make([]string, len(addresses))
	for i, address := range addresses {
		sks[i] = l.peerKey(peerSession, address)
	}
	values, err := l.getMany(ctx, sks)
	if err != nil {
		return nil, err
	}
	sessions := make(map[string][]byte, len(addresses))
	for i, address := range addresses {
		sessions[address] = values[sks[i]]
	}
	return sessions, nil
}

// PutSession is durable when it returns, so it comes before the ciphertext that
// was made with the record leaves. Outside a decryption it refuses a record
// that was made from an older one than is stored ([ErrStale]). The error of a
// single record also wraps context.Canceled, because whatsmeow then leaves the
// retry receipt unacknowledged that it was encrypting for.
func (l *link) PutSession(ctx context.Context, address string, session []byte) error {
	err := l.putSessions(ctx, map[string][]byte{address: session})
	if err == ErrStale {
		return fmt.Errorf("%w: %w", err, context.Canceled)
	}
	return err
}

// PutManySessions writes up to a hundred sessions in one transaction; more of
// them (a large group) in several, all before it returns. It is what whatsmeow
// calls between encrypting a message and sending it, so the copy of the message
// goes with it.
func (l *link) PutManySessions(ctx context.Context, sessions map[string][]byte) error {
	if s := l.sendingOf(ctx); s != nil && l.txnOf(ctx) == nil {
		if err := s.aim(sessions); err != nil {
			return err
		}
	}
	batch := make(map[string][]byte, min(len(sessions), maxItems-spare))
	for address, session := range sessions {
		batch[address] = session
		if len(batch) == maxItems-spare {
			if err := l.putSessions(ctx, batch); err != nil {
				return err
			}
			clear(batch)
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return l.putSessions(ctx, batch)
}

// spare is room left in a transaction for staged rows and continuation rows.
const spare = 29

func (l *link) putSessions(ctx context.Context, sessions map[string][]byte) error {
	if err := l.usable(); err != nil {
		return err
	}
	decrypting := l.txnOf(ctx) != nil
	sending := l.sendingOf(ctx)
	err := l.atomically(ctx, func(ctx context.Context, t *txn) error {
		sks := make([]string, 0, len(sessions))
		byKey := make(map[string][]byte, len(sessions))
		for address, session := range sessions {
			sk := l.peerKey(peerSession, address)
			sks, byKey[sk] = append(sks, sk), session
		}
		current, err := l.getMany(ctx, sks)
		if err != nil {
			return err
		}
		for sk, session := range byKey {
			if decrypting {
				byKey[sk] = mended(current[sk], session)
			} else if !follows(current[sk], session) {
				return ErrStale
			}
		}
		for sk, session := range byKey {
			t.put(sk, bytes.Clone(nonNil(session)))
		}
		if !decrypting {
			l.keepCopies(sending, t)
		}
		return nil
	})
	if err == nil && sending != nil {
		sending.wrote(sessions)
	}
	return err
}

// keepCopies makes the copies of messages part of the transaction that comes
// before they leave, and not of what may be left out of it.
func (l *link) keepCopies(s *Sending, t *txn) {
	if s != nil {
		s.join(t)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for sk, w := range l.staged {
		if kindOf(sk) == kindOutgoing {
			t.set(sk, w)
		}
	}
}

// mended undoes what a decryption has done to the states of a session that it
// has not used. libsignal tries one state after the other, and moves the ratchet
// of each on before it compares the authentication code, so those that do not
// fit are spoilt. Where both sides have begun a session at the same time, both
// sessions are in use for a while, and the next messages on the spoilt one could
// not be read. A record that is none of libsignal's passes.
func mended(current, next []byte) []byte {
	var now, then record.SessionStructure
	if json.Unmarshal(next, &then) != nil || then.SessionState == nil || len(then.PreviousStates) == 0 || json.Unmarshal(current, &now) != nil {
		return next
	}
	before := make(map[string]*record.StateStructure, 1+len(now.PreviousStates))
	for _, state := range append(now.PreviousStates, now.SessionState) {
		if state != nil {
			before[string(state.SenderBaseKey)] = state
		}
	}
	// What was taken from the previous states may still stand among them.
	seen := map[string]bool{string(then.SessionState.SenderBaseKey): true}
	previous := make([]*record.StateStructure, 0, len(then.PreviousStates))
	for _, state := range then.PreviousStates {
		if state == nil || len(state.SenderBaseKey) == 0 {
			return next
		}
		if seen[string(state.SenderBaseKey)] {
			continue
		}
		seen[string(state.SenderBaseKey)] = true
		previous = append(previous, cmp.Or(before[string(state.SenderBaseKey)], state))
	}
	then.PreviousStates = previous
	all, err := json.Marshal(&then)
	if err != nil {
		return next
	}
	return all
}

// follows says whether the next record was made from the current one by
// encrypting: the same chains with the sending one further on, or a new session
// on top of the current one. A record that is none of libsignal's can't be
// judged and passes.
func follows(current, next []byte) bool {
	if current == nil {
		return true
	}
	// whatsmeow's serializer writes sessions as JSON of this struct. It is not
	// used here because it prints what it can't read.
	var now, then record.SessionStructure
	if json.Unmarshal(current, &now) != nil || !whole(now.SessionState) ||
		json.Unmarshal(next, &then) != nil || !whole(then.SessionState) {
		return true
	}
	if sameChains(now.SessionState, then.SessionState) {
		return then.SessionState.SenderChain.ChainKey.Index > now.SessionState.SenderChain.ChainKey.Index
	}
	for _, previous := range then.PreviousStates {
		if whole(previous) && sameChains(now.SessionState, previous) {
			return previous.SenderChain.ChainKey.Index == now.SessionState.SenderChain.ChainKey.Index
		}
	}
	return false
}

func whole(s *record.StateStructure) bool {
	return s != nil && s.SenderChain != nil && s.SenderChain.ChainKey != nil
}

// sameChains says whether two states stand at the same point of receiving and
// on the same sending chain.
func sameChains(a, b *record.StateStructure) bool {
	if !bytes.Equal(a.RootKey, b.RootKey) ||
		!bytes.Equal(a.SenderChain.SenderRatchetKeyPublic, b.SenderChain.SenderRatchetKeyPublic) ||
		len(a.ReceiverChains) != len(b.ReceiverChains) {
		return false
	}
	for i, x := range a.ReceiverChains {
		y := b.ReceiverChains[i]
		if !bytes.Equal(x.SenderRatchetKeyPublic, y.SenderRatchetKeyPublic) ||
			x.ChainKey == nil || y.ChainKey == nil || x.ChainKey.Index != y.ChainKey.Index ||
			len(x.MessageKeys) != len(y.MessageKeys) {
			return false
		}
	}
	return true
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (l *link) DeleteSession(ctx context.Context, address string) error {
	return l.deleteRow(ctx, l.peerKey(peerSession, address))
}

func (l *link) DeleteAllSessions(ctx context.Context, phone string) error {
	return l.deletePrefix(ctx, l.peerPrefix(phone, peerSession))
}

// deleteRow deletes a row that may not exist; then it costs no write.
func (l *link) deleteRow(ctx context.Context, sk string) error {
	return l.atomically(ctx, func(ctx context.Context, t *txn) error {
		value, err := l.get(ctx, sk)
		if err == nil && value != nil {
			t.delete(sk)
		}
		return err
	})
}

func (l *link) deletePrefix(ctx context.Context, prefix string) error {
	return l.atomically(ctx, func(ctx context.Context, t *txn) error {
		rows, err := l.list(ctx, prefix)
		for sk := range rows {
			t.delete(sk)
		}
		return err
	})
}

// MigratePNToLID moves sessions, identities and sender keys of a phone number
// to its LID, in one transaction. It is called on every message; what was
// migrated is remembered once the transaction has succeeded, not before.
func (l *link) MigratePNToLID(ctx context.Context, pn, lid wa.JID) error {
	if err := l.usable(); err != nil {
		return err
	}
	from, to := pn.SignalAddressUser(), lid.SignalAddressUser()
	l.mu.Lock()
	_, done := l.migrated[from]
	l.mu.Unlock()
	if done {
		return nil
	}
	err := l.atomically(ctx, func(ctx context.Context, t *txn) error {
		oldPrefix, newPrefix := l.peerPrefix(from, ""), l.peerPrefix(to, "")
		rows, err := l.list(ctx, oldPrefix)
		if err != nil || oldPrefix == newPrefix {
			return err
		}
		for sk, value := range rows {
			t.put(newPrefix+strings.TrimPrefix(sk, oldPrefix), value)
			t.delete(sk)
		}
		return nil
	})
	if err != nil || l.txnOf(ctx) != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead == nil {
		if len(l.migrated) >= maxMigrated {
			clear(l.migrated)
		}
		l.migrated[from] = struct{}{}
	}
	return nil
}

const maxMigrated = 256
