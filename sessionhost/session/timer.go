package session

import (
	"context"
	"sync"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// timersMost is how many chats' timers are known without a read.
const timersMost = 5_000

// timers knows after how long the messages of direct chats disappear: the people in
// them say it with their messages. (A group says it itself.) A chat is read once, when
// it is first written to, and written when somebody says something new.
type timers struct {
	chats Chats
	ref   whatisup.Ref

	mu    sync.Mutex
	known map[whatisup.Address]whatisup.Timer
}

// Timer is a chat's timer.
func (t *timers) Timer(ctx context.Context, chat whatisup.Address) (whatisup.Timer, error) {
	t.mu.Lock()
	timer, known := t.known[chat]
	t.mu.Unlock()
	if known || t.chats == nil {
		return timer, nil
	}
	timer, err := t.chats.ChatTimer(ctx, t.ref, chat)
	if err == nil {
		timer = t.learn(chat, timer)
	}
	return timer, err
}

// learn keeps the later of a timer and the one that is known.
func (t *timers) learn(chat whatisup.Address, timer whatisup.Timer) whatisup.Timer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, known := t.known[chat]; known && old.SetAt.After(timer.SetAt) {
		return old
	}
	if t.known == nil || len(t.known) >= timersMost {
		t.known = make(map[whatisup.Address]whatisup.Timer)
	}
	t.known[chat] = timer
	return timer
}

// heard takes up what a message in a direct chat says of its timer.
func (t *timers) heard(ctx context.Context, d *waconv.Decoded) error {
	if d.Timer == nil || d.ChatType != whatisup.ChatDirect || t.chats == nil {
		return nil
	}
	was, err := t.Timer(ctx, d.Chat)
	if err != nil || was.Seconds == d.Timer.Seconds || was.SetAt.After(d.Timer.SetAt) {
		return err
	}
	if err := t.chats.KeepChatTimer(ctx, t.ref, d.Chat, *d.Timer); err != nil {
		return err
	}
	t.learn(d.Chat, *d.Timer)
	return nil
}
