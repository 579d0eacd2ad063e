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
// # How many at a time
//
// At most [Most] transfers of a host run at one time, each with a part of the bucket's
// size from a fixed pool; who finds none waits. A transfer ends with its connection.
package transfer
