package control

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"whatisup/shared/whatisup"
)

// Connect wants the instance connected: its link resumed, or without a link an
// attempt to pair.
func (c *Control) Connect(ctx context.Context, who Caller, i *whatisup.Instance, seal Seal[whatisup.Shown]) (whatisup.Shown, error) {
	return c.change(ctx, who, i, seal, func(i *whatisup.Instance, shown whatisup.Shown) (whatisup.Wanted, bool, error) {
		// What counts is what is wanted: a connection that was asked to end is
		// wanted again, even if its host has not closed it yet.
		if shown.Status == whatisup.Connected && i.Wanted.Online {
			return whatisup.Wanted{}, false, transition("The instance is already connected.", shown)
		}
		settled := shown.Status == whatisup.Connecting && shown.NextRetryAt.IsZero() && i.Wanted.Online
		if i.HasLink() && settled {
			return i.Wanted, false, nil
		}
		w, changed := i.WantConnect(c.Now(), who.Request)
		if changed && !i.HasLink() {
			if err := c.mayPair(ctx, who, i); err != nil {
				return whatisup.Wanted{}, false, err
			}
		}
		return w, changed, nil
	})
}

// Disconnect wants the connection closed and the link kept.
func (c *Control) Disconnect(ctx context.Context, who Caller, i *whatisup.Instance, seal Seal[whatisup.Shown]) (whatisup.Shown, error) {
	return c.change(ctx, who, i, seal, func(i *whatisup.Instance, _ whatisup.Shown) (whatisup.Wanted, bool, error) {
		w, changed := i.WantStop(c.Now(), who.Request)
		return w, changed, nil
	})
}

// Logout gives up the link.
func (c *Control) Logout(ctx context.Context, who Caller, i *whatisup.Instance, seal Seal[whatisup.Shown]) (whatisup.Shown, error) {
	return c.change(ctx, who, i, seal, func(i *whatisup.Instance, _ whatisup.Shown) (whatisup.Wanted, bool, error) {
		w, changed := i.WantLogout(c.Now(), who.Request)
		return w, changed, nil
	})
}

// change changes what is wanted of an instance and returns the state that the
// customer is shown from now on. want may be asked several times, each time on
// the instance as it is then.
func (c *Control) change(ctx context.Context, who Caller, i *whatisup.Instance, seal Seal[whatisup.Shown], want func(*whatisup.Instance, whatisup.Shown) (whatisup.Wanted, bool, error)) (whatisup.Shown, error) {
	for try := 1; ; try++ {
		was, err := c.Show(ctx, i)
		if err != nil {
			return whatisup.Shown{}, err
		}
		w, changed, err := want(i, was.Shown)
		if err != nil {
			return whatisup.Shown{}, err
		}
		next := *i
		next.Wanted = w
		shown, err := c.Show(ctx, &next)
		if err != nil {
			return whatisup.Shown{}, err
		}

		if changed {
			record, err := seal.record(shown.Shown)
			if err != nil {
				return whatisup.Shown{}, err
			}
			err = c.Store.Want(ctx, i, w, record)
			if newer, err := c.again(ctx, who, i, try, err); err != nil {
				return whatisup.Shown{}, err
			} else if newer != nil {
				i = newer
				continue
			}
		} else if err := seal.complete(ctx, c.Store, shown.Shown); err != nil {
			return whatisup.Shown{}, err
		}
		if changed || w.Generation > i.Observed.ObservedGeneration {
			c.wake(ctx, who, i)
		}
		return shown.Shown, nil
	}
}

// transition is the error for what the instance's state does not allow, with
// what resolves it.
func transition(message string, shown whatisup.Shown) *whatisup.Error {
	var reason any
	if shown.Reason != nil {
		reason = *shown.Reason
	}
	return whatisup.NewError(whatisup.CodeInvalidTransition, message).
		With("status", shown.Status).
		With("reason", reason).
		With("next_retry_at", shown.NextRetryAt).
		With("resolve", resolve(shown))
}

// resolve says what a customer does about a link that stands in the way of a
// new one: wait for it to come back, connect it, or give it up.
func resolve(shown whatisup.Shown) string {
	var reason whatisup.Reason
	if shown.Reason != nil {
		reason = *shown.Reason
	}
	switch shown.Status {
	case whatisup.Connecting:
		return "wait"
	case whatisup.Disconnected:
		if reason == whatisup.Network {
			return "wait"
		}
		return "connect"
	case whatisup.Failed:
		if reason == whatisup.ClientOutdated || !shown.NextRetryAt.IsZero() {
			return "wait"
		}
		return "connect"
	default:
		return "logout"
	}
}

const (
	// maxAttempts is how many attempts a customer may have open at one time.
	maxAttempts = 200
	// attemptLasts is longer than the codes of one attempt: about 160 s, and the
	// dial before them.
	attemptLasts = 4 * time.Minute
)

func attempts(who Caller) whatisup.Slots {
	return whatisup.Slots{Customer: who.Customer.ID, Mode: who.Mode, Kind: "attempts", Limit: maxAttempts}
}

// mayPair is asked before a new attempt is wanted.
func (c *Control) mayPair(ctx context.Context, who Caller, i *whatisup.Instance) error {
	if wait := i.ThrottledFor(c.Now()); wait > 0 {
		return ErrThrottled.After(wait).With("reason", "unscanned_attempts")
	}
	for try := 1; ; try++ {
		err := c.Store.TakeSlot(ctx, attempts(who), string(i.Config.ID), c.Now().Add(attemptLasts), "")
		if !errors.Is(err, whatisup.ErrTooMany) {
			return err
		}
		freed := 0
		if try < sweeps {
			if freed, err = c.sweepAttempts(ctx, who); err != nil {
				return err
			}
		}
		if freed == 0 {
			return ErrThrottled.After(10*time.Second).With("reason", "open_attempts")
		}
	}
}

const (
	// sweepTogether is how many attempts are looked at together.
	sweepTogether = 20
	// sweeps is how often a call frees slots that others take before it does.
	sweeps = 5
)

// sweepAttempts frees the slots of attempts that are over, and says how many. A
// slot lasts as long as an attempt can; only when all are taken is it worth a
// look which attempts were scanned or stopped before.
//
// It stops when it has freed some, for the caller waits for a code. Callers at
// the same moment begin at different slots, so as not to free the same.
func (c *Control) sweepAttempts(ctx context.Context, who Caller) (int, error) {
	ids, err := c.Store.TakenSlots(ctx, attempts(who))
	if err != nil {
		return 0, err
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	for some := range slices.Chunk(ids, sweepTogether) {
		var mu sync.Mutex
		var over []string
		var group errgroup.Group
		for _, id := range some {
			group.Go(func() error {
				i, err := c.Store.Instance(ctx, who.Customer.ID, who.Mode, whatisup.InstanceID(id))
				if err != nil && !errors.Is(err, whatisup.ErrNotFound) {
					return err
				}
				if err != nil || !i.AttemptOpen() {
					mu.Lock()
					defer mu.Unlock()
					over = append(over, id)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return 0, err
		}
		if len(over) > 0 {
			return len(over), c.Store.FreeSlots(ctx, attempts(who), over...)
		}
	}
	return 0, nil
}
