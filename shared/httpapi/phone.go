package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

// The sandbox's phones. Every number has one, in the world of the customer; what
// it does goes to the instance, or to a group that both are in.

// writing is a message as the simulator takes it.
type writing struct {
	From             string          `json:"from"`
	To               string          `json:"to,omitempty"`
	Group            string          `json:"group,omitempty"`
	Text             string          `json:"text,omitempty"`
	Body             json.RawMessage `json:"body,omitempty"`
	Name             string          `json:"name,omitempty"`
	ReplyTo          json.RawMessage `json:"reply_to,omitempty"`
	Forwarded        bool            `json:"forwarded,omitempty"`
	EphemeralSeconds int             `json:"ephemeral_seconds,omitempty"`
	Broadcast        bool            `json:"broadcast,omitempty"`
	Status           bool            `json:"status,omitempty"`
	Undecryptable    bool            `json:"undecryptable,omitempty"`
	Unavailable      string          `json:"unavailable,omitempty"`
}

func sandboxMessage(c *call) (*answer, error) {
	return c.sandbox(whatisup.SandboxMessage, func(b *input.Object, args *whatisup.SandboxArgs) {
		w := readWriting(b)
		encoded, err := json.Marshal(w)
		if err != nil {
			b.Problem("body", "is not JSON")
		}
		args.Writing = encoded
	})
}

func readWriting(b *input.Object) writing {
	var w writing
	from, _ := b.Phone("from", true)
	w.From = string(from)
	if b.Has("to") {
		to, _ := b.Phone("to", true)
		w.To = string(to)
	}
	w.Group = readGroup(b, "group")
	if w.Group != "" && w.To != "" {
		b.Problem("to", "excludes group")
	}

	switch {
	case b.Has("body") && b.Has("text"):
		b.Ignore("text", "body")
		b.Problem("text", "excludes body")
	case b.Has("body"):
		w.Body = readPhoneBody(b)
	default:
		text, ok := b.Text("text", true)
		switch w.Text = text; {
		case !ok:
		case text == "":
			b.Problem("text", "must not be empty")
		case len(text) > whatisup.MaxText:
			b.Problem("text", fmt.Sprintf("must have at most %d bytes", whatisup.MaxText))
		}
	}

	if raw, ok := b.Take("reply_to"); ok {
		target, problems := whatisup.ParseTarget("reply_to", raw)
		b.Add(problems...)
		if target != nil {
			w.ReplyTo = raw
		}
	}
	optional(b, "name", &w.Name, "must be a string")
	optional(b, "forwarded", &w.Forwarded, "must be true or false")
	w.EphemeralSeconds = whole(b, "ephemeral_seconds", 0, 365*24*3600)
	optional(b, "broadcast", &w.Broadcast, "must be true or false")
	optional(b, "status", &w.Status, "must be true or false")
	optional(b, "undecryptable", &w.Undecryptable, "must be true or false")
	only := false
	if optional(b, "only_on_phone", &only, "must be true or false"); only {
		w.Unavailable = "view_once"
	}
	return w
}

// phoneOnly are the types of a body that a phone can send and this API can't.
var phoneOnly = []string{"album", "event", "invitation", "button_reply", "list_reply", "order", "timer"}

// readPhoneBody reads what a phone sends: a body as of a message to send, or one
// of a type that only phones send, which the simulator checks. A body of a media
// type brings its file, or is sent with a sample.
func readPhoneBody(b *input.Object) json.RawMessage {
	raw, _ := b.Take("body")
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		b.Problem("body", "must be an object")
		return nil
	}
	var kind string
	json.Unmarshal(fields["type"], &kind) // of another type: no kind
	if slices.Contains(phoneOnly, kind) {
		return raw
	}
	if whatisup.BodyType(kind).IsMedia() {
		for _, name := range []string{"media_id", "media_url"} {
			if _, ok := fields[name]; ok {
				b.Problem("body."+name, "is not for phones: give media_base64, or nothing for a sample")
				return nil
			}
		}
		if _, ok := fields["media_base64"]; !ok {
			fields = maps.Clone(fields)
			fields["media_base64"] = json.RawMessage(`"AA=="`) // for the check alone
		}
	}
	whole, err := json.Marshal(fields)
	if err != nil {
		b.Problem("body", "is not JSON")
		return nil
	}
	body, problems := whatisup.ParseBody(whole)
	if body == nil && len(problems) == 1 && problems[0].Field == "body.type" {
		problems[0].Problem += ", " + join(phoneOnly)
	}
	b.Add(problems...)
	return raw
}

