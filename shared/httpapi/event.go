package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"whatisup/shared/control"
	"whatisup/shared/whatisup"
)

const (
	// maxStreams is how many streams a customer may have open at one time in one
	// mode, and maxBoundStreams how many of them one bound key.
	maxStreams      = 10
	maxBoundStreams = 3
	// streamCheck is how often a stream looks whether its key is still in force.
	streamCheck = 50 * time.Second
	// slotCheck is how often a stream looks whether a successor has its slot.
	slotCheck = 5 * time.Second
	// streamKeepalive is how often something is sent where nothing happens.
	streamKeepalive = 15 * time.Second
	// streamPairing is how long a stream looks more often after a sign of a
	// pairing, and pairingPoll how often then.
	streamPairing = 60 * time.Second
	pairingPoll   = 250 * time.Millisecond
	// streamLively is how long a stream looks more often after it has sent something,
	// and livelyPoll how often then: a conversation goes on at once, and a stream with
	// nothing to send costs a look a second. Who is told of events looks no more often
	// than livelyLeast.
	streamLively = 3 * time.Second
	livelyPoll   = 50 * time.Millisecond
	livelyLeast  = 5 * time.Millisecond
	// streamEnd is what is left of a function's own time when its stream ends.
	streamEnd = 10 * time.Second
	// streamReread is how often a stream reads again everything that is not settled,
	// for events whose writer's clock is behind.
	streamReread = 10 * time.Second
	// streamBatch is how many events are read from the log at one time.
	streamBatch = 500

	defaultLog = 100
	// maxLogRead is how many rows one page of the log looks at to fill itself.
	maxLogRead = 5000
)

func listEvents(c *call) (*answer, error) {
	if wantsLog(c.r.Header.Values("Accept")) {
		return listEventLog(c)
	}
	q, f, err := c.eventFilter()
	if err != nil {
		return nil, err
	}
	return c.eventStream(q, f)
}

func listEventLog(c *call) (*answer, error) {
	q, f, err := c.eventFilter()
	if err != nil {
		return nil, err
	}
	return c.eventLog(q, f)
}

