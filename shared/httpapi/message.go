package httpapi

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"whatisup/shared/control"
	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

// DefaultSendLimits are those of sends, unless the deployment or the operator says
// otherwise.
var DefaultSendLimits = whatisup.SendLimits{
	Customer: whatisup.RateLimit{Burst: 500, PerSecond: 300}, Instance: whatisup.RateLimit{Burst: 100, PerSecond: 20},
}

func sendMessage(c *call) (*answer, error) {
	if err := c.takeSendToken(string(c.instance.Config.ID), c.sendLimits().Instance); err != nil {
		return nil, err
	}
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	s, problems := whatisup.ParseSend(b.Fields, c.now())
	if len(problems) > 0 {
		return nil, input.Invalid(problems...)
	}
	once, err := c.once(b)
	if err != nil {
		return nil, err
	}
	sent, err := c.control.Send(c.ctx, c.who(), c.instance, s, once)
	if err != nil {
		return nil, err
	}
	a := reply(http.StatusAccepted, sent.Wire())
	if sent.Replayed {
		a = a.set("Idempotency-Replayed", "true")
	}
	return a, nil
}

// once names the request by its Idempotency-Key, if it has one. The same content
// in another order of keys, or escaped otherwise, is the same request.
func (c *call) once(b *input.Object) (control.Once, error) {
	name, err := idempotencyKey(c.r.Header)
	if err != nil || name == "" {
		return control.Once{}, err
	}
	canonical, err := input.Canonical(b.Raw)
	if err != nil {
		return control.Once{}, err
	}
	print := mac(c.Peppers.Oldest(), "message\x00"+string(canonical))
	return control.Once{Name: "key\x00" + name, Print: print[:16]}, nil
}

// takeSendToken takes a token from a bucket of sends. The headers tell of the one
// with fewer left.
func (c *call) takeSendToken(of string, l whatisup.RateLimit) error {
	b, err := c.Store.TakeSend(c.ctx, c.customer(), c.mode(), of, l)
	if err != nil && !errors.Is(err, whatisup.ErrTooMany) {
		return err
	}
	if c.sends == nil || b.Remaining < c.sends.Remaining {
		c.sends = &b
		limitHeaders(c.w.Header(), b)
	}
	if err != nil {
		return errRateLimited.After(max(b.NextIn, time.Second))
	}
	return nil
}

func getMessage(c *call) (*answer, error) {
	q, err := c.readQuery()
	if err != nil {
		return nil, err
	}
	include, recipients := q.get("include")
	if recipients && include != "recipients" {
		q.problem("include", "must be recipients")
	}
	if err := q.done(); err != nil {
		return nil, err
	}
	m, err := c.control.GetMessage(c.ctx, c.instance, c.sub, recipients)
	if err != nil {
		return nil, err
	}
	return reply(http.StatusOK, m.Wire()), nil
}

func cancelMessage(c *call) (*answer, error) {
	m, requested, err := c.control.CancelMessage(c.ctx, c.who(), c.instance, c.sub)
	if err != nil {
		return nil, err
	}
	w := m.Wire()
	if requested {
		w.CancelRequested = true
		return reply(http.StatusAccepted, w), nil
	}
	return reply(http.StatusOK, w), nil
}

// directions are the values of the filter of that name.
var directions = []string{"out", "in", "any"}

// messageList has no last comma left to chance: next_cursor is always there.
type messageList struct {
	Data []json.RawMessage `json:"data"`
	Next next              `json:"next_cursor"`
}

const (
	messagePage = 100 // messages of a page, unless the request says otherwise
	// readMost bounds what one request reads for its token: rows that its filters
	// leave out count too. The page is short then, and has a cursor.
	readMost = 5_000
)

func listMessages(c *call) (*answer, error) {
	q, err := c.readQuery()
	if err != nil {
		return nil, err
	}
	limit := q.number("limit", maxLimit)
	if limit == 0 {
		limit = messagePage
	}
	l := whatisup.Listing{Direction: whatisup.Outgoing}
	if d, ok := q.get("direction"); ok {
		if !slices.Contains(directions, d) {
			q.problem("direction", "must be out, in or any")
		}
		l.Direction = whatisup.Direction(d)
		if d == "any" {
			l.Direction = ""
		}
	}
	keep := c.messageFilter(q)
	bound := []string{"messages", string(c.customer()), string(c.mode()), string(c.instance.Config.ID), q.values.Get("direction"), keep.print()}
	if cursor, ok := q.get("cursor"); ok {
		place, ok := c.seal.openPlace(cursor, bound...)
		if !ok {
			q.problem("cursor", "is not a cursor of this list")
		}
		l.Before = place
	}
	if err := q.done(); err != nil {
		return nil, err
	}

	shown, err := c.control.Show(c.ctx, c.instance)
	if err != nil {
		return nil, err
	}
	connected := shown.Shown.Status == whatisup.Connected
	list := messageList{Data: []json.RawMessage{}}
	files := messageFiles{}
	var size listSize
	var last string
	read, cut := 0, false
	for m, err := range c.control.Messages(c.ctx, c.instance, l, limit+1) {
		if err != nil {
			return nil, err
		}
		if cut = len(list.Data) == limit || read == readMost; cut {
			break
		}
		if keep.keeps(m.Message) {
			var entry any = m.Message.Wire(connected)
			if m.Direction == whatisup.Incoming {
				entry = m.Message.ReceivedWire()
			}
			b, err := encode(entry)
			if err != nil {
				return nil, err
			}
			if cut = !size.add(b); cut {
				break
			}
			if m.Direction == whatisup.Incoming && m.Media != "" && c.Links != nil {
				if cut = !size.add(fileRoom); cut {
					break
				}
				files[len(list.Data)] = m.Message
			}
			list.Data = append(list.Data, b)
		}
		last = m.Place
		read++
	}
	if err := c.showFiles(list.Data, files); err != nil {
		return nil, err
	}
	if cut {
		list.Next = next(c.seal.makePlace(last, bound...))
	}
	return reply(http.StatusOK, list), nil
}

