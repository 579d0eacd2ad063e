// Package queue carries commands to session hosts, and events to the world, on
// SQS. It is the only place that knows queues, groups and receipts.
//
// # Commands
//
// Each shard of each mode has one FIFO queue, which only the shard's owner
// polls. Nothing is made, forwarded or cleaned up at run time: what is sent
// while nobody owns the shard waits in its queue for the next owner.
//
// A wake-up says that something wanted of an instance has changed. It carries
// no work: losing one costs latency, since owners reconcile from the rows. It
// carries no order either: its group and deduplication ids are fresh, so that a
// wake-up in the hands of a host that died holds up no other one.
//
// A command with work of its own is sent in the group of its instance, with its
// id for deduplication, and so arrives in order. It has an expiry, after which
// it is dropped, and its effect is idempotent by its id: a FIFO queue delivers a
// message again when the host that had it died, or was slow.
//
// A message is in the receiver's hands for [Visibility]. Whoever can't act on it
// (no longer trusted, draining) gives it back at once with [Commands.Release];
// whoever works longer extends it. A message that was received [MaxReceives]
// times without being deleted goes to the dead-letter queue of the commands, and
// no longer holds up its group.
//
// # Events
//
// Every event queue gets every event: the body is the envelope, and attributes
// repeat what a subscriber filters by. Delivery is at least once. Standard
// queues promise no order; if a queue of EVENT_QUEUE_URLS is a FIFO queue, its
// groups are the instances, and order holds.
package queue
