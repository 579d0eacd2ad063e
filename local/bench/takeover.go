package main

import (
	"context"
	"fmt"
	"time"
)

// spreadGaps makes figures, in seconds, of how long each session was away.
func spreadGaps(gaps map[string]time.Duration) (s spread) {
	for _, d := range gaps {
		s = append(s, d.Seconds())
	}
	return s
}

// startHost starts one more host and puts it on the list of those to end.
func (b *bench) startHost(ctx context.Context, settings ...string) (*host, error) {
	b.hosts++
	h, err := startHost(ctx, b.program, b.stack, fmt.Sprintf("bench-%d", b.hosts), settings...)
	if err == nil {
		b.running = append(b.running, h)
	}
	return h, err
}

// replace has a new host take everything over from the present one, gracefully,
// and measures the gaps.
func (b *bench) replace(ctx context.Context, settings ...string) (spread, error) {
	since := time.Now()
	next, err := b.startHost(ctx, settings...)
	if err != nil {
		return nil, err
	}
	old := b.host
	b.host = next
	r, err := b.stack.metering(ctx, func() error {
		if err := old.drain(ctx); err != nil {
			return err
		}
		return b.settle(ctx)
	})
	if err != nil {
		return nil, err
	}
	if _, ok := b.used["session handed over"]; !ok {
		b.uses("session handed over", r, len(b.linked))
	}
	gaps, err := b.phones.gaps(ctx, b.customer.id, since)
	return spreadGaps(gaps), err
}

// shards is how many shards a host owns.
func shards(ctx context.Context, h *host) (int, error) {
	m, err := h.metrics(ctx)
	return int(m["whatisup_shards"]), err
}

// rolling replaces two hosts, one after the other, as a deployment does, and
// holds a stopwatch to every session.
func (b *bench) rolling(ctx context.Context) error {
	second, err := b.startHost(ctx)
	if err != nil {
		return err
	}
	first := b.host
	began := time.Now()
	err = await(ctx, 3*time.Minute, "two hosts share the shards", func() (bool, error) {
		a, err := shards(ctx, first)
		if err != nil {
			return false, err
		}
		b, err := shards(ctx, second)
		return a+b == shardCount && b >= shardCount/2-1, err
	})
	if err != nil {
		return err
	}
	b.report.add("Rolling: a new host has its share after", time.Since(began).Seconds(), "s")
	gaps, err := b.phones.gaps(ctx, b.customer.id, began)
	if err != nil {
		return err
	}
	if s := spreadGaps(gaps); len(s) > 0 {
		b.report.add("Rolling: gap of a session that moves to it, p99", s.at(.99), "s", note("p50 %.3g s, %d sessions", s.at(.5), len(s)))
	}
	since := time.Now()
	for _, old := range []*host{first, second} {
		next, err := b.startHost(ctx)
		if err != nil {
			return err
		}
		if err := old.drain(ctx); err != nil {
			return err
		}
		if old == first {
			b.host = next
			continue
		}
		// b.host stays the first new one; the other joins it until it is drained.
		b.spare = next
	}
	if err := b.allConnected(ctx, time.Minute); err != nil {
		return err
	}
	if gaps, err = b.phones.gaps(ctx, b.customer.id, since); err != nil {
		return err
	}
	s := spreadGaps(gaps)
	b.report.add("Rolling: longest gap of a session, p99", s.at(.99), "s", goal(4),
		note("two hosts replaced in %.3g s; %d of %d sessions moved", time.Since(since).Seconds(), len(s), len(b.linked)))
	b.report.add("Rolling: longest gap of a session, p50", s.at(.5), "s")
	b.report.add("Rolling: longest gap of any session", s.at(1), "s")
	// The spare one gives its half back, so that one host has everything.
	spare := b.spare
	b.spare = nil
	if err := spare.drain(ctx); err != nil {
		return err
	}
	return b.settle(ctx)
}

// shardCount is the stack's.
const shardCount = 16

// allConnected waits until the simulator sees every linked device.
func (b *bench) allConnected(ctx context.Context, within time.Duration) error {
	return await(ctx, within, "every device is connected", func() (bool, error) {
		n, err := b.phones.connected(ctx, b.customer.id)
		return n >= len(b.linked), err
	})
}

// killed ends the host that has every session as a dead machine would, while
// another stands by.
func (b *bench) killed(ctx context.Context) error {
	var floor float64
	if err := b.floor.ask(ctx, "login", many{min(len(b.linked), b.floorLinked), 64}, &floor); err != nil {
		return err
	}
	standby, err := b.startHost(ctx)
	if err != nil {
		return err
	}
	if err := wait(ctx, time.Second); err != nil { // it has seen the leases
		return err
	}
	dead := b.host
	b.host = standby
	var died time.Time
	r, err := b.stack.metering(ctx, func() error {
		died = time.Now()
		dead.kill()
		return await(ctx, 2*time.Minute, "every session has logged in again", func() (bool, error) {
			back, err := b.backSince(ctx, died)
			return len(back) >= len(b.linked), err
		})
	})
	if err != nil {
		return err
	}
	back, err := b.backSince(ctx, died)
	if err != nil {
		return err
	}
	s := spreadGaps(back)
	b.report.add("Killed host: all sessions back after", s.at(1), "s", goal(35), floorOf(floor/1000),
		note("%d sessions; a shard may be claimed after 20 s; floor: as many bare clients log in again, 64 at a time", len(s)))
	b.report.add("Killed host: a session back after, p50", s.at(.5), "s")
	b.report.add("Killed host: from the first login to the last", s.at(1)-s.at(0), "s")
	b.uses("session taken over", r, len(b.linked))
	return b.settle(ctx)
}

// backSince says how long after a moment each session has logged in again.
func (b *bench) backSince(ctx context.Context, moment time.Time) (map[string]time.Duration, error) {
	logins, err := b.phones.journal(ctx, b.customer.id, "success", 0)
	if err != nil {
		return nil, err
	}
	back := make(map[string]time.Duration)
	for _, e := range logins {
		if _, ok := back[e.Instance]; !ok && e.At.After(moment) {
			back[e.Instance] = e.At.Sub(moment)
		}
	}
	return back, nil
}
