package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"whatisup/shared/whatisup"
)

// roundTrip is the time to WhatsApp and back under which sends are measured back to
// back, in milliseconds: about that of a data centre in the same part of the world.
const roundTrip = 30

// friend is whom instances write to.
const friend = "4915300000001"

// sent is what the benchmark reads of a message.
type sent struct {
	ID       string `json:"message_id"`
	Status   string `json:"status"`
	Timeline struct {
		Queued time.Time `json:"queued_at"`
		Sent   time.Time `json:"sent_at"`
	} `json:"timeline"`
}

// sendText has an instance write to the friend. An instance may do so twenty times a
// second for long; who is told to wait does so, as a client would.
func (b *bench) sendText(ctx context.Context, from instance) (m sent, took time.Duration, err error) {
	for {
		took, err = b.customer.do(ctx, "POST", "/v1/instances/"+from.ID+"/messages", map[string]any{
			"to": "+" + friend, "body": map[string]string{"type": "text", "text": "How are you today? See you at eight."},
		}, &m)
		if r, ok := errors.AsType[*refused](err); !ok || r.status != http.StatusTooManyRequests {
			return m, took, err
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return m, 0, err
		}
	}
}

// sending measures messages on their way out: what the API takes to accept one, what it
// takes until WhatsApp has it, and how many a second there are.
func (b *bench) sending(ctx context.Context) error {
	if err := b.fill(ctx, b.size.Senders); err != nil {
		return err
	}
	one := b.linked[0]
	if _, err := b.sentBy(ctx, b.linked[:b.size.Senders], 1); err != nil { // sessions with the receiver, code paths
		return fmt.Errorf("first sends: %w", err)
	}
	if err := b.accepting(ctx, one); err != nil {
		return err
	}
	if err := b.backToBack(ctx, one); err != nil {
		return err
	}
	a, err := b.sentBy(ctx, b.linked[:b.size.Senders], b.size.Sends)
	if err != nil {
		return err
	}
	b.report.add(fmt.Sprintf("Sending, %d sessions: messages a second", b.size.Senders), a, "1/s", least(300), note("%d of each", b.size.Sends))
	return wait(ctx, 2*time.Second) // their receipts are none of the next step's
}

// accepting measures one message at a time.
func (b *bench) accepting(ctx context.Context, from instance) error {
	var get, post, ack spread
	var floor times
	for range b.size.Accepted {
		d, err := b.customer.do(ctx, "GET", "/v1/instances/"+from.ID, nil, nil)
		if err != nil {
			return err
		}
		m, took, err := b.sendText(ctx, from)
		if err != nil {
			return err
		}
		if m, err = b.becomesSent(ctx, from, m.ID); err != nil {
			return err
		}
		get, post, ack = append(get, ms(d)), append(post, ms(took)), append(ack, ms(m.Timeline.Sent.Sub(m.Timeline.Queued)))
	}
	if err := b.floor.ask(ctx, "send", floorSends{b.size.Accepted + 1, friend}, &floor); err != nil {
		return err
	}
	bare := floor.First[1:] // the first one makes the session
	b.report.add("Sending, one at a time: POST messages to 202, p50", post.at(.5), "ms", goal(1.5*get.at(.5)),
		note("%d samples; the goal is 1.5 times GET of an instance, %.3g ms", len(post), get.at(.5)))
	b.report.add("Sending, one at a time: accepted to WhatsApp's ack, p50", ack.at(.5), "ms", goal(bare.at(.5)+30), floorOf(bare.at(.5)),
		note("the goal is the bare library's send and 30 ms"))
	b.report.add("Sending, one at a time: accepted to WhatsApp's ack, p99", ack.at(.99), "ms", floorOf(bare.at(.99)))
	return nil
}

// becomesSent waits until WhatsApp has a message.
func (b *bench) becomesSent(ctx context.Context, from instance, id string) (m sent, err error) {
	err = await(ctx, time.Minute, "the message is sent", func() (bool, error) {
		m = sent{}
		_, err := b.customer.do(ctx, "GET", "/v1/instances/"+from.ID+"/messages/"+id, nil, &m)
		if err == nil && m.Status == string(whatisup.MessageFailed) {
			err = errors.New("the message failed")
		}
		return !m.Timeline.Sent.IsZero(), err
	})
	return m, err
}

// backToBack measures one session that always has something to send, with WhatsApp a
// round trip away.
func (b *bench) backToBack(ctx context.Context, from instance) error {
	for _, world := range []string{b.customer.id, floorWorld} {
		if err := b.phones.fault(ctx, fault{World: world, Kind: "latency", Seconds: 600, Millis: roundTrip}); err != nil {
			return err
		}
	}
	defer b.phones.clearFaults(context.WithoutCancel(ctx)) //nolint:errcheck // the next step finds them
	ours, err := b.sentBy(ctx, []instance{from}, b.size.BackToBack)
	if err != nil {
		return err
	}
	var floor times
	began := time.Now()
	if err := b.floor.ask(ctx, "send", floorSends{b.size.BackToBack, friend}, &floor); err != nil {
		return err
	}
	bare := float64(b.size.BackToBack) / time.Since(began).Seconds()
	b.report.add("Sending, back to back: messages a second", ours, "1/s", least(.8*bare), floorOf(bare),
		note("one session, %d ms to WhatsApp and back; the goal is 0.8 times the bare library's", roundTrip))
	return nil
}

// sentBy has each session send n messages and returns how many a second WhatsApp has,
// from the first call until it has the last.
func (b *bench) sentBy(ctx context.Context, from []instance, n int) (float64, error) {
	began := time.Now()
	var mu sync.Mutex
	var last time.Time
	var done atomic.Int64
	_, err := each(len(from), 16, func(i int) (time.Duration, time.Duration, error) {
		var m sent
		for range n {
			var err error
			if m, _, err = b.sendText(ctx, from[i]); err != nil {
				return 0, 0, err
			}
		}
		m, err := b.becomesSent(ctx, from[i], m.ID)
		mu.Lock()
		defer mu.Unlock()
		if m.Timeline.Sent.After(last) {
			last = m.Timeline.Sent
		}
		done.Add(int64(n))
		return 0, 0, err
	})
	return float64(done.Load()) / last.Sub(began).Seconds(), err
}
