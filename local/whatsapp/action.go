package whatsapp

import (
	"context"
	"net/http"
	"strings"
)

// Action is something that a person does on the phone, beside writing. Kind
// decides which fields there are; To is the other of a direct chat, Group a
// group's id.
type Action struct {
	World       string   `json:"world"`
	PhoneNumber string   `json:"phone_number"`
	Kind        string   `json:"kind"`
	To          string   `json:"to"`
	Group       string   `json:"group"`
	MessageID   string   `json:"message_id"`
	From        string   `json:"from"` // read, play, vote: who wrote the message; by default the other, or whoever did
	Options     []string `json:"options"`
	State       string   `json:"state"` // typing: typing, recording or paused
	CallID      string   `json:"call_id"`
	Video       bool     `json:"video"`
	Outcome     string   `json:"outcome"` // hang_up: the reason, timeout by default
	Subject     string   `json:"subject"`
	Description *string  `json:"description"`
	Members     []string `json:"members"`
	Addressing  string   `json:"addressing"` // create_group, settings: lid by default, or pn
	Link        string   `json:"link"`
	Announce    *bool    `json:"announce"`
	Locked      *bool    `json:"locked"`
	Approval    *bool    `json:"approval"`
	Seconds     *uint32  `json:"seconds"`   // settings: of disappearing messages
	Community   bool     `json:"community"` // create_group: a community with its announcement group
	Parent      string   `json:"parent"`    // create_group: the community that it is part of
	Name        string   `json:"name"`
	About       *string  `json:"about"`
	Picture     []byte   `json:"picture_base64"` // empty removes it
	PictureFor  string   `json:"picture_for"`
	GroupAdd    string   `json:"group_add"` // profile: everybody, or none: must be invited
	On          *bool    `json:"on"`        // pin, mute, archive: true by default
}

// Done is what an action has brought about.
type Done struct {
	MessageID string `json:"message_id,omitempty"`
	CallID    string `json:"call_id,omitempty"`
	Group     *Group `json:"group,omitempty"`
	Phone     *Phone `json:"phone,omitempty"`
}

// Act lets a person do something on the phone.
func (s *Server) Act(ctx context.Context, a Action) (Done, error) {
	p, err := personNamed(a.World, a.PhoneNumber)
	if err != nil {
		return Done{}, err
	}
	a.World = p.world
	if a.Kind == "online" || a.Kind == "offline" {
		phone, err := s.changePhone(p, func(b behaviour) behaviour {
			b.Offline = a.Kind == "offline"
			return b
		})
		return Done{Phone: &phone}, err
	}
	if s.behaviourOf(p).Offline {
		return Done{}, errOffline
	}
	do, ok := actions[a.Kind]
	if !ok {
		return Done{}, badRequest("no action of the kind %q", a.Kind)
	}
	return do(s, ctx, p, &a)
}

var actions = map[string]func(*Server, context.Context, person, *Action) (Done, error){
	"read":         (*Server).actRead,
	"play":         (*Server).actRead,
	"vote":         (*Server).actVote,
	"typing":       (*Server).actTyping,
	"call":         (*Server).actCall,
	"hang_up":      (*Server).actHangUp,
	"create_group": (*Server).actCreateGroup,
	"join":         (*Server).actJoin,
	"leave":        (*Server).actLeave,
	"add":          (*Server).actMembers,
	"remove":       (*Server).actMembers,
	"promote":      (*Server).actMembers,
	"demote":       (*Server).actMembers,
	"settings":     (*Server).actSettings,
	"profile":      (*Server).actProfile,
	"sync":         (*Server).actSync,
	"save_contact": (*Server).actChat,
	"pin":          (*Server).actChat,
	"mute":         (*Server).actChat,
	"archive":      (*Server).actChat,
	"trust":        (*Server).actTrust,
	"block":        (*Server).actBlock,
	"unblock":      (*Server).actBlock,
}

// chat is the chat that an action is about, as it is shown.
func (a *Action) chat() (string, error) {
	switch {
	case a.Group != "" && a.To != "":
		return "", badRequest("to and group exclude each other")
	case a.Group != "":
		return a.Group, nil
	case a.To == "":
		return "", nil
	}
	p, err := personNamed(a.World, a.To)
	return p.number, err
}

// target finds the message that an action is about on the person's phone.
func (s *Server) target(p person, a *Action) (shownRecord, error) {
	chat, err := a.chat()
	if err != nil {
		return shownRecord{}, err
	}
	f := ShownFilter{Chat: chat, ID: a.MessageID, Limit: 100}
	if a.From != "" {
		from, err := personNamed(a.World, a.From)
		if err != nil {
			return shownRecord{}, err
		}
		f.From = from.number
	}
	if a.MessageID == "" {
		return shownRecord{}, badRequest("message_id must not be empty")
	}
	rows, _, err := s.screen(p, f)
	if err != nil {
		return shownRecord{}, err
	}
	for _, r := range rows {
		if r.From != p.number || a.Kind == "vote" || a.From != "" {
			return r, nil
		}
	}
	return shownRecord{}, errNoMessage
}

// actRead is reading a message, or playing it, with all that came before it in
// the chat left as it is.
func (s *Server) actRead(_ context.Context, p person, a *Action) (Done, error) {
	r, err := s.target(p, a)
	if err != nil {
		return Done{}, err
	}
	kind := "read"
	if a.Kind == "play" {
		kind = "played"
	}
	return Done{}, s.markRead(p, r.Chat, person{p.world, r.From}, r.ID, kind)
}

func (s *Server) actVote(ctx context.Context, p person, a *Action) (Done, error) {
	r, err := s.target(p, a)
	if err != nil {
		return Done{}, err
	}
	if r.Type != "poll" {
		return Done{}, refuse(http.StatusConflict, "no_poll", "this message is no poll")
	}
	w := Writing{Text: Text{World: p.world, From: p.number}, Body: &Body{
		Type: "vote", Target: &Reference{ID: r.ID, From: r.From}, Options: a.Options,
	}}
	if strings.Contains(r.Chat, "@") {
		w.Group = r.Chat
	} else {
		w.To = r.Chat
	}
	id, err := s.Write(ctx, w)
	return Done{MessageID: id}, err
}
