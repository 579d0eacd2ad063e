package httpapi

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"whatisup/shared/whatisup"
)

func getStatus(c *call) (*answer, error) {
	shown, err := c.view(c.instance)
	if err != nil {
		return nil, err
	}
	return reply(http.StatusOK, shown.Detail), nil
}

func connect(c *call) (*answer, error)    { return c.bare((*call).connect) }
func disconnect(c *call) (*answer, error) { return c.bare((*call).disconnect) }
func logout(c *call) (*answer, error)     { return c.bare((*call).logout) }

// bare carries out a POST that has no fields.
func (c *call) bare(do func(*call, *once) (*answer, error)) (*answer, error) {
	b, err := c.empty()
	if err != nil {
		return nil, err
	}
	return c.once(b, func(o *once) (*answer, error) { return do(c, o) })
}

func (c *call) connect(o *once) (*answer, error) {
	return c.change(o, func(i *whatisup.Instance, shown whatisup.Shown) (whatisup.Wanted, bool, error) {
		if shown.Status == whatisup.Connected {
			return whatisup.Wanted{}, false, transition("The instance is connected already.", shown)
		}
		settled := shown.Status == whatisup.Connecting && shown.NextRetryAt.IsZero() && i.Wanted.Online
		if i.HasLink() && settled {
			return i.Wanted, false, nil
		}
		w, changed := i.WantConnect(c.now(), c.id)
		if changed && !i.HasLink() {
			if err := c.mayPair(i); err != nil {
				return whatisup.Wanted{}, false, err
			}
		}
		return w, changed, nil
	})
}

func (c *call) disconnect(o *once) (*answer, error) {
	return c.change(o, func(i *whatisup.Instance, _ whatisup.Shown) (whatisup.Wanted, bool, error) {
		w, changed := i.WantStop(c.now(), c.id)
		return w, changed, nil
	})
}

func (c *call) logout(o *once) (*answer, error) {
	return c.change(o, func(i *whatisup.Instance, _ whatisup.Shown) (whatisup.Wanted, bool, error) {
		w, changed := i.WantLogout(c.now(), c.id)
		return w, changed, nil
	})
}

// change changes what is wanted of the call's instance and answers 202 with the
// state that the customer is shown from now on. want may be asked several times:
// each time on the instance as it stands.
func (c *call) change(o *once, want func(*whatisup.Instance, whatisup.Shown) (whatisup.Wanted, bool, error)) (*answer, error) {
	for try := 1; ; try++ {
		i := c.instance
		shown, err := c.view(i)
		if err != nil {
			return nil, err
		}
		w, changed, err := want(i, shown)
		if err != nil {
			return nil, err
		}
		next := *i
		next.Wanted = w
		if shown, err = c.view(&next); err != nil {
			return nil, err
		}
		a := reply(http.StatusAccepted, shown.Detail)
		if changed {
			record, err := o.with(a)
			if err != nil {
				return nil, err
			}
			if again, err := c.again(try, c.Store.Want(c.ctx, i, w, record)); again {
				continue
			} else if err != nil {
				return nil, err
			}
		}
		if changed || w.Generation > i.Observed.ObservedGeneration {
			c.wake(i)
		}
		return a, nil
	}
}

// transition is the answer to what the instance's state does not allow, with
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
	placeAttempt = "attempts"
	// maxAttempts is how many attempts a customer may have open at one time.
	maxAttempts = 200
	// attemptLasts is longer than the codes of one attempt: about 160 s, and the
	// dial before them.
	attemptLasts = 4 * time.Minute
)

// mayPair is asked before a new attempt is wanted.
func (c *call) mayPair(i *whatisup.Instance) error {
	if wait := i.ThrottledFor(c.now()); wait > 0 {
		return errThrottled.After(wait).With("reason", "unscanned_attempts")
	}
	for try := 1; ; try++ {
		err := c.Store.Occupy(c.ctx, c.customer(), c.mode(), placeAttempt, string(i.Config.ID), c.now().Add(attemptLasts), maxAttempts)
		if !errors.Is(err, whatisup.ErrTooMany) {
			return err
		}
		freed := 0
		if try < sweeps {
			if freed, err = c.sweepAttempts(); err != nil {
				return err
			}
		}
		if freed == 0 {
			return errThrottled.After(10*time.Second).With("reason", "open_attempts")
		}
	}
}

const (
	// sweepTogether is how many attempts are looked at at a time.
	sweepTogether = 20
	// sweeps is how often a call frees places that others take before it.
	sweeps = 5
)

// sweepAttempts frees the places of attempts that are over, and says how many. A
// place is given for as long as an attempt can last; only when all are taken is
// it worth a look at which were scanned or stopped before.
//
// It stops when it has freed some, for the caller waits for a code. Callers at
// the same moment begin at different places, so as not to free the same.
func (c *call) sweepAttempts() (int, error) {
	ids, err := c.Store.Places(c.ctx, c.customer(), c.mode(), placeAttempt)
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
				i, err := c.Store.Instance(c.ctx, c.customer(), c.mode(), whatisup.InstanceID(id))
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
			return len(over), c.Store.Vacate(c.ctx, c.customer(), c.mode(), placeAttempt, over...)
		}
	}
	return 0, nil
}
