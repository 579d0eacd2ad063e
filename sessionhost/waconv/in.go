package waconv

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"time"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/shared/whatisup"
)

// Secrets opens what is encrypted a second time under the secret of the message
// that it is about. The library's client is one.
type Secrets interface {
	DecryptReaction(ctx context.Context, reaction *events.Message) (*waE2E.ReactionMessage, error)
	DecryptPollVote(ctx context.Context, vote *events.Message) (*waE2E.PollVoteMessage, error)
	DecryptSecretEncryptedMessage(ctx context.Context, m *events.Message) (*waE2E.Message, error)
	DecryptComment(ctx context.Context, comment *events.Message) (*waE2E.Message, error)
}

// Env is what a message is read with.
type Env struct {
	Directory Directory
	Secrets   Secrets
	Own       []types.JID // the number's own addresses
	Now       time.Time
}

// Decoded is what a message turned out to be. Event says which event it makes;
// without one, Nothing says why.
type Decoded struct {
	Event   whatisup.EventName
	Nothing string

	ID       whatisup.MessageID
	Chat     whatisup.Address
	ChatType whatisup.ChatType
	Peer     whatisup.Person // of a direct chat
	From     whatisup.Person
	FromMe   bool
	SentAt   time.Time

	Received *whatisup.ReceivedData // of a message and an echo
	Content  *waE2E.Message         // ... what it was made of, for quoting
	File     *whatisup.MediaOrigin  // ... where its file is, nil if it has none

	Target Target           // of a change
	Text   *string          // of an edit
	Emoji  *string          // of a reaction; nil: taken back
	Vote   [][]byte         // SHA-256 of each chosen option's name
	Timer  *whatisup.Timer  // after how long the chat's messages disappear, as the sender has it
	Learnt *whatisup.Person // who shares a number with a LID
}

// IDsAlone is what is left of a message that can't be stored: who wrote it, and
// when. A change is told as such a message.
func (d *Decoded) IDsAlone() *Decoded {
	r := &reader{out: &Decoded{
		ID: d.ID, Chat: d.Chat, ChatType: d.ChatType, Peer: d.Peer, From: d.From, FromMe: d.FromMe, SentAt: d.SentAt,
	}}
	r.message(&whatisup.ReceivedBody{Body: whatisup.Body{Type: whatisup.BodyUnsupported}, WhatsAppType: "not stored"}, "", nil)
	return r.out
}

// Chats are the ids that the chat may have had, the present one first.
func (d *Decoded) Chats() []whatisup.Address {
	if d.ChatType == whatisup.ChatDirect {
		return d.Peer.Chats()
	}
	return []whatisup.Address{d.Chat}
}

// MayChange says whether whoever made the change may do so: everybody may react and
// vote, the author may edit and revoke, and an admin, whom WhatsApp's server has
// checked, may revoke.
func (d *Decoded) MayChange() bool {
	switch d.Event {
	case whatisup.MessageEdited, whatisup.MessageRevoked:
		return d.Target.FromMe && d.FromMe || !d.Target.FromMe && d.Target.Author.Is(d.From) ||
			d.Event == whatisup.MessageRevoked && d.ChatType == whatisup.ChatGroup && d.Target.Admin
	}
	return true
}

// Target is the message that a change is about.
type Target struct {
	ID     whatisup.MessageID
	Author whatisup.Person
	FromMe bool
	Admin  bool // the change claims an admin's right
}

// Wire is the target as events have it.
func (t Target) Wire() whatisup.TargetWire {
	w := whatisup.TargetWire{MessageID: t.ID, FromMe: t.FromMe}
	if t.Author != (whatisup.Person{}) {
		p := t.Author.Wire()
		w.From = &p
	}
	return w
}

// Decode says what a message is. It never fails: what can't be opened or is not
// known is a message of the type undecryptable or unsupported.
func Decode(ctx context.Context, m *events.Message, env Env) *Decoded {
	d := &Decoded{ID: whatisup.MessageID(m.Info.ID), FromMe: m.Info.IsFromMe, SentAt: m.Info.Timestamp}
	d.Chat, d.ChatType, d.Peer = chatOf(env.Directory, &m.Info)
	d.From = Person(env.Directory, m.Info.PushName, m.Info.Sender, m.Info.SenderAlt)

	raw := m.RawMessage
	if raw == nil {
		raw = m.Message
	}
	if raw == nil {
		d.Nothing = "empty"
		return d
	}
	content, wrappers := Unwrap(raw)
	opened := *m // the library's helpers look at Message alone
	opened.Message = content
	r := &reader{ctx: ctx, env: env, event: &opened, wrappers: wrappers, out: d}
	r.read(content)
	return d
}

