package line

import (
	"context"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// The names of groups are for the list of chats, and nothing waits for them. They are
// learnt from whatever tells them: a group that is read, listed, made or joined, a new
// subject, the history on the phone. A message does not tell its group's name, so the
// first of a connection has it looked up among those that are kept, and WhatsApp is asked
// only for one that is not.
//
// One goroutine at a time keeps them, in the order in which they were heard, and ends with
// the connection. What is not kept then is learnt again.
type names struct {
	mu      sync.Mutex
	known   map[types.JID]string // on this connection; empty: it was looked up
	waiting map[types.JID]string // to be kept; empty: to be looked up
	running bool
	asked   int // how many groups WhatsApp was asked for, by the goroutine
}

const (
	// nameWithin bounds the work on one name.
	nameWithin = 15 * time.Second
	// namesAsked is how many groups WhatsApp is asked for on one connection.
	namesAsked = 500
)

// groupNamed hears the name of a group, or without one that there is the group. It waits
// for nothing.
func (l *Line) groupNamed(group types.JID, name string) {
	n := &l.names
	n.mu.Lock()
	defer n.mu.Unlock()
	if was, ok := n.known[group]; ok && (name == "" || name == was) {
		return
	}
	if n.known == nil || len(n.known) >= groupsKept {
		n.known = make(map[types.JID]string)
	}
	if n.waiting == nil {
		n.waiting = make(map[types.JID]string)
	}
	n.known[group], n.waiting[group] = name, name
	if !n.running {
		n.running = true
		l.background.Go(l.keepNames)
	}
}

// keepNames keeps what was heard, until nothing waits.
func (l *Line) keepNames() {
	n := &l.names
	for {
		n.mu.Lock()
		heard := n.waiting
		if n.waiting = nil; len(heard) == 0 || l.ctx.Err() != nil {
			n.running = false
			n.mu.Unlock()
			return
		}
		n.mu.Unlock()
		for group, name := range heard {
			if l.ctx.Err() != nil {
				break
			}
			if err := l.keepName(group, name); err != nil {
				n.mu.Lock()
				delete(n.known, group)
				n.mu.Unlock()
				l.log.Warn("the name of a group is not kept", "error", redact(err).Error())
			}
		}
	}
}

func (l *Line) keepName(group types.JID, name string) error {
	ctx, cancel := context.WithTimeout(l.ctx, nameWithin)
	defer cancel()
	kept, err := l.handler.GroupNamed(ctx, group, name)
	if err != nil || kept != "" || l.names.asked >= namesAsked {
		return err
	}
	l.names.asked++
	info, err := l.cli.GetGroupInfo(ctx, group)
	if err != nil || info.Name == "" {
		return nil // it is not asked for again on this connection
	}
	_, err = l.handler.GroupNamed(ctx, group, info.Name)
	return err
}
