package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"

	"whatisup/shared/whatisup"
)

// List lists the caller's instances, newest first, beginning below the id before
// (empty: at the newest). about says how many the caller expects to take.
func (c *Control) List(ctx context.Context, who Caller, before whatisup.InstanceID, about int) iter.Seq2[Instance, error] {
	return func(yield func(Instance, error) bool) {
		for i, err := range c.Store.Instances(ctx, who.Customer.ID, who.Mode, before, about) {
			var shown Instance
			if err == nil {
				shown, err = c.Show(ctx, i)
			}
			if !yield(shown, err) || err != nil {
				return
			}
		}
	}
}

// Create makes an instance. An integration command that is delivered twice has
// one record, so it makes one instance.
func (c *Control) Create(ctx context.Context, who Caller, name string, metadata json.RawMessage, seal Seal[Instance]) (Instance, error) {
	id := whatisup.NewInstanceID()
	i := &whatisup.Instance{
		Config: whatisup.Config{
			Customer: who.Customer.ID, Mode: who.Mode, ID: id, Name: name, Metadata: metadata,
			Version: 1, UpdatedAt: id.CreatedAt(),
		},
		Observed: whatisup.Observed{Status: whatisup.Pending, Since: id.CreatedAt(), UpdatedAt: id.CreatedAt()},
	}
	made := Instance{i, whatisup.View(i, whatisup.Owner{Seen: c.Now()}, c.Now())}
	e, err := c.Event(who, whatisup.InstanceCreated, id, made.Wire())
	if err != nil {
		return Instance{}, err
	}
	record, err := seal.record(made)
	if err != nil {
		return Instance{}, err
	}

	err = c.Store.CreateInstance(ctx, i.Config, whatisup.Created{
		Event: e, Record: record, MaxInstances: cmp.Or(who.Customer.MaxInstances, c.MaxInstances),
	})
	if errors.Is(err, whatisup.ErrTooMany) {
		return Instance{}, ErrInstanceLimit
	}
	if errors.Is(err, whatisup.ErrSuspended) {
		return Instance{}, ErrSuspended
	}
	if err != nil {
		return Instance{}, err
	}
	c.publish(ctx, who, i, e)
	return made, nil
}

// Update changes the name, the metadata or both; nil leaves one alone. matches
// says whether the caller accepts the version that is to be changed.
func (c *Control) Update(ctx context.Context, who Caller, i *whatisup.Instance, name *string, metadata json.RawMessage, matches func(*whatisup.Instance) bool) (Instance, error) {
	for try := 1; ; try++ {
		if !matches(i) {
			return Instance{}, ErrModified
		}
		cfg := i.Config
		var changed []string
		if name != nil && *name != cfg.Name {
			cfg.Name = *name
			changed = append(changed, "name")
		}
		if metadata != nil && string(metadata) != string(metadataOf(cfg)) {
			cfg.Metadata = metadata
			changed = append(changed, "metadata")
		}
		was, err := c.Show(ctx, i)
		if err != nil || len(changed) == 0 {
			return was, err
		}

		cfg.UpdatedAt = whatisup.At(c.Now()).Time
		e, err := c.Event(who, whatisup.InstanceUpdated, cfg.ID, whatisup.UpdatedData{
			Changed: changed, Status: was.Shown.Status, Reason: was.Shown.Reason,
		})
		if err != nil {
			return Instance{}, err
		}
		err = c.Store.UpdateConfig(ctx, i, cfg, e)
		if newer, err := c.again(ctx, who, i, try, err); err != nil {
			return Instance{}, err
		} else if newer != nil {
			i = newer
			continue
		}
		updated := *i
		updated.Config = cfg
		updated.Config.Version++
		c.publish(ctx, who, &updated, e)
		return c.Show(ctx, &updated)
	}
}

func metadataOf(cfg whatisup.Config) json.RawMessage {
	if len(cfg.Metadata) == 0 {
		return json.RawMessage("{}")
	}
	return cfg.Metadata
}

// maxBoundRevoked is how many keys are revoked in the transaction that deletes
// their instance, which may write a hundred rows. More are revoked before it.
const maxBoundRevoked = 40

// Delete deletes an instance and revokes the keys that are bound to it. Its last event
// is told when its host, if it has one, has nothing more to tell of it.
func (c *Control) Delete(ctx context.Context, who Caller, i *whatisup.Instance, seal Seal[struct{}]) error {
	for try := 1; ; try++ {
		shown, err := c.Show(ctx, i)
		if err != nil {
			return err
		}
		e, err := c.Event(who, whatisup.InstanceDeleted, i.Config.ID, shown.Wire())
		if err != nil {
			return err
		}
		var also whatisup.Deleted
		if also.Bound, err = c.boundKeys(ctx, who, i.Config.ID); err != nil {
			return err
		}
		if also.Record, err = seal.record(struct{}{}); err != nil {
			return err
		}

		err = c.Store.DeleteInstance(ctx, i, e, &also)
		if newer, err := c.again(ctx, who, i, try, err); err != nil {
			return err
		} else if newer != nil {
			i = newer
			continue
		}
		deleted := *i
		deleted.DeletedAt = c.Now()
		if !i.HostTells() {
			c.publish(ctx, who, &deleted, e)
		}
		c.wake(ctx, who, i)
		return nil
	}
}

// boundKeys returns up to maxBoundRevoked keys that are bound to the instance,
// for the transaction that deletes it. Any further ones are revoked right away.
func (c *Control) boundKeys(ctx context.Context, who Caller, id whatisup.InstanceID) ([]whatisup.APIKey, error) {
	var bound []whatisup.APIKey
	for k, err := range c.Store.Keys(ctx, who.Customer.ID, who.Mode) {
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
		if err := c.Store.RevokeKey(ctx, k.Customer, k.Mode, k.ID); err != nil && !errors.Is(err, whatisup.ErrNotFound) {
			return nil, err
		}
	}
	return bound, nil
}
