package whatisup

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// GivesUp says whether a logout or a deletion has given the link up. It holds
// also for a link that doesn't exist yet: the generation whose attempt would make
// it.
func (w *Wanted) GivesUp(l Link) bool {
	return w.UnlinkThrough > 0 && l <= w.UnlinkThrough
}

// GivenUpThrough is the newest generation that is given up, 0 if none is.
func (w *Wanted) GivenUpThrough() Generation {
	return Generation(min(w.UnlinkThrough, Link(w.Generation)))
}

// HasLink says whether the instance has a link that is not given up.
func (i *Instance) HasLink() bool {
	return i.Observed.Link > 0 && !i.Wanted.GivesUp(i.Observed.Link)
}

// Unlinking says whether a link is given up and not yet wiped.
func (i *Instance) Unlinking() bool {
	return i.Observed.Link > 0 && i.Wanted.GivesUp(i.Observed.Link)
}

// AttemptOpen says whether an attempt to pair is wanted or running.
func (i *Instance) AttemptOpen() bool {
	return i.Wanted.Online && !i.HasLink() &&
		i.Wanted.Generation > i.Observed.DoneGeneration &&
		!i.Wanted.GivesUp(Link(i.Wanted.Generation))
}

// The functions below say what each call makes of what is wanted. changed is
// false where it is wanted already; then nothing is written, and a wake-up is
// enough. They decide nothing about what a call may do in the present state.

// WantAttempt wants an attempt to pair: the open one, or a new generation.
func (i *Instance) WantAttempt(now time.Time, r RequestID) (w Wanted, changed bool) {
	if i.AttemptOpen() {
		return i.Wanted, false
	}
	w = i.asked(now, r)
	w.Online = true
	w.PairPhone, w.PairSerial = "", i.Wanted.PairSerial
	w.Attempts = append([]Attempt(nil), i.recentAttempts(now)...)
	w.Attempts = append(w.Attempts, Attempt{w.Generation, now})
	if n := len(w.Attempts); n > AttemptsKept {
		w.Attempts = w.Attempts[n-AttemptsKept:]
	}
	return w, true
}

// WantPairCode wants a pair code for a number within an attempt.
func (i *Instance) WantPairCode(number PhoneNumber, now time.Time, r RequestID) (w Wanted, changed bool) {
	w, changed = i.WantAttempt(now, r)
	if w.PairPhone == number {
		return w, changed
	}
	w.PairPhone = number
	w.PairSerial++
	w.Asked = i.recentlyAsked(now)
	if !asked(w.Asked, number) {
		w.Asked = append(w.Asked, Asked{number, now})
	}
	w.ChangedAt, w.RequestID = now, r
	return w, true
}

// WantConnect wants the link's connection resumed at once, or without a link an
// attempt to pair.
func (i *Instance) WantConnect(now time.Time, r RequestID) (w Wanted, changed bool) {
	if !i.HasLink() {
		return i.WantAttempt(now, r)
	}
	if i.Wanted.Online && i.Wanted.Generation > i.Observed.ObservedGeneration {
		return i.Wanted, false // asked, and not taken up yet
	}
	w = i.asked(now, r)
	w.Online = true
	return w, true
}

// WantStop wants the connection closed and the link kept, or the attempt ended.
func (i *Instance) WantStop(now time.Time, r RequestID) (w Wanted, changed bool) {
	if !i.Wanted.Online {
		return i.Wanted, false
	}
	w = i.asked(now, r)
	w.Online = false
	return w, true
}

// WantLogout gives up the link, an attempt that is under way, and whatever it
// may still bring.
func (i *Instance) WantLogout(now time.Time, r RequestID) (w Wanted, changed bool) {
	if !i.Wanted.Online && i.Wanted.Generation > 0 && i.Wanted.GivesUp(Link(i.Wanted.Generation)) {
		return i.Wanted, false
	}
	w = i.Wanted
	if w.Generation == 0 {
		w.Generation = 1 // so that there is something to give up
	}
	w.Online, w.UnlinkThrough = false, Link(w.Generation)
	w.Attempts = nil
	w.ChangedAt, w.RequestID = now, r
	return w, true
}

func (i *Instance) asked(now time.Time, r RequestID) Wanted {
	w := i.Wanted
	w.Generation++
	w.ChangedAt, w.RequestID = now, r
	return w
}

// ThrottledFor says how long the instance must wait before another attempt: 0
// unless the last [AttemptsKept] attempts all fell within [AttemptWindow] and
// none of them was scanned.
func (i *Instance) ThrottledFor(now time.Time) time.Duration {
	recent := i.recentAttempts(now)
	if len(recent) < AttemptsKept {
		return 0
	}
	return recent[0].At.Add(AttemptWindow).Sub(now)
}

// AskThrottledFor says how long the instance must wait before a pair code for the
// number: 0 unless it has wanted codes for [AskedKept] others within
// [AttemptWindow].
func (i *Instance) AskThrottledFor(number PhoneNumber, now time.Time) time.Duration {
	recent := i.recentlyAsked(now)
	if len(recent) < AskedKept || asked(recent, number) {
		return 0
	}
	return recent[0].At.Add(AttemptWindow).Sub(now)
}

func (i *Instance) recentlyAsked(now time.Time) (recent []Asked) {
	for _, a := range i.Wanted.Asked {
		if now.Sub(a.At) < AttemptWindow {
			recent = append(recent, a)
		}
	}
	return recent
}

func asked(list []Asked, number PhoneNumber) bool {
	return slices.ContainsFunc(list, func(a Asked) bool { return a.Phone == number })
}

// recentAttempts are those within the window that made no link.
func (i *Instance) recentAttempts(now time.Time) []Attempt {
	for n, a := range i.Wanted.Attempts {
		if now.Sub(a.At) < AttemptWindow && Link(a.Generation) > i.Observed.LastLink {
			return i.Wanted.Attempts[n:]
		}
	}
	return nil
}

// commandPrefix marks the request id of an integration command.
const commandPrefix = "cmd_"

// RequestOf is the request id that an integration command goes by.
func RequestOf(id CommandID) RequestID { return RequestID(commandPrefix + string(id)) }

// ForLog is the id as logs have it. The id of an integration command is chosen by a
// customer, who may put anything into it, so a hash of it is logged.
func (r RequestID) ForLog() string {
	id, ok := strings.CutPrefix(string(r), commandPrefix)
	if !ok {
		return string(r)
	}
	sum := sha256.Sum256([]byte(id))
	return commandPrefix + hex.EncodeToString(sum[:8])
}

// resultsFor is how long what happens to an instance may be the result of a
// command: longer than an attempt to pair lasts.
const resultsFor = 5 * time.Minute

// Command is the integration command whose result an event of this moment is,
// empty if none is.
func (w *Wanted) Command(now time.Time) CommandID {
	id, ok := strings.CutPrefix(string(w.RequestID), commandPrefix)
	if !ok || now.Sub(w.ChangedAt) > resultsFor {
		return ""
	}
	return CommandID(id)
}
