package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"whatisup/shared/foreign"
	"whatisup/shared/whatisup"
)

// gaps are the pauses before the second and each later attempt.
var gaps = [whatisup.MaxAttempts - 1]time.Duration{
	10 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
}

const (
	attemptWithin = 15 * time.Second
	// answerWithin bounds the wait for the first bytes of an answer's body, whose
	// status has arrived.
	answerWithin  = time.Second
	answerKept    = 1024
	answerDrained = 16 << 10 // read, so that the connection can be used again
	longestRetry  = 24 * time.Hour

	probeFirst = 30 * time.Second
	probeLast  = 5 * time.Minute
	// owedInQueue is how many deliveries are in the queue at most when more are given to it
	// from their rows: enough for every lane, and few, since each receiver of the queue looks
	// past those whose turn it is not. At roomAgain there are more.
	owedInQueue = whatisup.MaxInQueue / 5
	roomAgain   = owedInQueue * 2 / 5
)

// errorStatus is the error of an attempt whose answer was no success.
const errorStatus = "answered %d"

// Deliver makes one attempt of a delivery, or stores why not. An error repeats it.
func (p *Path) Deliver(ctx context.Context, m Message) error {
	var h handed
	if err := json.Unmarshal(m.Body, &h); err != nil {
		return fmt.Errorf("delivery: %w", err)
	}
	ep, d, err := p.Store.EndpointAndDelivery(ctx, h.Customer, h.Mode, h.Endpoint, h.Delivery)
	if err != nil {
		return err
	}
	gone := ep == nil
	if gone {
		ep = endpointOf(&h)
	}
	if err := p.tell(ctx, ep); err != nil {
		return err
	}
	if d == nil {
		if d = h.delivery(); h.Payload == "" {
			return p.release(ctx, ep, d) // its row is over its time
		}
	}
	switch {
	case d.Final() || d.Status == whatisup.DeliveryHeld:
	case d.Turn > h.Turn: // it is owed
	case gone:
		d.Status, d.Error, d.NextAt = whatisup.DeliveryFailed, whatisup.ErrorEndpointDeleted, time.Time{}
		err = p.put(ctx, d)
	case ep.Holds() && !h.Test:
		d.Status, d.NextAt = whatisup.DeliveryHeld, time.Time{}
		err = p.put(ctx, d)
	case ep.Degraded() && !h.Probe && !h.Test:
		d.Turn++
		err = p.oweAgain(ctx, ep, d, due(d))
	default:
		err = p.attempt(ctx, ep, d, h.Test)
	}
	if err != nil {
		return err
	}
	return p.release(ctx, ep, h.delivery())
}

func (p *Path) put(ctx context.Context, d *whatisup.Delivery) error {
	d.UpdatedAt = p.now()
	p.halt("put row")
	err := p.Store.PutDelivery(ctx, d)
	if err == nil && d.Final() {
		p.count(ctx, d)
	}
	return ignore(err, whatisup.ErrConflict)
}

// count adds a delivery that has ended to what its customer and its instance have used.
// Usage is a picture and no bill, so what fails here holds up no delivery.
func (p *Path) count(ctx context.Context, d *whatisup.Delivery) {
	u := whatisup.Usage{Deliveries: 1}
	if d.Status != whatisup.DeliverySuccess {
		u = whatisup.Usage{Lost: 1}
	}
	if p.Tally != nil {
		p.Tally.Count(whatisup.Ref{Customer: d.Customer, Mode: d.Mode, ID: d.Instance}, u)
		return
	}
	of := []whatisup.InstanceID{""}
	if d.Instance != "" {
		of = append(of, d.Instance)
	}
	hour := p.now().Truncate(time.Hour)
	var both sync.WaitGroup
	for _, instance := range of {
		both.Go(func() {
			err := p.Store.AddUsage(ctx, whatisup.UsageOf{Customer: d.Customer, Mode: d.Mode, Instance: instance}, hour, u, "", 0)
			if err != nil {
				p.Slog.Warn("a delivery is not counted", "error", err)
			}
		})
	}
	both.Wait()
}

// oweAgain stores a delivery for another turn.
func (p *Path) oweAgain(ctx context.Context, ep *whatisup.Endpoint, d *whatisup.Delivery, at time.Time) error {
	d.UpdatedAt = p.now()
	next := at
	if ep.Degraded() && at.Before(ep.ProbeAt) {
		next = ep.ProbeAt
	}
	p.halt("owe again")
	sooner, err := p.Store.OweDeliveries(ctx, ep, []whatisup.Owing{{Delivery: d, Due: at}}, next, false)
	if errors.Is(err, whatisup.ErrNotFound) {
		d.Status, d.Error, d.NextAt = whatisup.DeliveryFailed, whatisup.ErrorEndpointDeleted, time.Time{}
		return p.put(ctx, d)
	}
	if err != nil && !errors.Is(err, whatisup.ErrConflict) {
		return err
	}
	p.halt("owed again")
	if sooner {
		p.wakeAt(ctx, ep, next)
	}
	return nil
}

