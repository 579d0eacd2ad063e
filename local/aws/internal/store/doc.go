// Package store is the one file that everything is kept in, and the discipline
// of writing to it.
//
// Writes are serial: each is a function on a bbolt transaction, which reads,
// decides and writes with nobody beside it. That is what makes conditional
// writes and transactions simple here. They are also durable: Update returns
// after the disk has them. So that this is fast as well, commits are shared.
// Whoever finds no commit under way leads: it takes every write that waits,
// runs them in one transaction, syncs once and wakes their callers. There is no
// goroutine to start or stop.
//
// A crash at any moment leaves the last commit that was synced: bbolt writes
// new pages beside the old ones and then one meta page that refers to them.
// What was answered was synced before; what was not answered may or may not be
// there, as with AWS itself.
package store
