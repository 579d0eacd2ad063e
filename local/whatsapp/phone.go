package whatsapp

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Phone is how a simulated phone behaves. Every number has one; one that nobody
// has changed is on WhatsApp, reads at once, answers nothing, is online, and
// lets everybody write to it.
type Phone struct {
	World       string  `json:"world"`
	PhoneNumber string  `json:"phone_number"`
	LID         string  `json:"lid"`
	OnWhatsApp  bool    `json:"on_whatsapp"`
	Reads       string  `json:"reads"`   // auto, manual (by the action), or never: read receipts are off
	Replies     string  `json:"replies"` // none, or echo: to what a linked device writes in a direct chat
	Offline     bool    `json:"offline"`
	Restricts   *string `json:"restricts"` // reachout or new_chats: refuses who has exchanged no message with it, with 463 or 475
}

// Values of Phone's fields.
const (
	ReadsAuto         = "auto"
	ReadsManual       = "manual"
	ReadsNever        = "never"
	RepliesNone       = "none"
	RepliesEcho       = "echo"
	RestrictsReachout = "reachout"
	RestrictsNewChats = "new_chats"
)

// Behaviour is what SetPhone takes. What is nil gets its default.
type Behaviour struct {
	OnWhatsApp *bool   `json:"on_whatsapp"`
	Reads      *string `json:"reads"`
	Replies    *string `json:"replies"`
	Offline    *bool   `json:"offline"`
	Restricts  *string `json:"restricts"`
}

// behaviour is a phone's as it is kept.
type behaviour struct {
	OnWhatsApp bool   `json:"on_whatsapp"`
	Reads      string `json:"reads"`
	Replies    string `json:"replies"`
	Offline    bool   `json:"offline"`
	Restricts  string `json:"restricts"`

	Told []string `json:"told,omitempty"` // numbers that were told of a restriction for this phone's sake
}

var usualBehaviour = behaviour{OnWhatsApp: true, Reads: ReadsAuto, Replies: RepliesNone}

// phones are the behaviours that somebody has set; the others are usual.
type phones struct {
	change sync.Mutex // held over a change, file included
	mu     sync.RWMutex
	set    map[person]behaviour
}

func (s *Server) loadPhones() error {
	s.behaviours.set = map[person]behaviour{}
	return s.db.view(func(tx *tx) error {
		return tx.Bucket(bucketPhones).ForEach(func(key, value []byte) error {
			b := usualBehaviour
			if err := json.Unmarshal(value, &b); err != nil {
				return err
			}
			parts := strings.Split(string(key), "\x00")
			if len(parts) >= 2 {
				s.behaviours.set[person{parts[0], parts[1]}] = b
			}
			return nil
		})
	})
}

// behaviourOf says how a person's phone behaves.
func (s *Server) behaviourOf(p person) behaviour {
	s.behaviours.mu.RLock()
	defer s.behaviours.mu.RUnlock()
	if b, ok := s.behaviours.set[p]; ok {
		return b
	}
	return usualBehaviour
}

// isOnWhatsApp says whether a person of whom a client asks has an account.
func (s *Server) isOnWhatsApp(p person) bool { return s.behaviourOf(p).OnWhatsApp }

func (s *Server) phoneView(p person, b behaviour) Phone {
	out := Phone{
		World: p.world, PhoneNumber: p.number, LID: s.lidOf(p, 0).String(),
		OnWhatsApp: b.OnWhatsApp, Reads: b.Reads, Replies: b.Replies, Offline: b.Offline,
	}
	if b.Restricts != "" {
		out.Restricts = &b.Restricts
	}
	return out
}

// Phone returns how a phone behaves.
func (s *Server) Phone(world, number string) (Phone, error) {
	p, err := personNamed(world, number)
	if err != nil {
		return Phone{}, err
	}
	return s.phoneView(p, s.behaviourOf(p)), nil
}

