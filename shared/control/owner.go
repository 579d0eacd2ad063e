package control

import (
	"context"
	"sync"
	"time"

	"whatisup/shared/whatisup"
)

// beatsKept is how long the beats of the shards' owners are trusted without
// another read, and lostKept how long if they say that the owner of a session is
// lost: a host that has just come up must not be overlooked for long.
const (
	beatsKept = 5 * time.Second
	lostKept  = 300 * time.Millisecond
)

// owners remembers when the owner of each shard was last alive.
type owners struct {
	mu    sync.Mutex
	modes map[whatisup.Mode]beats
}

type beats struct {
	readAt time.Time
	seen   []whatisup.Owner // by shard
}

// of is what is known of the owner of a shard.
func (b beats) of(s whatisup.Shard) whatisup.Owner {
	if int(s) >= len(b.seen) {
		return whatisup.Owner{}
	}
	return b.seen[s]
}

// owner is what is known of the owner of a shard.
func (c *Control) owner(ctx context.Context, m whatisup.Mode, s whatisup.Shard) (whatisup.Owner, error) {
	now := c.Now()
	c.owners.mu.Lock()
	b := c.owners.modes[m]
	c.owners.mu.Unlock()
	age := now.Sub(b.readAt)
	if age < lostKept || age < beatsKept && now.Sub(b.of(s).Seen) <= whatisup.OwnerLost {
		return b.of(s), nil
	}

	seen, err := c.Store.OwnersAlive(ctx, m)
	if err != nil {
		return whatisup.Owner{}, err
	}
	b = beats{readAt: now, seen: seen}
	c.owners.mu.Lock()
	defer c.owners.mu.Unlock()
	if c.owners.modes == nil {
		c.owners.modes = map[whatisup.Mode]beats{}
	}
	c.owners.modes[m] = b
	return b.of(s), nil
}

// Instance is an instance as it is stored and as its customer is shown it.
type Instance struct {
	*whatisup.Instance
	Shown whatisup.Shown
}

// Wire is the instance object of the contract.
func (i Instance) Wire() whatisup.Wire { return whatisup.WireOf(i.Instance, i.Shown) }

// Show is what a customer is shown of an instance at this moment.
func (c *Control) Show(ctx context.Context, i *whatisup.Instance) (Instance, error) {
	owner, err := c.owner(ctx, i.Config.Mode, i.Shard)
	if err != nil {
		return Instance{}, err
	}
	return Instance{i, whatisup.View(i, owner, c.Now())}, nil
}
