package whatisup

import (
	"hash/fnv"
	"time"
)

// DefaultShardCount is how many shards a deployment has unless its first deploy
// said otherwise. It can't be changed afterwards: an instance's shard is a
// function of its id.
const DefaultShardCount = 16

// Shard is the number of a shard within its mode, from 0 to ShardCount-1.
type Shard int

// ShardOf is the shard that an instance belongs to for as long as it lives.
func ShardOf(id InstanceID, count int) Shard {
	h := fnv.New32a()
	h.Write([]byte(id))
	return Shard(h.Sum32() % uint32(count))
}

// Epoch counts the owners that a shard has had. Every write of a host names
// the epoch of its ownership, and fails once another host has a higher one.
type Epoch uint64

// OwnerLost is how long a shard's owner may be silent before what it said last
// is no longer shown as the present.
const OwnerLost = 30 * time.Second

// Lease is what a reader may know of a shard's ownership. It changes when it is
// claimed, up and released; between these its owner's beats keep it. Times are
// wall clock and for display; who owns what is decided inside the fleet, without
// clocks.
type Lease struct {
	Shard   Shard
	Owner   string // host id; empty while nobody owns it
	Epoch   Epoch
	Counter uint64    // of its changes
	AliveAt time.Time // of its last change
	// Since is when it was claimed, if the owner before had not just handed it over;
	// else zero.
	Since time.Time
	Up    bool // every linked session of the shard has been started since the claim
}

// HandOver is how long after a shard was given up a claim of it still is a hand-over.
const HandOver = 10 * time.Second

// Silence is a shard that nobody acts for, as it was read.
type Silence struct {
	Lease Lease
	Owner Host      // of the lease; zero if it is not on the list
	Seen  time.Time // the last sign of life
}

// Owner is what is known of the owner of a shard.
type Owner struct {
	// Seen is when it was last alive; zero: never.
	Seen time.Time
	// Since is that of its [Lease]: what was stored before says nothing of a
	// connection any more.
	Since time.Time
}
