// Package host puts a session host together: the fleet that says which shards
// are its own, the sessions that run in them, and the tables, queues and keys
// under both. The program sessionhost runs it as a process, the local stack in
// its own.
//
// # The life of a host
//
// [Run] claims shards, runs their sessions, and shows its health on one HTTP
// listener until its context ends. Then it drains: no more claims, shard after
// shard is closed, flushed and released, and Run returns when the last goroutine
// has ended. What can't be interrupted, a handshake that the library waits for
// and a poll that is open, is waited for last, and not for long; neither can act
// any more by then.
//
// The beats that keep the leases have an HTTP client of their own, without the
// SDK's retries: a beat must not wait behind anything, and a late one is worth
// nothing.
//
// # Modes
//
// A host serves one mode. The library keeps the root key that authenticates
// WhatsApp in a variable of the process, so a process that trusts a simulator
// must never meet a real link: sandbox settings are refused in live mode, and
// live mode is refused in a process that trusts another root.
//
// # The client's version
//
// WhatsApp refuses web clients that are too old, all at once. A live host begins
// with the newest version that a host before it had learned and kept in the fleet
// table, or the library's own if that is newer, and asks WhatsApp for a newer one
// while it runs. Only a deployment that never learned a version asks before it
// claims its first shard, for ten seconds at most.
package host
