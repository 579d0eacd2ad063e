package session

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"sync"
	"time"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// Chats are the rows that tell what is unread, and whose presence is wanted.
type Chats interface {
	// Messages lists an instance's messages, newest first.
	Messages(ctx context.Context, r whatisup.Ref, l whatisup.Listing, about int) iter.Seq2[whatisup.Listed, error]
	// ReadThrough is the place of the newest message of the chat that was marked as
	// read with all before it; empty if there is none.
	ReadThrough(ctx context.Context, r whatisup.Ref, chat whatisup.Address) (place string, err error)
	KeepReadThrough(ctx context.Context, r whatisup.Ref, chat whatisup.Address, place string) error
	// ChatTimer is the timer of a direct chat that was kept last.
	ChatTimer(ctx context.Context, r whatisup.Ref, chat whatisup.Address) (whatisup.Timer, error)
	KeepChatTimer(ctx context.Context, r whatisup.Ref, chat whatisup.Address, t whatisup.Timer) error
	// KeepGroupName keeps the name of a group, or without one what is kept already, and
	// returns it: empty if there is none.
	KeepGroupName(ctx context.Context, r whatisup.Ref, group whatisup.Address, name string) (kept string, err error)
	Subscriptions(ctx context.Context, r whatisup.Ref) ([]whatisup.Subscription, error)
	KeepSubscriptions(ctx context.Context, r whatisup.Ref, list []whatisup.Subscription) error
}

const (
	// unreadScanned is how many received messages are looked through for the unread
	// ones of a chat; unreadAbout how many are read at a time.
	unreadScanned = 20_000
	unreadAbout   = 500
	// namedScanned is how many are looked through to see whether the messages that a
	// call names are all that is unread in their chat.
	namedScanned = 2_000
	// marksAtOnce is how many messages one question marks.
	marksAtOnce = 1_000
	// renewWithin bounds the renewal of one subscription.
	renewWithin = 10 * time.Second
)

// Reader is the performer of [whatisup.ChatRead]. Without messages it marks all that
// are unread, the newest first, and remembers how far it has come, so that the next
// time begins there. It remembers that too when the messages that are named are all
// that is unread; while others are, the chat's count stays as it is.
func Reader(chats Chats, ask Performer) Performer {
	return func(ctx context.Context, l Line, c *whatisup.Command) (whatisup.Result, error) {
		var args whatisup.ReadArgs
		if err := json.Unmarshal(c.Args, &args); err != nil {
			return ask(ctx, l, c)
		}
		r := whatisup.Ref{Customer: c.Customer, Mode: c.Mode, ID: c.Instance}
		forms := formsOf(ctx, l, args.Chat)
		if len(args.Messages) > 0 {
			result, err := ask(ctx, l, c)
			if err == nil && result.Error == "" {
				err = keepNamed(ctx, chats, r, forms, args.Messages)
			}
			return result, err
		}
		marks, through, _, err := unread(ctx, chats, r, forms, unreadScanned)
		if err != nil {
			return whatisup.Result{}, err
		}
		result := whatisup.Result{Answer: json.RawMessage("{}")}
		for some := range slices.Chunk(marks, marksAtOnce) {
			part := *c
			args.Messages = some
			if part.Args, err = json.Marshal(args); err != nil {
				return whatisup.Result{}, err
			}
			if result, err = ask(ctx, l, &part); err != nil || result.Error != "" {
				return result, err
			}
		}
		if through != "" {
			err = chats.KeepReadThrough(ctx, r, forms[0], through)
		}
		return result, err
	}
}

// keepNamed remembers that a chat was read if the messages that were named are all that
// was unread in it.
func keepNamed(ctx context.Context, chats Chats, r whatisup.Ref, forms []whatisup.Address, named []whatisup.ReadMark) error {
	marks, through, all, err := unread(ctx, chats, r, forms, namedScanned)
	if err != nil || !all || through == "" {
		return err
	}
	for _, m := range marks {
		if !slices.ContainsFunc(named, func(n whatisup.ReadMark) bool { return n.MessageID == m.MessageID }) {
			return nil
		}
	}
	return chats.KeepReadThrough(ctx, r, forms[0], through)
}

// formsOf are the ids that a chat has, or has had; the present one first.
func formsOf(ctx context.Context, l Line, chat whatisup.Address) []whatisup.Address {
	if chat.IsGroup() {
		return []whatisup.Address{chat}
	}
	return waconv.Person(nil, "", l.Address(ctx, chat, true), l.Address(ctx, chat, false)).Chats()
}

// unread are the messages of a chat that were received and not marked as read, and
// the place of the newest; empty if there are none. It looks through so many messages
// at most; all says that none was left.
func unread(ctx context.Context, chats Chats, r whatisup.Ref, forms []whatisup.Address, most int) (marks []whatisup.ReadMark, newest string, all bool, err error) {
	var before string
	for _, chat := range forms {
		place, err := chats.ReadThrough(ctx, r, chat)
		if err != nil {
			return nil, "", false, err
		}
		before = max(before, place)
	}
	seen := 0
	for m, err := range chats.Messages(ctx, r, whatisup.Listing{Direction: whatisup.Incoming}, unreadAbout) {
		if err != nil {
			return nil, "", false, err
		}
		if m.Place <= before {
			break
		}
		if seen++; seen > most {
			return marks, newest, false, nil
		}
		if !slices.Contains(forms, m.Chat) || m.ChatType == whatisup.ChatBroadcast {
			continue
		}
		if newest == "" {
			newest = m.Place
		}
		if m.FromMe || m.Change || !m.Times.Read.IsZero() {
			continue
		}
		mark := whatisup.ReadMark{MessageID: string(m.ID)}
		if m.ChatType == whatisup.ChatGroup {
			mark.From = m.From.Chat()
		}
		marks = append(marks, mark)
	}
	return marks, newest, true, nil
}

// Subscriber is the performer of [whatisup.PresenceSubscribe]. It remembers the
// subscription, for the connections to come. now is the deployment's time.
func Subscriber(chats Chats, ask Performer, now func() time.Time) Performer {
	var mu sync.Mutex // two at once would forget one
	return func(ctx context.Context, l Line, c *whatisup.Command) (whatisup.Result, error) {
		result, err := ask(ctx, l, c)
		if err != nil || result.Error != "" {
			return result, err
		}
		var args whatisup.ContactArgs
		if err := json.Unmarshal(c.Args, &args); err != nil {
			return whatisup.Result{}, err
		}
		r := whatisup.Ref{Customer: c.Customer, Mode: c.Mode, ID: c.Instance}
		mu.Lock()
		defer mu.Unlock()
		list, err := chats.Subscriptions(ctx, r)
		if err != nil {
			return whatisup.Result{}, err
		}
		return result, chats.KeepSubscriptions(ctx, r, whatisup.Subscribed(list, args.Contact, now()))
	}
}

// renew subscribes again to whom the instance has subscribed to, on a new
// connection, one after the other. It ends with the connection.
func (s *Session) renew(ctx context.Context, l Line) {
	list, err := s.kit.Chats.Subscriptions(ctx, s.ref)
	for _, sub := range list {
		var args json.RawMessage
		if args, err = json.Marshal(whatisup.ContactArgs{Contact: sub.Contact}); err != nil {
			break
		}
		within, cancel := context.WithTimeout(ctx, renewWithin)
		_, err = l.Ask(within, whatisup.PresenceSubscribe, args)
		cancel()
		if err != nil {
			break
		}
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("subscriptions to presences were not all renewed", "error", err.Error())
	}
}
