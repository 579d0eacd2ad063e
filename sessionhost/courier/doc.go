// Package courier takes events to the queues: at once where it can, and from the
// log what a queue has missed.
//
// # Who is authoritative
//
// The log has every event. A row never keeps events that are unsent, only marks:
// for each queue that lacks something, the position of the log from which on it
// does. The marks of an instance are written by its owner, under its epoch, so
// they are bounded, whatever happens, and the next owner finds them.
//
// # An event
//
//	from a change of state   committed with the change and one mark for all queues
//	                         → each queue → the mark is removed
//	from a message           → each queue, then the marks of those that failed,
//	                           and at the same time the log → acknowledged
//
// A queue that fails, or is slow, gets a mark and is passed; the other queues, the
// log and the connection go on. A crash between two steps repeats and never omits.
//
// # A debt
//
// While an instance owes a queue, its new events go to the log only, for that
// queue: so their order holds. One round for each customer and queue reads the log
// once for all instances that owe, sends in the order of the log, waits longer and
// longer after each failure, and ends when nobody owes any more. The last stretch
// of an instance is read while none of its events is on the way ([Account] has a
// lock for that), and then the mark is removed.
//
// # The breaker
//
// After a failure a queue is left alone for a while by everybody on this host, so
// that a slow or missing queue costs one waiting event at a time and not each.
//
// # What may happen twice
//
// Delivery is at least once. What was sent and not noted (a lost answer, a death, a
// position of the log that was committed late) is sent again; event_id tells.
package courier
