package httpapi

import (
	"context"
	"sync"
	"time"

	"whatisup/shared/whatisup"
)

// beatsKept is how long the owners' beats are trusted without being read again,
// and lostKept how long if by them the owner of a live session is lost: a host
// that has just come up is not to be overlooked for long.
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
	seen   []time.Time // by shard
}

// of is when the owner of a shard was last alive, zero for never.
func (b beats) of(s whatisup.Shard) time.Time {
	if int(s) >= len(b.seen) {
		return time.Time{}
	}
	return b.seen[s]
}

// ownerSeen is when the owner of an instance's shard was last alive, zero for
// never.
func (a *API) ownerSeen(ctx context.Context, m whatisup.Mode, s whatisup.Shard) (time.Time, error) {
	now := a.now()
	a.owners.mu.Lock()
	b := a.owners.modes[m]
	a.owners.mu.Unlock()
	age := now.Sub(b.readAt)
	if age >= beatsKept || age >= lostKept && now.Sub(b.of(s)) > whatisup.OwnerLost {
		seen, err := a.Store.OwnersAlive(ctx, m)
		if err != nil {
			return time.Time{}, err
		}
		b = beats{readAt: now, seen: seen}
		a.owners.mu.Lock()
		if a.owners.modes == nil {
			a.owners.modes = map[whatisup.Mode]beats{}
		}
		a.owners.modes[m] = b
		a.owners.mu.Unlock()
	}
	return b.of(s), nil
}

// view is what the caller is shown of an instance at this moment.
func (c *call) view(i *whatisup.Instance) (whatisup.Shown, error) {
	seen, err := c.ownerSeen(c.ctx, i.Config.Mode, i.Shard)
	if err != nil {
		return whatisup.Shown{}, err
	}
	return whatisup.View(i, seen, c.now()), nil
}
