package session

import (
	"context"
	"errors"
	"time"

	"whatisup/sessionhost/line"
	"whatisup/shared/whatisup"
)

// vouchEvery renews the record that the socket behind a code is alive; well
// within whatisup.AliveFor.
const vouchEvery = 4 * time.Second

// codes is what a dial has to show.
type codes struct {
	row     whatisup.Pairing
	texts   []string  // of the codes to come
	showing bool      // codes have come
	nextAt  time.Time // when the code is replaced
	vouchAt time.Time
	endsAt  time.Time // of the last code
	serial  uint64    // of the pair code that is asked for or shown
}

// codesCame shows the first of the codes.
func (d *dial) codesCame(ctx context.Context, e line.Codes) error {
	d.releaseSlot()
	d.texts, d.showing = e.Texts, true
	life := time.Duration(len(e.Texts)) * d.kit.Timing.CodeNext
	if len(e.Texts) == 6 {
		life += d.kit.Timing.CodeFirst - d.kit.Timing.CodeNext
	}
	d.endsAt = d.kit.Now().Add(life)
	d.askPairCode()
	if d.first {
		d.kit.Metrics.FirstCode(d.kit.Now().Sub(d.began))
	}
	return d.showNext(ctx)
}

// showNext shows the next code: first the state and the event, then the row that
// calls wait for. So whoever was answered a code reads the status qr from then on.
func (d *dial) showNext(ctx context.Context) error {
	now := d.kit.Now()
	life := d.kit.Timing.CodeNext
	if len(d.texts) == 6 {
		life = d.kit.Timing.CodeFirst
	}
	d.row.Raw, d.texts = d.texts[0], d.texts[1:]
	d.row.ExpiresAt = now.Add(life).Truncate(time.Millisecond)
	d.row.AliveUntil = now.Add(whatisup.AliveFor)
	d.nextAt, d.vouchAt = d.row.ExpiresAt, now.Add(vouchEvery)
	data := whatisup.QRData{Raw: d.row.Raw, ExpiresAt: whatisup.At(d.row.ExpiresAt)}
	var err error
	if d.row.Modules, data.QR, err = d.kit.Draw(d.row.Raw); err != nil {
		return err
	}

	raw := d.row.Raw
	d.code.Store(&raw)
	e, err := d.event(whatisup.QRUpdated, now, data)
	if err != nil {
		return err
	}
	if err := d.observe(ctx, d.inst.Observed.Shows(d.row.ExpiresAt), e); err != nil {
		return err
	}
	return d.put(ctx, d.row)
}

// put writes the code row. A newer attempt there means that this one is over.
func (s *Session) put(ctx context.Context, row whatisup.Pairing) error {
	if !s.tenure.Trusted() {
		return errFenced
	}
	err := s.persist(ctx, func() error { return s.kit.Codes.PutPairing(ctx, row) })
	if errors.Is(err, whatisup.ErrFenced) {
		return errAgain
	}
	return err
}

// vouch records that the socket behind the code is alive.
func (d *dial) vouch(ctx context.Context) {
	d.vouchAt = d.kit.Now().Add(vouchEvery)
	until := d.kit.Now().Add(whatisup.AliveFor)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if !d.tenure.Trusted() {
		return
	}
	if err := d.kit.Codes.VouchPairing(ctx, d.ref.ID, d.row.Attempt, until); err != nil {
		d.log.Warn("code not vouched for", "error", err.Error())
		d.vouchAt = d.kit.Now().Add(time.Second)
		return
	}
	d.row.AliveUntil = until
}

// withdraw records that the code is dead. If it can't, the record that it is alive
// runs out.
func (s *Session) withdraw(ctx context.Context, a whatisup.AttemptID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if !s.tenure.Trusted() {
		return
	}
	if err := s.kit.Codes.VouchPairing(ctx, s.ref.ID, a, time.Time{}); err != nil && !errors.Is(err, whatisup.ErrFenced) {
		s.log.Warn("code not withdrawn", "error", err.Error())
	}
}

// askPairCode asks WhatsApp for the pair code that is wanted, if it hasn't been
// asked yet.
func (d *dial) askPairCode() {
	w := &d.inst.Wanted
	if w.PairPhone == "" || w.PairSerial == d.serial {
		return
	}
	d.serial = w.PairSerial
	d.line.AskPairCode(w.PairPhone, w.PairSerial)
}

// showPairCode shows the answer, unless another code has been asked for since.
func (d *dial) showPairCode(ctx context.Context, got line.PairCode) error {
	if got.Serial != d.serial {
		return nil
	}
	d.row.CodePhone, d.row.CodeSerial = got.Phone, got.Serial
	d.row.Code, d.row.CodeExpiresAt, d.row.CodeRefused, d.row.CodeRetryAt = got.Code, d.endsAt, false, time.Time{}
	if got.Err != nil {
		d.log.Info("no pair code", "error", got.Err.Error())
		d.row.Code, d.row.CodeExpiresAt, d.row.CodeRefused = "", time.Time{}, true
		if got.RetryAfter > 0 {
			d.row.CodeRetryAt = d.kit.Now().Add(got.RetryAfter)
		}
	}
	return d.put(ctx, d.row)
}
