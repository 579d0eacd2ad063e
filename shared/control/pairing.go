package control

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"whatisup/shared/whatisup"
)

const (
	// secondWake is when a host that has not reacted is woken again.
	secondWake = 2 * time.Second
	// lookAgain is how often a waiting call looks at the instance itself.
	lookAgain = 500 * time.Millisecond
)

// QR starts an attempt to pair, or joins the open one, and waits for a code that
// can be scanned.
func (c *Control) QR(ctx context.Context, who Caller, i *whatisup.Instance) (*whatisup.Pairing, error) {
	var found *whatisup.Pairing
	w := &waiting{
		Control: c, who: who, instance: i,
		want: func(i *whatisup.Instance) (whatisup.Wanted, bool, error) {
			w, changed := i.WantAttempt(c.Now(), who.Request)
			return w, changed, nil
		},
		ready: func(i *whatisup.Instance, p *whatisup.Pairing) (bool, error) {
			found = p
			return p.Scannable(i.Wanted.Generation, c.Now()), nil
		},
	}
	if err := w.run(ctx); err != nil {
		return nil, err
	}
	return found, nil
}

// PairCode is the code that a user types on the phone.
type PairCode struct {
	Code      string // XXXX-XXXX
	ExpiresAt time.Time
}

// PairCode asks for a pair code for a number within an attempt to pair, and
// waits for it.
func (c *Control) PairCode(ctx context.Context, who Caller, i *whatisup.Instance, number whatisup.PhoneNumber) (PairCode, error) {
	var found PairCode
	taken := false
	take := func(i *whatisup.Instance) error {
		if wait := i.AskThrottledFor(number, c.Now()); wait > 0 {
			return ErrPairCodes.After(wait).With("reason", "pair_code_numbers")
		}
		if taken {
			return nil
		}
		taken = true
		return c.takePairCode(ctx, who, number)
	}
	w := &waiting{
		Control: c, who: who, instance: i,
		want: func(i *whatisup.Instance) (whatisup.Wanted, bool, error) {
			w, changed := i.WantPairCode(number, c.Now(), who.Request)
			if changed {
				return w, true, take(i)
			}
			// The same number again gets the code that it has, unless that code
			// was refused or is over.
			p, err := c.Store.Pairing(ctx, i.Config.ID)
			if err != nil || p == nil || p.CodeSerial != w.PairSerial || p.Attempt.Generation != w.Generation {
				return w, false, err
			}
			if err := refusedFor(p, c.Now()); err != nil {
				return w, false, err
			}
			if p.CodeRefused || p.Code != "" && !c.Now().Add(whatisup.CodeMargin).Before(p.CodeExpiresAt) {
				w.PairSerial++
				w.ChangedAt, w.RequestID = c.Now(), who.Request
				return w, true, take(i)
			}
			return w, false, nil
		},
		ready: func(i *whatisup.Instance, p *whatisup.Pairing) (bool, error) {
			w, now := &i.Wanted, c.Now()
			if p == nil || p.Attempt.Generation != w.Generation || p.CodeSerial != w.PairSerial || w.PairPhone != number {
				return false, nil
			}
			if err := refusedFor(p, now); err != nil {
				return false, err
			}
			if p.CodeRefused {
				return false, ErrPairCodeFailed
			}
			if p.Code == "" || !now.Before(p.AliveUntil) || !now.Add(whatisup.CodeMargin).Before(p.CodeExpiresAt) {
				return false, nil
			}
			found = PairCode{p.Code, p.CodeExpiresAt}
			if len(p.Code) == 8 {
				found.Code = p.Code[:4] + "-" + p.Code[4:]
			}
			return true, nil
		},
	}
	if err := w.run(ctx); err != nil {
		return PairCode{}, err
	}
	return found, nil
}

// refusedFor is the error while WhatsApp gives no pair code because of too many.
func refusedFor(p *whatisup.Pairing, now time.Time) error {
	if wait := p.CodeRetryAt.Sub(now); p.CodeRefused && wait > 0 {
		return ErrPairCodes.After(wait).With("reason", "whatsapp")
	}
	return nil
}

// takePairCode takes the pair code of a minute that the number is sent: over all
// customers with live keys, for each code rings somebody's phone, and in the
// sandbox within the customer's world.
func (c *Control) takePairCode(ctx context.Context, who Caller, number whatisup.PhoneNumber) error {
	scope := string(who.Mode)
	if who.Mode == whatisup.Test {
		scope += "#" + string(who.Customer.ID)
	}
	sum := hmac.New(sha256.New, []byte(c.Peppers.Oldest()))
	sum.Write([]byte("pair code\x00" + string(number)))
	next, err := c.Store.TakePairCode(ctx, scope, hex.EncodeToString(sum.Sum(nil)[:16]))
	if errors.Is(err, whatisup.ErrTooMany) {
		return ErrPairCodes.After(next.Sub(c.Now())).With("reason", "pair_code_of_number")
	}
	return err
}