func readGroup(b *input.Object, name string) string {
	if !b.Has(name) {
		return ""
	}
	s, ok := b.Text(name, true)
	a, valid := whatisup.ParseAddress(s)
	if ok && (!valid || !a.IsGroup()) {
		b.Problem(name, "must be a group (…@g.us)")
		return ""
	}
	return string(a)
}

// optional reads a field that may be missing; null is as if it were.
func optional[T any](b *input.Object, name string, into *T, problem string) {
	v, ok := b.Take(name)
	if ok && json.Unmarshal(v, into) != nil {
		b.Problem(name, problem)
	}
}

// phoneWire is a simulated phone, and as the simulator tells of it.
type phoneWire struct {
	PhoneNumber string  `json:"phone_number"`
	LID         string  `json:"lid"`
	OnWhatsApp  bool    `json:"on_whatsapp"`
	Reads       string  `json:"reads"`
	Replies     string  `json:"replies"`
	Offline     bool    `json:"offline"`
	Restricts   *string `json:"restricts"`
}

// shownWire is a message as a phone shows it.
type shownWire struct {
	MessageID string          `json:"message_id"`
	From      string          `json:"from"`
	Chat      string          `json:"chat"`
	Type      string          `json:"type"`
	Text      string          `json:"text"`
	Body      json.RawMessage `json:"body"`
	At        whatisup.Time   `json:"at"`
	ReadAt    whatisup.Time   `json:"read_at"`
	PlayedAt  whatisup.Time   `json:"played_at"`
	EditedAt  whatisup.Time   `json:"edited_at"`
	RevokedAt whatisup.Time   `json:"revoked_at"`
}

// phoneList is a page of a list of the simulator's.
type phoneList[T any] struct {
	Data []T  `json:"data"`
	Next next `json:"next_cursor"`
}

// phonePath is the path of the phone that the request names.
func (c *call) phonePath(below string) (string, error) {
	n, ok := whatisup.ParsePhoneNumber(c.sub)
	if !ok {
		return "", errNoSuchPhone
	}
	return "phones/" + string(n) + below, nil
}

var errNoSuchPhone = whatisup.NewError(whatisup.CodeContactNotFound, "a phone is named by its number: 7 to 15 digits with the country code")

// asksPhones refuses live keys, which have no simulated phones.
func (c *call) asksPhones() error {
	if c.mode() != whatisup.Test {
		return errRoute
	}
	return nil
}

func sandboxPhones(c *call) (*answer, error) {
	var page struct {
		Data []phoneWire `json:"data"`
		Next *string     `json:"next"`
	}
	next, err := c.listOfPhones("phones", nil, &page, func() *string { return page.Next })
	if err != nil {
		return nil, err
	}
	return reply(http.StatusOK, phoneList[phoneWire]{page.Data, next}), nil
}

