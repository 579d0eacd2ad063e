// Package session runs instances: each with work to do is one goroutine that
// pairs, connects, reconnects, unlinks, and runs the commands that need its
// connection, with one line to WhatsApp at a time.
//
// # Who is authoritative
//
// What is wanted of an instance is in its row and is written by the API alone.
// What was found and done is written by its session alone, and only while the
// shard's tenure lasts. A session therefore begins by adopting the instance, acts
// on what it reads, and reads again whenever it is woken. A session ends when
// there is nothing to do; an instance that is neither linked nor being paired
// costs no goroutine.
//
// After a claim all sessions of a shard begin at one moment. They adopt their
// instances a few at a time and log in by the resuming budget. An instance that
// somebody waits for goes first: neither other sessions that come back, nor a
// pause after a failure, nor slow commands hold up a wake-up.
//
// # Duties
//
// [whatisup.Instance.Duty] decides what there is to do, in a fixed order: first
// every link that is given up is unlinked and wiped, then what is wanted is done.
// An attempt to pair is begun only if no attempt of its generation has ended.
//
// # States
//
// A session stores a state only as one of the steps in whatisup made it
// (Starting, Shows, Linked, Up, Down …). Each step clears what no longer holds,
// and a test holds all of them against the table of legal steps.
//
// # Requests
//
// What the instance is asked to do comes through [Session.Do] into the session's
// inbox, which wait reads. The session decides whether its connection can take the
// command now, and runs it on a goroutine of its own, which ends with the
// connection. So a slow command holds up neither wake-ups nor what the line tells.
//
// # The end of a connection
//
// The library reconnects nothing by itself here. Every end of a connection comes
// to the session as a [line.Ended], and afterEnd decides what follows: at once
// after the restart that WhatsApp asks for (515), by the reconnecting budget after
// a loss, not before its end after a ban, never after the link is gone. A
// connection that misses one keepalive counts as lost. A connection that does not
// become a login within [Timing].Login is closed: the library only logs some of
// the failures on the way.
//
// # What is acknowledged
//
// The handler of a message returns after its event is on the queues, in the log,
// and out of the buffer, in this order; only then does the library acknowledge.
// A crash in between leads to redelivery with the same event id. When anything
// of it fails, the line is shut before the handler returns, so that no
// acknowledgement can leave. A log that takes no rows ends no line: the handler
// waits for it, and what WhatsApp says next waits behind it.
//
// # What may be lost
//
// A link whose first login was not seen by the host that paired it is unfinished:
// the next host unlinks it as far as it can, wipes it, and stores
// pairing_interrupted. Events are not lost: they are committed with the change
// they tell of, stay beside it until the queues have them, and adoption sends
// what a dead host left. Back-off and the memory of having been replaced are the
// process's own, and begin again with the next owner.
package session