// release takes the mark off a delivery that is no longer in the queue, and lets an
// endpoint that is behind have more once there is room. One that came to be behind
// meanwhile gets it after the next delivery, or by the sweep.
func (p *Path) release(ctx context.Context, ep *whatisup.Endpoint, d *whatisup.Delivery) error {
	p.halt("release")
	if err := p.Store.UnmarkQueued(ctx, d); err != nil {
		return err
	}
	if !ep.Behind || ep.Degraded() {
		return nil
	}
	n, err := p.Store.CountQueued(ctx, ep.ID)
	if err != nil || n > roomAgain || n > 0 && ep.Slow() {
		return err
	}
	return p.Pump(ctx, ep.Customer, ep.Mode, ep.ID)
}

// attempt makes one request and stores what came of it.
func (p *Path) attempt(ctx context.Context, ep *whatisup.Endpoint, d *whatisup.Delivery, test bool) error {
	secrets, err := p.Secrets.OpenSecrets(ctx, ep, p.now())
	if err != nil {
		return err
	}
	p.halt("request")
	a, after := p.request(ctx, ep, d, secrets)
	if ctx.Err() != nil {
		return ctx.Err() // the function's own end, not the endpoint's
	}
	p.halt("answered")
	if err := p.noteTime(ctx, ep, time.Duration(a.MS)*time.Millisecond); err != nil {
		return err
	}
	d.Attempts = append(d.Attempts, a)
	first := len(d.Attempts) == 1
	d.Error, d.NextAt = a.Error, time.Time{}
	if a.Error == "" {
		d.Status, d.Delivered = whatisup.DeliverySuccess, p.now()
		if err := p.put(ctx, d); err != nil {
			return err
		}
		if ep.Failures == 0 && ep.FailingSince.IsZero() {
			return nil
		}
		p.halt("recover")
		if err := p.Store.Recover(ctx, ep); err != nil {
			return ignore(err, whatisup.ErrNotFound)
		}
		return p.Pump(ctx, ep.Customer, ep.Mode, ep.ID)
	}
	if test {
		d.Status = whatisup.DeliveryFailed
		return p.put(ctx, d)
	}
	// What follows for the endpoint comes first: who finds the row afterwards does
	// not come back here.
	p.halt("note failure")
	if ep, err = p.failed(ctx, ep, first, a.Status != nil && *a.Status == http.StatusGone); err != nil {
		return err
	}
	if len(d.Attempts) >= whatisup.MaxAttempts {
		d.Status = whatisup.DeliveryFailed
		return p.put(ctx, d)
	}
	gap := p.jitter(gaps[len(d.Attempts)-1])
	if after > 0 {
		gap = after
	}
	d.Status, d.NextAt = whatisup.DeliveryRetrying, p.now().Add(gap)
	d.Turn++
	return p.oweAgain(ctx, ep, d, d.NextAt)
}

// noteTime notes how long answers take on average, where that is near being slow.
func (p *Path) noteTime(ctx context.Context, ep *whatisup.Endpoint, took time.Duration) error {
	mean := (4*ep.AnswerTime + took) / 5
	if mean < worthNoting {
		mean = 0
	}
	if mean == ep.AnswerTime {
		return nil
	}
	if mean > whatisup.SlowAfter && !ep.Slow() && !ep.Behind {
		if err := p.Store.SetBehind(ctx, ep); err != nil {
			return ignore(err, whatisup.ErrNotFound)
		}
		ep.Behind = true
	}
	ep.AnswerTime = mean
	return ignore(p.Store.SetAnswerTime(ctx, ep, mean), whatisup.ErrNotFound)
}

// worthNoting is from which average time of answers on it is kept. What is below is zero.
const worthNoting = time.Second

// failed notes a failure on the endpoint, and degrades or disables it when it is time.
func (p *Path) failed(ctx context.Context, ep *whatisup.Endpoint, first, gone bool) (*whatisup.Endpoint, error) {
	if gone {
		if err := p.disable(ctx, ep, whatisup.DisabledGone); err != nil {
			return nil, err
		}
	}
	now, err := p.Store.Fail(ctx, ep, first, p.now())
	if err != nil {
		return ep, ignore(err, whatisup.ErrNotFound)
	}
	if now.Degraded() && now.ProbeAt.IsZero() {
		at := p.now().Add(p.jitter(probeFirst))
		if err := p.Store.Degrade(ctx, now, at, probeFirst); err != nil {
			return now, ignore(err, whatisup.ErrNotFound)
		}
		now.Behind, now.ProbeAt, now.ProbeWait = true, at, probeFirst
		p.Slog.Warn("an endpoint is degraded", "endpoint_id", string(ep.ID))
	}
	if !now.FailingSince.IsZero() && p.now().Sub(now.FailingSince) >= whatisup.FailingFor {
		return now, p.disable(ctx, now, whatisup.DisabledFailing)
	}
	return now, nil
}

