// Package transfer carries files between the bucket and WhatsApp, for all sessions of
// a host. A file is a stream on its way: never whole in memory, and never on disk.
//
// # Out
//
// WhatsApp wants the hash of the encrypted file before its first byte, so the object is
// read twice: once to seal it and throw it away, once to send it under the same key.
// Reading twice costs less than a disk. What came of it is kept for a week for each
// instance and file, and serves every later message. A message waits for its file
// before the library's send lock, beside the messages of other chats.
//
// # In
//
// The row of a received file is stored, with the file's key, before its message is
// acknowledged; fetching begins after the event of the message, and holds up nothing.
// The file is decrypted on its way into the bucket. What is read ends at the largest file
// that is taken, whatever length the message declares. The object is made readable only
// when the authentication code and both hashes fit. Then the row says so, and then the
// event is told:
//
//	died before                what the next owner finds, in the index of the shard
//	the object is readable     fetching: it begins again; an upload in parts is removed
//	                           by the bucket after a day
//	the row says so            fetching, and an object that nobody names: it begins again
//	                           under another key, and the bucket removes the first
//	the event is told          ready or failed, and untold: it tells the event, under
//	                           the same id
//
// Who deletes an instance removes the objects that can be read by then. Whoever makes an
// object readable looks afterwards whether the instance was deleted, and removes the
// object then: of the two, one finds it.
//
// Who comes second to the row removes its object. What may pass, as a media host that
// does not answer, is tried again for a day. What WhatsApp does not have any more is
// asked for from the phone, once: it may put it there again.
//
// # How many at a time
//
// At most [Most] transfers of a host run at one time, to each customer in turn, those in
// with a part of the bucket's size from a pool; who finds no slot waits. A transfer ends
// with its connection, and one that stands still for a while ends, too.
package transfer
