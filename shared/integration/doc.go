// Package integration is the second door to the operations: the queue
// integration-commands. Its messages ask for the same as the HTTP calls of their
// names. Whoever may send to the queue acts as every customer, so the right to
// send is the operator's.
//
// A command runs once, however often the queue delivers it: its record, under
// its command_id, is written in the operation's own transaction. A permanent
// failure is told by the event command.refused, or only logged if no customer
// can be identified; neither is delivered again.
package integration
