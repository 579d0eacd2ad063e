// Package httpapi is the HTTP door to the operations of package control: routes,
// authentication, limits, idempotency, and the OpenAPI document that describes
// it all. It knows stores and queues only through small interfaces, and nothing
// of Lambda: a function's main, the local gateway and the tests put the same
// http.Handler to work.
//
// # Functions
//
// Each Lambda function serves the routes that [Routes] gives to its name, so
// that its role may touch only what it needs. The function called instances also
// gets whatever API Gateway has no route for, and answers 404 and 405 in the
// API's own form; every function knows all routes for that.
//
// # A request
//
// The checks go in one order, which customers can rely on: route 404, method
// 405, key 401, limit 429, key scope 403, instance 404, size 413, type 415, body
// 400, state 409. [API.serve] is that order. An instance is read before the body
// is, once, under the caller's own partition; a path segment that is no id is
// read like one, so that nothing, not even time, tells a malformed id from an
// unknown, a deleted or a foreign one.
//
// A handler decodes, calls, and returns an answer or an error. An error without
// a code is answered as internal and only logged.
//
// # What is kept in memory
//
// Keys and customers for at most [KeyKept], so that a revoked key ends
// everywhere within a minute. Nothing else: a function may be frozen or thrown
// away between two requests.
//
// # Requests that must not run twice
//
// A POST with an Idempotency-Key first claims its record. The operation then
// completes the record in its own transaction, with the answer sealed under a
// key that only the caller can derive again. A duplicate request waits for the
// first; a claim whose call died lapses after [claimFor] and the next call runs
// the request. What waits (pair code, sandbox) has its record completed
// afterwards, and is harmless to repeat: what it wants is wanted already, and its
// command has the same id.
package httpapi
