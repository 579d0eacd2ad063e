package httpapi

import (
	"net/http"
	"strconv"
	"strings"

	"whatisup/shared/control"
	"whatisup/shared/whatisup"
)

func wire(i control.Instance, detail bool) whatisup.Wire {
	w := i.Wire()
	if detail {
		w.StatusDetail = &i.Shown.Detail
	}
	return w
}

func createInstance(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	name, _ := b.Name(true)
	metadata, _ := b.Metadata()
	if err := b.Done(); err != nil {
		return nil, err
	}
	return c.idempotent(b, func(r *claim) (*answer, error) {
		return sealed(r, createdAnswer, func(seal control.Seal[control.Instance]) (control.Instance, error) {
			made, err := c.control.Create(c.ctx, c.who(), name, metadata, seal)
			if err == nil {
				c.log = c.log.With("instance_id", string(made.Config.ID))
			}
			return made, err
		})
	})
}

func createdAnswer(i control.Instance) *answer {
	return reply(http.StatusCreated, i.Wire()).
		set("Location", "/v1/instances/"+string(i.Config.ID)).
		set("ETag", etag(i.Instance))
}

func getInstance(c *call) (*answer, error) {
	q, err := c.readQuery()
	if err != nil {
		return nil, err
	}
	detail := q.includesStatus()
	if err := q.done(); err != nil {
		return nil, err
	}
	shown, err := c.control.Show(c.ctx, c.instance)
	if err != nil {
		return nil, err
	}
	return reply(http.StatusOK, wire(shown, detail)).set("ETag", etag(c.instance)), nil
}

// etag counts changes of name and metadata, and of nothing else.
func etag(i *whatisup.Instance) string {
	return `"` + strconv.FormatUint(i.Config.Version, 10) + `"`
}

// matches says whether an If-Match header lets a change of what has this ETag
// through.
func matches(values []string, present string) bool {
	if len(values) == 0 {
		return true
	}
	for tag := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == present {
			return true
		}
	}
	return false
}

func updateInstance(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	var name *string
	if s, ok := b.Name(false); ok {
		name = &s
	}
	metadata, _ := b.Metadata()
	if !b.Has("name") && !b.Has("metadata") {
		b.Problem("body", "must have name or metadata")
	}
	if err := b.Done(); err != nil {
		return nil, err
	}
	updated, err := c.control.Update(c.ctx, c.who(), c.instance, name, metadata, func(i *whatisup.Instance) bool {
		return matches(c.r.Header.Values("If-Match"), etag(i))
	})
	if err != nil {
		return nil, err
	}
	return reply(http.StatusOK, wire(updated, false)).set("ETag", etag(updated.Instance)), nil
}

func deleteInstance(c *call) (*answer, error) {
	if err := c.control.Delete(c.ctx, c.who(), c.instance, nil); err != nil {
		return nil, err
	}
	return reply(http.StatusNoContent, nil), nil
}
