package devicestore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	wa "go.mau.fi/whatsmeow/types"
)

// outgoingLife is how long the copy of a sent message is kept: WhatsApp keeps
// what a phone has not fetched for about 30 days, and a phone that was off that
// long asks again when it can't read it.
const outgoingLife = 30 * 24 * time.Hour

// Copy is a sent message as it was given to whatsmeow's encryption.
type Copy struct {
	Chat   wa.JID // as whatsmeow resolved it: the LID of a phone number
	Format string // whatsmeow's word for what Bytes are; "wa" is a waE2E.Message
	Bytes  []byte
}

const copyFormat = 1

func (c *Copy) encode() []byte {
	b := appendBytes([]byte{copyFormat}, []byte(c.Chat.String()))
	return appendBytes(appendBytes(b, []byte(c.Format)), c.Bytes)
}

func decodeCopy(b []byte) (*Copy, error) {
	d := decoder{b: b}
	if format := d.byte(); format > copyFormat {
		return nil, fmt.Errorf("%w: copy of a sent message has format %d", ErrNewerFormat, format)
	}
	chat, format := string(d.bytes()), string(d.bytes())
	c := &Copy{Format: format, Bytes: d.bytes()}
	var err error
	if c.Chat, err = wa.ParseJID(chat); d.failed || err != nil {
		return nil, fmt.Errorf("%w: copy of a sent message", ErrCorrupt)
	}
	return c, nil
}

// Sending is one attempt to send a message. It is the context to call
// whatsmeow's SendMessage with, and tells the store which message it is about.
//
// It never ends, so a wait for an ack is not cut short by it. Its Err is looked
// at by whatsmeow right before it writes the frame, under the connection's write
// lock; there Err stops a message that would reach nobody. That is the one thing
// in which it is no ordinary context: it may have an error while Done is open.
type Sending struct {
	context.Context
	l     *link
	id    wa.MessageID
	again *Copy

	mu        sync.Mutex
	chat      wa.JID
	rows      map[string]*write // the copy and what else must be committed before the frame
	devices   []string          // the Signal addresses that sessions were written for
	reached   bool              // one of them is the recipient's
	encrypted bool              // whatsmeow is through with encrypting
}

type sendingKey struct{}

// Send begins an attempt to send the message of this id. copy is what
// [Handle.Copy] found: nil for a message that surely was not sent before, so
// that its copy is kept by this attempt. With a copy nothing new is kept, and
// an attempt that would go to another chat is refused ([ErrOtherChat]).
//
// The copy is committed before the frame leaves, in the transaction of the
// session records that the same message is encrypted with. From then on the
// message may have left. If that can't be done, SendMessage returns an error
// and nothing leaves: [ErrCopyTooLarge], [ErrTooLarge], [ErrStale], or the end
// of the handle. If whatsmeow could encrypt a direct message for none of the
// recipient's devices, it is [ErrNoRecipientDevice]; nothing leaves or is kept.
func (h *Handle) Send(ctx context.Context, id wa.MessageID, copy *Copy) (*Sending, error) {
	l, err := h.current()
	if err != nil {
		return nil, err
	}
	return &Sending{Context: context.WithoutCancel(ctx), l: l, id: id, again: copy}, nil
}

// Value finds the attempt itself for the store.
func (s *Sending) Value(key any) any {
	if key == (sendingKey{}) {
		return s
	}
	return s.Context.Value(key)
}

// Err is nil until the message is encrypted, and then says why it must not
// leave, if so.
func (s *Sending) Err() error {
	if err := s.l.usable(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.encrypted && !s.reached && isDirect(s.chat) {
		return ErrNoRecipientDevice
	}
	return nil
}

// Devices are the Signal addresses ("user:device") that the attempt has written
// sessions for: whom the message can be read by, if it has left. In a group
// those are the ones that were given its sender key.
func (s *Sending) Devices() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.devices)
}

