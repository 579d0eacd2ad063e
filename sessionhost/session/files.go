package session

import (
	"context"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"whatisup/sessionhost/outbox"
	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// Files are the files of messages, for all sessions of a host.
type Files interface {
	outbox.Files
	// Keep stores the row of a received file, if there is none.
	Keep(ctx context.Context, m *whatisup.Media) error
	// Kept is how long received files are kept.
	Kept() time.Duration
	// Wire is a file as events show it.
	Wire(m *whatisup.Media) whatisup.MediaWire
	// Fetch has received files fetched over a line, as long as up lasts. It waits for
	// nothing, and leaves alone what is being fetched already.
	Fetch(up context.Context, l Line, tell Tell, r whatisup.Ref, ids ...whatisup.MediaID)
	// Read reads a file of at most so many bytes, whole. Its errors are [whatisup.Error]s.
	Read(ctx context.Context, r whatisup.Ref, id whatisup.MediaID, most int64) ([]byte, error)
	// Remove removes the bytes of all files of an instance that was deleted.
	Remove(ctx context.Context, r whatisup.Ref) error
}

// Tell stores an event of an instance, and sends it to the queues.
type Tell = func(ctx context.Context, name whatisup.EventName, id whatisup.EventID, data any) error

// received are the received files of a session that are to be fetched.
type received struct {
	mu      sync.Mutex
	fetch   func(ids ...whatisup.MediaID) // while the link is logged in
	waiting []whatisup.MediaID            // what came before the session knew of its login
}

// waitingMost is how many files wait for the session to know of its login. What is more
// is found by the look through the shard.
const waitingMost = 100

func (r *received) add(ids ...whatisup.MediaID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fetch != nil {
		r.fetch(ids...)
	} else if len(r.waiting)+len(ids) <= waitingMost {
		r.waiting = append(r.waiting, ids...)
	}
}

// by says over what files are fetched from now on; nil: there is nothing.
func (r *received) by(fetch func(ids ...whatisup.MediaID)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fetch = fetch; fetch != nil {
		fetch(r.waiting...)
		r.waiting = nil
	}
}

// file reads a file that a call on a line names.
func (s *Session) file(ctx context.Context, id whatisup.MediaID, most int64) ([]byte, error) {
	if s.kit.Files == nil {
		return nil, errNoFiles
	}
	return s.kit.Files.Read(ctx, s.ref, id, most)
}

var errNoFiles = whatisup.NewError(whatisup.CodeUnavailable, "This session host has no files.")

// FetchFiles has received files fetched, if the instance is connected.
func (s *Session) FetchFiles(ids ...whatisup.MediaID) { s.received.add(ids...) }

// fetchOver fetches received files over a line that is logged in.
func (s *Session) fetchOver(up context.Context, l Line) {
	if s.kit.Files == nil {
		return
	}
	t := teller{s.kit, s.ref, s.account}
	s.received.by(func(ids ...whatisup.MediaID) { s.kit.Files.Fetch(up, l, t.file, s.ref, ids...) })
}

// file tells what has become of a received file.
func (t teller) file(ctx context.Context, name whatisup.EventName, id whatisup.EventID, data any) error {
	e, err := whatisup.NewEvent(name, t.ref.Customer, t.ref.Mode, t.ref.ID, t.kit.Now(), data)
	if err != nil {
		return err
	}
	e.ID = id
	return t.tell(ctx, e)
}

// fileOf is the file that a message brings, nil if it has none or none is wanted. Its id
// follows from the event, so a repetition has the same.
func (h handler) fileOf(d *waconv.Decoded, row *whatisup.Message) *whatisup.Media {
	wanted := h.settings.Load().Media
	if d.File == nil || h.kit.Files == nil || wanted == whatisup.NoMedia {
		return nil
	}
	b, at, status := d.Received.Body, row.Times.Created, whatisup.MediaFetching
	if wanted == whatisup.MediaOnDemand {
		status = whatisup.MediaWaiting
	}
	m := &whatisup.Media{
		Customer: h.ref.Customer, Mode: h.ref.Mode, ID: whatisup.MediaIDOf(h.ref, "received\x00"+string(row.EventID), at),
		Instance: h.ref.ID, Status: status, Size: d.File.Size, SHA256: d.File.SHA256, Filename: nameOf(b.Filename),
		Facts:     whatisup.MediaFacts{Width: int(b.Width), Height: int(b.Height), Seconds: float64(b.Seconds), Voice: b.Voice},
		CreatedAt: at, ExpiresAt: at.Add(h.kit.Files.Kept()), Origin: d.File,
	}
	m.MimeType, _ = whatisup.ParseMimeType(b.MimeType)
	return m
}

// nameOf is a file's name without what could harm where it is shown or kept.
func nameOf(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == '/' || r == '\\' || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	for n := range s {
		if n > 240 {
			return s[:n]
		}
	}
	return s
}
