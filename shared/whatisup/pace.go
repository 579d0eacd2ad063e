package whatisup

import "time"

// Restrictions says until when WhatsApp keeps an account from beginning chats, by
// what it keeps it from.
type Restrictions map[Restriction]Restricted

// Restricted is one restriction.
type Restricted struct {
	Until time.Time `json:"until,omitzero"` // as WhatsApp says; zero: it does not say
	Held  time.Time `json:"held"`           // until then no chat is begun
}

// RestrictedFor is how long a restriction whose end WhatsApp does not tell is taken to
// last. A refusal for want of the recipient's trust looks like one of the account, so it
// is short; a limit of new chats is counted over days.
func RestrictedFor(r Restriction) time.Duration {
	if r == RestrictNewChats {
		return 24 * time.Hour
	}
	return time.Hour
}

// Restrictions in the order in which they are looked at.
var restrictions = []Restriction{RestrictReachout, RestrictNewChats}

// Active is the restriction that is in force, empty if none is.
func (r Restrictions) Active(now time.Time) (Restriction, Restricted) {
	for _, kind := range restrictions {
		if one, ok := r[kind]; ok && now.Before(one.Held) {
			return kind, one
		}
	}
	return "", Restricted{}
}

// Code is the error of a message that is not sent because of a restriction.
func (r Restriction) Code() MessageCode {
	if r == RestrictNewChats {
		return NewChatLimit
	}
	return ReachoutRestricted
}

// Stop keeps instances from sending, whatever waits: of the whole deployment, of a
// customer or of one instance.
type Stop struct {
	Scope    string    `json:"scope"`     // StopAll, or the id of a customer or an instance
	NewChats bool      `json:"new_chats"` // only messages that begin a chat
	By       string    `json:"by"`        // operator, or automatic
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until,omitzero"` // zero: until it is taken back
}

// StopAll is the scope of a stop of the whole deployment.
const StopAll = "deployment"

// Stops are those of a mode.
type Stops []Stop

// Of says what an instance must not send now.
func (s Stops) Of(r Ref, now time.Time) (all, newChats bool) {
	for _, stop := range s {
		if !stop.Until.IsZero() && !now.Before(stop.Until) {
			continue
		}
		if stop.Scope == StopAll || stop.Scope == string(r.Customer) || stop.Scope == string(r.ID) {
			all, newChats = all || !stop.NewChats, true
		}
	}
	return all, newChats
}
