package whatisup

import "time"

// Once is the record of a request that must not be carried out twice: it is
// written in the operation's own transaction, so that the operation and the
// memory of it happen together or not at all. What its fields mean is the
// business of the HTTP API; a store only keeps them.
type Once struct {
	Key       string    // names customer, mode, method, path and Idempotency-Key; a hash
	Claim     string    // of the call that carries it out; the record must still be its
	Print     []byte    // of the request, to tell a repetition from another request
	Answer    []byte    // sealed
	ExpiresAt time.Time // 24 hours after the first call
}

// Created is what is written together with a new instance.
type Created struct {
	Event        Event
	Once         *Once // nil: no Idempotency-Key
	MaxInstances int   // 0: no limit
}

// Deleted is what is written together with the end of an instance.
type Deleted struct {
	Bound []APIKey // keys that end with it
	Once  *Once    // nil: no record
}