// Part is the id of a message that came within another one, empty for any other.
// The phone sends again what this device could not read, several messages in one.
func Part(m *events.Message) string {
	if m.UnavailableRequestID == "" {
		return ""
	}
	return m.Info.ID
}

// Undecryptable is the event of a message that could not be read.
func Undecryptable(m *events.UndecryptableMessage, env Env) *Decoded {
	d := &Decoded{ID: whatisup.MessageID(m.Info.ID), FromMe: m.Info.IsFromMe, SentAt: m.Info.Timestamp}
	d.Chat, d.ChatType, d.Peer = chatOf(env.Directory, &m.Info)
	d.From = Person(env.Directory, m.Info.PushName, m.Info.Sender, m.Info.SenderAlt)
	kind := whatisup.BodyUndecryptable
	if m.UnavailableType == events.UnavailableTypeViewOnce {
		kind = whatisup.BodyViewOnce // its content never reaches a linked device
	}
	r := &reader{env: env, out: d}
	r.message(&whatisup.ReceivedBody{Body: whatisup.Body{Type: kind}, WhatsAppType: string(m.UnavailableType)}, "", nil)
	return d
}

// reader reads one message.
type reader struct {
	ctx      context.Context
	env      Env
	event    *events.Message
	wrappers Wrappers
	out      *Decoded
}

// read has one line a kind of content. First what changes another message, then
// what nobody wrote, then what people write.
func (r *reader) read(m *waE2E.Message) {
	switch {
	case m.GetProtocolMessage() != nil:
		r.protocol(m.GetProtocolMessage())
	case m.GetSecretEncryptedMessage() != nil:
		r.secret(m.GetSecretEncryptedMessage())
	case m.GetReactionMessage() != nil:
		r.reaction(m.GetReactionMessage())
	case m.GetEncReactionMessage() != nil:
		r.encryptedReaction()
	case m.GetPollUpdateMessage() != nil:
		r.vote(m.GetPollUpdateMessage())
	case m.GetEncCommentMessage() != nil:
		r.comment()
	case m.GetCommentMessage().GetMessage() != nil:
		r.content(m.GetCommentMessage().GetMessage())
	case m.GetPinInChatMessage() != nil, m.GetKeepInChatMessage() != nil:
		r.nothing("pinned or kept")
	case m.GetCall() != nil, m.GetBcallMessage() != nil, m.GetCallLogMesssage() != nil:
		r.nothing("key or log of a call")
	case m.GetMessageHistoryBundle() != nil, m.GetMessageHistoryNotice() != nil, m.GetStickerSyncRmrMessage() != nil,
		m.GetRootSecretDistributeMessage() != nil, m.GetGroupRootKeyShare() != nil, m.GetPlaceholderMessage() != nil:
		r.nothing("housekeeping")
	case nameOf(m) == "":
		r.nothing("no content")
	default:
		r.content(m)
	}
}

func (r *reader) nothing(why string) { r.out.Nothing = why }

// protocol reads what the clients say to each other.
func (r *reader) protocol(p *waE2E.ProtocolMessage) {
	d := r.out
	switch p.GetType() {
	case waE2E.ProtocolMessage_REVOKE:
		d.Event, d.Target = whatisup.MessageRevoked, r.target(p.GetKey())
		d.Target.Admin = r.event.Info.Edit == types.EditAttributeAdminRevoke
	case waE2E.ProtocolMessage_MESSAGE_EDIT:
		r.edit(p.GetKey(), p.GetEditedMessage())
	case waE2E.ProtocolMessage_EPHEMERAL_SETTING:
		r.timer(p.GetEphemeralExpiration(), p.GetEphemeralSettingTimestamp())
		r.nothing("timer of the chat")
	case waE2E.ProtocolMessage_SHARE_PHONE_NUMBER:
		d.Learnt = &d.From
		r.nothing("number shared")
	default:
		r.nothing("protocol: " + p.GetType().String())
	}
}

// timer notes the chat's timer. Who says not when it was set, set it no later than the
// message was sent.
func (r *reader) timer(seconds uint32, setAt int64) {
	at := unix(setAt).Time
	if at.IsZero() || at.After(r.out.SentAt) {
		at = r.out.SentAt
	}
	r.out.Timer = &whatisup.Timer{Seconds: seconds, SetAt: at}
}

