// Package waconv turns WhatsApp's messages into the product's and back. It is
// pure: no connection, no store, no clock of its own, so golden files can hold it.
//
// # In
//
// [Unwrap] takes a message out of its wrappers by rule: whatever field of the
// protocol buffer is a FutureProofMessage is a wrapper, up to eight deep. So a
// wrapper that WhatsApp invents tomorrow is opened without a change here; the
// library's own UnwrapRaw makes one pass in a fixed order and leaves what is nested
// otherwise. [Decode] then says what the content is: a message, an edit, a revoke,
// a reaction, a vote, or one of the few things that nobody wrote (keys, history,
// settings), each with its reason. What it does not know is a message of the type
// unsupported, with WhatsApp's name for it; nothing is dropped in silence.
//
// # Out
//
// [Encode] makes the protocol buffer of a body. It is called once a message: a
// second attempt sends the bytes of the first, because a new message secret or a
// new time would break the votes and edits that refer to it.
package waconv
