package httpapi

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"whatisup/shared/qr"
	"whatisup/shared/whatisup"
)

// QRFunction is the handler of the two calls that wait for a session host.
func (a *API) QRFunction() http.Handler {
	return &function{a, FunctionQR, map[string]operation{
		"getInstanceQR":  getQR,
		"createPairCode": createPairCode,
	}}
}

const (
	// waitFor is how long a call waits for a code, counted from when API Gateway
	// took it.
	waitFor = 10 * time.Second
	// lambdaMargin is left of a function's own time to answer in.
	lambdaMargin = time.Second
	// answerMargin is left of the wait, so that the answer is on its way when
	// the wait is over.
	answerMargin = 150 * time.Millisecond
	// secondWake is when a host that has taken nothing up is woken again.
	secondWake = 2 * time.Second
	// lookAgain is how often a waiting call looks at the instance itself.
	lookAgain = 500 * time.Millisecond
)

const (
	pollWaitLeast = 10 * time.Millisecond
	pollWaitMost  = 250 * time.Millisecond
)

// pollWait is the time between two looks at the code row: a host that is awake
// has a code within a few hundredths of a second on one machine, within half a
// second on AWS. It grows with the time waited, so that a look comes late by a
// sixth of it at most; and with the time a look takes, for where many wait their
// looks are a part of what they wait for.
func pollWait(waited, look time.Duration) time.Duration {
	return min(max(pollWaitLeast, waited/6, 4*look), pollWaitMost)
}

// waitUntil is when a waiting call must have its answer.
func (c *call) waitUntil() time.Time {
	until := c.began.Add(waitFor)
	if deadline, ok := c.ctx.Deadline(); ok && deadline.Add(-lambdaMargin).Before(until) {
		until = deadline.Add(-lambdaMargin)
	}
	return until.Add(-answerMargin)
}

type qrCode struct {
	QR        string        `json:"qr"`
	Raw       string        `json:"raw"`
	ExpiresAt whatisup.Time `json:"expires_at"`
}

func getQR(c *call) (*answer, error) {
	w := waiting{
		call: c,
		want: func(i *whatisup.Instance) (whatisup.Wanted, bool, error) {
			w, changed := i.WantAttempt(c.now(), c.id)
			return w, changed, nil
		},
		ready: func(i *whatisup.Instance, p *whatisup.Pairing) (*answer, error) {
			if !p.Scannable(i.Wanted.Generation, c.now()) {
				return nil, nil
			}
			png, err := picture(p)
			if err != nil {
				return nil, err
			}
			if prefersPNG(c.r.Header.Values("Accept")) {
				return &answer{status: http.StatusOK, raw: png, kind: "image/png"}, nil
			}
			return reply(http.StatusOK, qrCode{
				QR: qr.DataURL(png), Raw: p.Raw, ExpiresAt: whatisup.At(p.ExpiresAt),
			}), nil
		},
	}
	return w.run()
}

// picture is the code of a row. Its host has drawn it, unless that is of another
// version.
func picture(p *whatisup.Pairing) ([]byte, error) {
	if code := qr.Code(p.Modules); code.Valid() {
		return code.PNG(), nil
	}
	code, err := qr.Draw(p.Raw)
	if err != nil {
		return nil, err
	}
	return code.PNG(), nil
}

// prefersPNG says whether a client would rather have the picture than JSON. Who
// says nothing, or that anything will do, gets JSON.
func prefersPNG(accept []string) bool {
	var png, json float64
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		kind, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q := 1.0
		if s, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(s, 64); err != nil {
				q = 0
			}
		}
		switch kind {
		case "image/png", "image/*":
			png = max(png, q)
		case "application/json", "application/*":
			json = max(json, q)
		}
	}
	return png > json
}

type pairCode struct {
	Code      string        `json:"code"`
	ExpiresAt whatisup.Time `json:"expires_at"`
}

func createPairCode(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	number, _ := b.phone("phone_number", true)
	if err := b.done(); err != nil {
		return nil, err
	}
	return c.once(b, func(*once) (*answer, error) { return c.pairCode(number) })
}

func (c *call) pairCode(number whatisup.PhoneNumber) (*answer, error) {
	w := waiting{
		call: c,
		want: func(i *whatisup.Instance) (whatisup.Wanted, bool, error) {
			w, changed := i.WantPairCode(number, c.now(), c.id)
			if changed {
				return w, true, nil
			}
			// The same number again gets the code that it has, unless that one
			// came to nothing.
			p, err := c.Store.Pairing(c.ctx, i.Config.ID)
			if err != nil || p == nil || p.CodeSerial != w.PairSerial || p.Attempt.Generation != w.Generation {
				return w, false, err
			}
			if p.CodeRefused || p.Code != "" && !c.now().Add(whatisup.CodeMargin).Before(p.CodeExpiresAt) {
				w.PairSerial++
				w.ChangedAt, w.RequestID = c.now(), c.id
				return w, true, nil
			}
			return w, false, nil
		},
		ready: func(i *whatisup.Instance, p *whatisup.Pairing) (*answer, error) {
			w, now := &i.Wanted, c.now()
			if p == nil || p.Attempt.Generation != w.Generation || p.CodeSerial != w.PairSerial || w.PairPhone != number {
				return nil, nil
			}
			if p.CodeRefused {
				return nil, errPairCodeFailed
			}
			if p.Code == "" || !now.Before(p.AliveUntil) || !now.Add(whatisup.CodeMargin).Before(p.CodeExpiresAt) {
				return nil, nil
			}
			code := p.Code
			if len(code) == 8 {
				code = code[:4] + "-" + code[4:]
			}
			return reply(http.StatusOK, pairCode{code, whatisup.At(p.CodeExpiresAt)}), nil
		},
	}
	return w.run()
}

