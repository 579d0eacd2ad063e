package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"whatisup/shared/whatisup"
)

// InstancesFunction is the handler of the function of that name, and of whatever has no
// function of its own.
func (a *API) InstancesFunction() http.Handler {
	return &function{a, FunctionInstances, map[string]operation{
		"getRoot":            getRoot,
		"getOpenAPI":         getOpenAPI,
		"getDocs":            getDocs,
		"listInstances":      listInstances,
		"createInstance":     createInstance,
		"getInstance":        getInstance,
		"updateInstance":     updateInstance,
		"deleteInstance":     deleteInstance,
		"getInstanceStatus":  getStatus,
		"connectInstance":    connect,
		"disconnectInstance": disconnect,
		"logoutInstance":     logout,
	}}
}

// page is one page of a list. Next is left out where the contract leaves it out.
type page struct {
	Data []json.RawMessage `json:"data"`
	Next *next             `json:"next_cursor,omitempty"`
}

// next is a cursor, or null at the end.
type next string

func (n next) MarshalJSON() ([]byte, error) {
	if n == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(n))
}

// maxLimit is the most that a page may be asked for.
const maxLimit = 1000

// A list is cut before it outgrows what Lambda can answer with: 6 MB, after the
// whole body has become a JSON string.
const (
	maxList       = 5 << 20
	maxListString = 5800 << 10
)

// listSize counts what a list will weigh.
type listSize struct{ plain, quoted int }

// add counts one element in, or answers false if it has no room.
func (s *listSize) add(b []byte) bool {
	plain, quoted := s.plain+len(b)+1, s.quoted+len(b)+1
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"' || c == '\\':
			quoted++
		case c == '<' || c == '>' || c == '&' || c < 0x20:
			quoted += 5
		case c == 0xe2 && i+2 < len(b) && b[i+1] == 0x80: // perhaps a line separator, which becomes six bytes
			quoted += 3
		}
	}
	if plain > maxList || quoted > maxListString {
		return false
	}
	s.plain, s.quoted = plain, quoted
	return true
}

func listInstances(c *call) (*answer, error) {
	q, err := c.readQuery()
	if err != nil {
		return nil, err
	}
	limit := q.number("limit", maxLimit)
	statuses := oneOf(q, "status", whatisup.Statuses)
	detail := q.includesStatus()
	bound := []string{"instances", string(c.customer()), string(c.mode()), join(statuses)}
	var before whatisup.InstanceID
	cursor, paged := q.get("cursor")
	if paged {
		id, ok := c.seal.open(cursor, bound...)
		if !ok {
			q.problem("cursor", "is not a cursor of this list")
		}
		before = whatisup.InstanceID(id)
	}
	if err := q.done(); err != nil {
		return nil, err
	}
	about := 0
	if limit > 0 {
		about = limit + 1
	}
	list := page{Data: []json.RawMessage{}}
	var last whatisup.InstanceID // of those that this page is done with
	var size listSize
	read, cut := 0, false
	for i, err := range c.Store.Instances(c.ctx, c.customer(), c.mode(), before, about) {
		if err != nil {
			return nil, err
		}
		if cut = limit > 0 && read == limit; cut {
			break
		}
		shown, err := c.view(i)
		if err != nil {
			return nil, err
		}
		if len(statuses) == 0 || slices.Contains(statuses, shown.Status) {
			b, err := encode(wire(i, shown, detail))
			if err != nil {
				return nil, err
			}
			if cut = !size.add(b); cut {
				break
			}
			list.Data = append(list.Data, b)
		}
		last = i.Config.ID
		read++
	}
	if limit > 0 || paged || cut {
		list.Next = new(next)
	}
	if cut {
		*list.Next = next(c.seal.make(string(last), bound...))
	}
	return reply(http.StatusOK, list), nil
}

func wire(i *whatisup.Instance, s whatisup.Shown, detail bool) whatisup.Wire {
	w := whatisup.WireOf(i, s)
	if detail {
		w.StatusDetail = &s.Detail
	}
	return w
}

func createInstance(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	name, _ := b.name(true)
	metadata, _ := b.metadata()
	if err := b.done(); err != nil {
		return nil, err
	}
	return c.once(b, func(o *once) (*answer, error) {
		return c.create(name, metadata, "", o)
	})
}

