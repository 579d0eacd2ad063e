package httpapi_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"whatisup/shared/whatisup"
)

// host acts as a session host that owns the shard of every instance it touches.
// What it does goes through the tables, as a real one's work does.
type host struct {
	f      *fixture
	mu     sync.Mutex
	epochs map[string]whatisup.Epoch
}

func (f *fixture) host() *host { return &host{f: f, epochs: map[string]whatisup.Epoch{}} }

// own makes the host the living owner of an instance, and reads it.
func (h *host) own(cmd whatisup.Command) (*whatisup.Instance, error) {
	ctx := context.Background()
	shard := h.f.db.ShardOf(cmd.Instance)
	name := string(cmd.Mode) + string(rune(shard))
	h.mu.Lock()
	epoch, owned := h.epochs[name]
	if !owned {
		seen, err := h.f.db.Lease(ctx, cmd.Mode, shard)
		if err == nil {
			seen, err = h.f.db.ClaimLease(ctx, cmd.Mode, seen, whatisup.Host{}, "host")
		}
		if err != nil {
			h.mu.Unlock()
			return nil, err
		}
		epoch = seen.Epoch
		h.epochs[name] = epoch
	}
	h.mu.Unlock()
	return h.f.db.Adopt(ctx, whatisup.Ref{Customer: cmd.Customer, Mode: cmd.Mode, ID: cmd.Instance}, epoch)
}

// observe writes what the host has found.
func (h *host) observe(cmd whatisup.Command, change func(*whatisup.Instance, *whatisup.Observed)) {
	for range 5 {
		i, err := h.own(cmd)
		if errors.Is(err, whatisup.ErrNotFound) {
			return
		}
		if err == nil {
			o := i.Observed
			change(i, &o)
			err = h.f.db.Observe(context.Background(), i, o)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, whatisup.ErrFenced) && !errors.Is(err, whatisup.ErrConflict) {
			h.f.t.Errorf("host: %v", err)
			return
		}
	}
}

// show takes the newest attempt up and shows raw as its code.
func (h *host) show(cmd whatisup.Command, raw string) {
	h.observe(cmd, func(i *whatisup.Instance, o *whatisup.Observed) {
		now := h.f.clock.now()
		p := whatisup.Pairing{
			Instance: cmd.Instance, Attempt: whatisup.AttemptID{Generation: i.Wanted.Generation, Epoch: o.Epoch},
			Raw: raw, ExpiresAt: now.Add(20 * time.Second), AliveUntil: now.Add(whatisup.AliveFor),
		}
		if i.Wanted.PairPhone != "" {
			p.CodePhone, p.CodeSerial = i.Wanted.PairPhone, i.Wanted.PairSerial
			p.Code, p.CodeExpiresAt = "ABCD-2345", now.Add(time.Minute)
			if strings.HasPrefix(string(i.Wanted.PairPhone), "66") {
				p.Code, p.CodeRefused = "", true
			}
			if strings.HasPrefix(string(i.Wanted.PairPhone), "67") { // WhatsApp has had enough
				p.Code, p.CodeRefused, p.CodeRetryAt = "", true, now.Add(10*time.Minute)
			}
		}
		if err := h.f.db.PutPairing(context.Background(), p); err != nil {
			h.f.t.Errorf("host: %v", err)
		}
		o.Status, o.Reason, o.QRExpiresAt, o.ObservedGeneration = whatisup.QR, whatisup.NoReason, p.ExpiresAt, i.Wanted.Generation
		o.Since, o.UpdatedAt = now, now
	})
}

// link makes the newest attempt end in a link.
func (h *host) link(cmd whatisup.Command, status whatisup.Status, reason whatisup.Reason) {
	h.observe(cmd, func(i *whatisup.Instance, o *whatisup.Observed) {
		o.Link, o.Confirmed, o.PhoneNumber = whatisup.Link(i.Wanted.Generation), true, "4915112345678"
		o.LastLink = o.Link
		o.ObservedGeneration, o.DoneGeneration = i.Wanted.Generation, i.Wanted.Generation
		o.Status, o.Reason = status, reason
		o.Since, o.UpdatedAt, o.LastSeenAt = h.f.clock.now(), h.f.clock.now(), h.f.clock.now()
	})
}

// fail ends the newest attempt without a code.
func (h *host) fail(cmd whatisup.Command, status whatisup.Status, reason whatisup.Reason, cause whatisup.Code) {
	h.observe(cmd, func(i *whatisup.Instance, o *whatisup.Observed) {
		o.ObservedGeneration, o.DoneGeneration = i.Wanted.Generation, i.Wanted.Generation
		o.Status, o.Reason, o.FailedCause = status, reason, cause
	})
}

// of names an instance as a wake-up would.
func (f *fixture) of(customer whatisup.CustomerID, id whatisup.InstanceID) whatisup.Command {
	return whatisup.Command{Customer: customer, Mode: whatisup.Test, Instance: id}
}
