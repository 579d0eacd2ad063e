package host

import (
	"context"
	"sync"
	"time"

	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

// stops are the operator's and the automatic stops of sending, as this host knows them.
// They are read every 15 s; while they can't be read, the last ones hold.
type stops struct {
	db   *dynamo.DB
	mode whatisup.Mode
	now  func() time.Time

	mu         sync.Mutex
	all        whatisup.Stops
	restricted map[whatisup.InstanceID]time.Time // when WhatsApp restricted each lately
	tripped    chan struct{}                     // many of them
}

const (
	stopsEvery = 15 * time.Second
	// When WhatsApp restricts so many instances of a host, and so large a part of them,
	// within a time, all instances of the deployment begin no chats for another.
	tripWithin = 10 * time.Minute
	tripLeast  = 10
	tripPart   = 20 // one of so many
	tripFor    = time.Hour
)

func newStops(db *dynamo.DB, m whatisup.Mode, now func() time.Time) *stops {
	return &stops{db: db, mode: m, now: now, restricted: make(map[whatisup.InstanceID]time.Time), tripped: make(chan struct{}, 1)}
}

func (s *stops) of(r whatisup.Ref) (all, newChats bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Of(r, s.now())
}

// note counts an instance that WhatsApp has restricted. Sessions is how many the host
// runs.
func (s *stops) note(id whatisup.InstanceID, sessions int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.restricted[id] = now
	for other, at := range s.restricted {
		if now.Sub(at) > tripWithin {
			delete(s.restricted, other)
		}
	}
	if n := len(s.restricted); n >= tripLeast && n*tripPart >= sessions {
		select {
		case s.tripped <- struct{}{}:
		default:
		}
	}
}

func (s *stops) read(ctx context.Context) error {
	all, err := s.db.Stops(ctx, s.mode)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = all
	return nil
}

// trip stops all instances from beginning chats. An operator's stop stays as it is.
func (s *stops) trip(ctx context.Context) (bool, error) {
	if err := s.read(ctx); err != nil {
		return false, err
	}
	s.mu.Lock()
	clear(s.restricted)
	now := s.now()
	_, held := s.all.Of(whatisup.Ref{}, now)
	s.mu.Unlock()
	if held {
		return false, nil
	}
	stop := whatisup.Stop{Scope: whatisup.StopAll, NewChats: true, By: "automatic", Since: now, Until: now.Add(tripFor)}
	if err := s.db.PutStop(ctx, s.mode, stop); err != nil {
		return false, err
	}
	return true, s.read(ctx)
}

// watchStops keeps the stops as they are in the table, and stops by itself when
// WhatsApp restricts many instances.
func (h *Host) watchStops(ctx context.Context) {
	t := time.NewTicker(stopsEvery)
	defer t.Stop()
	for {
		if err := h.stops.read(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("the stops of sending were not read", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-h.stops.tripped:
			switch done, err := h.stops.trip(ctx); {
			case err != nil:
				h.log.Error("sending was not stopped although WhatsApp restricts many instances", "error", err.Error())
			case done:
				h.log.Error("WhatsApp restricts many instances; no instance begins a chat for an hour, unless the operator resumes it")
			}
		}
	}
}