// Acked is to be called after the server's ack: the devices that were given the key
// of a group have it. Of a message whose outcome is unknown nothing is noted, so they
// are given the key again. Of a direct message there is nothing to note.
func (s *Sending) Acked(ctx context.Context) error {
	s.mu.Lock()
	group, given := s.chat, slices.Clone(s.devices)
	s.mu.Unlock()
	if group.Server != wa.GroupServer || len(given) == 0 {
		return nil
	}
	return s.l.h.remark(ctx, group, func(l *link, holders *numbered) bool {
		for _, address := range given {
			holders.add(l.tag(kindHolders, address), l.next())
		}
		return true
	})
}

// group is where the attempt sends to, if that is a group.
func (s *Sending) group() (wa.JID, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chat, s.chat.Server == wa.GroupServer
}

// Chat is where whatsmeow sends the message, as soon as it has decided that.
func (s *Sending) Chat() wa.JID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chat
}

// sendingOf returns the attempt that the context carries, if any.
func (l *link) sendingOf(ctx context.Context) *Sending {
	s, _ := ctx.Value(sendingKey{}).(*Sending)
	if s == nil || s.l != l {
		return nil
	}
	return s
}

// isDirect says whether a chat is a person's, so that its messages are encrypted
// for that person's devices.
func isDirect(chat wa.JID) bool {
	switch chat.Server {
	case wa.DefaultUserServer, wa.HiddenUserServer, wa.HostedServer, wa.HostedLIDServer, wa.BotServer:
		return true
	}
	return false
}

// begin takes the message that whatsmeow is about to encrypt.
func (s *Sending) begin(ctx context.Context, c *Copy, id wa.MessageID) error {
	if id != s.id {
		return fmt.Errorf("devicestore: message %s is sent as %s", id, s.id)
	}
	s.mu.Lock()
	begun := !s.chat.IsEmpty()
	s.chat = c.Chat
	s.mu.Unlock()
	if begun {
		return errors.New("devicestore: an attempt to send is for one call of SendMessage")
	}
	if s.again != nil {
		if s.again.Chat.ToNonAD() != c.Chat.ToNonAD() {
			return ErrOtherChat
		}
		return nil
	}
	value := c.encode()
	if len(value) > maxCopy {
		return fmt.Errorf("%w: %d bytes", ErrCopyTooLarge, len(value))
	}
	rows := map[string]*write{s.l.outgoingKey(id): {value: value, expires: time.Now().Add(outgoingLife)}}
	if len(value) > stagedBytes || !isDirect(c.Chat) && c.Chat.Server != wa.GroupServer && c.Chat.Server != wa.BroadcastServer {
		// It has no company that it would fit into, or none will come.
		return s.l.commitRows(ctx, rows)
	}
	s.mu.Lock()
	s.rows = rows
	s.mu.Unlock()
	return nil
}

// maxCopy is what a message may have at most. The longest text that the apps
// send has 65,536 characters; media stand elsewhere.
const maxCopy = 2 << 20

// add puts rows to those that must be committed before the frame. It answers
// false if there is no such commit to come.
func (s *Sending) add(rows map[string]*write) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows == nil {
		return false
	}
	maps.Copy(s.rows, rows)
	return true
}

// join makes what must be committed before the frame part of a transaction.
func (s *Sending) join(t *txn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sk, w := range s.rows {
		t.set(sk, w)
	}
}

// aim refuses to store the sessions of a direct message if none is the
// recipient's.
func (s *Sending) aim(sessions map[string][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chat.IsEmpty() {
		return errors.New("devicestore: no copy of the message was handed over; the client needs UseRetryMessageStore")
	}
	if !isDirect(s.chat) {
		return nil
	}
	for address := range sessions {
		if s.isRecipient(address) {
			return nil
		}
	}
	return ErrNoRecipientDevice
}

// isRecipient says whether a Signal address is a device of the chat's person.
// The addresses of one person differ in the agent, which stands for the server.
func (s *Sending) isRecipient(address string) bool {
	name, _, _ := strings.Cut(address, ":")
	user, _, _ := strings.Cut(name, "_")
	return user == s.chat.User
}

// wrote says that sessions are stored, and with them everything that had to be.
func (s *Sending) wrote(sessions map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = nil
	for address := range sessions {
		s.devices = append(s.devices, address)
		s.reached = s.reached || s.isRecipient(address)
	}
}

// afterEncryption is called between the encryption of a direct message and its
// frame.
func (s *Sending) afterEncryption() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.encrypted = !s.chat.IsEmpty()
}

