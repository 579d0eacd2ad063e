// Package fleet decides which shards this host owns, and says so to whatever
// runs them. It knows nothing of WhatsApp.
//
// # Who is authoritative
//
// The lease row of a shard says who owns it: owner, epoch, and a counter that
// the owner raises every [Timing].Renew. No clocks are compared. Another host may
// claim the shard when it has itself watched the counter stand still for
// [Timing].Takeover; the claim writes the next epoch, and everything that the
// former owner still tries to write names the old one and fails.
//
// The owner doesn't wait to be told. It trusts its lease for [Timing].Trust,
// counted from before the renewal that succeeded was sent, on a clock that does
// not stop while the machine or the process does. Renew < Trust < Takeover, so
// that an owner that can't renew has stopped by itself before anybody else may
// begin. [New] refuses timings for which that doesn't hold.
//
// # An ownership
//
// A [Tenure] is one unbroken ownership of one shard, with one epoch. It ends in
// one of two ways. It is given up: its context ends, the runner closes and
// flushes while the lease is still held and renewed, returns, and only then is
// the lease released, so that the next owner finds everything done. Or it is
// lost, because the lease ran out or somebody else has it: then the functions
// that were registered with [Tenure.OnLost] run first, at once, and close what
// could still speak to the outside; the context ends after them, with the cause
// [ErrLost], and nothing is released.
//
// What must not happen without ownership asks [Tenure.Trusted] immediately
// before: the functions of OnLost may be late in a process that was stopped and
// has just been woken.
//
// # Assignment
//
// Nobody assigns; hosts pull. A new host waits [Timing].Settle, then claims at
// most one shard every [Timing].ClaimEvery up to its share, which is the shards
// divided by the hosts whose counters are seen to rise, rounded up. Of several
// hosts below their share the one with the fewest shards comes first. A shard
// that has been free for [Timing].FreeForAll may be claimed by anybody. A host
// well above its share gives shards up, one after the other, each when the last
// one is up with its new owner. Nothing is stolen from a live host.
//
// A host that finds a lease in its own name, from the process that had the name
// before, takes it over at once: whoever starts hosts must see to it that a name
// is used by one process at a time.
//
// # The end
//
// When the context of [Fleet.Run] ends, the host drains: it tells the others,
// claims nothing, and gives up shard by shard, the next one when the last one is
// up with its new owner or after [Timing].Handover. While anybody drains, the
// others look every [Timing].LookFast. A host that is alone gives up everything
// at once. Run returns when nothing is owned and its last goroutine has ended.
package fleet