// eventFilter reads which events the caller wants. A bound key gets those of its
// instance only.
func (c *call) eventFilter() (*query, control.EventFilter, error) {
	q, err := c.readQuery()
	if err != nil {
		return nil, control.EventFilter{}, err
	}
	f := control.EventFilter{Instance: q.instanceID("instance_id"), Names: oneOf(q, "events", whatisup.EventNames)}
	if bound := c.caller.key.Instance; bound != "" {
		if f.Instance != "" && f.Instance != bound {
			return nil, f, errScoped
		}
		f.Instance = bound
	}
	return q, f, nil
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
	read, scanned := 0, 0
	for e, err := range c.control.EventsBefore(c.ctx, c.who(), before, limit+1) {
		if err != nil {
			return nil, err
		}
		if len(list.Data) == limit || read == maxLogRead || scanned > maxScanned {
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
		scanned += rowBytes + len(e.Data)
	}
	return reply(http.StatusOK, list), nil
}

// stream is one open event stream.
type stream struct {
	*call
	filter  control.EventFilter
	flush   *http.ResponseController
	slot    string            // its id among the customer's streams
	at      whatisup.Position // everything below was sent, but for late commits
	sent    map[whatisup.Position]bool
	looked  time.Time // when the last look began that saw all there was
	reread  time.Time // when the last look began that read again all that is not settled
	pairing time.Time // until when the customer's pairing is watched closely
	lively  time.Time // until when more is likely to come
	written time.Time // the last byte
}

// position is an event's place as clients are given it. It names the stream too,
// so that the stream that resumes here takes its slot.
func (s *stream) position(p whatisup.Position) string {
	return s.seal.make(string(p), s.bound(s.slot)...) + "." + s.slot
}

func (c *call) bound(slot string) []string {
	return []string{"position", string(c.customer()), string(c.mode()), slot}
}

// parsePosition reads a position that some stream of the customer and mode gave.
func (c *call) parsePosition(text string) (p whatisup.Position, slot string, ok bool) {
	text, slot, _ = strings.Cut(text, ".")
	id, ok := c.seal.open(text, c.bound(slot)...)
	return whatisup.Position(id), slot, ok
}

// eventStream sends events as they happen, until it is time to end. Between two
// looks at the log nothing is held but the positions of the newest stretch,
// which is read again each time: an event may be committed a little after its
// position was taken, and then turns up behind others.
func (c *call) eventStream(q *query, f control.EventFilter) (*answer, error) {
	now := c.now()
	s := &stream{
		call: c, filter: f, flush: http.NewResponseController(c.w),
		slot: uuid.NewString(), sent: map[whatisup.Position]bool{},
	}
	from, predecessor, resumes := now, "", false
	if id := strings.Join(c.r.Header.Values("Last-Event-ID"), ","); id != "" {
		position, slot, ok := c.parsePosition(id)
		predecessor = slot
		if !ok {
			q.problem("Last-Event-ID", "is not a position of this stream")
		} else if from = position.Time(); now.Sub(from) > whatisup.EventsKept {
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
	if err := s.takeSlot(predecessor); err != nil {
		return nil, err
	}
	defer s.freeSlot()
	return nil, s.run(begins)
}

// slots are those that the stream has one of, the narrowest first.
func (s *stream) slots() []whatisup.Slots {
	whole := whatisup.Slots{Customer: s.customer(), Mode: s.mode(), Kind: "streams", Limit: maxStreams}
	if s.caller.key.Instance == "" {
		return []whatisup.Slots{whole}
	}
	share := whole
	share.Key, share.Limit = s.caller.key.ID, maxBoundStreams
	return []whatisup.Slots{share, whole}
}

// slotLasts is longer than the time between two renewals.
const slotLasts = 2 * streamCheck

// takeSlot takes the stream's slot, from its predecessor if that still has one.
func (s *stream) takeSlot(predecessor string) error {
	for _, of := range s.slots() {
		err := s.Store.TakeSlot(s.ctx, of, s.slot, s.now().Add(slotLasts), predecessor)
		if err != nil {
			s.freeSlot()
		}
		if errors.Is(err, whatisup.ErrTooMany) {
			return errStreams
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keepSlot renews the stream's slot: ErrNotFound if a successor has it.
func (s *stream) keepSlot() error {
	for _, of := range s.slots() {
		if err := s.Store.KeepSlot(s.ctx, of, s.slot, s.now().Add(slotLasts)); err != nil {
			return err
		}
	}
	return nil
}

// succeeded says whether a successor has the stream's slot.
func (s *stream) succeeded() (bool, error) {
	slots := s.slots()
	taken, err := s.Store.TakenSlots(s.ctx, slots[len(slots)-1])
	return err == nil && !slices.Contains(taken, s.slot), err
}

// freeFor bounds how long a stream that has ended takes to give its slot back.
const freeFor = 2 * time.Second

func (s *stream) freeSlot() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), freeFor)
	defer cancel()
	for _, of := range s.slots() {
		if err := s.Store.FreeSlots(ctx, of, s.slot); err != nil {
			s.log.Warn("stream's slot not given back", "error", err)
		}
	}
}

// run is the stream from its first byte on. Errors are only logged: the client
// sees a stream that ended, and resumes.
func (s *stream) run(begins whatisup.Position) error {
	ends := s.now().Add(s.StreamFor)
	if deadline, ok := s.ctx.Deadline(); ok && deadline.Add(-streamEnd).Before(ends) {
		ends = deadline.Add(-streamEnd)
	}
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	s.status = http.StatusOK
	s.w.WriteHeader(http.StatusOK)
	if err := s.open(begins); err != nil {
		return s.ended(err)
	}
	checked := s.now()
	looked := checked // for a successor
	for {
		var stirred <-chan struct{}
		if s.Stirred != nil {
			stirred = s.Stirred(s.customer(), s.mode()) // before the look, which may miss it
		}
		if err := s.look(false); err != nil {
			return s.ended(err)
		}
		now := s.now()
		if !now.Before(ends) {
			s.write("retry: 1000\n: bye\n")
			return nil
		}
		if end := s.caller.key.ExpiresAt; !end.IsZero() && !now.Before(end) {
			return s.ended(errAuthExpired)
		}
		if now.Sub(looked) >= slotCheck {
			if over, err := s.succeeded(); over || err != nil {
				return s.ended(err)
			}
			looked = now
		}
		if now.Sub(checked) >= streamCheck {
			if err := s.reauthenticate(s.ctx, s.caller, s.r.Header); err != nil {
				return s.ended(err)
			}
			if err := s.keepSlot(); err != nil {
				return s.ended(ignore(err, whatisup.ErrNotFound))
			}
			checked = now
		}
		if now.Sub(s.written) >= streamKeepalive {
			if err := s.write(": still here\n"); err != nil {
				return nil
			}
		}
		if err := s.rest(now, stirred); err != nil {
			return nil // the client has gone
		}
	}
}

// rest waits until it is time for the next look.
func (s *stream) rest(now time.Time, stirred <-chan struct{}) error {
	wait := s.StreamPoll
	switch {
	case stirred != nil:
		if err := sleep(s.ctx, min(wait, livelyLeast)); err != nil {
			return err
		}
	case now.Before(s.lively):
		wait = min(wait, livelyPoll)
	case now.Before(s.pairing):
		wait = min(wait, pairingPoll)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-stirred:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	return nil
}

// open writes the first frame. It tells where the stream begins, so that a client
// that is cut off before the first event misses nothing either. It has data, and no
// other block of a stream ends in an empty line, because some readers hand each such
// block to their user as a message, who then parses data that is not there.
func (s *stream) open(begins whatisup.Position) error {
	e, err := whatisup.NewEvent(whatisup.StreamOpened, s.customer(), s.mode(), s.filter.Instance, s.now(), struct{}{})
	if err != nil {
		return err
	}
	return s.frame("retry: 1000\n", begins, &e)
}

func (s *stream) ended(err error) error {
	if s.ctx.Err() != nil {
		return nil
	}
	return err
}

// look sends what is new. Events older than PositionReread are final, and a look
// begins after them, or, between two of these, after what is older than PositionNear.
// If silent, events are marked as sent but not sent.
func (s *stream) look(silent bool) error {
	began := s.now()
	settled := whatisup.PositionAt(began.Add(-whatisup.PositionReread))
	from := s.at
	near := began.Sub(s.reread) < streamReread && began.Sub(s.looked) < whatisup.PositionNear-whatisup.PositionLag
	if near {
		from = max(from, whatisup.PositionAt(began.Add(-whatisup.PositionNear)))
		settled = s.at
	}
	for e, err := range s.control.EventsAfter(s.ctx, s.who(), from, streamBatch) {
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
	if s.looked = began; near {
		return nil
	}
	s.reread = began
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
	s.lively = s.now().Add(streamLively)
	return s.frame("", e.Position, &e.Event)
}

func (s *stream) frame(before string, at whatisup.Position, e *whatisup.Event) error {
	data, err := encode(*e)
	if err != nil {
		return err
	}
	return s.write(fmt.Sprintf("%sid: %s\nevent: %s\ndata: %s\n\n", before, s.position(at), e.Name, data))
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