func (r *reader) edit(key *waCommon.MessageKey, to *waE2E.Message) {
	inner, _ := Unwrap(to)
	_, text, _ := bodyOf(inner, nil)
	r.out.Event, r.out.Target, r.out.Text = whatisup.MessageEdited, r.target(key), &text
}

// secret opens an edit that is encrypted under the secret of its target.
func (r *reader) secret(s *waE2E.SecretEncryptedMessage) {
	if s.GetSecretEncType() != waE2E.SecretEncryptedMessage_MESSAGE_EDIT {
		r.nothing("change of a poll or an event")
		return
	}
	opened, err := r.env.Secrets.DecryptSecretEncryptedMessage(r.ctx, r.event)
	if err != nil {
		r.out.Event, r.out.Target = whatisup.MessageEdited, r.target(s.GetTargetMessageKey())
		return // edited, and to what can't be told
	}
	inner, _ := Unwrap(opened)
	if p := inner.GetProtocolMessage(); p.GetType() == waE2E.ProtocolMessage_MESSAGE_EDIT && p.GetEditedMessage() != nil {
		inner = p.GetEditedMessage()
	}
	r.edit(s.GetTargetMessageKey(), inner)
}

func (r *reader) reaction(m *waE2E.ReactionMessage) {
	r.out.Event, r.out.Target = whatisup.MessageReaction, r.target(m.GetKey())
	if m.GetText() != "" {
		r.out.Emoji = m.Text
	}
}

func (r *reader) encryptedReaction() {
	opened, err := r.env.Secrets.DecryptReaction(r.ctx, r.event)
	if err != nil {
		r.message(&whatisup.ReceivedBody{Body: whatisup.Body{Type: whatisup.BodyUndecryptable}, WhatsAppType: "encReactionMessage"}, "", nil)
		return
	}
	if opened.Key == nil {
		opened.Key = r.event.Message.GetEncReactionMessage().GetTargetMessageKey()
	}
	r.reaction(opened)
}

func (r *reader) vote(m *waE2E.PollUpdateMessage) {
	d := r.out
	d.Event, d.Target = whatisup.PollVoted, r.target(m.GetPollCreationMessageKey())
	if opened, err := r.env.Secrets.DecryptPollVote(r.ctx, r.event); err == nil {
		d.Vote = opened.GetSelectedOptions()
		if d.Vote == nil {
			d.Vote = [][]byte{} // taken back, which is not the same as unknown
		}
	}
}

func (r *reader) comment() {
	opened, err := r.env.Secrets.DecryptComment(r.ctx, r.event)
	if err != nil {
		r.message(&whatisup.ReceivedBody{Body: whatisup.Body{Type: whatisup.BodyUndecryptable}, WhatsAppType: "encCommentMessage"}, "", nil)
		return
	}
	r.content(opened)
}

// Chosen names the options of a vote by their hashes. An option that is not of
// the poll is left out.
func Chosen(vote [][]byte, options []string) []string {
	chosen := make([]string, 0, len(vote))
	for _, o := range options {
		hash := sha256.Sum256([]byte(o))
		for _, v := range vote {
			if string(v) == string(hash[:]) {
				chosen = append(chosen, o)
			}
		}
	}
	return chosen
}

// target is the message that a key names. FromMe is meant by whoever sent the key.
func (r *reader) target(key *waCommon.MessageKey) Target {
	t := Target{ID: whatisup.MessageID(key.GetID())}
	participant, _ := types.ParseJID(key.GetParticipant())
	switch {
	case key.GetFromMe():
		t.FromMe, t.Author = r.out.FromMe, r.out.From
	case !participant.IsEmpty():
		t.Author = Person(r.env.Directory, "", participant.ToNonAD())
		t.FromMe = r.own(participant)
	case r.out.ChatType == whatisup.ChatDirect && !r.out.FromMe:
		t.FromMe = true
	case r.out.ChatType == whatisup.ChatDirect:
		t.Author = r.out.Peer
	}
	if t.FromMe {
		t.Author = whatisup.Person{}
	}
	return t
}

func (r *reader) own(j types.JID) bool {
	for _, own := range r.env.Own {
		if own.User == j.User && own.Server == j.Server {
			return true
		}
	}
	return false
}

