package whatisup

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Event is what happened, in the same envelope everywhere. More names and fields may be
// added: leave aside what you do not know.
type Event struct {
	Name       string          `json:"event"`
	ID         string          `json:"event_id"` // the same however often it is told
	APIVersion string          `json:"api_version"`
	CustomerID string          `json:"customer_id"`
	InstanceID *string         `json:"instance_id"`
	Mode       string          `json:"mode"`
	OccurredAt time.Time       `json:"occurred_at"`
	CommandID  string          `json:"command_id"`
	Data       json.RawMessage `json:"data"`

	// Position is where the stream goes on after this event: see [Events.After].
	Position string `json:"-"`
}

// Events says which events to stream.
type Events struct {
	Instance string   // "": of all instances
	Names    []string // nil: all
	After    string   // an Event's Position, to go on after it; "": from now on
}

const (
	silence    = 40 * time.Second // a comment comes every 15 s
	remembered = 1000             // ids of events, to drop what repeats around a reconnect
)

// Events streams events as they happen, and reconnects and resumes without end and
// without loss; what came twice is given once. It ends with ctx, or with an error that
// time can't mend: a refused key, a position that is no longer in the log. Each stream
// begins with stream.opened, and what happens after that is in it.
func (c *Client) Events(ctx context.Context, of Events) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		s := stream{Client: c, of: of, seen: map[string]bool{}}
		origin, err := c.eventsURL(ctx)
		if err != nil {
			yield(Event{}, err)
			return
		}
		s.url = origin
		for failures := 0; ; {
			progress, err := s.read(ctx, yield)
			if errors.Is(err, errStopped) {
				return
			}
			if ctx.Err() != nil {
				yield(Event{}, ctx.Err())
				return
			}
			e, answered := errors.AsType[*Error](err)
			if answered && !e.mends() && e.Status < 500 {
				yield(Event{}, err)
				return
			}
			if failures++; progress {
				failures = 0
			}
			wait := max(s.retry, backoff(failures+1))
			if answered {
				wait = max(wait, e.after)
			}
			if err := sleep(ctx, wait); err != nil {
				yield(Event{}, err)
				return
			}
		}
	}
}

// eventsURL asks where the stream is: on AWS at an origin of its own.
func (c *Client) eventsURL(ctx context.Context) (string, error) {
	var root struct {
		EventsURL string `json:"events_url"`
	}
	if err := c.Do(ctx, http.MethodGet, "/v1", nil, &root); err != nil {
		return "", err
	}
	if root.EventsURL != "" {
		return root.EventsURL, nil
	}
	return strings.TrimRight(c.URL, "/") + "/v1/events", nil
}

var errStopped = errors.New("the caller has enough")

type stream struct {
	*Client
	of    Events
	url   string
	retry time.Duration
	seen  map[string]bool
	order []string
}

// read reads one stream to its end. progress says whether anything came.
func (s *stream) read(ctx context.Context, yield func(Event, error) bool) (progress bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	alive := time.AfterFunc(silence, cancel)
	defer alive.Stop()

	query := url.Values{}
	if s.of.Instance != "" {
		query.Set("instance_id", s.of.Instance)
	}
	if len(s.of.Names) > 0 {
		query.Set("events", strings.Join(s.of.Names, ","))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"?"+query.Encode(), nil)
	if err != nil {
		return false, err
	}
	r.Header.Set("Authorization", "Bearer "+s.Key)
	r.Header.Set("Accept", "text/event-stream")
	if s.of.After != "" {
		r.Header.Set("Last-Event-ID", s.of.After)
	}
	answer, err := s.http().Do(r)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return false, readError(answer)
	}

	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 4<<20)
	var id, data string
	for lines.Scan() {
		alive.Reset(silence)
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if data != "" {
				progress = true
				if err := s.give(id, data, yield); err != nil {
					return progress, err
				}
			}
			id, data = "", ""
		case name == "id":
			id = value
		case name == "data":
			if data != "" {
				data += "\n"
			}
			data += value
		case name == "retry":
			if ms, err := strconv.Atoi(value); err == nil {
				s.retry = min(time.Duration(ms)*time.Millisecond, time.Minute)
			}
		}
	}
	return progress, lines.Err()
}

func (s *stream) give(position, data string, yield func(Event, error) bool) error {
	var e Event
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return err
	}
	e.Position = position
	if !s.seen[e.ID] {
		s.seen[e.ID], s.order = true, append(s.order, e.ID)
		if len(s.order) > remembered {
			delete(s.seen, s.order[0])
			s.order = s.order[1:]
		}
		if !yield(e, nil) {
			return errStopped
		}
	}
	if position != "" {
		s.of.After = position
	}
	return nil
}
