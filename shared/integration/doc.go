// Package integration is the second door to the operations: the queue
// integration-commands. Its messages ask for the same as the HTTP calls of their
// names. Whoever may send to the queue acts as every customer, so the right to
// send is the operator's.
//
// A command runs once, however often the queue delivers it: its record, under
// its command_id, is written in the operation's own transaction. A permanent
// failure is told by the event command.refused and not delivered again. A
// message that names no customer of ours goes to the dead-letter queue.
//
// A send is its own record: the message's id follows from the command_id, and its
// row is put where nothing stands. The queue keeps no order; that of acceptance
// counts. One that has been in the queue for an hour is refused.
//
// A message may come in the envelope of an SNS topic.
package integration