// disable disables an endpoint and tells it. The event is written down together with the
// change, so it is one, however often the work is done again.
func (p *Path) disable(ctx context.Context, ep *whatisup.Endpoint, reason string) error {
	if ep.Disabled != "" {
		return p.tell(ctx, ep)
	}
	told, err := whatisup.DisabledEvent(ep, reason, p.now())
	if err != nil {
		return err
	}
	p.halt("disable")
	if err := p.Store.DisableEndpoint(ctx, ep, reason, told); err != nil {
		return ignore(err, whatisup.ErrConflict) // whoever did it tells it
	}
	if ep.Untold, err = json.Marshal(told); err != nil {
		return err
	}
	ep.Disabled = reason
	p.Slog.Warn("an endpoint is disabled", "mode", string(ep.Mode), "endpoint_id", string(ep.ID), "reason", reason)
	p.halt("disabled")
	return p.tell(ctx, ep)
}

// tell gives the event of an endpoint's end to the queues, if they do not have it.
func (p *Path) tell(ctx context.Context, ep *whatisup.Endpoint) error {
	if len(ep.Untold) == 0 || p.Events == nil {
		return nil
	}
	var e whatisup.Event
	if err := json.Unmarshal(ep.Untold, &e); err != nil {
		return err
	}
	if err := p.Events.Send(ctx, e); err != nil {
		return err
	}
	ep.Untold = nil
	p.halt("told disabled")
	return ignore(p.Store.ToldDisabled(ctx, ep), whatisup.ErrNotFound)
}

// request makes the POST. The attempt's error is empty for a 2xx; after is what a
// failing answer's Retry-After asks for, 0 for nothing.
func (p *Path) request(ctx context.Context, ep *whatisup.Endpoint, d *whatisup.Delivery, secrets []whatisup.Secret) (a whatisup.DeliveryAttempt, after time.Duration) {
	began := p.now()
	a.At = whatisup.At(began)
	real := time.Now() // a test's clock stands still during a request
	defer func() { a.MS = time.Since(real).Milliseconds() }()
	ctx, cancel := context.WithTimeout(ctx, attemptWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, ep.URL, bytes.NewReader(d.Payload))
	if err != nil {
		a.Error = string(foreign.ProblemNotAllowed)
		return a, 0
	}
	unix := began.Unix()
	r.Header = http.Header{
		"Content-Type":         {"application/json"},
		"User-Agent":           {foreign.UserAgent},
		"X-Whatisup-Event":     {string(d.Event)},
		"X-Whatisup-Event-Id":  {string(d.EventID)},
		"X-Whatisup-Signature": {whatisup.Sign(secrets, unix, d.Payload)},
		"Webhook-Id":           {string(d.EventID)},
		"Webhook-Timestamp":    {strconv.FormatInt(unix, 10)},
		"Webhook-Signature":    {whatisup.SignStandard(secrets, string(d.EventID), unix, d.Payload)},
		// Not sent: it lets the client try again on a new connection when a pooled one
		// was closed by the endpoint at that moment.
		"Idempotency-Key": {},
	}
	r.Header.Set("X-WhatIsUp-Delivery-Id", string(d.ID))
	resp, err := p.Client(ep.Mode == whatisup.Test).Do(r)
	if err != nil {
		a.Error = string(foreign.ProblemOf(err))
		return a, 0
	}
	a.Status = &resp.StatusCode
	a.Answer = readAnswer(resp.Body)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		a.Error = fmt.Sprintf(errorStatus, resp.StatusCode)
		after = retryAfter(resp.Header.Get("Retry-After"), began)
	}
	return a, after
}

// readAnswer reads the first bytes of an answer, as far as they come soon. A short
// answer is read to its end, so that the connection can be used again.
func readAnswer(body io.ReadCloser) string {
	late := time.AfterFunc(answerWithin, func() { body.Close() })
	defer late.Stop()
	defer body.Close()
	b := make([]byte, answerKept)
	n, err := io.ReadFull(body, b)
	if err == nil {
		_, _ = io.CopyN(io.Discard, body, answerDrained)
	}
	return strings.ReplaceAll(strings.ToValidUTF8(string(b[:n]), "\ufffd"), "\x00", "\ufffd")
}

// retryAfter reads a Retry-After of seconds or of a date, 24 hours at most.
func retryAfter(value string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		d = time.Duration(min(max(n, 0), int64(longestRetry/time.Second))) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), longestRetry)
}
