package httpapi

import (
	"context"
	"net/http"

	"whatisup/shared/control"
	"whatisup/shared/whatisup"
)

func getStatus(c *call) (*answer, error) {
	shown, err := c.control.Show(c.ctx, c.instance)
	if err != nil {
		return nil, err
	}
	return reply(http.StatusOK, shown.Shown.Detail), nil
}

func connect(c *call) (*answer, error)    { return c.change(c.control.Connect) }
func disconnect(c *call) (*answer, error) { return c.change(c.control.Disconnect) }
func logout(c *call) (*answer, error)     { return c.change(c.control.Logout) }

// change serves a POST without fields that changes what is wanted.
func (c *call) change(do func(context.Context, control.Caller, *whatisup.Instance, control.Seal[whatisup.Shown]) (whatisup.Shown, error)) (*answer, error) {
	b, err := c.readBody()
	if err == nil {
		err = b.Done()
	}
	if err != nil {
		return nil, err
	}
	return c.idempotent(b, func(r *claim) (*answer, error) {
		return sealed(r, statusAnswer, func(seal control.Seal[whatisup.Shown]) (whatisup.Shown, error) {
			return do(c.ctx, c.who(), c.instance, seal)
		})
	})
}

func statusAnswer(s whatisup.Shown) *answer { return reply(http.StatusAccepted, s.Detail) }
