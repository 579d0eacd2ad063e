package whatisup

import (
	"cmp"
	"time"
)

// AttemptID tells one attempt's code from another's. An attempt that is redialled
// within one ownership gets the next N.
type AttemptID struct {
	Generation Generation
	Epoch      Epoch
	N          uint64
}

// Compare orders attempts: a newer generation, then a newer owner, then a
// newer dial.
func (a AttemptID) Compare(b AttemptID) int {
	return cmp.Or(cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.N, b.N))
}

// CodeMargin is how long a code must still be good to be handed out: shorter,
// and nobody can scan it in time.
const CodeMargin = 3 * time.Second

// AliveFor is how far ahead a host vouches for the socket behind a code. It
// renews well before that; when the host dies the code dies with it.
const AliveFor = 10 * time.Second

// Pairing is the row that the QR and pair-code calls wait for: what the present
// attempt has to show. There is one an instance, overwritten by each attempt.
type Pairing struct {
	Instance  InstanceID
	Attempt   AttemptID
	Raw       string    // the QR text exactly as the library gave it; empty: no code now
	Modules   []byte    // of Raw, as package qr draws it; nil: not drawn
	ExpiresAt time.Time // of Raw
	// AliveUntil is until when the host vouches for the socket; withdrawn (zero)
	// when it closes.
	AliveUntil time.Time
	// The pair code, if one was asked for: its number, serial and end.
	Code          string
	CodePhone     PhoneNumber
	CodeSerial    uint64
	CodeExpiresAt time.Time
	// CodeRefused says that WhatsApp refused to give a pair code for CodeSerial.
	CodeRefused bool
	// CodeRetryAt is when WhatsApp may give one, where it refused because of too
	// many.
	CodeRetryAt time.Time
}

// Scannable says whether the row holds a code of the instance's present
// generation that is worth handing out at now.
func (p *Pairing) Scannable(g Generation, now time.Time) bool {
	return p != nil && p.Attempt.Generation == g && p.Raw != "" &&
		now.Before(p.AliveUntil) && now.Add(CodeMargin).Before(p.ExpiresAt)
}
