package httpapi

import (
	"fmt"
	"net/http"

	"whatisup/shared/whatisup"
)

func checkContacts(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	queries, _ := listOf(b, "phone_numbers", true, whatisup.CheckedMost)
	numbers := make([]whatisup.PhoneNumber, len(queries))
	for n, q := range queries {
		a, ok := whatisup.ParseAddress(q)
		number, person := a.Number()
		if numbers[n] = number; !ok || !person {
			b.Problem(fmt.Sprintf("phone_numbers[%d]", n), "must be a phone number with its country code: 7 to 15 digits that don't begin with 0")
		}
	}
	if err := b.Done(); err != nil {
		return nil, err
	}
	return c.idempotent(b, func(*claim) (*answer, error) {
		found, err := c.control.CheckNumbers(c.ctx, c.who(), c.instance, numbers)
		if err != nil {
			return nil, err
		}
		var list struct {
			Data []whatisup.CheckedWire `json:"data"`
		}
		for n, f := range found {
			list.Data = append(list.Data, f.Wire(queries[n]))
		}
		return reply(http.StatusOK, list), nil
	})
}

func listContacts(c *call) (*answer, error) { return c.askPage(whatisup.ContactsList) }

func getContact(c *call) (*answer, error) {
	a, err := c.contact()
	if err != nil {
		return nil, err
	}
	return c.contactDetails(whatisup.ContactGet, whatisup.ContactArgs{Contact: a})
}

func getProfile(c *call) (*answer, error) {
	return c.profile(whatisup.ProfileGet, whatisup.NoArgs{})
}

func updateProfile(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	args := whatisup.ProfileArgs{
		Name:  words(b, "name", false, 1, whatisup.MaxProfileName),
		About: words(b, "about", false, 0, whatisup.MaxAbout),
	}
	picture := readPicture(b)
	if err := b.Done(); err != nil {
		return nil, err
	}
	if args.Picture, err = c.setPicture(picture); err != nil {
		return nil, err
	}
	if args == (whatisup.ProfileArgs{}) {
		return getProfile(c)
	}
	return c.profile(whatisup.ProfileUpdate, args)
}

func listBlocks(c *call) (*answer, error) { return c.askPage(whatisup.BlocksList) }

func blockContact(c *call) (*answer, error)   { return c.setBlock(true) }
func unblockContact(c *call) (*answer, error) { return c.setBlock(false) }

func (c *call) setBlock(blocked bool) (*answer, error) {
	a, err := c.contact()
	if err != nil {
		return nil, err
	}
	if _, err := c.emptyBody(); err != nil {
		return nil, err
	}
	return c.ask(http.StatusNoContent, whatisup.BlockSet, whatisup.BlockArgs{Contact: a, Blocked: blocked})
}