// content makes the event of what somebody wrote.
func (r *reader) content(m *waE2E.Message) {
	body, text, context := bodyOf(m, r.wrappers)
	r.out.Content = m
	r.message(body, text, context)
	if r.out.File = originOf(m, r.out.Received.Type); r.out.File != nil {
		f, info := r.out.File, &r.event.Info
		f.MessageID, f.Chat, f.From, f.FromMe = r.out.ID, r.out.Chat, r.out.From, r.out.FromMe
		f.ChatJID, f.SenderJID = info.Chat.ToNonAD().String(), info.Sender.ToNonAD().String()
	}
	if album := m.GetMessageContextInfo().GetMessageAssociation().GetParentMessageKey().GetID(); album != "" {
		id := whatisup.MessageID(album)
		r.contextWire().Album = &id
	}
}

func (r *reader) message(body *whatisup.ReceivedBody, text string, context *waE2E.ContextInfo) {
	d := r.out
	d.Event = whatisup.MessageReceived
	if d.FromMe {
		d.Event = whatisup.MessageEcho
	}
	if len(d.ID) > whatisup.MaxReceivedID {
		body = &whatisup.ReceivedBody{Body: whatisup.Body{Type: whatisup.BodyUnsupported}, WhatsAppType: "id too long"}
		d.ID, text, context = d.ID[:whatisup.MaxReceivedID], "", nil
	}
	d.Received = &whatisup.ReceivedData{
		MessageID: d.ID, Chat: string(d.Chat), ChatType: d.ChatType, PersonWire: d.Peer.Wire(), From: d.From.From(),
		Type: body.Type, Body: body, SentAt: whatisup.At(d.SentAt), ReceivedAt: whatisup.At(r.env.Now),
	}
	if text != "" || body.Type == whatisup.BodyText {
		d.Received.Text = &text
	}
	if context != nil {
		r.context(context)
	}
}

func (r *reader) contextWire() *whatisup.ContextWire {
	if r.out.Received.Context == nil {
		r.out.Received.Context = &whatisup.ContextWire{Mentions: []whatisup.PersonWire{}}
	}
	return r.out.Received.Context
}

// context reads what a message stands in: what it answers, whom it mentions,
// where it comes from.
func (r *reader) context(c *waE2E.ContextInfo) {
	if c.GetExpiration() > 0 {
		seconds := c.GetExpiration()
		r.contextWire().EphemeralSeconds = &seconds
		r.timer(seconds, c.GetEphemeralSettingTimestamp())
	}
	if id := whatisup.MessageID(c.GetStanzaID()); id != "" && len(id) <= whatisup.MaxReceivedID {
		w := r.contextWire()
		w.MessageID = &id
		if author, err := types.ParseJID(c.GetParticipant()); err == nil && !author.IsEmpty() {
			p := Person(r.env.Directory, "", author.ToNonAD()).Wire()
			w.From = &p
		}
		if c.GetQuotedMessage() != nil {
			inner, wrappers := Unwrap(c.GetQuotedMessage())
			body, text, _ := bodyOf(inner, wrappers)
			w.Type = &body.Type
			if text != "" {
				w.Text = &text
			}
		}
	}
	if c.GetIsForwarded() || c.GetForwardingScore() > 0 {
		r.contextWire().Forwarded = true
	}
	for _, mentioned := range c.GetMentionedJID() {
		if j, err := types.ParseJID(mentioned); err == nil && j.User != "" {
			w := r.contextWire()
			w.Mentions = append(w.Mentions, Person(r.env.Directory, "", j.ToNonAD()).Wire())
		}
	}
	if ad := c.GetExternalAdReply(); ad.GetSourceID() != "" || ad.GetCtwaClid() != "" {
		r.contextWire().Ad = &whatisup.Ad{
			SourceID: ad.GetSourceID(), SourceType: ad.GetSourceType(), SourceURL: ad.GetSourceURL(),
			Title: ad.GetTitle(), Body: ad.GetBody(), ClickID: ad.GetCtwaClid(),
		}
	}
}

// nativeFlow is what matters of a flow's answer.
func nativeFlow(m *waE2E.InteractiveResponseMessage) *whatisup.Reply {
	reply := &whatisup.Reply{Kind: "flow", Title: m.GetBody().GetText()}
	flow := m.GetNativeFlowResponseMessage()
	var params struct {
		ID string `json:"id"`
	}
	if json.Unmarshal([]byte(flow.GetParamsJSON()), &params) == nil {
		reply.ID = params.ID
	}
	if reply.ID == "" {
		reply.ID = flow.GetName()
	}
	return reply
}
