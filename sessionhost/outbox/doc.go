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
//	row (accepted) → prepare: number or group, target, content
//	→ copy and sessions committed → frame → ack → event → row (sent)
//
// Preparing happens beside the sends: of up to eight messages at once, each the
// first of its chat.
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
//	463, 475                         failed, never retried; the account's restriction
//	                                 is told and kept: until it ends, messages that
//	                                 begin a chat wait, or fail untried
//	an error before the frame        tried again with a growing wait
//	the connection ends              unknown: sent again on the next connection, once
//	                                 the receipts that WhatsApp kept have come (10 s at
//	                                 most), and not if one is of it
//	unknown three times, or the      failed (internal), may_have_been_sent, and an
//	process died over it twice       alarm: one message never stops the line
//	expired, cancelled               looked at when its turn comes; nothing leaves
//	the link has ended               failed (link_lost)
//
// # Order
//
// One message at a time goes out: the library sends so. That WhatsApp has it is written
// while the next one leaves. Within a chat messages go
// in the order in which they became due; a message that is prepared, types or waits
// holds up its own chat only. A message that refers to one of ours waits until that
// was sent, and lets it pass if it is due later; it fails if that never was.
//
// # Pace
//
// The gap and the new chats a day that the settings ask for, a restriction, and the
// operator's stops are looked at when a message's turn has come. What they hold holds
// up its own chat only. What may have left is held by none of them.
//
// # Telling
//
// What WhatsApp says is written at once and told two seconds later, so that steps in
// between are one event with the furthest. A mark says that something may be untold;
// the next owner tells what was written since, under the same ids, so after a death a
// step may be told twice, and never not at all. What only the owner decides is told
// before it is written. Times of a group's members are gathered for five seconds.
//
// # Groups
//
// The library gives our key of a group to all devices with each message. The device
// store makes it skip those that have the key: who has it is noted after the ack,
// and forgotten when a device asks for a message again, has a new identity, or when
// somebody leaves, which makes a new key.
//
// # Waiting for the ack
//
// Nothing ever cuts the wait for an acknowledgement short: the library's
// bookkeeping may panic then. A watchdog closes the connection instead, which ends
// the wait from below, see package line.
package outbox
