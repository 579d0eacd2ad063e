// Package session runs instances: each with work to do is one goroutine that
// pairs, connects, reconnects, and gives links up, with one WhatsApp client at a
// time.
//
// # Who is authoritative
//
// What is wanted of an instance stands in its row and is written by the API
// alone; what was found and done is written by its session alone, and only while
// the shard's tenure lasts. A session therefore begins by adopting the instance,
// acts on what it reads, and reads again whenever it is woken. A wake-up carries
// nothing, so losing one costs latency: [Runner] looks through the shard every
// fifteen seconds, and starts or wakes what has something to do. A session ends
// when there is nothing to do; an instance that is neither linked nor being
// paired costs no goroutine.
//
// After a claim all sessions of a shard begin at one moment. They adopt their
// instances a few at a time and log in by the resuming budget, but whoever is
// asked for has a turn at once: neither other sessions that come back, nor a pause
// after a failure, nor commands that take long are in the way of a wake-up.
//
// The order of duties is fixed: first every link that is given up is unlinked
// and wiped, then what is wanted is honoured. An attempt to pair is begun only if
// no attempt of its generation has ended.
//
// # The connection
//
// A session's connection is our own net.Conn under the client. It asks the
// tenure before each read and write, and after each read, whether this process
// may still act: a process that was stopped and woken finds its connections dead
// before it can say anything. When the tenure is lost the connection is closed
// directly; nothing ever waits for the library's Disconnect, which can block.
//
// The library reconnects nothing by itself here. Every end of a connection comes
// to the session, which decides: at once after the restart that WhatsApp asks for
// (515), by the reconnecting budget after a loss, not before its end after a ban,
// never after the link is gone. A connection that says nothing for one keepalive
// counts as lost. A connection that does not become a login within
// [Timing].Login is closed: the library only logs some of the failures on the way.
//
// # What is acknowledged
//
// The handler of a message returns after its event is on the queues, in the log,
// and out of the buffer, in this order; only then does the library acknowledge.
// A crash in between leads to redelivery with the same event id. When anything
// of it fails, or the handler panics, the connection is closed before the
// handler returns, so that no acknowledgement can leave.
//
// # What may be lost
//
// A link whose first login was not seen by the host that paired it is unfinished:
// the next host unlinks it as far as it can, wipes it, and says
// pairing_interrupted. Events are not lost: they are committed with the change
// they tell of, stay beside it until the queues have them, and adoption sends
// what a dead host left. Back-off and the memory of having been replaced are the
// process's own, and begin anew with the next owner.
package session