// Copy returns the copy of the message of this id. If there is none, no frame of
// it has left; if there is one, it may have, and every further attempt must send
// these bytes to this chat. It costs one read, of a few units for a long text.
func (h *Handle) Copy(ctx context.Context, id wa.MessageID) (*Copy, bool, error) {
	copies, err := h.Copies(ctx, id)
	return copies[id], copies[id] != nil, err
}

// Copies is [Handle.Copy] for many messages, as after a restart: one read for a
// hundred of them.
func (h *Handle) Copies(ctx context.Context, ids ...wa.MessageID) (map[wa.MessageID]*Copy, error) {
	l, err := h.current()
	if err != nil {
		return nil, err
	}
	sks := make([]string, len(ids))
	for i, id := range ids {
		sks[i] = l.outgoingKey(id)
	}
	values, err := l.getMany(ctx, sks)
	if err != nil {
		return nil, err
	}
	copies := make(map[wa.MessageID]*Copy, len(values))
	for i, sk := range sks {
		if values[sk] == nil {
			continue
		}
		if copies[ids[i]], err = decodeCopy(values[sk]); err != nil {
			return nil, l.h.fail(err)
		}
	}
	return copies, nil
}

// outgoingKey is the copy's row: the message id alone tells it, so that it is
// found whatever the number is resolved to by then.
func (l *link) outgoingKey(id wa.MessageID) string {
	return kindOutgoing + "#" + l.key.Name(kindOutgoing, id)
}

// AddOutgoingEvent keeps what whatsmeow is about to encrypt: for a second
// attempt, and for a device that asks for it again. Of a message that
// [Handle.Send] has begun it is durable before the frame leaves. Of others, which
// the library sends by itself, it is staged and joins the commit of their
// sessions.
func (l *link) AddOutgoingEvent(ctx context.Context, chat wa.JID, id wa.MessageID, format string, plaintext []byte) error {
	if err := l.usable(); err != nil {
		return err
	}
	c := &Copy{Chat: chat, Format: format, Bytes: plaintext}
	if s := l.sendingOf(ctx); s != nil {
		return s.begin(ctx, c, id)
	}
	return l.stage(ctx, map[string]*write{
		l.outgoingKey(id): {value: c.encode(), expires: time.Now().Add(outgoingLife)},
	})
}

// GetOutgoingEvent is for a device that asks for a message again. It gets
// nothing that was sent to another chat: who may ask is known by the chat alone.
func (l *link) GetOutgoingEvent(ctx context.Context, chat, altChat wa.JID, id wa.MessageID) (string, []byte, error) {
	value, err := l.get(ctx, l.outgoingKey(id))
	if err != nil {
		return "", nil, err
	}
	if value == nil {
		return "", nil, errNotKept
	}
	c, err := decodeCopy(value)
	if err != nil {
		return "", nil, l.h.fail(err)
	}
	to := c.Chat.ToNonAD()
	if to != chat.ToNonAD() && (altChat.IsEmpty() || to != altChat.ToNonAD()) {
		return "", nil, errNotKept
	}
	return c.Format, c.Bytes, nil
}

var errNotKept = errors.New("devicestore: outgoing message is not kept")

// DeleteOldOutgoingEvents has nothing to do, and is called with every message:
// the rows carry their expiry.
func (l *link) DeleteOldOutgoingEvents(context.Context) error { return l.usable() }
