package line

import (
	"context"
	"errors"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// ErrNotInGroup: the number is no member of the group, or there is none.
var ErrNotInGroup = whatisup.NewError(whatisup.CodeNotInGroup, "The instance is not a member of this group.")

// groupsKept bounds the memory of groups; with more of them it begins anew.
const groupsKept = 1_000

// Group is what a message to a group has to know of it. WhatsApp is asked once a
// connection, and again after a change. The library keeps the members that it
// sends to at the same time.
func (l *Line) Group(ctx context.Context, jid waconv.JID) (*waconv.Group, error) {
	l.mu.Lock()
	known := l.groups[jid]
	l.mu.Unlock()
	if known != nil {
		return known, nil
	}

	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	info, err := l.groupInfo(ctx, jid)
	if errors.Is(err, whatsmeow.ErrNotInGroup) || errors.Is(err, whatsmeow.ErrGroupNotFound) {
		return nil, ErrNotInGroup
	}
	if err != nil {
		return nil, redact(err)
	}
	return l.groupFrom(info), nil
}

// groupInfo asks WhatsApp for a group, and keeps what messages to it have to know.
func (l *Line) groupInfo(ctx context.Context, jid types.JID) (*types.GroupInfo, error) {
	info, err := l.cli.GetGroupInfo(ctx, jid)
	if err != nil {
		return nil, err
	}
	g := l.groupFrom(info)
	l.groupNamed(jid, info.Name)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.groups == nil || len(l.groups) >= groupsKept {
		l.groups = make(map[waconv.JID]*waconv.Group)
	}
	l.groups[jid] = g
	return info, nil
}

func (l *Line) groupFrom(info *types.GroupInfo) *waconv.Group {
	g := &waconv.Group{ByLID: info.AddressingMode == types.AddressingModeLID, Community: info.IsParent}
	if info.IsEphemeral {
		g.Timer = time.Duration(info.DisappearingTimer) * time.Second
	}
	own, ownLID := l.device.GetJID().User, l.device.GetLID().User
	for _, m := range info.Participants {
		if m.PhoneNumber.User == own || m.LID.User == ownLID {
			continue
		}
		g.Members = append(g.Members, waconv.Person(nil, "", m.LID, m.PhoneNumber))
	}
	return g
}

// forgetGroup makes the next message to a group ask for it again.
func (l *Line) forgetGroup(jid types.JID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.groups, jid)
}

// Address is how a person is addressed: by LID, or by number, as far as the other
// one is known.
func (l *Line) Address(ctx context.Context, a whatisup.Address, byLID bool) waconv.JID {
	jid := waconv.JIDOf(a)
	var other types.JID
	switch {
	case byLID && jid.Server == types.DefaultUserServer:
		other, _ = l.device.LIDs.GetLIDForPN(ctx, jid) // unknown: as it is
	case !byLID && jid.Server == types.HiddenUserServer:
		other, _ = l.device.LIDs.GetPNForLID(ctx, jid)
	}
	if other.IsEmpty() {
		return jid
	}
	return other.ToNonAD()
}

// Forget drops what the client keeps of a chat that WhatsApp finds out of date:
// the members of a group, the devices of a person.
func (l *Line) Forget(to waconv.JID) {
	l.log.Info("WhatsApp finds the devices or members of a chat out of date")
	if to.Server == types.GroupServer {
		l.forgetGroup(to)
		return // asked for again before the next attempt, which the library notes too
	}
	// The library has no call that drops a list of devices. A notice that the list
	// has changed does.
	l.internals().HandleDeviceNotification(l.ctx, &waBinary.Node{
		Tag: "notification", Attrs: waBinary.Attrs{"from": to}, Content: []waBinary.Node{{Tag: "update"}},
	})
}
