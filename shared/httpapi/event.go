package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"whatisup/shared/control"
	"whatisup/shared/whatisup"
)

const (
	// maxStreams is how many streams a customer may have open at one time in one
	// mode.
	maxStreams = 10
	// streamCheck is how often a stream looks whether its key is still in force.
	streamCheck = 50 * time.Second
	// streamKeepalive is how often something is sent where nothing happens.
	streamKeepalive = 15 * time.Second
	// streamPairing is how long a stream looks more often after a sign of a
	// pairing, and pairingPoll how often then.
	streamPairing = 60 * time.Second
	pairingPoll   = 250 * time.Millisecond
	// streamEnd is what is left of a function's own time when its stream ends.
	streamEnd = 10 * time.Second
	// streamBatch is how many events are read from the log at one time.
	streamBatch = 500

	defaultLog = 100
	// maxLogRead is how many rows one page of the log looks at to fill itself.
	maxLogRead = 5000
)

func listEvents(c *call) (*answer, error) {
	q, err := c.readQuery()
	if err != nil {
		return nil, err
	}
	f := control.EventFilter{Instance: q.instanceID("instance_id"), Names: oneOf(q, "events", whatisup.EventNames)}
	if bound := c.caller.key.Instance; bound != "" {
		if f.Instance != "" && f.Instance != bound {
			return nil, errScoped
		}
		f.Instance = bound
	}
	if wantsLog(c.r.Header.Values("Accept")) {
		return c.eventLog(q, f)
	}
	return c.eventStream(q, f)
}

// wantsLog says whether a client asks for JSON; whoever says nothing gets the
// stream.
func wantsLog(accept []string) bool {
	log := false
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		switch kind, _, _ := mime.ParseMediaType(part); kind {
		case "text/event-stream":
			return false
		case "application/json":
			log = true
		}
	}
	return log
}

// eventLog answers one page of the log, newest first.
func (c *call) eventLog(q *query, f control.EventFilter) (*answer, error) {
	limit := q.number("limit", maxLimit)
	if limit == 0 {
		limit = defaultLog
	}
	bound := []string{"events", string(c.customer()), string(c.mode()), string(f.Instance), join(f.Names)}
	var before whatisup.Position
	if cursor, ok := q.get("cursor"); ok {
		id, ok := c.seal.open(cursor, bound...)
		if !ok {
			q.problem("cursor", "is not a cursor of this list")
		}
		before = whatisup.Position(id)
	}
	if err := q.done(); err != nil {
		return nil, err
	}
	list := page{Data: []json.RawMessage{}, Next: new(next)}
	var last whatisup.Position
	var size listSize
	read := 0
	for e, err := range c.control.EventsBefore(c.ctx, c.who(), before, limit+1) {
		if err != nil {
			return nil, err
		}
		if len(list.Data) == limit || read == maxLogRead {
			*list.Next = next(c.seal.make(string(last), bound...))
			break
		}
		if f.Takes(&e.Event) {
			b, err := encode(e.Event)
			if err != nil {
				return nil, err
			}
			if !size.add(b) {
				*list.Next = next(c.seal.make(string(last), bound...))
				break
			}
			list.Data = append(list.Data, b)
		}
		last = e.Position
		read++
	}
	return reply(http.StatusOK, list), nil
}

// stream is one open event stream.
type stream struct {
	*call
	filter  control.EventFilter
	flush   *http.ResponseController
	at      whatisup.Position // everything below was sent, but for late commits
	sent    map[whatisup.Position]bool
	pairing time.Time // until when the customer's pairing is watched closely
	written time.Time // the last byte
}

// position is an event's place as clients are given it.
func (c *call) position(p whatisup.Position) string {
	return c.seal.make(string(p), "position", string(c.customer()), string(c.mode()))
}

// eventStream sends events as they happen, until it is time to end. Between two
// looks at the log nothing is held but the positions of the newest stretch,
// which is read again each time: an event may be committed a little after its
// position was taken, and then turns up behind others.
func (c *call) eventStream(q *query, f control.EventFilter) (*answer, error) {
	now := c.now()
	s := &stream{call: c, filter: f, flush: http.NewResponseController(c.w), sent: map[whatisup.Position]bool{}}
	from, resumes := now, false
	if id := strings.Join(c.r.Header.Values("Last-Event-ID"), ","); id != "" {
		position, ok := c.seal.open(id, "position", string(c.customer()), string(c.mode()))
		if !ok {
			q.problem("Last-Event-ID", "is not a position of this stream")
		} else if from = whatisup.Position(position).Time(); now.Sub(from) > whatisup.EventsKept {
			return nil, errPositionExpired
		} else {
			resumes = true
			// What was committed late around the last frame may not have been
			// sent. Some frames are sent again; event_id tells.
			from = from.Add(-whatisup.PositionLag)
		}
	}
	if err := q.done(); err != nil {
		return nil, err
	}
	s.at = whatisup.PositionAt(from)
	begins := s.at
	if !resumes {
		// What is in the log already is not news, but what turns up in the same
		// stretch from now on is.
		s.at = whatisup.PositionAt(now.Add(-whatisup.PositionReread))
		if err := s.look(true); err != nil {
			return nil, err
		}
	}
	slot := uuid.NewString()
	if err := s.takeSlot(slot); err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), freeFor)
		defer cancel()
		if err := c.Store.FreeSlots(ctx, s.slots(), slot); err != nil {
			c.log.Warn("stream's slot not given back", "error", err)
		}
	}()
	return nil, s.run(slot, begins)
}

