package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"unicode/utf8"

	"whatisup/shared/control"
	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

// ask answers with what WhatsApp says, in the form in which the host has put it.
func (c *call) ask(status int, kind whatisup.CommandKind, args any) (*answer, error) {
	return c.askAs(status, kind, nil, args)
}

// askAs is ask for a request that may have an Idempotency-Key.
func (c *call) askAs(status int, kind whatisup.CommandKind, r *claim, args any) (*answer, error) {
	raw, err := c.control.Ask(c.ctx, c.who(), c.instance, kind, r.change(), args)
	if err != nil {
		return nil, err
	}
	if status == http.StatusNoContent {
		return reply(status, nil), nil
	}
	return reply(status, raw), nil
}

// askPage answers with one page of a list that the host has.
func (c *call) askPage(kind whatisup.CommandKind) (*answer, error) {
	q, err := c.readQuery()
	if err != nil {
		return nil, err
	}
	args := whatisup.PageArgs{Limit: q.number("limit", maxLimit)}
	if args.Limit == 0 {
		args.Limit = messagePage
	}
	bound := []string{string(kind), string(c.customer()), string(c.mode()), string(c.instance.Config.ID)}
	if cursor, ok := q.get("cursor"); ok {
		if args.After, ok = c.seal.openPlace(cursor, bound...); !ok {
			q.problem("cursor", "is not a cursor of this list")
		}
	}
	if err := q.done(); err != nil {
		return nil, err
	}
	raw, err := c.control.Ask(c.ctx, c.who(), c.instance, kind, "", args)
	if err != nil {
		return nil, err
	}
	var page struct {
		Data []json.RawMessage `json:"data"`
		Next string            `json:"next"`
	}
	if err := json.Unmarshal(raw, &page); err != nil {
		return nil, err
	}
	list := messageList{Data: page.Data}
	if page.Next != "" {
		list.Next = next(c.seal.makePlace(page.Next, bound...))
	}
	return reply(http.StatusOK, list), nil
}

// group is the group of the path. A text that is no group's id is answered like a
// group that is not there.
func (c *call) group() (whatisup.Address, error) {
	a, ok := whatisup.ParseAddress(c.sub)
	if !ok || !a.IsGroup() {
		return "", control.ErrGroupNotFound
	}
	return a, nil
}

// contact is the person of the path.
func (c *call) contact() (whatisup.Address, error) {
	a, ok := whatisup.ParseAddress(c.sub)
	if !ok || a.IsGroup() {
		return "", control.ErrContactNotFound
	}
	return a, nil
}

// chat is the chat of the path: a person's or a group's.
func (c *call) chat() (whatisup.Address, error) {
	a, ok := whatisup.ParseAddress(c.sub)
	if !ok {
		return "", control.ErrContactNotFound
	}
	return a, nil
}

// listOf reads a list of strings; nil with ok false where it is missing or is none.
func listOf(b *input.Object, name string, required bool, most int) (list []string, ok bool) {
	raw, there := b.Take(name)
	if !there {
		if required {
			b.Problem(name, "is required")
		}
		return nil, false
	}
	var values []*string
	if err := json.Unmarshal(raw, &values); err != nil || values == nil || slices.Contains(values, nil) {
		b.Problem(name, "must be a list of strings")
		return nil, false
	}
	if len(values) == 0 || len(values) > most {
		b.Problem(name, fmt.Sprintf("must have 1 to %d entries", most))
		return nil, false
	}
	for _, v := range values {
		list = append(list, *v)
	}
	return list, true
}

// people reads a list of persons, in whatever form each is named.
func people(b *input.Object, name string, required bool, most int) (list []whatisup.Address) {
	all, ok := listOf(b, name, required, most)
	if !ok {
		return nil
	}
	for n, s := range all {
		a, ok := whatisup.ParseAddress(s)
		if !ok || a.IsGroup() {
			b.Problem(fmt.Sprintf("%s[%d]", name, n), "must be a phone number or a contact")
			continue
		}
		list = append(list, a)
	}
	return list
}

// words reads a text of at most so many characters; nil if it is missing.
func words(b *input.Object, name string, required bool, least, most int) *string {
	s, ok := b.Text(name, required)
	if !ok {
		return nil
	}
	if n := utf8.RuneCountInString(s); n < least || n > most {
		b.Problem(name, fmt.Sprintf("must have %d to %d characters", least, most))
		return nil
	}
	return &s
}

// choice reads one of a set; nil if it is missing.
func choice[S ~string](b *input.Object, name string, required bool, set []S) *S {
	s, ok := b.Text(name, required)
	if !ok {
		return nil
	}
	v := S(s)
	if !slices.Contains(set, v) {
		b.Problem(name, "must be one of "+join(set))
		return nil
	}
	return &v
}
