package whatisup

import "time"

// Record is the record of a request that must not run twice. It is written in
// the operation's own transaction, so that the operation and the memory of it
// happen together or not at all. What its fields mean is the business of the
// HTTP API; a store only keeps them.
type Record struct {
	Key       string    // names customer, mode, method, path and Idempotency-Key; a hash
	Claim     string    // of the call that runs the request; the record must still be its
	Print     []byte    // of the request, to tell a repetition from another request
	Answer    []byte    // sealed
	ExpiresAt time.Time // 24 hours after the first call
}

// Created is what is written together with a new instance.
type Created struct {
	Event        Event
	Record       *Record // nil: no Idempotency-Key
	MaxInstances int     // 0: no limit
}

// Deleted is what is written together with the end of an instance.
type Deleted struct {
	Bound  []APIKey // keys that end with it
	Record *Record  // nil: no Idempotency-Key
}
