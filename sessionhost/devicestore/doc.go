// Package devicestore keeps what makes a linked WhatsApp device (its keys, its
// sessions, its pre-keys) in DynamoDB: every store interface of whatsmeow,
// sealed, fenced, fail-stop, wiped with one write, and cheap.
//
// A link is stored as a log ([FormatLog]): each change is one entry, put where
// nothing stands, and rows follow. The other way ([FormatRows]), in which each
// change is a transaction of its rows, is there for links of earlier versions and
// for going back to them.
//
// It trusts nobody's good behaviour: not the host it runs in to notice in time
// that it has lost its instance, not the library to stop on an error, not the
// database to be readable by nobody. What follows is how.
//
// # Use
//
//	store := devicestore.New(devicestore.Config{Table: …, DynamoDB: …, Keyring: …})
//	go store.Run(ctx)
//
//	h := store.Open(instance, devicestore.Fence{Epoch: …, Context: …, Fail: closeTheConnection})
//	device, err := h.Load(ctx)          // the paired device, or ErrNoDevice
//	device := h.New(link)               // an unpaired one; nothing is stored before the scan
//	h.Confirm(ctx)                      // after the first login
//	h.Handling(), h.Handled(ctx, m, log, send) // inside the message handler, see below
//	h.Copy(ctx, id), h.Send(ctx, id, copy) // around SendMessage, see "Sending"
//	h.SenderKeyHas(ctx, group, devices)   // who need not be given the key again
//	h.Wipe(ctx, link)                   // after the unlink; also what whatsmeow's own delete does
//	h.Remove(ctx)                       // once the instance is deleted and wiped
//	h.Close(ctx)
//
// The client needs EnableDecryptedEventBuffer, SynchronousAck and
// UseRetryMessageStore, and handlers that return in less than five minutes (see "Events").
//
// # What is stored where
//
// One table, string keys pk and sk.
//
//	pk              sk                      what
//	I               device                  the device row: fence, wrapped data key, hot state
//	I#link          !device                 the device: identity, noise key, account, names
//	I#link          !buffer#<hash>          a decrypted message without room on the device row; TTL
//	I#link          !history#<hash>         where a history of the phone is, until it is read; TTL
//	I#link          u#<user>#s#<device>     a Signal session
//	I#link          u#<user>#i#<device>     an identity key
//	I#link          u#<user>#g#<group>#<d>  a sender key
//	I#link          p#<n>                   up to fifty pre-keys
//	I#link          l#<lid>, n#<pn>         who is who, one row for each direction
//	I#link          c#, t#, v#, k#, o#      contact, chat, privacy token, message secret (TTL), sent message (TTL)
//	I#link          h#<group>, j#           who has our sender key; who has a new identity
//	I#link          y#, a#, m#, z#          app state: keys, versions, MACs in 256 rows a collection; salt
//	I#link          !hot                    the hot state of a link that is a log
//	I#link          w#<number>              an entry of the log; TTL
//	I#link          ~<sk>#<i>               what of a value passes the size of an item
//
// Each row has the number of the commit whose change it holds (at).
//
// The partition carries the link's number, so a new link never meets an old
// row. Users, groups and message ids in sort keys are pseudonyms under the
// link's data key: the table tells no phone number.
//
// The attributes of the device row: epoch (written by adoption, elsewhere),
// link, last (the highest link ever), confirmed, key (the wrapped data key),
// format (of what is stored; a link of a newer one than the program knows is
// [ErrNewerFormat] and is left alone, but for its wipe; one without is read and
// takes the present one with its next commit), n and mark (number and random id
// of the last commit), hot (sealed, for this n), sweep (links whose rows are
// still to be removed), customer_id, mode. Of a link that is a log n is up to
// where rows have everything, mark and hot are not used, writer is the epoch of
// the owner that began last, and opened the time since which entries may follow n. DynamoDB bills by the
// size of an item, and this one is part of every transaction, so it stays within
// one kilobyte; the room that is left holds what changes all the time and is
// small: messages that are not handled yet, the hashes of the last ones that
// were, and which pre-keys exist.
//
// Values are sealed with the link's data key, bound to table, partition, kind
// and key (package seal). From 256 bytes they are deflated first, with a
// dictionary of the words of libsignal's records, which are JSON: a session of
// 1.7 KB has 0.7 KB then, which is half the price. What is over 350 KB is cut
// into several rows of one transaction; what is over 3 MB is refused with
// [ErrTooLarge], never truncated.
//
// # A log of the link
//
// A commit is an entry: what happens to the hot state, and to rows; a session
// record is a difference to the one before, of some 100 bytes. The entry is put
// at the number after the last, on the condition that nothing stands there, and
// carries its writer's epoch and a random mark. That put is the fence:
//
//   - A refused put that finds its own mark has happened; only its answer was
//     lost. One that finds a higher epoch is [ErrFenced], one that finds the
//     link's end is [ErrWiped], and anything else is [ErrDiverged].
//   - An owner begins with an entry of its own, in a transaction with the device
//     row that requires its epoch and its link. Until that stands an earlier owner
//     may go on, and what it has committed by then is seen; after it every put of
//     an earlier owner finds its place taken. An owner that finds an entry of its
//     own epoch goes on there.
//   - A wipe is one transaction, too: the device row is overwritten, and the
//     link's end is put where anybody would write next.
//   - Entries are never removed but by their time to live, 45 days. So there is
//     no place below the last one that a writer could find free who was stopped
//     for days, and the sweeper leaves them. Nobody can read them after a wipe.
//
// Rows follow: an owner folds a row, that is writes it as it is now to its own
// key, once its oldest change stands 56 entries back, and no entry is put while
// one stands 64 back or 64 KB of them wait. A chat that writes ten times in that
// time is one write to its row. At close, and after ten minutes without use,
// everything is folded, and the device row told so. A fold is a put of its own,
// without a fence, so:
//
//   - It writes a row only where that has a smaller number, or none. A deleted
//     row stays as a tombstone with its number, for 45 days.
//   - It writes only to a row that stands. One that doesn't is made in a
//     transaction with the device row, because it must not come to a link that is
//     wiped and swept.
//   - Every entry says up to where rows have everything. The next owner reads the
//     entries above that (one query), and applies to a row those that the row
//     doesn't have yet, when it needs the row. A difference knows its base by a
//     checksum.
//   - An entry that is missing among those, or so old that others may be, is
//     [ErrLost]: the link is over, and old rows are never taken for the present.
//
// A change of more than 64 KB is a transaction of its rows and an entry that has
// none. It waits for the fold that is under way, which may be about to put an older value
// of the same row. The order of all this was tried in a model before it was written
// (model_test.go): it explores owners, deaths and late, repeated and lost requests
// at random, and finds what goes wrong without each of these rules.
//
// Why not the simpler way, the last change on the device row itself, with other
// rows following before the next one? Because they would have to follow at once. A
// message of one of 50 chats changes that chat's session, which is one write unit;
// the next message is mostly of another chat, so nothing is saved by waiting for
// it, and a message costs two units here (device row and session), four with its
// two other rows, where 3.5 are allowed. In the log a session's row is written
// once for all its changes within 56 entries: 1 + 0.45 units at random, 1 + 0.5 if
// the 50 take turns.
//
// A link of another format than the store's takes the store's when it is loaded,
// in one transaction that changes the device row's format and n, so that no
// earlier program can load it or write to it. From the log to rows everything is
// folded before, and an entry takes the place of the next one.
//
// # The fence
//
// This is how a link is fenced that is not a log. Every write is one transaction, and its first item is the device
// row with the condition epoch = mine AND link = mine AND n = my last commit.
// (The one exception touches no row of the link: see "Events".) So:
//
//   - After a newer owner's adoption has set the epoch, nothing of an older
//     owner succeeds, on whatever row ([ErrFenced]).
//   - After a wipe or a new pairing nothing of the old link succeeds
//     ([ErrWiped]); a row that was removed doesn't come back, since the
//     condition is false for a missing row too.
//   - A write that was given up and arrives late either finds that somebody has
//     committed since, and fails, or makes the next commit of its successor fail
//     ([ErrDiverged]), which then starts from what is stored.
//   - A transaction whose answer was lost is sent again: the second arrival
//     fails its condition, DynamoDB returns the row, and the row carries this
//     commit's mark. Nothing is ever written twice or given up while it might
//     still happen unnoticed.
//
// The number costs nothing: a condition on an item costs the same as an update
// of it.
//
// # Order of durability
//
// A method of a store interface that changes something has it in the table when
// it returns, with four exceptions below. From this follows what the protocol
// needs: the session is stored before its ciphertext leaves (whatsmeow stores,
// then sends); pre-keys, all 812 in one transaction, before their upload; and
// everything that one decryption changes (session, identity, the used pre-key,
// plaintext and event id) is one transaction, see [store.EventBuffer].
//
// Inside a decryption, reads see the transaction's own writes. If a row that it
// has read changes before its commit (a message sent meanwhile on the same
// session), it runs again on the new rows, so it neither loses the step that
// sending took nor sends a chain index twice. Sending has no transaction in
// whatsmeow, so a session record that comes to be stored is compared with the
// stored one: it must be that one, moved on by encrypting. Otherwise it is
// [ErrStale], and the message must be encrypted again.
//
// Staged, that is visible at once and written with the device's next commit, at
// the latest ten minutes later or when the handle is closed, are push and
// business names, received messages' secrets and who has a sender key. They may
// be lost in a crash: a name comes again with the next message, a sender key is
// given once more; a message's secret does not come again, and then what refers
// to that message (a vote, an encrypted reaction) can't be read. It is the last
// message's secret at most, since the next one's commit takes it along.
//
// The removal of a handled message waits for the next commit too, however long
// that takes; only closing the handle writes it by itself. What a crash leaves
// so is recognised if it is delivered again, and expires if it isn't.
//
// # Sending
//
// The copy of a sent message decides what may have left: there is one before
// there is a frame. [Handle.Send] returns the context for one call of
// SendMessage. Under it whatsmeow hands the message over before it encrypts it;
// the copy, under the message's id alone, joins the transaction of the session
// records (in a group, of the sender key), which whatsmeow stores before it
// writes the frame. What is only staged is left out of a transaction that is
// full, the copy never. A message too long for company is kept in a write of its
// own.
//
// whatsmeow skips devices that it can't encrypt for. If the sessions that it
// stores for a direct message are none of the recipient's, that is
// [ErrNoRecipientDevice], and nothing is stored. If there is no session to be
// stored at all, whatsmeow asks this store nothing that it would stop for; but
// it asks for the recipient's privacy token after encrypting, and right before
// the frame, under the connection's write lock, whether the context has ended.
// [Sending] then says that it has.
//
// A copy lives for 30 days, and no longer than its link. A device that asks for
// a message again gets it from there, in the chat that it was sent to.
//
// # Fail-stop
//
// whatsmeow acknowledges a message when a store has failed, and logs many a
// store's error without consequence. Therefore an operation that fails for good
// (after retries with jitter within the lease's trust) ends its handle before it
// returns: first Fence.Fail closes the connection, so that nothing can be
// acknowledged any more; then everything under way is cancelled; then caches of
// now unknown worth are dropped; and the error wraps context.Canceled, which is
// what whatsmeow takes as a reason not to acknowledge. An error is never turned
// into an empty session. The session opens a new handle and connects again, and
// the server delivers again.
//
// A caller's own cancelled context is no failure. It doesn't interrupt a write,
// because a write of unknown outcome would be one.
//
// # Events
//
// whatsmeow decrypts a message in DoDecryptionTxn, hands it to the event
// handlers on the same goroutine, calls ClearBufferedEventPlaintext if they
// succeeded, and then acknowledges; only then does it take the next message of
// the connection. Its events carry no context, but this order makes the message
// being handled a single one, and [Handle.Handling] returns it. (The order is
// given up for a handler that takes more than five minutes, so handlers need a
// time limit below that; a message that a handler doesn't finish is redelivered
// after a reconnect.)
//
// The handler calls [Handle.Handled], which sends its event to the queues under
// Message.EventID and at the same time writes it to the log. The message leaves
// the buffer after both. A crash before that leads to a redelivery with the same
// event id, which is sent again; after it, to one that is recognised as done (or
// refused by the ratchet as old) and acknowledged: in the log exactly once, on the
// queues at least once. A message that needs no event is just left to whatsmeow.
//
// The event's row could be written in a transaction with the device row, under
// the fence; that would cost four units, more than half of a message. So it is a
// plain put, and what makes it safe is its place: an event id is made with the
// decryption and committed with it, it is an id of the kind that positions of the
// log are, and the event is put where nothing stands at the position that is its
// own id. Whoever puts it, and however often, it is one row.
//
// That place is good for half of [whatisup.PositionLag], because readers of the
// log don't look back for ever. If it is past that, if the message was delivered
// before, or if the put failed or got no answer, the old position is closed with a
// void, a row that readers pass over. If the event stands there already there is
// nothing left to do. Otherwise a transaction settles it: under the fence it takes the
// message out of the buffer and puts the event at a new position. So a put that was
// given up, by this owner or one that has lost the instance since, arrives either
// before the void, which then finds it, or after it, and finds the void. The void lasts
// as long as the event's row would have, so that there is no time at which both can be
// read.
//
// The void is tried until the log takes it, so a log that is missing, forbidden or
// throttled holds up the messages of its instances and nothing else: the connection
// goes on, and so does sending. A transaction that fails would end the session, because
// nobody knows what became of it.
//
// A put in flight asks nobody whether its owner still is one. It tells the truth
// all the same: the message was received, and is in the log once. Within one
// process it is over before a wipe begins.
//
// A message that is handled stays in the buffer until the next commit, so an
// owner that dies leaves one or two behind that nobody delivers again. They keep
// their place on the device row until a new message needs it, and then get rows
// with a time to live. A message too large for the device row has one from the
// beginning, and the next commit removes it.
//
// One stanza may carry other messages (the phone's answer to a request for what
// could not be read). Each of them is logged under [Message.Part], also once.
//
// A hash that is not known in memory is in no row either, because a link is
// loaded with every message that is not handled; so receiving needs no read.
//
// # Histories
//
// The phone tells a new device where its history is, once. The library sends the receipt
// for that as soon as it has decrypted the notice, and WhatsApp does not tell it again. So
// the notice gets a row with the decryption, in the same commit, if it is the phone's
// session that was decrypted with. [Handle.Histories] has them, also after a restart, until
// [Handle.HistoryRead]; [Handle.HistoryTried] counts the tries. A notice of over 128 KB, which has
// the history in it, gets none.
//
// # Wiping
//
// [Handle.Wipe] overwrites the device row where link = :link: the wrapped data
// key is gone, and with it every value and every name, in that one write (with
// the end of the log, in one transaction). The
// rows themselves are removed by [Store.Run] afterwards; the device row lists
// the links that are not done, so that any later owner goes on. A device row
// with a link or a sweep set, or a partition with rows that is not listed, is
// what a wipe check looks for.
//
// # What it costs
//
// Counted by tests, with a real client where there is one:
//
//	                                      writes  reads  write units
//	                                                    log   rows
//	received message, known session            2      0    2      5  with its row of the log of events
//	... with a message secret                  2      0    2      5  and 2 later
//	... delivered again                        2      0    5      5  a void, then both in one transaction
//	sent message, known contact, two devices   1      0    1      6
//	... with a copy for retries                1      0    1      8  and 2 later in the log
//	first message of a new contact             3      6    3     17
//	message that needs no event                1      0    1      4
//	pairing and first login                    6      2   38     86
//	opening a stored link, and its login       0  2 or 3    0      0  and 1 KMS call; 4 units for a new owner's entry
//	reconnect of an open handle                0      0    0      0
//	wipe                                       1      0    4      1  and 1 for 25 rows
//
// In the log folds come on top: one unit for a row of up to a kilobyte that was
// changed in the last 56 entries, however often, two for a new row. Over 1,000
// received texts of up to 200 characters from 50 chats that makes 1.5 units a
// message in this table. Such a link is loaded with some 8 read units.
//
// Unchanged identities, names, LIDs, migrations and devices cost nothing.
//
// # Memory
//
// A link keeps the rows it used last, 256 KB of them while it is busy and 8 KB
// once it has been idle for two minutes; with everything else an idle link has
// some 15 KB.
//
// # What it does not do
//
// Deliberate differences from whatsmeow's sqlstore: the LID map is per device;
// pre-key ids are never used again; prefixes are exact and no LIKE patterns; an
// app state MAC may be put again for the same version; a message secret is kept
// for 90 days; of handled messages the last 128 are remembered, older ones are
// known by the ratchet alone; nothing of a link outlives it.
//
// Message secrets of one message are thought to be equal: of two, the later may
// win. More than one handle open for an instance at a time is not supported: the
// second one ends the first ([ErrDiverged]) with the first write.
package devicestore
