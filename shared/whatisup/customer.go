package whatisup

import "time"

// Customer is a tenant, made and suspended by the operator.
type Customer struct {
	ID           CustomerID
	Name         string
	Suspended    bool
	MaxInstances int // 0: no limit; counted per mode
	Limits       RateLimit
	CreatedAt    time.Time
}

// RateLimit is a token bucket per customer and mode. Zero values mean the
// deployment's.
type RateLimit struct {
	Burst     int
	PerSecond float64
}

// Bucket is how a customer's token bucket stands.
type Bucket struct {
	Limit     int
	Remaining int
	FullAt    time.Time
	NextIn    time.Duration // until there is a token; 0 if there is one
}
