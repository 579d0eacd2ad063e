package whatisup

import "time"

// Customer is a tenant, made and suspended by the operator.
type Customer struct {
	ID           CustomerID
	Name         string
	Suspended    bool
	MaxInstances int       // 0: no limit; counted per mode
	Limits       RateLimit // of requests
	Sends        SendLimits
	CreatedAt    time.Time
}

// RateLimit is a token bucket per customer and mode. Zero values mean the
// deployment's.
type RateLimit struct {
	Burst     int
	PerSecond float64
}

// Or has the other's values where it has none.
func (l RateLimit) Or(other RateLimit) RateLimit {
	if l.Burst <= 0 {
		l.Burst = other.Burst
	}
	if l.PerSecond <= 0 {
		l.PerSecond = other.PerSecond
	}
	return l
}

// SendLimits are the buckets that messages draw on: of a customer in a mode, and of each
// instance.
type SendLimits struct {
	Customer, Instance RateLimit
}

// Or has the other's values where it has none.
func (l SendLimits) Or(other SendLimits) SendLimits {
	return SendLimits{l.Customer.Or(other.Customer), l.Instance.Or(other.Instance)}
}

// Bucket is how a customer's token bucket stands.
type Bucket struct {
	Limit     int
	Remaining int
	FullAt    time.Time
	NextIn    time.Duration // until there is a token; 0 if there is one
}
