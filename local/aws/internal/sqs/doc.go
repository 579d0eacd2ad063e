// Package sqs is SQS over one file: standard and FIFO queues.
//
// A message is two records: what was sent, which never changes, and its state
// (when it is visible, how often it was received, the receipt in force), which
// a receive rewrites. A queue is walked in the order of an index: a standard
// queue's by the moment of visibility, a FIFO queue's by sequence number.
// A message is
//
//	delayed     not yet visible and never received since it was sent
//	visible     can be received
//	in flight   received, its visibility timeout running
//
// and is gone when it is deleted, when its retention is over, or when the
// redrive policy moves it on. A message group is locked while one of its
// messages is in flight.
//
// Everything is on disk before it is answered, receives included: a message
// that was handed out stays hidden over a restart until its time is up.
// What a long poll waits for is in memory only: a channel per queue that is
// closed when something may have become visible, and the clock.
package sqs
