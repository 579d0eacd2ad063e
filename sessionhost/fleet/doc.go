// Package fleet decides which shards this host owns, and says so to whatever
// runs them. It knows nothing of WhatsApp.
//
// # Who is authoritative
//
// The lease row of a shard says who owns it: owner, epoch, and a counter of its
// changes. It is written when the shard is claimed, up, and released. Between
// these a host's beat keeps all its leases at once: one row a host, whose counter
// rises every [Timing].Renew, with the incarnation, which is a number of the
// process. (A write a lease and beat would be most of what an idle fleet costs.)
//
// The owner doesn't wait to be told that it has lost. It trusts its leases for
// [Timing].Trust, counted from before the last beat that succeeded was sent, or
// the claim if that was later, on a clock that does not stop while the machine or
// the process does. Another host may claim a shard when it has itself watched the
// lease's counter and its owner's counter and incarnation stand still for
// [Timing].Takeover, or the owner's row be absent. The claim's transaction
// requires both as they were seen. It writes the next epoch, and everything that
// the former owner still tries to write names the old one and fails.
//
// # Why no two trust one shard
//
// Say that a shard is claimed from another host at the moment T. At T both rows
// are what the claimer saw at least Takeover earlier. No content of either is ever
// written twice: every claim has its epoch, every change of a lease and every beat
// of an incarnation a number of its own, and a call is carried out once at most.
// So neither row was written in between, and the owner's claim, and every beat that
// succeeded until T, was sent before that sight: the trust that counts from it
// ended before T, because Trust < Takeover. A beat that arrives after T finds
// trust run out, and [Tenure] then lets none begin anew: a lost answer, a slow one
// and a process that was stopped in between are the same case. If the row was
// absent, or another process's, no beat of the process that claimed the lease
// succeeds any more: it left, or lost everything before it joined anew.
//
// The reads of leases and hosts may be stale. What was seen was written before
// that; if it still holds at T it has held for longer, and if not the claim fails.
//
// No clocks are compared. What is assumed of them is their rate: what is
// Takeover by one host's must be longer than Trust by another's, which of 20 s and
// 12 s holds as long as none runs faster than another by two thirds. [New] refuses
// timings in which Trust is no shorter, or would end before a slow beat is answered.
// A host whose clock stood still with it, as that of a machine that was paused may,
// finds the higher epochs at its next look, and loses what they are of; until then
// the epochs alone stop its writes.
//
// # An ownership
//
// A [Tenure] is one unbroken ownership of one shard, with one epoch. It ends in
// one of two ways. It is given up: its context ends, the runner closes and
// flushes while the lease is still held and kept, returns, and only then is
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
// A host claims nothing unless the list shows its own incarnation, so that there
// is a beat to keep what it claims. If it then finds a lease in its own name, of
// the process that had the name before, of a claim whose answer was lost, or of a
// tenure that it lost and nobody took, it claims all of them at once: whoever starts hosts
// must see to it that a name is used by one process at a time. If two use it all
// the same, the later one has it: the earlier one's next beat fails, it loses
// everything at once, and it joins again only when the name has stood still for
// Takeover, or has left the list.
//
// A lost shard whose runner does not return is freed after Takeover, so that the
// beats of its host, which is well otherwise, do not keep it from the others.
//
// # The end
//
// When the context of [Fleet.Run] ends, the host drains: it tells the others,
// claims nothing, and gives up shard by shard, the next one when the last one is
// up with its new owner or after [Timing].Handover. While anybody drains, the
// others look every [Timing].LookFast. A host that is alone gives up everything
// at once. Then it leaves the list. What hung and was not released can be claimed
// when the host has been seen absent for [Timing].Takeover. Run returns when
// nothing is owned and its last goroutine has ended.
package fleet
