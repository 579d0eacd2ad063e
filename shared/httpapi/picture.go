package httpapi

import (
	"encoding/json"
	"net/http"

	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

// contactDetails, profile and groupDetails answer with what WhatsApp says, and with the
// file of its picture.

func (c *call) contactDetails(kind whatisup.CommandKind, args any) (*answer, error) {
	var d whatisup.ContactDetails
	return c.askPictured(kind, args, &d, func() (string, *whatisup.Pictured) { return d.Chat, &d.Pictured })
}

func (c *call) profile(kind whatisup.CommandKind, args any) (*answer, error) {
	var p whatisup.Profile
	return c.askPictured(kind, args, &p, func() (string, *whatisup.Pictured) { return string(p.Person().Chat()), &p.Pictured })
}

func (c *call) groupDetails(kind whatisup.CommandKind, args any) (*answer, error) {
	var g whatisup.Group
	return c.askPictured(kind, args, &g, func() (string, *whatisup.Pictured) { return g.Chat, g.Pictured })
}

// askPictured reads the answer into a value; pictured then says whose picture it has.
func (c *call) askPictured(kind whatisup.CommandKind, args, into any, pictured func() (of string, p *whatisup.Pictured)) (*answer, error) {
	raw, err := c.control.Ask(c.ctx, c.who(), c.instance, kind, (*claim)(nil).change(), args)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return nil, err
	}
	of, p := pictured()
	if p != nil && p.Picture != nil {
		m, err := c.control.PictureFile(c.ctx, c.instance, whatisup.Address(of), p.Picture.ID)
		if err != nil {
			return nil, err
		}
		w := c.mediaWire(m)
		p.Picture.Media = &w
	}
	return reply(http.StatusOK, into), nil
}

// readPicture reads the file that is to be the picture: nil if there is no such field,
// empty if it is null.
func readPicture(b *input.Object) *string {
	raw, ok := b.Take("picture")
	if !ok {
		return nil
	}
	id := new(string)
	if string(raw) != "null" && (json.Unmarshal(raw, id) != nil || *id == "") {
		b.Problem("picture", "must be the media_id of a file, or null to remove the picture")
	}
	return id
}

// setPicture checks that file.
func (c *call) setPicture(id *string) (*whatisup.SetPicture, error) {
	switch {
	case id == nil:
		return nil, nil
	case *id == "":
		return &whatisup.SetPicture{}, nil
	}
	return c.control.PictureToSet(c.ctx, c.who(), "picture", *id)
}
