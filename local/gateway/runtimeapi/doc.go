// Package runtimeapi runs a Lambda function's real binary, as Lambda does: it is
// Lambda's side of the Runtime API, on loopback.
//
// A [Function] keeps processes of the binary. Each process has a Runtime API of
// its own, asks it for its next invocation, and works on one at a time; when all
// are busy another is started, up to Concurrency, and then invocations wait. A
// process that takes longer than the function's timeout is killed, and the next
// invocation gets a fresh one. A process that exits fails the invocation it had.
// One that exits before it asked for its first is broken: [Function.Run] returns
// with what is known of it, and so do the invocations that wait.
//
// Answers are streams. A function that streams is seen while it writes; if it
// fails in the middle, the reader gets the failure in place of the end.
//
// Environment, deadlines and ids are those of Lambda. Freezing between
// invocations, extensions and logs in Telemetry form are not modelled.
package runtimeapi
