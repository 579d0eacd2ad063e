package whatsapp

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
)

// arrival is a message that a phone has, decrypted, with who wrote it and where.
type arrival struct {
	id     string
	from   person
	chat   string // as in Shown: for a direct chat the other's number, seen from this phone
	device string // that sent it; empty: the phone itself
	pn     bool
	plain  []byte
	parsed *waE2E.Message // plain, nil if it cannot be parsed; nobody changes it
	at     time.Time

	readable *bool  // whether the phone could read the message's file, nil without one
	hash     string // of the file that it has read
}

// open parses a message and lets the phone get its file. Not in a transaction: it may
// be large, and is looked up in one.
func (s *Server) open(a *arrival) {
	m := new(waE2E.Message)
	if proto.Unmarshal(a.plain, m) != nil {
		return
	}
	a.parsed = m
	part, kind := mediaOf(m)
	if part == nil {
		return
	}
	plain, err := s.fetchMedia(part, kind)
	readable := err == nil
	a.readable = &readable
	if readable {
		sum := sha256.Sum256(plain)
		a.hash = hex.EncodeToString(sum[:])
	}
}

// arrive shows an arrival on a phone, with what it changes of other messages, in
// the transaction that also keeps the phone's sessions. It says whether the
// message is new there.
func (s *Server) arrive(tx *tx, at person, a arrival) (*shownRecord, bool, error) {
	m := a.parsed
	if m == nil {
		return nil, false, nil // a phone shows nothing of what it cannot parse
	}
	if m.GetDeviceSentMessage().GetMessage() != nil {
		m = m.GetDeviceSentMessage().GetMessage()
	}
	if onlyKeys(m) {
		return nil, false, nil
	}
	body, secret := s.read(tx, at, a, m)
	if body.Type == "protocol" {
		return nil, false, nil // between the account's own programs
	}
	if a.readable != nil {
		body.Readable, body.SHA256 = a.readable, a.hash
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, false, err
	}
	r := &shownRecord{
		Shown:  Shown{ID: a.id, From: a.from.number, Chat: a.chat, Type: body.Type, Text: body.shown(), Body: encoded, At: a.at},
		Device: a.device, PN: a.pn, Plain: a.plain, Secret: secret,
	}
	if len(r.Plain) > 64<<10 {
		r.Plain = nil
	}
	fresh, err := s.show(tx, at, r)
	if err == nil && fresh {
		err = s.amend(tx, at, a, body)
	}
	return r, fresh, err
}

// onlyKeys says that a message brings a group's key and nothing else.
func onlyKeys(m *waE2E.Message) bool {
	return m.GetSenderKeyDistributionMessage() != nil && kindName(m) == ""
}

// read makes a body of a message. What is encrypted with another message's
// secret is read with that.
func (s *Server) read(tx *tx, at person, a arrival, m *waE2E.Message) (body *Body, secret []byte) {
	r := reader{s: s, world: at.world, at: at, chat: a.chat, from: a.from}
	secret = m.GetMessageContextInfo().GetMessageSecret()
	inner := unwrap(m)
	if secret == nil {
		secret = inner.GetMessageContextInfo().GetMessageSecret()
	}
	switch {
	case inner.GetPollUpdateMessage() != nil:
		return s.readVote(tx, r, a, inner.GetPollUpdateMessage()), secret
	case inner.GetSecretEncryptedMessage() != nil:
		return s.readSecretEdit(tx, r, a, inner.GetSecretEncryptedMessage()), secret
	}
	return r.body(m), secret
}

func (s *Server) readVote(tx *tx, r reader, a arrival, m *waE2E.PollUpdateMessage) *Body {
	body := &Body{Type: "vote", Target: r.reference(m.GetPollCreationMessageKey())}
	poll, ok, err := shownBy(tx, r.at, a.chat, body.Target.From, body.Target.ID)
	if err != nil || !ok {
		return body
	}
	plain, err := s.openWithSecret(useVote, poll.ID, person{r.world, poll.From}, a.from, poll.Secret, m.GetVote().GetEncPayload(), m.GetVote().GetEncIV())
	var vote waE2E.PollVoteMessage
	var asked Body
	if err != nil || proto.Unmarshal(plain, &vote) != nil || json.Unmarshal(poll.Body, &asked) != nil {
		return body
	}
	for _, option := range asked.Options {
		hash := sha256.Sum256([]byte(option))
		if slices.ContainsFunc(vote.GetSelectedOptions(), func(chosen []byte) bool { return string(chosen) == string(hash[:]) }) {
			body.Options = append(body.Options, option)
		}
	}
	readable := true
	body.Readable = &readable
	return body
}

func (s *Server) readSecretEdit(tx *tx, r reader, a arrival, m *waE2E.SecretEncryptedMessage) *Body {
	target := r.reference(m.GetTargetMessageKey())
	body := &Body{Type: "unsupported", Name: "secretEncryptedMessage", Target: target}
	old, ok, err := shownBy(tx, r.at, a.chat, target.From, target.ID)
	if err != nil || !ok || m.GetSecretEncType() != waE2E.SecretEncryptedMessage_MESSAGE_EDIT {
		return body
	}
	plain, err := s.openWithSecret(useEdit, old.ID, person{r.world, old.From}, a.from, old.Secret, m.GetEncPayload(), m.GetEncIV())
	var edit waE2E.Message
	if err != nil || proto.Unmarshal(plain, &edit) != nil {
		return body
	}
	inner := unwrap(&edit)
	if inner.GetProtocolMessage().GetEditedMessage() != nil {
		inner = inner.GetProtocolMessage().GetEditedMessage()
	}
	return &Body{Type: "edit", Target: target, Text: r.content(inner).shown()}
}

// amend does to a shown message what an edit or a revocation says, if it comes
// from somebody who may: its author, or for a revocation a group's admin.
func (s *Server) amend(tx *tx, at person, a arrival, body *Body) error {
	if body.Target == nil || body.Type != "edit" && body.Type != "revoke" {
		return nil
	}
	own := body.Target.From == a.from.number
	if !own && !(body.Type == "revoke" && s.isAdminOf(tx, at.world, a.chat, a.from.number)) {
		return nil
	}
	return s.reshow(tx, at, a.chat, body.Target.From, body.Target.ID, func(r *shownRecord) {
		if body.Type == "revoke" {
			r.Revoked, r.Text, r.Body = a.at, "", nil
			return
		}
		var old Body
		if json.Unmarshal(r.Body, &old) != nil {
			return
		}
		switch old.Type {
		case "image", "video", "document":
			old.Caption = body.Text
		default:
			old.Text = body.Text
		}
		if encoded, err := json.Marshal(old); err == nil {
			r.Edited, r.Text, r.Body = a.at, body.Text, encoded
		}
	})
}

// number is who a JID in a message means; of others the JID itself.
func (r reader) number(text string) string {
	jid, err := types.ParseJID(text)
	if err != nil || r.s == nil {
		return text
	}
	if p, ok := r.s.personOf(r.world, jid.ToNonAD()); ok {
		return p.number
	}
	return text
}

// reference reads a key, which says things as the writer of the message sees them.
func (r reader) reference(key *waCommon.MessageKey) *Reference {
	out := &Reference{ID: key.GetID()}
	switch {
	case key.GetFromMe():
		out.From = r.from.number
	case key.GetParticipant() != "":
		out.From = r.number(key.GetParticipant())
	case r.from == r.at:
		out.From = r.chat
	default:
		out.From = r.at.number
	}
	return out
}
