package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// comingBack measures how long sessions are away: after a dropped socket, after an
// outage of WhatsApp, and after their host was killed and started again under its name.
func (b *bench) comingBack(ctx context.Context) error {
	if err := b.fill(ctx, b.size.Back); err != nil {
		return err
	}
	if err := b.dropped(ctx); err != nil {
		return err
	}
	if err := b.outage(ctx); err != nil {
		return err
	}
	return b.restarted(ctx)
}

// dropped breaks one connection at a time.
func (b *bench) dropped(ctx context.Context) error {
	var away spread
	for i := range b.size.Drops {
		one := b.linked[i%len(b.linked)]
		began := time.Now()
		if err := b.phones.fault(ctx, fault{World: one.World, Instance: one.ID, Kind: "drop"}); err != nil {
			return err
		}
		err := await(ctx, time.Minute, "the session is back", func() (bool, error) {
			gaps, err := b.phones.gaps(ctx, one.World, began)
			d, ok := gaps[one.ID]
			if ok && time.Since(began) > d+time.Second/2 { // it stands still: the session is back
				away = append(away, ms(d))
				return true, err
			}
			return false, err
		})
		if err != nil {
			return err
		}
	}
	b.report.add("Coming back: a dropped socket until logged in, p50", away.at(.5), "ms", goal(100), note("%d samples", len(away)))
	b.report.add("Coming back: a dropped socket until logged in, longest", away.at(1), "ms")
	return nil
}

// outage keeps every session from WhatsApp for a while.
func (b *bench) outage(ctx context.Context) error {
	if err := b.phones.fault(ctx, fault{World: b.customer.id, Kind: "unreachable", Seconds: b.size.Outage.Seconds()}); err != nil {
		return err
	}
	over := time.Now().Add(b.size.Outage)
	if err := wait(ctx, b.size.Outage); err != nil {
		return err
	}
	back, err := b.backAfter(ctx, over)
	if err != nil {
		return err
	}
	b.report.add(fmt.Sprintf("Coming back: an outage of %v, its end until all are back", b.size.Outage), back.at(1), "s", goal(5),
		note("%d sessions; p50 %.3g s", len(back), back.at(.5)))
	return nil
}

// restarted kills the session host and starts it again under its name, whose leases are
// its own.
func (b *bench) restarted(ctx context.Context) error {
	old := b.host
	killed := time.Now()
	old.kill()
	b.running = slices.DeleteFunc(b.running, func(h *host) bool { return h == old })
	next, err := startHost(ctx, b.program, b.stack, old.ID)
	if err != nil {
		return err
	}
	b.host, b.running = next, append(b.running, next)
	back, err := b.backAfter(ctx, killed)
	if err != nil {
		return err
	}
	b.report.add("Coming back: a host killed and started under its name, all back", back.at(1), "s", goal(1),
		note("%d sessions, from the kill; p50 %.3g s; the goal is for 50", len(back), back.at(.5)))
	return b.settle(ctx)
}

// backAfter waits until every session has logged in after a moment, and says how long
// after it, in seconds.
func (b *bench) backAfter(ctx context.Context, moment time.Time) (spread, error) {
	var s spread
	err := await(ctx, 2*time.Minute, "every session is back", func() (bool, error) {
		back, err := b.backSince(ctx, moment)
		s = spreadGaps(back)
		return len(back) >= len(b.linked), err
	})
	return s, err
}
