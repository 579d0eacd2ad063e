package line

import (
	"errors"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/shared/whatisup"
)

// Event is something that a line tells its session. The set is closed: a test
// holds that every switch of the session names all of them.
type Event interface{ event() }

type (
	// Codes can be scanned, one after the other.
	Codes struct{ Texts []string }

	// PairCode answers [Line.AskPairCode].
	PairCode struct {
		Serial uint64
		Phone  whatisup.PhoneNumber
		Code   string
		Err    error // WhatsApp gave none; it names nobody
		// RetryAfter is how long WhatsApp gives none, where that is why.
		RetryAfter time.Duration
	}

	// Linked: the phone has scanned, and the link is stored.
	Linked struct{ Number whatisup.PhoneNumber }

	// ScanFailed: the phone has scanned, and no link came of it.
	ScanFailed struct{}

	// PasskeyAsked: WhatsApp wants a passkey, which nobody here can give.
	PasskeyAsked struct{}

	// Up: logged in.
	Up struct{}
	// CaughtUp: what WhatsApp kept while the link was away has been handled.
	CaughtUp struct{}

	// Ended is the last event: the connection is over, or never came to be.
	Ended struct {
		Cause Cause
		Code  int           // WhatsApp's own number for a refused login or a link that is gone
		For   time.Duration // how long a temporary ban lasts; 0: WhatsApp does not say
		Err   error         // for the log
	}
)

func (Codes) event()        {}
func (PairCode) event()     {}
func (Linked) event()       {}
func (ScanFailed) event()   {}
func (PasskeyAsked) event() {}
func (CaughtUp) event()     {}
func (Up) event()           {}
func (Ended) event()        {}

// Cause says why a line ended. The set is closed.
type Cause string

const (
	NotDialled    Cause = "dial"         // the connection or its handshake failed
	NoLogin       Cause = "no_login"     // no login in time; the session itself says so
	Closed        Cause = "closed"       // it broke, or the other side closed it, without a word
	Silent        Cause = "keepalive"    // the other side has stopped answering
	HandlerFailed Cause = "handler"      // an event could not be handled
	StoreFailed   Cause = "store"        // the auth state could not be kept
	Restart       Cause = "restart"      // WhatsApp asks for a new connection, as after every scan (515)
	StreamError   Cause = "stream_error" // WhatsApp ended the stream for an error
	Replaced      Cause = "replaced"     // another connection took the link
	Refused       Cause = "refused"      // WhatsApp refused the login; it may accept a later one
	Outdated      Cause = "outdated"     // WhatsApp refuses this client's version
	TempBanned    Cause = "banned"       // ... the number, for a time

	// The link is gone at WhatsApp, and the library has wiped it.
	RemovedOnPhone Cause = "removed"
	BannedForGood  Cause = "banned_for_good"
	LinkInvalid    Cause = "invalid"
)

// Causes lists every cause.
var Causes = []Cause{
	NotDialled, NoLogin, Closed, Silent, HandlerFailed, StoreFailed, Restart, StreamError, Replaced, Refused, Outdated,
	TempBanned, RemovedOnPhone, BannedForGood, LinkInvalid,
}

// Unreached says whether the line may have ended because WhatsApp could not be reached
// or was not well, and not for anything about the link.
func (e Ended) Unreached() bool {
	switch e.Cause {
	case NotDialled, NoLogin, Closed, Silent, StreamError:
		return true
	case Refused:
		return e.Code >= 500
	}
	return false
}

// String names the end for logs and metrics.
func (e Ended) String() string {
	switch e.Cause {
	case RemovedOnPhone, BannedForGood, LinkInvalid:
		return fmt.Sprintf("logged_out_%d", e.Code)
	case Refused:
		return fmt.Sprintf("refused_%d", e.Code)
	}
	return string(e.Cause)
}

// loggedOut is the end of a link that WhatsApp has ended.
func loggedOut(e *events.LoggedOut) Ended {
	switch e.Reason {
	case events.ConnectFailureLoggedOut:
		return Ended{Cause: RemovedOnPhone, Code: int(e.Reason)}
	case events.ConnectFailureUnknownLogout:
		return Ended{Cause: BannedForGood, Code: int(e.Reason)}
	}
	return Ended{Cause: LinkInvalid, Code: int(e.Reason)}
}

// The library's errors may hold numbers and names, so only their kind is kept.
var (
	errRefused  = errors.New("refused")
	errNoAnswer = errors.New("no answer in time")
)

// redact keeps of a library's error what kind it is.
func redact(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*whatsmeow.IQError](err); ok {
		return errors.New("WhatsApp answered " + e.Text)
	}
	if isTimeout(err) {
		return errNoAnswer
	}
	return errRefused
}