// create makes an instance. command is the integration command that asked for
// it, if one did; its instance has an id of its own, so that the command makes
// one however often it is delivered.
func (c *call) create(name string, metadata json.RawMessage, command whatisup.CommandID, o *once) (*answer, error) {
	id := whatisup.NewInstanceID()
	i := &whatisup.Instance{
		Config: whatisup.Config{
			Customer: c.customer(), Mode: c.mode(), ID: id, Name: name, Metadata: metadata,
			Version: 1, UpdatedAt: id.CreatedAt(),
		},
		Observed: whatisup.Observed{Status: whatisup.Pending, Since: id.CreatedAt(), UpdatedAt: id.CreatedAt()},
	}
	w := whatisup.WireOf(i, whatisup.View(i, c.now(), c.now()))
	e, err := c.event(whatisup.InstanceCreated, id, w)
	if err != nil {
		return nil, err
	}
	e.Command = command
	a := reply(http.StatusCreated, w).set("Location", "/v1/instances/"+string(id)).set("ETag", etag(i))
	record, err := o.with(a)
	if err != nil {
		return nil, err
	}
	err = c.Store.CreateInstance(c.ctx, i.Config, whatisup.Created{
		Event: e, Once: record, MaxInstances: c.caller.customer.MaxInstances,
	})
	if errors.Is(err, whatisup.ErrTooMany) {
		if o != nil {
			o.completed = false
		}
		return nil, errInstanceLimit
	}
	if err != nil {
		return nil, err
	}
	c.log = c.log.With("instance_id", string(id))
	c.publish(i, e)
	return a, nil
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
	shown, err := c.view(c.instance)
	if err != nil {
		return nil, err
	}
	return reply(http.StatusOK, wire(c.instance, shown, detail)).set("ETag", etag(c.instance)), nil
}

// etag counts changes of name and metadata, and of nothing else.
func etag(i *whatisup.Instance) string {
	return `"` + strconv.FormatUint(i.Config.Version, 10) + `"`
}

// matches says whether an If-Match header lets a change of i through.
func matches(values []string, i *whatisup.Instance) bool {
	if len(values) == 0 {
		return true
	}
	for tag := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == etag(i) {
			return true
		}
	}
	return false
}

// changeTries is how often a change is made anew on what somebody else has
// changed meanwhile.
const changeTries = 8

// again says what follows a write on the call's instance as it was read: another
// try, on the instance as it stands now, or the end.
func (c *call) again(try int, err error) (bool, error) {
	switch {
	case errors.Is(err, whatisup.ErrConflict) && try < changeTries:
		c.instance, err = c.find(string(c.instance.Config.ID))
		return err == nil, err
	case errors.Is(err, whatisup.ErrNotFound):
		return false, errInstanceNotFound
	}
	return false, err
}

func updateInstance(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	name, hasName := b.name(false)
	metadata, hasMetadata := b.metadata()
	if !b.has("name") && !b.has("metadata") {
		b.problem("body", "must have name or metadata")
	}
	if err := b.done(); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		i := c.instance
		if !matches(c.r.Header.Values("If-Match"), i) {
			return nil, errModified
		}
		cfg := i.Config
		var changed []string
		if hasName && name != cfg.Name {
			cfg.Name = name
			changed = append(changed, "name")
		}
		if was := metadataOf(cfg); hasMetadata && string(metadata) != string(was) {
			cfg.Metadata = metadata
			changed = append(changed, "metadata")
		}
		shown, err := c.view(i)
		if err != nil {
			return nil, err
		}
		if len(changed) > 0 {
			cfg.UpdatedAt = whatisup.At(c.now()).Time
			e, err := c.event(whatisup.InstanceUpdated, cfg.ID, whatisup.UpdatedData{
				Changed: changed, Status: shown.Status, Reason: shown.Reason,
			})
			if err != nil {
				return nil, err
			}
			if again, err := c.again(try, c.Store.UpdateConfig(c.ctx, i, cfg, e)); again {
				continue
			} else if err != nil {
				return nil, err
			}
			cfg.Version = i.Config.Version + 1
			updated := *i
			updated.Config = cfg
			c.publish(&updated, e)
			if shown, err = c.view(&updated); err != nil {
				return nil, err
			}
			i = &updated
		}
		return reply(http.StatusOK, wire(i, shown, false)).set("ETag", etag(i)), nil
	}
}

