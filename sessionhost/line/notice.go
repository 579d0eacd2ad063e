package line

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

const (
	// callsKept and presencesKept bound what a line remembers of calls and presences;
	// with more of them it begins anew.
	callsKept     = 1_000
	presencesKept = 1_000
	// rejectWithin is how old a call may be that is rejected: what rang while the
	// instance was away has ended.
	rejectWithin = time.Minute
	// sayWithin bounds what is said at WhatsApp for a setting.
	sayWithin = 5 * time.Second
)

// told hands notices that WhatsApp repeats until they are acknowledged to the
// session, and says whether they may be.
func (l *Line) told(notices ...waconv.Notice) bool {
	for _, n := range notices {
		if err := l.handler.Noticed(l.ctx, n); err != nil {
			l.log.Warn("a notice was not stored; WhatsApp tells it again", "event", string(n.Event), "error", err.Error())
			l.end(Ended{Cause: HandlerFailed, Err: err})
			return false
		}
	}
	return true
}

// heard is told for what WhatsApp does not repeat. What is not stored when the line ends
// is lost.
func (l *Line) heard(n waconv.Notice) bool {
	if err := l.handler.Noticed(l.ctx, n); err != nil && l.ctx.Err() == nil {
		l.log.Warn("a notice was not stored, and is not told again", "event", string(n.Event), "error", err.Error())
	}
	return true
}

// self says whether an address is the number's own.
func (l *Line) self(j types.JID) bool {
	j = j.ToNonAD()
	return j == l.device.GetJID().ToNonAD() || j == l.device.GetLID().ToNonAD()
}

// groupChanged forgets what is known of a group, tells of the change, and says
// whether the notice may be acknowledged.
func (l *Line) groupChanged(g *events.GroupInfo) bool {
	l.forgetGroup(g.JID)
	if g.Name != nil {
		l.groupNamed(g.JID, g.Name.Name)
	}
	if len(g.Leave) > 0 {
		if err := l.handler.MembersLeft(l.ctx, g.JID, l.device.GetLID()); err != nil {
			l.log.Warn("the key of a group was not renewed; WhatsApp tells of the change again", "error", err.Error())
			l.end(Ended{Cause: HandlerFailed, Err: err})
			return false
		}
	}
	return l.told(waconv.GroupChanged(l.other, g)...)
}

// groupJoined tells of a group that the number is in from now on.
func (l *Line) groupJoined(g *events.JoinedGroup) bool {
	l.forgetGroup(g.JID)
	l.groupNamed(g.JID, g.GroupInfo.Name)
	if waconv.NewGroup(g) && !l.first(g.JID) {
		return true
	}
	return l.told(waconv.GroupJoined(l.other, l.own(l.ctx), g))
}

// groupMade tells of a group that this device has created, which WhatsApp may tell it
// of as well.
func (l *Line) groupMade(g *types.GroupInfo) {
	l.groupNamed(g.JID, g.Name)
	if l.first(g.JID) {
		own, ownLID := l.device.GetJID(), l.device.GetLID()
		joined := waconv.GroupJoined(l.other, l.own(l.ctx), &events.JoinedGroup{Type: "new", Sender: &ownLID, SenderPN: &own, GroupInfo: *g})
		l.background.Go(func() { l.heard(joined) }) // a call waits for its answer
	}
}

// first says whether a new group was not told of yet.
func (l *Line) first(group types.JID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made[group] {
		return false
	}
	if l.made == nil || len(l.made) >= groupsKept {
		l.made = make(map[types.JID]bool)
	}
	l.made[group] = true
	return true
}

func (l *Line) pictureChanged(p *events.Picture) bool {
	if l.self(p.JID) {
		return true
	}
	return l.heard(waconv.PictureChanged(l.other, p))
}

// contactChanged tells what is new about a person.
func (l *Line) contactChanged(changed whatisup.ContactChange, jids ...types.JID) bool {
	if slices.ContainsFunc(jids, l.self) {
		return true
	}
	for i := range jids {
		jids[i] = jids[i].ToNonAD()
	}
	p := waconv.Person(l.other, "", jids...)
	if p == (whatisup.Person{}) {
		return true // a channel, or another kind of account
	}
	return l.heard(waconv.ContactChanged(p, changed))
}