// waiting is a call that wants an attempt and waits for what it shows.
type waiting struct {
	*Control
	who      Caller
	instance *whatisup.Instance // as it was read last
	// want says what is wanted of the instance as it is.
	want func(*whatisup.Instance) (whatisup.Wanted, bool, error)
	// ready says whether the code row shows what the call waits for.
	ready func(*whatisup.Instance, *whatisup.Pairing) (bool, error)

	restarted bool
}

func (w *waiting) run(ctx context.Context) error {
	if w.who.Mode == whatisup.Test && !w.Sandbox {
		return ErrNoHost.With("reason", "no_sandbox")
	}
	until := w.waitUntil(ctx, w.who)
	fresh, err := w.begin(ctx)
	if err != nil {
		return err
	}

	began := w.Now()
	looked, woken, first := began, false, !fresh
	err = w.Wait(ctx, w.who, until, fresh, func(ctx context.Context) (bool, error) {
		p, err := w.Store.Pairing(ctx, w.instance.Config.ID)
		if err != nil {
			return false, err
		}
		done, err := w.ready(w.instance, p)
		now := w.Now()
		// The instance was read just before the first look. Later, the code may
		// be of one that was deleted, stopped or linked meanwhile.
		if !first && (done || err != nil || now.Sub(looked) >= lookAgain) {
			looked = now
			same, err := w.look(ctx)
			if err != nil || !same {
				return false, err
			}
		}
		first = false
		if done || err != nil {
			return done, err
		}
		if !woken && now.Sub(began) >= secondWake && w.instance.Observed.ObservedGeneration < w.instance.Wanted.Generation {
			woken = true
			w.wake(ctx, w.who, w.instance)
		}
		return false, nil
	})
	if errors.Is(err, ErrOver) {
		return w.gaveUp(ctx)
	}
	return err
}

// begin makes sure that an attempt is wanted, and says whether it is a new one.
func (w *waiting) begin(ctx context.Context) (fresh bool, _ error) {
	for try := 1; ; try++ {
		i := w.instance
		if i.HasLink() {
			return false, w.linked(ctx, "The instance is already linked to a phone. Log out before you pair it again.")
		}
		wanted, changed, err := w.want(i)
		if err != nil {
			return false, err
		}
		fresh = wanted.Generation != i.Wanted.Generation
		if changed {
			if fresh {
				if err := w.mayPair(ctx, w.who, i); err != nil {
					return false, err
				}
			}
			err := w.Store.Want(ctx, i, wanted, nil)
			if newer, err := w.again(ctx, w.who, i, try, err); err != nil {
				return false, err
			} else if newer != nil {
				w.instance = newer
				continue
			}
			next := *i
			next.Wanted = wanted
			next.Wanted.Version++
			w.instance = &next
		}
		if changed || wanted.Generation > i.Observed.ObservedGeneration {
			w.wake(ctx, w.who, i)
		}
		return fresh, nil
	}
}

// linked is the error for an instance that has a link.
func (w *waiting) linked(ctx context.Context, message string) error {
	shown, err := w.Show(ctx, w.instance)
	if err != nil {
		return err
	}
	return transition(message, shown.Shown)
}

// look reads the instance again. It says whether the same attempt goes on, and
// fails if there is no use in waiting.
func (w *waiting) look(ctx context.Context) (same bool, _ error) {
	generation := w.instance.Wanted.Generation
	i, err := w.Find(ctx, w.who, string(w.instance.Config.ID))
	if err != nil {
		return false, err
	}
	w.instance = i
	switch {
	case i.HasLink():
		return false, w.linked(ctx, "The code was scanned meanwhile.")
	case i.AttemptOpen():
		return i.Wanted.Generation == generation, nil
	case !i.Wanted.Online || whatisup.Link(i.Wanted.Generation) <= i.Wanted.UnlinkThrough:
		return false, ErrNoQR.With("reason", whatisup.Stopped)
	}

	// The attempt has ended, and its host says why.
	switch o := &i.Observed; {
	case o.FailedCause == whatisup.CodeWhatsAppUnreachable:
		return false, ErrUnreachable.With("reason", whatisup.Network)
	case o.FailedCause == whatisup.CodeAtCapacity:
		return false, ErrAtCapacity.With("reason", "at_capacity")
	case o.Status == whatisup.Failed, w.restarted:
		return false, ErrNoQR.With("reason", o.Reason)
	}

	// Its codes ran out just as this call came: that was the other call's
	// attempt, and this call starts its own.
	w.restarted = true
	_, err = w.begin(ctx)
	return false, err
}

// gaveUp is the error when the wait is over.
func (w *waiting) gaveUp(ctx context.Context) error {
	i := w.instance
	owner, err := w.owner(ctx, i.Config.Mode, i.Shard)
	if err != nil {
		return err
	}
	now := w.Now()
	if now.Sub(owner.Seen) > whatisup.OwnerLost {
		return ErrNoHost.With("reason", whatisup.NoSessionHost)
	}
	reason := whatisup.Starting
	if shown := whatisup.View(i, owner, now); shown.Reason != nil {
		reason = *shown.Reason
	}
	return ErrNoQR.With("reason", reason)
}