func metadataOf(cfg whatisup.Config) json.RawMessage {
	if len(cfg.Metadata) == 0 {
		return json.RawMessage("{}")
	}
	return cfg.Metadata
}

func deleteInstance(c *call) (*answer, error) {
	return c.remove("", nil)
}

// maxBoundRevoked is how many bound keys end within the transaction that deletes
// their instance, which may write a hundred rows. The rest end before.
const maxBoundRevoked = 40

// remove deletes the call's instance.
func (c *call) remove(command whatisup.CommandID, o *once) (*answer, error) {
	a := reply(http.StatusNoContent, nil)
	for try := 1; ; try++ {
		i := c.instance
		shown, err := c.view(i)
		if err != nil {
			return nil, err
		}
		e, err := c.event(whatisup.InstanceDeleted, i.Config.ID, whatisup.WireOf(i, shown))
		if err != nil {
			return nil, err
		}
		e.Command = command
		also := &whatisup.Deleted{}
		if also.Bound, err = c.boundKeys(i.Config.ID); err != nil {
			return nil, err
		}
		if also.Once, err = o.with(a); err != nil {
			return nil, err
		}
		if again, err := c.again(try, c.Store.DeleteInstance(c.ctx, i, e, also)); again {
			continue
		} else if err != nil {
			return nil, err
		}
		deleted := *i
		deleted.DeletedAt = c.now()
		c.publish(&deleted, e)
		c.wake(i)
		return a, nil
	}
}

// boundKeys lists the keys that end with an instance: as many as one transaction
// can end; the rest is ended here.
func (c *call) boundKeys(id whatisup.InstanceID) ([]whatisup.APIKey, error) {
	var bound []whatisup.APIKey
	for k, err := range c.Store.Keys(c.ctx, c.customer(), c.mode()) {
		if err != nil {
			return nil, err
		}
		if k.Instance != id {
			continue
		}
		if len(bound) < maxBoundRevoked {
			bound = append(bound, k)
			continue
		}
		if err := c.Store.RevokeKey(c.ctx, k.Customer, k.Mode, k.ID); err != nil && !errors.Is(err, whatisup.ErrNotFound) {
			return nil, err
		}
	}
	return bound, nil
}

// event is an event of this call's making.
func (c *call) event(name whatisup.EventName, id whatisup.InstanceID, data any) (whatisup.Event, error) {
	b, err := encode(data)
	if err != nil {
		return whatisup.Event{}, err
	}
	e, err := whatisup.NewEvent(name, c.customer(), c.mode(), id, c.now(), nil)
	e.Data = b
	return e, err
}

// publishFor bounds the sending of an event within a call. What does not get
// out in time stays noted beside the instance, and its host sends it.
const publishFor = 2 * time.Second

// publish sends an event that was committed with a change of i to the queues.
func (c *call) publish(i *whatisup.Instance, e whatisup.Event) {
	if c.Events == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), publishFor)
	defer cancel()
	noted := *i
	noted.Unsent = append(slices.Clone(i.Unsent), e)
	err := c.Events.Send(ctx, noted.Unsent...)
	if err == nil {
		err = c.Store.Sent(ctx, &noted)
	}
	if err != nil {
		c.log.Warn("event left to the session host", "event_id", string(e.ID), "error", err)
	}
}

// wake tells the host of the instance that there is something to do. If it gets
// lost the host finds out by itself, a little later.
func (c *call) wake(i *whatisup.Instance) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), publishFor)
	defer cancel()
	err := c.Commands.Send(ctx, i.Shard, whatisup.Command{
		ID: whatisup.NewCommandID(), Kind: whatisup.Wake,
		Customer: i.Config.Customer, Mode: i.Config.Mode, Instance: i.Config.ID,
		RequestID: c.id, SentAt: whatisup.At(c.now()),
	})
	if err != nil {
		c.log.Warn("wake-up not sent", "error", err)
	}
}

// sleep waits, or ends with the caller's patience.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
