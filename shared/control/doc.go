// Package control holds the operations of the product: create, update, delete,
// connect, disconnect, log out, pair, the sandbox's phones, API keys and the
// event log. It knows neither HTTP nor SQS. The API (package httpapi) and the
// integration queue (package integration) are two doors to it: they find out
// who calls and read what is asked, call an operation, and tell its outcome.
//
// # An operation
//
// An operation takes the [Caller], for an operation on an instance that
// instance as the door has read it, and its input. It returns values, or an
// error: one of type [whatisup.Error] is written for the customer, any other is
// internal.
//
// # Wanted, and waiting for it
//
// Operations about the connection change what is wanted, in one conditional
// write, and send a wake-up, whose loss costs nothing but time. [Control.QR] and
// [Control.PairCode] then poll the row to which the session host writes the
// code, [Control.Phone] sends a command and polls its result, all with
// [Control.Wait], which bounds how many calls of a customer wait at one time. No
// operation holds anything in memory while it waits: when the
// process dies, the next call continues from what is stored.
//
// # Requests that must not run twice
//
// A door that keeps the outcome of a request passes a [Seal]: it makes the
// record of the request from the operation's result. The operation writes the
// record in its own transaction, so that both happen or neither. When an
// operation that takes a Seal returns without an error, the record is written.
//
// # What is kept in memory
//
// When the owner of each shard was last alive, for [beatsKept]. Nothing else.
package control
