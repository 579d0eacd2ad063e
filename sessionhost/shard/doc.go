// Package shard runs one owned shard: its sessions, and the commands on its queue.
//
// # Sessions
//
// A wake-up carries nothing: it starts the instance's session, or makes it look
// again. Losing one costs latency, for the shard's index is looked through every
// fifteen seconds, and whatever has something to do is started or woken
// ([whatisup.Hint.Work] decides). A session ends when nothing is left to do; how it
// left its instance is kept, so that the next look does not start it for nothing.
//
// # Commands
//
// A command with work goes to the carrier of its kind: the sandbox's to the
// simulated phones, every other to the instance's session
// ([session.Session.Do]). Its outcome is one row, whoever carried it; a kind that
// has no carrier is refused there too. Those of one instance are run in their
// order, each in one of the shard's sixteen work slots, of which a customer holds
// at most four. The wait for a slot counts against the time of the call that
// waits: a command that has expired is dropped without one.
//
// Messages stay hidden from other readers while they wait and while they are run,
// and are deleted when the result is stored.
package shard
