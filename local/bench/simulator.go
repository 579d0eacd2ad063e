package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// simulator drives the simulated phones over the simulator's control calls.
type simulator struct {
	base string
	http *http.Client
}

func newSimulator(endpoint string) *simulator {
	return &simulator{endpoint, &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 128}}}
}

func (s *simulator) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, s.base+"/control/"+path, body)
	if err != nil {
		return err
	}
	answer, err := s.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode > 299 {
		return fmt.Errorf("simulator: %s: %s: %s", path, answer.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

func (s *simulator) scan(ctx context.Context, world, qr, number string) error {
	return s.do(ctx, "POST", "scan", map[string]string{"world": world, "qr": qr, "phone_number": number}, nil)
}

func (s *simulator) enterCode(ctx context.Context, world, code, number string) error {
	return s.do(ctx, "POST", "enter-code", map[string]string{"world": world, "code": code, "phone_number": number}, nil)
}

// write lets somebody write to a number; the message's id is the caller's.
func (s *simulator) write(ctx context.Context, world, from, to, id string) error {
	return s.do(ctx, "POST", "messages", map[string]string{
		"world": world, "from": from, "to": to, "message_id": id, "name": "Ann",
		"text": "How are you today? See you at eight.",
	}, nil)
}

// fault is a misbehaviour of the simulator, as its package has them.
type fault struct {
	World    string  `json:"world,omitempty"`
	Instance string  `json:"instance,omitempty"`
	Kind     string  `json:"kind"`
	Seconds  float64 `json:"seconds,omitempty"`
	Millis   int     `json:"millis,omitempty"`
}

func (s *simulator) fault(ctx context.Context, f fault) error {
	return s.do(ctx, "POST", "faults", f, nil)
}

func (s *simulator) clearFaults(ctx context.Context) error {
	return s.do(ctx, "DELETE", "faults", nil, nil)
}

// connected counts the devices of a world that are connected.
func (s *simulator) connected(ctx context.Context, world string) (n int, err error) {
	var all []struct {
		Connected bool `json:"connected"`
	}
	err = s.do(ctx, "GET", "devices?world="+url.QueryEscape(world), nil, &all)
	for _, d := range all {
		if d.Connected {
			n++
		}
	}
	return n, err
}

// entry is a line of the simulator's journal.
type entry struct {
	Position uint64    `json:"position"`
	At       time.Time `json:"at"`
	Instance string    `json:"instance"`
	Device   string    `json:"device"`
	Tag      string    `json:"tag"`
}

// journal reads all lines of a tag after a position.
func (s *simulator) journal(ctx context.Context, world, tag string, after uint64) (all []entry, err error) {
	for {
		q := url.Values{"tag": {tag}, "after": {strconv.FormatUint(after, 10)}, "limit": {"10000"}}
		if world != "" {
			q.Set("world", world)
		}
		var page []entry
		if err := s.do(ctx, "GET", "journal?"+q.Encode(), nil, &page); err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return all, nil
		}
		all = append(all, page...)
		after = page[len(page)-1].Position
	}
}

// gaps are the times for which each instance was away, the longest of each: from
// the end of a connection to the next login. Who is still away at the end has
// been since its last end.
func (s *simulator) gaps(ctx context.Context, world string, since time.Time) (map[string]time.Duration, error) {
	closed, err := s.journal(ctx, world, "closed", 0)
	if err != nil {
		return nil, err
	}
	logins, err := s.journal(ctx, world, "success", 0)
	if err != nil {
		return nil, err
	}
	all := append(closed, logins...)
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.Position, b.Position) })
	away, gaps := make(map[string]time.Time), make(map[string]time.Duration)
	for _, e := range all {
		switch {
		case e.At.Before(since) || e.Device == "":
		case e.Tag == "closed":
			if _, ok := away[e.Instance]; !ok {
				away[e.Instance] = e.At
			}
		default:
			if from, ok := away[e.Instance]; ok {
				gaps[e.Instance] = max(gaps[e.Instance], e.At.Sub(from))
				delete(away, e.Instance)
			}
		}
	}
	for instance, from := range away {
		gaps[instance] = max(gaps[instance], time.Since(from))
	}
	return gaps, nil
}
