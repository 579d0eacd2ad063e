package whatsapp

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"sync"
	"time"
)

// Shown is one message as a phone shows it: what others wrote to it, what its
// owner wrote on it, and what the owner's linked devices sent. A phone shows an
// id of a sender in a chat once, however often it comes.
type Shown struct {
	Position uint64          `json:"position"`
	ID       string          `json:"message_id"`
	From     string          `json:"from"` // phone number
	Chat     string          `json:"chat"` // the other's phone number, a group's id, or status@broadcast
	Type     string          `json:"type"`
	Text     string          `json:"text"`
	Body     json.RawMessage `json:"body"`
	At       time.Time       `json:"at"`
	Read     time.Time       `json:"read_at,omitzero"`
	Played   time.Time       `json:"played_at,omitzero"`
	Edited   time.Time       `json:"edited_at,omitzero"`  // the text is the new one
	Revoked  time.Time       `json:"revoked_at,omitzero"` // text and body are gone
}

// shownRecord is Shown as it is kept.
type shownRecord struct {
	Shown
	Device string `json:"device,omitempty"` // that sent it, empty: the phone itself
	PN     bool   `json:"pn,omitempty"`     // addressed by phone number, and so are its receipts
	Plain  []byte `json:"plain,omitempty"`  // the encoded message
	Secret []byte `json:"secret,omitempty"` // of the message, for votes and edits
}

// maxShown is how many messages a phone keeps; older ones go.
const maxShown = 10_000

func shownKey(at person, position uint64) []byte {
	return append(keyOf(at.world, at.number), order64(position)...)
}

func shownIDKey(at person, chat, from, id string) []byte {
	return keyOf(at.world, at.number, chat, from, id)
}

// show puts a message on a phone's screen. It says false if it is there already.
func (s *Server) show(tx *tx, at person, r *shownRecord) (bool, error) {
	ids, id := tx.Bucket(bucketShownIDs), shownIDKey(at, r.Chat, r.From, r.ID)
	if ids.Get(id) != nil {
		return false, nil
	}
	rows := tx.Bucket(bucketShown)
	position, err := rows.NextSequence()
	if err != nil {
		return false, err
	}
	r.Position = position
	if position%256 == 0 {
		if err := trimShown(tx, at); err != nil {
			return false, err
		}
	}
	if err := rows.Put(shownKey(at, position), r.encode()); err != nil {
		return false, err
	}
	return true, ids.Put(id, order64(position))
}

// trimShown drops what a phone shows beyond its limit.
func trimShown(tx *tx, at person) error {
	rows, prefix := tx.Bucket(bucketShown), keyOf(at.world, at.number)
	var keys [][]byte
	if err := under(rows, prefix, func(key, _ []byte) error {
		keys = append(keys, append([]byte(nil), key...))
		return nil
	}); err != nil {
		return err
	}
	for len(keys) > maxShown {
		var r shownRecord
		if _, err := getJSON(rows, keys[0], &r); err != nil {
			return err
		}
		if err := tx.Bucket(bucketShownIDs).Delete(shownIDKey(at, r.Chat, r.From, r.ID)); err != nil {
			return err
		}
		if err := rows.Delete(keys[0]); err != nil {
			return err
		}
		keys = keys[1:]
	}
	return nil
}

// shownBy finds a message on a phone's screen.
func shownBy(tx *tx, at person, chat, from, id string) (r shownRecord, ok bool, err error) {
	position := tx.Bucket(bucketShownIDs).Get(shownIDKey(at, chat, from, id))
	if len(position) != 8 {
		return r, false, nil
	}
	ok, err = getJSON(tx.Bucket(bucketShown), shownKey(at, binary.BigEndian.Uint64(position)), &r)
	return r, ok, err
}

// screens tells who waits that some phone shows something new.
type screens struct {
	mu    sync.Mutex
	grown chan struct{}
}

// onScreens changes what phones show, and tells who waits for it.
func (s *Server) onScreens(change func(*tx) error) error {
	err := s.db.update(change)
	s.screens.changed()
	return err
}

func (s *screens) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
}

func (s *Server) nextScreen() <-chan struct{} {
	s.screens.mu.Lock()
	defer s.screens.mu.Unlock()
	if s.screens.grown == nil {
		s.screens.grown = make(chan struct{})
	}
	return s.screens.grown
}

// AwaitShown waits until a phone shows a message that matches, and for which
// accept, if given, returns true: for instance that it was read.
func (s *Server) AwaitShown(ctx context.Context, world, number string, f ShownFilter, accept func(Shown) bool) (Shown, error) {
	for {
		changed := s.nextScreen()
		page := f
		for {
			list, next, err := s.PhoneMessages(world, number, page)
			if err != nil {
				return Shown{}, err
			}
			for _, m := range list {
				if accept == nil || accept(m) {
					return m, nil
				}
			}
			if page.After = next; next == 0 {
				break
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Shown{}, ctx.Err()
		case <-s.ctx.Done():
			return Shown{}, errStopped
		}
	}
}

// lookUp is shownBy in a transaction of its own.
func (s *Server) lookUp(at person, chat, from, id string) (r shownRecord, ok bool, err error) {
	err = s.db.view(func(tx *tx) (err error) {
		r, ok, err = shownBy(tx, at, chat, from, id)
		return err
	})
	return r, ok, err
}

// reshow changes a message that a phone shows, if it does.
func (s *Server) reshow(tx *tx, at person, chat, from, id string, change func(*shownRecord)) error {
	r, ok, err := shownBy(tx, at, chat, from, id)
	if err != nil || !ok {
		return err
	}
	change(&r)
	return tx.Bucket(bucketShown).Put(shownKey(at, r.Position), r.encode())
}

// ShownFilter narrows what PhoneMessages lists. Empty fields do not narrow.
type ShownFilter struct {
	Chat, From, ID string
	After          uint64 // later than this position
	Limit          int    // 100 by default
}

func (f *ShownFilter) matches(r *shownRecord) bool {
	return (f.Chat == "" || f.Chat == r.Chat) && (f.From == "" || f.From == r.From) && (f.ID == "" || f.ID == r.ID)
}

// PhoneMessages lists what a phone shows, oldest first, and the position to go
// on after, 0 if there is no more.
func (s *Server) PhoneMessages(world, number string, f ShownFilter) (list []Shown, next uint64, err error) {
	p, err := personNamed(world, number)
	if err != nil {
		return nil, 0, err
	}
	rows, next, err := s.screen(p, f)
	list = make([]Shown, len(rows))
	for i := range rows {
		list[i] = rows[i].Shown
	}
	return list, next, err
}

func (s *Server) screen(p person, f ShownFilter) (list []shownRecord, next uint64, err error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	prefix := keyOf(p.world, p.number)
	err = s.db.view(func(tx *tx) error {
		cursor := tx.Bucket(bucketShown).Cursor()
		for key, value := cursor.Seek(shownKey(p, f.After+1)); len(key) == len(prefix)+8 && string(key[:len(prefix)]) == string(prefix); key, value = cursor.Next() {
			var r shownRecord
			if err := json.Unmarshal(value, &r); err != nil {
				return err
			}
			if !f.matches(&r) {
				continue
			}
			if len(list) == f.Limit {
				next = list[len(list)-1].Position
				return nil
			}
			list = append(list, r)
		}
		return nil
	})
	return list, next, err
}