// Phones lists the phones of a world that somebody has set, that a device is
// linked to, or that show a message, by number.
func (s *Server) Phones(world string) ([]Phone, error) {
	world = orWorld(world)
	known := map[person]bool{}
	s.behaviours.mu.RLock()
	for p := range s.behaviours.set {
		known[p] = known[p] || p.world == world
	}
	s.behaviours.mu.RUnlock()
	s.mu.Lock()
	for p := range s.people {
		known[p] = known[p] || p.world == world
	}
	s.mu.Unlock()
	err := s.db.view(func(tx *tx) error {
		cursor, prefix := tx.Bucket(bucketShown).Cursor(), keyOf(world)
		for key, _ := cursor.Seek(prefix); strings.HasPrefix(string(key), string(prefix)); {
			number, _, _ := strings.Cut(string(key[len(prefix):]), "\x00")
			known[person{world, number}] = true
			key, _ = cursor.Seek(append(keyOf(world), number+"\x01"...))
		}
		return nil
	})
	out := []Phone{}
	for p, here := range known {
		if here {
			out = append(out, s.phoneView(p, s.behaviourOf(p)))
		}
	}
	slices.SortFunc(out, func(a, b Phone) int { return strings.Compare(a.PhoneNumber, b.PhoneNumber) })
	return out, err
}

func (b Behaviour) whole() (behaviour, error) {
	out := usualBehaviour
	if b.OnWhatsApp != nil {
		out.OnWhatsApp = *b.OnWhatsApp
	}
	if b.Reads != nil {
		out.Reads = *b.Reads
	}
	if b.Replies != nil {
		out.Replies = *b.Replies
	}
	if b.Offline != nil {
		out.Offline = *b.Offline
	}
	if b.Restricts != nil {
		out.Restricts = *b.Restricts
	}
	switch {
	case !slices.Contains([]string{ReadsAuto, ReadsManual, ReadsNever}, out.Reads):
		return out, badRequest("reads must be auto, manual or never")
	case !slices.Contains([]string{RepliesNone, RepliesEcho}, out.Replies):
		return out, badRequest("replies must be none or echo")
	case !slices.Contains([]string{"", RestrictsReachout, RestrictsNewChats}, out.Restricts):
		return out, badRequest("restricts must be reachout, new_chats or null")
	}
	return out, nil
}

// SetPhone replaces a phone's behaviour whole. A phone that comes online gets
// what waited for it before this returns.
func (s *Server) SetPhone(world, number string, b Behaviour) (Phone, error) {
	p, err := personNamed(world, number)
	if err != nil {
		return Phone{}, err
	}
	next, err := b.whole()
	if err != nil {
		return Phone{}, err
	}
	return s.changePhone(p, func(behaviour) behaviour { return next })
}

// changePhone changes a behaviour and does what follows from the change.
func (s *Server) changePhone(p person, change func(behaviour) behaviour) (Phone, error) {
	s.behaviours.change.Lock()
	before := s.behaviourOf(p)
	next := change(before)
	var free []string // told of a restriction that ends now
	if next.Restricts == RestrictsReachout {
		next.Told = before.Told
	} else {
		free = before.Told
	}
	err := s.putBehaviour(p, next)
	s.behaviours.change.Unlock()
	if err != nil {
		return Phone{}, err
	}

	for _, number := range free {
		s.tellRestriction(person{p.world, number}, false)
	}
	if before.Offline != next.Offline {
		s.tellPresence(p, next.Offline, nil)
	}
	if before.Offline && !next.Offline {
		s.takeWaiting(p)
	}
	return s.phoneView(p, next), nil
}

func (s *Server) putBehaviour(p person, b behaviour) error {
	if err := s.db.update(func(tx *tx) error {
		return putJSON(tx.Bucket(bucketPhones), keyOf(p.world, p.number), b)
	}); err != nil {
		return err
	}
	s.behaviours.mu.Lock()
	defer s.behaviours.mu.Unlock()
	s.behaviours.set[p] = b
	return nil
}

var errOffline = refuse(http.StatusConflict, "phone_offline", "this phone is offline")