func sandboxPhoneMessages(c *call) (*answer, error) {
	path, err := c.phonePath("/messages")
	if err != nil {
		return nil, err
	}
	var page struct {
		Data []struct {
			shownWire
			At      time.Time  `json:"at"`
			Read    *time.Time `json:"read_at"`
			Played  *time.Time `json:"played_at"`
			Edited  *time.Time `json:"edited_at"`
			Revoked *time.Time `json:"revoked_at"`
		} `json:"data"`
		Next *uint64 `json:"next"`
	}
	next, err := c.listOfPhones(path, []string{"chat", "from", "message_id"}, &page, func() *string {
		if page.Next == nil {
			return nil
		}
		return new(strconv.FormatUint(*page.Next, 10))
	})
	if err != nil {
		return nil, err
	}
	list := phoneList[shownWire]{[]shownWire{}, next}
	for _, m := range page.Data {
		w := m.shownWire
		w.At = whatisup.At(m.At)
		for _, t := range []struct {
			into *whatisup.Time
			from *time.Time
		}{{&w.ReadAt, m.Read}, {&w.PlayedAt, m.Played}, {&w.EditedAt, m.Edited}, {&w.RevokedAt, m.Revoked}} {
			if t.from != nil {
				*t.into = whatisup.At(*t.from)
			}
		}
		list.Data = append(list.Data, w)
	}
	return reply(http.StatusOK, list), nil
}

// phonePage is how many entries a page of a phone's list has by default, and
// maxPhoneBytes how many bytes: what fits into a command's result.
const (
	phonePage     = 100
	maxPhoneBytes = whatisup.MaxAnswer - 4<<10
)

// listOfPhones asks the simulator for a page. Its place in the list is the
// cursor.
func (c *call) listOfPhones(path string, filters []string, page any, after func() *string) (next, error) {
	if err := c.asksPhones(); err != nil {
		return "", err
	}
	q, err := c.readQuery()
	if err != nil {
		return "", err
	}
	limit := q.number("limit", maxLimit)
	if limit == 0 {
		limit = phonePage
	}
	query := map[string]string{"limit": strconv.Itoa(limit), "bytes": strconv.Itoa(maxPhoneBytes)}
	bound := []string{"sandbox", string(c.customer()), path}
	for _, name := range filters {
		v, ok := q.get(name)
		if !ok {
			continue
		}
		if name != "message_id" {
			a, valid := whatisup.ParseAddress(v)
			if !valid {
				q.problem(name, "must be a phone number, or a group (…@g.us)")
			}
			v = strings.TrimSuffix(string(a), "@s.whatsapp.net")
		}
		query[name] = v
		bound = append(bound, name, v)
	}
	if cursor, ok := q.get("cursor"); ok {
		place, ok := c.seal.openPlace(cursor, bound...)
		if !ok {
			q.problem("cursor", "is not a cursor of this list")
		}
		query["after"] = place
	}
	if err := q.done(); err != nil {
		return "", err
	}
	call := whatisup.PhoneCall{Method: http.MethodGet, Path: path, Query: query}
	if err := c.control.AskPhones(c.ctx, c.who(), whatisup.NewCommandID(), call, page); err != nil {
		return "", err
	}
	if place := after(); place != nil {
		return next(c.seal.makePlace(*place, bound...)), nil
	}
	return "", nil
}

func sandboxPhone(c *call) (*answer, error) {
	return c.phone(whatisup.PhoneCall{Method: http.MethodGet})
}