// messageFiles are the received messages with a file, by their place in a list.
type messageFiles map[int]*whatisup.Message

// fileRoom is as much as a file takes in a list at the most, about.
var fileRoom = bytes.Repeat([]byte(" "), 2<<10)

// showFiles shows, in a list, the files of messages as far as they are there.
func (c *call) showFiles(list []json.RawMessage, of messageFiles) error {
	files, err := c.control.FilesOf(c.ctx, c.instance, slices.Collect(maps.Values(of)))
	if err != nil {
		return err
	}
	for n, m := range of {
		file, ok := files[m.Media]
		if !ok {
			continue
		}
		w := m.ReceivedWire()
		w.Media = c.mediaWire(file)
		if list[n], err = encode(w); err != nil {
			return err
		}
	}
	return nil
}

func listChats(c *call) (*answer, error) {
	q, err := c.readQuery()
	if err != nil {
		return nil, err
	}
	limit := cmp.Or(q.number("limit", maxLimit), messagePage)
	bound := []string{"chats", string(c.customer()), string(c.mode()), string(c.instance.Config.ID)}
	before := ""
	if cursor, ok := q.get("cursor"); ok {
		if before, ok = c.seal.openPlace(cursor, bound...); !ok {
			q.problem("cursor", "is not a cursor of this list")
		}
	}
	if err := q.done(); err != nil {
		return nil, err
	}
	shown, err := c.control.Show(c.ctx, c.instance)
	if err != nil {
		return nil, err
	}
	chats, more, err := c.control.Chats(c.ctx, c.instance, before, limit)
	if err != nil {
		return nil, err
	}
	list := messageList{Data: []json.RawMessage{}}
	var size listSize
	var last string
	for i := range chats {
		if chats[i].Message == nil { // its time is over, and the chat's with it
			last = chats[i].Last
			continue
		}
		b, err := encode(chats[i].Wire(shown.Shown.Status == whatisup.Connected))
		if err != nil {
			return nil, err
		}
		if !size.add(b) {
			more = true
			break
		}
		list.Data, last = append(list.Data, b), chats[i].Last
	}
	if more {
		list.Next = next(c.seal.makePlace(last, bound...))
	}
	return reply(http.StatusOK, list), nil
}

// messageFilter is what a list of messages is narrowed to; empty fields narrow
// nothing.
type messageFilter struct {
	chat, from whatisup.Address
	id, ref    string
	statuses   []whatisup.MessageStatus
}

func (c *call) messageFilter(q *query) messageFilter {
	var f messageFilter
	address := func(name string, into *whatisup.Address) {
		s, ok := q.get(name)
		if !ok {
			return
		}
		if *into, ok = whatisup.ParseAddress(s); !ok {
			q.problem(name, "must be a phone number, a group or a contact")
		}
	}
	address("chat", &f.chat)
	address("from", &f.from)
	f.id, _ = q.get("message_id")
	f.ref, _ = q.get("client_ref")
	f.statuses = oneOf(q, "status", whatisup.MessageStatuses)
	return f
}

func (f *messageFilter) print() string {
	return strings.Join([]string{string(f.chat), string(f.from), f.id, f.ref, join(f.statuses)}, "\x00")
}

func (f *messageFilter) keeps(m *whatisup.Message) bool {
	switch {
	case f.chat != "" && !names(f.chat, m.Chat, m.To, m.Recipient):
		return false
	case f.from != "" && !names(f.from, m.From.Chat(), "", m.From):
		return false
	case f.id != "" && f.id != string(m.ID), f.ref != "" && f.ref != m.ClientRef:
		return false
	}
	return len(f.statuses) == 0 || slices.Contains(f.statuses, m.Status)
}

// names says whether an address is one of a chat's, in whatever form.
func names(a, chat, to whatisup.Address, p whatisup.Person) bool {
	if a == chat || a == to {
		return true
	}
	if n, ok := a.Number(); ok {
		return n == p.PhoneNumber
	}
	lid, ok := a.LID()
	return ok && lid == p.LID
}

// makePlace and openPlace are make and open for places that are no ids.
func (s cursorSeal) makePlace(place string, bound ...string) string {
	sum := mac(s.peppers[s.peppers.Newest()], placeText(place, bound))[:sealBytes]
	return encodeCursor(append([]byte(place), sum...))
}

func (s cursorSeal) openPlace(cursor string, bound ...string) (string, bool) {
	b, ok := decodeCursor(cursor)
	if !ok || len(b) <= sealBytes || len(b) > math.MaxUint8 {
		return "", false
	}
	place := string(b[:len(b)-sealBytes])
	for version := range s.peppers {
		if hmac.Equal(b[len(place):], mac(s.peppers[version], placeText(place, bound))[:sealBytes]) {
			return place, true
		}
	}
	return "", false
}

func placeText(place string, bound []string) string {
	return "place\x00" + strings.Join(bound, "\x00") + "\x00" + place
}