// freeFor bounds how long a stream that has ended takes to give its slot back.
const freeFor = 2 * time.Second

func (s *stream) slots() whatisup.Slots {
	return whatisup.Slots{Customer: s.customer(), Mode: s.mode(), Kind: "streams", Limit: maxStreams}
}

func (s *stream) takeSlot(slot string) error {
	until := s.now().Add(2 * streamCheck)
	err := s.Store.TakeSlot(s.ctx, s.slots(), slot, until, "")
	if errors.Is(err, whatisup.ErrTooMany) {
		return errStreams
	}
	return err
}

// run is the stream from its first byte on. Errors are only logged: the client
// sees a stream that ended, and resumes.
func (s *stream) run(slot string, begins whatisup.Position) error {
	ends := s.now().Add(s.StreamFor)
	if deadline, ok := s.ctx.Deadline(); ok && deadline.Add(-streamEnd).Before(ends) {
		ends = deadline.Add(-streamEnd)
	}
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	s.status = http.StatusOK
	s.w.WriteHeader(http.StatusOK)
	// The first frame has no data: it only tells where the stream begins, so that
	// a client that is cut off before the first event misses nothing either.
	if err := s.write("retry: 1000\nid: " + s.position(begins) + "\n\n"); err != nil {
		return nil
	}
	checked := s.now()
	for {
		if err := s.look(false); err != nil {
			return s.ended(err)
		}
		now := s.now()
		if !now.Before(ends) {
			s.write("retry: 1000\n: bye\n\n")
			return nil
		}
		if now.Sub(checked) >= streamCheck {
			if err := s.reauthenticate(s.ctx, s.caller, s.r.Header); err != nil {
				return s.ended(err)
			}
			if err := s.takeSlot(slot); err != nil {
				return s.ended(err)
			}
			checked = now
		}
		if now.Sub(s.written) >= streamKeepalive {
			if err := s.write(": still here\n\n"); err != nil {
				return nil
			}
		}
		wait := s.StreamPoll
		if now.Before(s.pairing) {
			wait = min(wait, pairingPoll)
		}
		if err := sleep(s.ctx, wait); err != nil {
			return nil // the client has gone
		}
	}
}

func (s *stream) ended(err error) error {
	if s.ctx.Err() != nil {
		return nil
	}
	return err
}

// look sends what is new. Events older than PositionReread are final, and the next
// look begins after them. If silent, events are marked as sent but not sent.
func (s *stream) look(silent bool) error {
	began := s.now()
	settled := whatisup.PositionAt(began.Add(-whatisup.PositionReread))
	for e, err := range s.control.EventsAfter(s.ctx, s.who(), s.at, streamBatch) {
		if err != nil {
			return err
		}
		if s.sent[e.Position] {
			continue
		}
		if !silent {
			if err := s.send(&e); err != nil {
				return err
			}
		}
		if e.Position > settled {
			s.sent[e.Position] = true
			continue
		}
		s.at = e.Position
		if s.now().Sub(began) >= streamKeepalive {
			return nil // a long way back: other things are due meanwhile
		}
	}
	s.at = max(s.at, settled)
	for p := range s.sent {
		if p <= s.at {
			delete(s.sent, p)
		}
	}
	return nil
}

// send writes one event's frame, if the caller wants it.
func (s *stream) send(e *whatisup.Logged) error {
	switch e.Name {
	case whatisup.QRUpdated, whatisup.InstanceUpdated:
		if s.now().Sub(e.OccurredAt.Time) < streamPairing {
			s.pairing = s.now().Add(streamPairing)
		}
	}
	if !s.filter.Takes(&e.Event) || s.dead(&e.Event) {
		return nil
	}
	data, err := encode(e.Event)
	if err != nil {
		return err
	}
	return s.write(fmt.Sprintf("id: %s\nevent: %s\ndata: %s\n\n", s.position(e.Position), e.Name, data))
}

// dead says whether an event is a code that nobody can scan any more.
func (s *stream) dead(e *whatisup.Event) bool {
	if e.Name != whatisup.QRUpdated {
		return false
	}
	var code whatisup.QRData
	return json.Unmarshal(e.Data, &code) == nil && !s.now().Before(code.ExpiresAt.Time)
}

func (s *stream) write(frames string) error {
	s.written = s.now()
	if _, err := s.w.Write([]byte(frames)); err != nil {
		return err
	}
	if err := s.flush.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// allowOrigin lets pages of any origin read events: they are behind a key, and
// the stream has an origin of its own on AWS.
func (c *call) allowOrigin() {
	h := c.w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "X-Request-Id, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset")
}

func (c *call) preflight() *answer {
	return (&answer{status: http.StatusNoContent}).
		set("Allow", "GET, OPTIONS").
		set("Access-Control-Allow-Methods", "GET").
		set("Access-Control-Allow-Headers", "Authorization, Last-Event-ID, Accept").
		set("Access-Control-Max-Age", "600")
}

// sleep waits, or ends with the caller's patience.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
