// Package outbox sends the messages of one instance.
//
// # Who is authoritative
//
// The row of a message is the queue. An outbox reads the rows that wait, in the
// order in which they became due, and keeps them in memory as long as it lasts;
// being woken, or losing a wake-up, only decides how soon it looks. Two rows of
// facts decide what may be done with a message:
//
//	the row's status   scheduled, queued: it still has to be sent
//	the copy           the device store's record that precedes the frame:
//	                   no copy, surely not sent; a copy, maybe sent
//
// # A send
//
//	row (accepted) → find the number → encode → copy and sessions committed
//	→ frame → ack → event → row (sent)
//
// A message whose process or connection ends anywhere on this way is found
// waiting again. Without a copy it is sent as if for the first time. With one the
// copy's bytes go to the copy's chat, under the same id: the recipient's phone
// shows an id once. Nothing is encoded or resolved anew for it; a new secret would
// break its votes, a LID learnt meanwhile would send it to a second chat.
//
// # What each failure does
//
//	WhatsApp refuses it              failed, with WhatsApp's code; 421 and 479 are
//	                                 tried once more
//	463, 475                         failed, never retried, and the account's
//	                                 restriction is told
//	an error before the frame        tried again with a growing wait
//	the connection ends              unknown: sent again on the next connection
//	unknown three times, or the      failed (internal), may_have_been_sent, and an
//	process died over it twice       alarm: one message never stops the line
//	expired, cancelled               looked at when its turn comes; nothing leaves
//	the link has ended               failed (link_lost)
//
// # Order
//
// One message at a time goes out: the library sends so. Within a chat messages go
// in the order in which they became due; a message that waits (for its number, its
// typing, the pace) holds up its own chat only.
//
// # Waiting for the ack
//
// Nothing ever cuts the wait for an acknowledgement short: the library's
// bookkeeping may panic then. A watchdog closes the connection instead, which ends
// the wait from below, see package line.
package outbox