// waiting is a call that wants an attempt and waits for what it shows.
type waiting struct {
	*call
	// want says what is wanted of the instance as it stands.
	want func(*whatisup.Instance) (whatisup.Wanted, bool, error)
	// ready makes the answer from the code row, or nil while there is none.
	ready func(*whatisup.Instance, *whatisup.Pairing) (*answer, error)

	restarted bool
}

func (w *waiting) run() (*answer, error) {
	if w.mode() == whatisup.Test && !w.Sandbox {
		return nil, errNoHost.With("reason", "no_sandbox")
	}
	until := w.waitUntil()
	ctx, cancel := context.WithDeadline(w.ctx, until.Add(answerMargin/2))
	defer cancel()
	fresh, err := w.begin()
	if err != nil {
		return nil, err
	}
	began := w.now()
	looked, woken := began, false
	if fresh { // nobody has a code for it yet
		if err := sleep(ctx, pollWait(0, 0)); err != nil {
			return nil, w.late(ctx, err)
		}
	}
	for first := !fresh; ; first = false {
		asked := w.now()
		p, err := w.Store.Pairing(ctx, w.instance.Config.ID)
		if err != nil {
			return nil, w.late(ctx, err)
		}
		a, err := w.ready(w.instance, p)
		now := w.now()
		waited, took := now.Sub(began), now.Sub(asked)
		if a != nil || err != nil || now.Sub(looked) >= lookAgain {
			// The instance was read just before the first look; later, the code
			// may be of one that was deleted, stopped or linked meanwhile.
			if !first {
				looked = now
				generation := w.instance.Wanted.Generation
				if err := w.look(ctx); err != nil {
					return nil, w.late(ctx, err)
				}
				if w.instance.Wanted.Generation != generation {
					a, err = nil, nil
				}
			}
			if a != nil || err != nil {
				return a, err
			}
		}
		if !woken && waited >= secondWake && w.instance.Observed.ObservedGeneration < w.instance.Wanted.Generation {
			woken = true
			w.wake(w.instance)
		}
		wait := pollWait(waited, took)
		if !w.now().Add(wait).Before(until) {
			return nil, w.gaveUp()
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, w.late(ctx, err)
		}
	}
}

// begin makes sure that an attempt is wanted, and says whether it is a new one.
func (w *waiting) begin() (fresh bool, _ error) {
	for try := 1; ; try++ {
		i := w.instance
		if i.HasLink() {
			shown, err := w.view(i)
			if err != nil {
				return false, err
			}
			return false, transition("The instance has a link and is not paired anew.", shown)
		}
		wanted, changed, err := w.want(i)
		if err != nil {
			return false, err
		}
		fresh = wanted.Generation != i.Wanted.Generation
		if changed {
			if fresh {
				if err := w.mayPair(i); err != nil {
					return false, err
				}
			}
			if again, err := w.again(try, w.Store.Want(w.ctx, i, wanted, nil)); again {
				continue
			} else if err != nil {
				return false, err
			}
			next := *i
			next.Wanted = wanted
			next.Wanted.Version++
			w.instance = &next
		}
		if changed || wanted.Generation > i.Observed.ObservedGeneration {
			w.wake(i)
		}
		return fresh, nil
	}
}

// look reads the instance again and says if there is no use in waiting.
func (w *waiting) look(ctx context.Context) error {
	i, err := w.Store.Instance(ctx, w.customer(), w.mode(), w.instance.Config.ID)
	if errors.Is(err, whatisup.ErrNotFound) {
		return errInstanceNotFound
	}
	if err != nil {
		return err
	}
	w.instance = i
	switch {
	case i.HasLink():
		shown, err := w.view(i)
		if err != nil {
			return err
		}
		return transition("The code was scanned meanwhile.", shown)
	case i.AttemptOpen():
		return nil
	case !i.Wanted.Online || whatisup.Link(i.Wanted.Generation) <= i.Wanted.UnlinkThrough:
		return errNoQR.With("reason", whatisup.Stopped)
	}
	// The attempt has ended, and its host says why.
	switch o := &i.Observed; {
	case o.FailedCause == whatisup.CodeWhatsAppUnreachable:
		return errUnreachable.With("reason", whatisup.Network)
	case o.FailedCause == whatisup.CodeAtCapacity:
		return errAtCapacity.With("reason", "at_capacity")
	case o.Status == whatisup.Failed:
		return errNoQR.With("reason", o.Reason)
	case w.restarted:
		return errNoQR.With("reason", o.Reason)
	}
	// Its codes ran out just as this call came: that was the other call's.
	w.restarted = true
	_, err = w.begin()
	return err
}

// gaveUp is the answer when the wait is over.
func (w *waiting) gaveUp() error {
	i := w.instance
	seen, err := w.ownerSeen(w.ctx, i.Config.Mode, i.Shard)
	if err != nil {
		return err
	}
	now := w.now()
	if now.Sub(seen) > whatisup.OwnerLost {
		return errNoHost.With("reason", whatisup.NoSessionHost)
	}
	reason := whatisup.Starting
	if shown := whatisup.View(i, seen, now); shown.Reason != nil {
		reason = *shown.Reason
	}
	return errNoQR.With("reason", reason)
}

// late turns the end of the wait, while a read was on its way, into its answer.
func (w *waiting) late(ctx context.Context, err error) error {
	if ctx.Err() != nil && w.ctx.Err() == nil {
		return w.gaveUp()
	}
	return err
}
