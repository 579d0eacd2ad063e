package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// sendGap keeps one instance below the 20 sends a second that it may ask for.
const sendGap = 60 * time.Millisecond

// correspondence is what one instance sends to people who have written to it.
type correspondence struct {
	b       *bench
	from    instance
	numbers []string

	mu   sync.Mutex
	told map[string]string // message id → the furthest status that an event has told
}

// contacts makes people that an instance knows: each has written, and has got a message.
func (b *bench) contacts(ctx context.Context, from instance, n int, c *consumer) (*correspondence, error) {
	m := &correspondence{b: b, from: from, told: make(map[string]string)}
	tell := func(id, status string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.told[id] = status
	}
	c.status.Store(&tell)
	for i := range n {
		m.numbers = append(m.numbers, fmt.Sprintf("49157%07d", i))
	}
	if err := m.phones(ctx, false); err != nil {
		return nil, err
	}
	for i, number := range m.numbers {
		if err := b.phones.write(ctx, from.World, number, from.Number, fmt.Sprintf("AC%X", i)); err != nil {
			return nil, err
		}
	}
	ids, err := m.send(ctx, n)
	if err != nil {
		return nil, err
	}
	return m, m.await(ctx, ids, "delivered")
}

// phones says how the people's phones behave: they read nothing by themselves, and while
// they are away they tell of nothing.
func (m *correspondence) phones(ctx context.Context, away bool) error {
	for _, number := range m.numbers {
		behaviour := map[string]any{"world": m.from.World, "reads": "manual", "offline": away}
		if err := m.b.phones.do(ctx, "PUT", "phones/"+number, behaviour, nil); err != nil {
			return err
		}
	}
	return nil
}

// send sends n texts, to one after the other.
func (m *correspondence) send(ctx context.Context, n int) (ids []string, err error) {
	text := strings.Repeat("How are you today? See you at eight. ", 5) // 185 characters
	for i := range n {
		var made struct {
			ID string `json:"message_id"`
		}
		_, err := m.b.customer.do(ctx, "POST", "/v1/instances/"+m.from.ID+"/messages", map[string]any{
			"to": m.numbers[i%len(m.numbers)], "body": map[string]string{"type": "text", "text": text},
		}, &made)
		if err != nil {
			return nil, err
		}
		ids = append(ids, made.ID)
		if err := wait(ctx, sendGap); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// await waits until events have told of a status of each.
func (m *correspondence) await(ctx context.Context, ids []string, status string) error {
	return await(ctx, time.Minute, "every message is "+status, func() (bool, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		return !slices.ContainsFunc(ids, func(id string) bool { return m.told[id] != status }), nil
	})
}

// read lets the people read the messages.
func (m *correspondence) read(ctx context.Context, ids []string) error {
	for i, id := range ids {
		err := m.b.phones.do(ctx, "POST", "phones/"+m.numbers[i%len(m.numbers)]+"/actions", map[string]string{
			"world": m.from.World, "kind": "read", "to": m.from.Number, "message_id": id,
		}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// countSends counts what a sent text costs until it is sent, and what a receipt of one
// does. The recipients' phones are away meanwhile, so that no receipt is among the first;
// then they are back, and then they read.
func (b *bench) countSends(ctx context.Context) error {
	c, stop := b.consume(ctx)
	defer stop()
	n := b.size.CountedSends
	m, err := b.contacts(ctx, b.linked[0], min(max(1, n/6), 50), c)
	if err != nil {
		return err
	}
	if err := m.phones(ctx, true); err != nil {
		return err
	}
	var ids []string
	sent, err := b.stack.metering(ctx, func() (err error) {
		if ids, err = m.send(ctx, n); err != nil {
			return err
		}
		return m.await(ctx, ids, "sent")
	})
	if err != nil {
		return err
	}
	b.uses("sent message", sent.without("access"), n)
	b.report.add("Requests: sent message, SQS sends beside events", sent.API.usage(false).plus(sent.Host.usage(false)).Wakes/float64(n), "each", goal(1))

	told, err := b.stack.metering(ctx, func() error {
		if err := m.phones(ctx, false); err != nil {
			return err
		}
		if err := m.await(ctx, ids, "delivered"); err != nil {
			return err
		}
		if err := m.read(ctx, ids); err != nil {
			return err
		}
		return m.await(ctx, ids, "read")
	})
	if err != nil {
		return err
	}
	b.uses("receipt", told, 2*n)
	return nil
}

// without leaves out what concerns a table: the limiter, which is counted by itself.
func (r readings) without(resource string) readings {
	keep := func(c counted) counted {
		c.Count = slices.DeleteFunc(slices.Clone(c.Count), func(o countedOperation) bool { return o.Resource == resource })
		return c
	}
	return readings{keep(r.API), keep(r.Host)}
}

// goals are the goals of what is counted in requests; a name that has none has no goal.
func goals(what, figure string) []option {
	most, ok := map[string]map[string]float64{
		"received message": {"write units": 3.5, "reads": 0, "sends": 1},
		"sent message":     {"write units": 9, "reads": 2},
		"receipt":          {"write units": 2},
	}[what][figure]
	if !ok {
		return nil
	}
	return []option{goal(most)}
}