// learnt tells that the LID behind a number is known now, and so the chat's id.
func (l *Line) learnt(n whatisup.PhoneNumber, p whatisup.Person) {
	if p.LID == "" {
		return
	}
	l.mu.Lock()
	told := l.known[n]
	if l.known == nil || len(l.known) >= groupsKept {
		l.known = make(map[whatisup.PhoneNumber]bool)
	}
	l.known[n] = true
	l.mu.Unlock()
	if told { // a spelling that is not WhatsApp's is asked about each time
		return
	}
	before := string(whatisup.NumberAddress(n))
	known := waconv.Notice{Event: whatisup.ContactUpdated, Data: whatisup.ContactData{
		Chat: string(p.Chat()), PreviousChat: &before, PersonWire: p.Wire(), Changed: []whatisup.ContactChange{whatisup.ContactLID},
	}}
	l.background.Go(func() { l.heard(known) }) // a message waits to be sent
}

// presence tells what is seen of a person, unless that was told last.
func (l *Line) presence(d whatisup.PresenceData) bool {
	key := [2]string{d.Chat, string(deref(d.From.LID)) + "/" + deref(d.From.PhoneNumber)}
	l.mu.Lock()
	same := l.presences[key] == d.State
	if l.presences == nil || len(l.presences) >= presencesKept {
		l.presences = make(map[[2]string]string)
	}
	l.presences[key] = d.State
	l.mu.Unlock()
	if same {
		return true
	}
	return l.heard(waconv.Notice{Event: whatisup.PresenceUpdated, Data: d})
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// callOffered tells of a call that rings, and rejects it where the settings say so.
func (l *Line) callOffered(m *types.BasicCallMeta, video bool) bool {
	d := waconv.Call(l.other, m, &video)
	l.mu.Lock()
	_, rings := l.calls[d.CallID]
	if l.calls == nil || len(l.calls) >= callsKept {
		l.calls = make(map[string]whatisup.CallData)
	}
	l.calls[d.CallID] = d
	l.mu.Unlock()
	if rings {
		return true
	}
	l.heard(waconv.Notice{Event: whatisup.CallOffered, Data: d, At: m.Timestamp})
	if !l.settings().RejectCalls || time.Since(m.Timestamp) > rejectWithin {
		return true
	}
	ctx, cancel := context.WithTimeout(l.ctx, sayWithin)
	defer cancel()
	if err := l.cli.RejectCall(ctx, m.CallCreator, m.CallID); err != nil {
		l.log.Warn("a call was not rejected", "error", redact(err))
		return true
	}
	return l.callEnded(m, whatisup.CallRejected)
}

// callEnded tells of the end of a call, once.
func (l *Line) callEnded(m *types.BasicCallMeta, outcome whatisup.CallOutcome) bool {
	l.mu.Lock()
	d, known := l.calls[m.CallID]
	over := known && d.Outcome != nil
	if !known {
		d = waconv.Call(l.other, m, nil) // it began before this connection
	}
	d.Outcome = &outcome
	if known {
		l.calls[m.CallID] = d
	}
	l.mu.Unlock()
	if over {
		return true
	}
	return l.heard(waconv.Notice{Event: whatisup.CallEnded, Data: d, At: m.Timestamp})
}

// offersVideo says whether a call that is offered has pictures.
func offersVideo(o *events.CallOffer) bool {
	if o.Data == nil {
		return false
	}
	_, has := o.Data.GetOptionalChildByTag("video")
	return has
}

// SayPresence says at WhatsApp what the setting online wants. WhatsApp takes a new
// connection for neither, and a phone that nothing is said to keeps its own
// notifications back. It waits for nobody.
func (l *Line) SayPresence() {
	l.background.Go(func() {
		ctx, cancel := context.WithTimeout(l.ctx, sayWithin)
		defer cancel()
		state := types.PresenceUnavailable
		if l.settings().Online {
			state = types.PresenceAvailable
		}
		err := l.cli.SendPresence(ctx, state)
		if err == nil {
			l.said.Store(true)
		}
		if err != nil && !errors.Is(err, whatsmeow.ErrNoPushName) && l.ctx.Err() == nil { // without a name: said when it comes
			l.log.Warn("the presence was not said", "error", redact(err))
		}
	})
}

// readAtOnce tells the sender of a message that it was read, where the settings say
// so. What nobody reads, and what a sender is told nothing about, is left alone.
func (l *Line) readAtOnce(m *types.MessageInfo, kind whatisup.ChatType) {
	settings := l.settings()
	if !settings.ReadOnReceive || kind == whatisup.ChatChannel || !settings.Receive.Takes(kind) {
		return
	}
	id, chat, sender := m.ID, m.Chat, m.Sender
	l.background.Go(func() {
		ctx, cancel := context.WithTimeout(l.ctx, sayWithin)
		defer cancel()
		if err := l.cli.MarkRead(ctx, []types.MessageID{id}, time.Now(), chat, sender); err != nil && l.ctx.Err() == nil {
			l.log.Warn("a message was not marked as read", "error", redact(err))
		}
	})
}