func sandboxSetPhone(c *call) (*answer, error) {
	if err := c.asksPhones(); err != nil {
		return nil, err
	}
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	var phone struct {
		OnWhatsApp *bool   `json:"on_whatsapp,omitempty"`
		Reads      string  `json:"reads,omitempty"`
		Replies    string  `json:"replies,omitempty"`
		Offline    *bool   `json:"offline,omitempty"`
		Restricts  *string `json:"restricts,omitempty"`
	}
	choice := func(name string, into *string, set ...string) {
		if text, ok := b.Text(name, false); ok {
			if *into = text; !slices.Contains(set, text) {
				b.Problem(name, "must be one of "+join(set))
			}
		}
	}
	optional(b, "on_whatsapp", &phone.OnWhatsApp, "must be true or false")
	choice("reads", &phone.Reads, "auto", "manual", "never")
	choice("replies", &phone.Replies, "echo", "none")
	optional(b, "offline", &phone.Offline, "must be true or false")
	if restricts, ok := b.TextOrNull("restricts"); ok {
		phone.Restricts = &restricts
		if restricts != "reachout" && restricts != "new_chats" {
			b.Problem("restricts", "must be reachout, new_chats or null")
		}
	}
	if err := b.Done(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(phone)
	if err != nil {
		return nil, err
	}
	return c.phone(whatisup.PhoneCall{Method: http.MethodPut, Body: body})
}

// phone makes a call about one phone and answers with it.
func (c *call) phone(call whatisup.PhoneCall) (*answer, error) {
	path, err := c.phonePath("")
	if err != nil {
		return nil, err
	}
	if err := c.asksPhones(); err != nil {
		return nil, err
	}
	call.Path = path
	var phone phoneWire
	if err := c.control.AskPhones(c.ctx, c.who(), whatisup.NewCommandID(), call, &phone); err != nil {
		return nil, err
	}
	return reply(http.StatusOK, phone), nil
}

// actions are what a person can do on a phone beside writing, and the fields of
// each beside kind.
var actions = map[string][]string{
	"read":         {"message_id", "from", "instance_id", "to", "group"},
	"play":         {"message_id", "from", "instance_id", "to", "group"},
	"vote":         {"message_id", "options", "from", "instance_id", "to", "group"},
	"typing":       {"state", "instance_id", "to", "group"},
	"call":         {"video", "instance_id", "to", "group"},
	"hang_up":      {"call_id", "outcome", "instance_id"},
	"create_group": {"subject", "members", "description", "announce", "locked", "approval", "seconds", "community", "parent", "instance_id"},
	"join":         {"link", "instance_id"},
	"leave":        {"group", "instance_id"},
	"add":          {"group", "members", "instance_id"},
	"remove":       {"group", "members", "instance_id"},
	"promote":      {"group", "members", "instance_id"},
	"demote":       {"group", "members", "instance_id"},
	"settings":     {"group", "subject", "description", "announce", "locked", "approval", "seconds", "picture_base64", "instance_id"},
	"profile":      {"name", "about", "picture_base64", "picture_for", "group_add", "instance_id"},
	"block":        {"instance_id", "to"},
	"unblock":      {"instance_id", "to"},
	"trust":        {"instance_id", "to"},
	"save_contact": {"name", "instance_id", "to"},
	"pin":          {"on", "instance_id", "to"},
	"mute":         {"on", "seconds", "instance_id", "to"},
	"archive":      {"on", "instance_id", "to"},
	"sync":         {"name", "instance_id"},
	"offline":      {"instance_id"},
	"online":       {"instance_id"},
}

// action has the fields of an action, to be checked and handed on.
type action struct {
	Kind        string   `json:"kind"`
	To          string   `json:"to,omitempty"`
	Group       string   `json:"group,omitempty"`
	MessageID   string   `json:"message_id,omitempty"`
	From        string   `json:"from,omitempty"`
	Options     []string `json:"options,omitempty"`
	State       string   `json:"state,omitempty"`
	CallID      string   `json:"call_id,omitempty"`
	Video       bool     `json:"video,omitempty"`
	Outcome     string   `json:"outcome,omitempty"`
	Subject     string   `json:"subject,omitempty"`
	Description *string  `json:"description,omitempty"`
	Members     []string `json:"members,omitempty"`
	Link        string   `json:"link,omitempty"`
	Announce    *bool    `json:"announce,omitempty"`
	Locked      *bool    `json:"locked,omitempty"`
	Approval    *bool    `json:"approval,omitempty"`
	Seconds     *uint32  `json:"seconds,omitempty"`
	Community   bool     `json:"community,omitempty"`
	Parent      string   `json:"parent,omitempty"`
	Name        string   `json:"name,omitempty"`
	About       *string  `json:"about,omitempty"`
	Picture     *[]byte  `json:"picture_base64,omitempty"` // empty: it is removed
	PictureFor  string   `json:"picture_for,omitempty"`
	GroupAdd    string   `json:"group_add,omitempty"`
	On          *bool    `json:"on,omitempty"`

	Instance whatisup.InstanceID `json:"instance_id,omitempty"`
}

func sandboxAct(c *call) (*answer, error) {
	path, err := c.phonePath("/actions")
	if err != nil {
		return nil, err
	}
	if err := c.asksPhones(); err != nil {
		return nil, err
	}
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	a, err := c.readAction(b)
	if err != nil {
		return nil, err
	}
	return c.idempotent(b, func(r *claim) (*answer, error) {
		id := r.command()
		if a.Kind == "call" {
			a.CallID = strings.ToUpper(strings.ReplaceAll(string(id), "-", ""))
		}
		body, err := json.Marshal(a)
		if err != nil {
			return nil, err
		}
		var done struct {
			MessageID string `json:"message_id"`
			CallID    string `json:"call_id"`
			Group     *struct {
				ID   string `json:"id"`
				Link string `json:"link"`
			} `json:"group"`
		}
		call := whatisup.PhoneCall{Method: http.MethodPost, Path: path, Body: body}
		if err := c.control.AskPhones(c.ctx, c.who(), id, call, &done); err != nil {
			return nil, err
		}
		wire := actedWire{orNull(done.MessageID), orNull(done.CallID), nil, nil}
		if done.Group != nil {
			wire.Group, wire.Link = orNull(done.Group.ID), orNull(done.Group.Link)
		}
		return reply(http.StatusOK, wire), nil
	})
}

// actedWire is what an action has made.
type actedWire struct {
	MessageID *string `json:"message_id"`
	CallID    *string `json:"call_id"`
	Group     *string `json:"group"`
	Link      *string `json:"link"`
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// readAction reads an action and puts the instance's number where it is meant:
// it is the other side of a direct chat, and the member that is not named.
func (c *call) readAction(b *input.Object) (*action, error) {
	kind, ok := b.Text("kind", true)
	fields, known := actions[kind]
	if ok && !known {
		b.Problem("kind", "must be one of "+join(slices.Sorted(maps.Keys(actions))))
	}
	if !known {
		b.Ignore(slices.Collect(maps.Keys(b.Fields))...)
		return nil, b.Done()
	}
	b.Ignore(fields...)
	var a action
	if err := json.Unmarshal(b.Raw, &a); err != nil {
		field := "body"
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
			field = wrong.Field
		}
		b.Problem(field, "does not have the right type")
	}
	a.Group = readGroup(b, "group")
	if slices.Contains(fields, "parent") {
		a.Parent = readGroup(b, "parent")
	}
	for i, m := range a.Members {
		if _, ok := whatisup.ParsePhoneNumber(m); !ok {
			b.Problem(fmt.Sprintf("members.%d", i), "must be 7 to 15 digits with the country code")
		}
	}
	if b.Has("to") && (b.Has("instance_id") || b.Has("group")) {
		b.Problem("to", "excludes instance_id and group")
	}
	if err := b.Done(); err != nil {
		return nil, err
	}
	if a.Instance == "" {
		return &a, nil
	}

	i, err := c.control.Find(c.ctx, c.who(), string(a.Instance))
	if err != nil {
		return nil, err
	}
	number := string(i.Observed.PhoneNumber)
	if number == "" {
		return nil, whatisup.NewError(whatisup.CodeNotConnected, "no phone is linked to this instance")
	}
	a.Instance = ""
	switch {
	case slices.Contains(fields, "members"):
		if len(a.Members) == 0 || kind == "create_group" {
			a.Members = append(a.Members, number)
		}
	case slices.Contains(fields, "to") && a.Group == "":
		a.To = number
	}
	return &a, nil
}
