package whatsapp

import (
	"context"
	"strings"
	"sync"
	"time"
)

// In is a stanza from a client, Out one to it.
const (
	In  = "in"
	Out = "out"
)

// Entry is one line of the journal: a stanza, or something of its own kind that
// belongs between them: login, registration, closed.
type Entry struct {
	Position   uint64    `json:"position"`
	At         time.Time `json:"at"`
	World      string    `json:"world"`
	Instance   string    `json:"instance,omitempty"`
	Device     string    `json:"device,omitempty"` // JID, from the login on
	Connection uint64    `json:"connection"`
	Direction  string    `json:"direction"`
	Tag        string    `json:"tag"`
	Type       string    `json:"type,omitempty"`
	ID         string    `json:"id,omitempty"`
	Stanza     string    `json:"stanza"` // like XML, long content cut short
}

// journal keeps the latest entries within a budget of memory, and for longer
// those that tell when a device came and went. With the keepalives of 2,000
// devices 16 MiB last some minutes; with a few devices, hours.
type journal struct {
	mu     sync.Mutex
	budget int
	used   int
	comers []Entry // logins, registrations and ends of connections that have left the list
	first  int     // of entries of the list that are still kept
	list   []Entry
	next   uint64
	grown  chan struct{} // closed and replaced when an entry is added and somebody waits
	waits  bool
}

func newJournal(budget int) *journal {
	return &journal{budget: budget, next: 1, grown: make(chan struct{})}
}

const entryOverhead = 192

func (e *Entry) size() int {
	return entryOverhead + len(e.Stanza) + len(e.ID) + len(e.Device)
}

func (j *journal) add(e Entry) Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Position = j.next
	j.next++
	j.list = append(j.list, e)
	j.used += e.size()
	for j.used > j.budget && j.first < len(j.list)-1 {
		old := &j.list[j.first]
		j.used -= old.size()
		if old.Tag == "login" || old.Tag == "registration" || old.Tag == "closed" {
			j.comers = append(j.comers, *old)
		}
		j.list[j.first] = Entry{}
		j.first++
	}
	if j.first > 1024 && j.first > len(j.list)/2 {
		j.list = append([]Entry(nil), j.list[j.first:]...)
		j.first = 0
	}
	if most := j.budget / 8 / (2 * entryOverhead); len(j.comers) > most {
		j.comers = append([]Entry(nil), j.comers[len(j.comers)-most/2:]...)
	}
	if j.waits {
		close(j.grown)
		j.grown, j.waits = make(chan struct{}), false
	}
	return e
}

// record writes a stanza down and shows it to the hook.
func (s *Server) record(c *conn, direction string, n *Node) {
	s.mu.Lock()
	who := c.describeLocked()
	s.mu.Unlock()
	e := Entry{
		At: s.now().UTC(), World: who.World, Instance: who.Instance, Connection: who.ID,
		Direction: direction, Tag: strings.Clone(cut(n.Tag)), Type: cut(str(n, "type")), ID: cut(str(n, "id")),
		Stanza: render(n),
	}
	if !who.JID.IsEmpty() {
		e.Device = who.JID.String()
	}
	e = s.journal.add(e)
	if s.cfg.Hooks.Stanza != nil {
		s.cfg.Hooks.Stanza(e, n)
	}
}

// JournalFilter narrows the journal. Empty fields do not narrow.
type JournalFilter struct {
	Target
	After uint64 // entries later than this position
	Tag   string
	Limit int // 1,000 by default
}

func (f *JournalFilter) matches(e *Entry) bool {
	if f.World != "" && f.World != e.World || f.Instance != "" && f.Instance != e.Instance || f.Tag != "" && f.Tag != e.Tag {
		return false
	}
	if f.JID != "" && f.JID != e.Device {
		return false
	}
	if f.PhoneNumber != "" && !strings.HasPrefix(e.Device, f.PhoneNumber+":") {
		return false
	}
	return true
}

// Journal returns entries, oldest first: of the kept ones that match, the first
// Limit ones after the position.
func (s *Server) Journal(f JournalFilter) []Entry {
	out, _ := s.journal.read(f, false)
	return out
}

func (j *journal) read(f JournalFilter, wait bool) ([]Entry, <-chan struct{}) {
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	out := []Entry{}
	for i := range j.comers {
		if e := &j.comers[i]; e.Position > f.After && len(out) < f.Limit && f.matches(e) {
			out = append(out, *e)
		}
	}
	at := j.first
	if oldest := j.next - uint64(len(j.list)-j.first); f.After >= oldest {
		at += int(min(f.After-oldest+1, uint64(len(j.list)-j.first)))
	}
	for ; at < len(j.list) && len(out) < f.Limit; at++ {
		if f.matches(&j.list[at]) {
			out = append(out, j.list[at])
		}
	}
	if wait && len(out) == 0 {
		j.waits = true
		return out, j.grown
	}
	return out, nil
}

// AwaitStanza waits for the first entry that matches, and for which accept, if
// given, returns true.
func (s *Server) AwaitStanza(ctx context.Context, f JournalFilter, accept func(Entry) bool) (Entry, error) {
	for {
		entries, grown := s.journal.read(f, true)
		for _, e := range entries {
			if accept == nil || accept(e) {
				return e, nil
			}
			f.After = e.Position
		}
		if grown == nil {
			continue
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return Entry{}, ctx.Err()
		case <-s.ctx.Done():
			return Entry{}, errStopped
		}
	}
}
