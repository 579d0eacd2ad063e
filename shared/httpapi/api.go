package httpapi

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"net/http"
	"time"

	"whatisup/shared/whatisup"
)

// Access finds who a key belongs to.
type Access interface {
	// Key reads a key with its hash, consistently, revoked or not: ErrNotFound
	// only if there never was one.
	Key(context.Context, whatisup.KeyID) (whatisup.APIKey, error)
	// Customer reads a customer, consistently, or ErrNotFound.
	Customer(context.Context, whatisup.CustomerID) (whatisup.Customer, error)
}

// KeyUse notes what became of a key in use. Both calls do nothing to a key that
// was revoked meanwhile, and are harmless to repeat.
type KeyUse interface {
	TouchKey(context.Context, whatisup.APIKey, time.Time) error
	RehashKey(ctx context.Context, k whatisup.APIKey, hash []byte, pepper int) error
}

// Buckets are the customers' token buckets, shared by all functions.
type Buckets interface {
	// Take takes a token: ErrTooMany, with the bucket as it stands, if there is
	// none.
	Take(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.RateLimit) (whatisup.Bucket, error)
	Bucket(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.RateLimit) (whatisup.Bucket, error)
}

// Places limit how many of a kind of thing a customer has at one time.
type Places interface {
	// Occupy takes a place for id until a time, or prolongs it: ErrTooMany.
	Occupy(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, kind, id string, until time.Time, limit int) error
	// Vacate gives places back early.
	Vacate(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, kind string, ids ...string) error
	// Places lists the ids that have one.
	Places(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, kind string) ([]string, error)
}

// Keys are a customer's API keys of one mode.
type Keys interface {
	// Keys lists those not revoked, newest first, without hashes.
	Keys(context.Context, whatisup.CustomerID, whatisup.Mode) iter.Seq2[whatisup.APIKey, error]
	// CreateKey stores a key and completes the record: ErrClaimLost.
	CreateKey(context.Context, whatisup.APIKey, *whatisup.Once) error
	// RevokeKey answers ErrNotFound for another's, an unknown and a revoked key.
	RevokeKey(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.KeyID) error
}

// Requests are the records of requests with an Idempotency-Key.
type Requests interface {
	// Claim makes this call the one that carries the request out, until a time;
	// or answers the record that is there already.
	Claim(ctx context.Context, o whatisup.Once, until time.Time) (*whatisup.Once, error)
	// Complete stores the answer: ErrClaimLost.
	Complete(context.Context, whatisup.Once) error
	// Abandon gives a claim back that came to nothing.
	Abandon(context.Context, whatisup.Once) error
}

// Instances reads live instances, consistently; ErrNotFound is one answer for
// everything that is not the customer's.
type Instances interface {
	Instance(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.InstanceID) (*whatisup.Instance, error)
	Instances(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, before whatisup.InstanceID, about int) iter.Seq2[*whatisup.Instance, error]
}

// Configs writes what customers configure. Each write is on the instance as it
// was read: ErrConflict if it changed since, ErrNotFound if it is gone.
type Configs interface {
	// CreateInstance also answers ErrTooMany and ErrClaimLost.
	CreateInstance(context.Context, whatisup.Config, whatisup.Created) error
	UpdateConfig(ctx context.Context, read *whatisup.Instance, cfg whatisup.Config, e whatisup.Event) error
	// DeleteInstance also revokes keys, and answers ErrClaimLost.
	DeleteInstance(ctx context.Context, read *whatisup.Instance, e whatisup.Event, also *whatisup.Deleted) error
}

// Wishes writes what is wanted of the session host.
type Wishes interface {
	// Want answers ErrConflict, ErrNotFound and ErrClaimLost.
	Want(ctx context.Context, read *whatisup.Instance, w whatisup.Wanted, once *whatisup.Once) error
	// Sent forgets the unsent events of the instance as it was read.
	Sent(ctx context.Context, read *whatisup.Instance) error
}

// Outcomes are what session hosts leave for a call that waits: nil while there
// is nothing.
type Outcomes interface {
	Pairing(context.Context, whatisup.InstanceID) (*whatisup.Pairing, error)
	Result(context.Context, whatisup.CommandID) (*whatisup.Result, error)
}

// Owners tells when the owner of each of a mode's shards was last alive, zero for
// never.
type Owners interface {
	OwnersAlive(context.Context, whatisup.Mode) ([]time.Time, error)
}

// Log is the event log.
type Log interface {
	EventsAfter(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, after whatisup.Position, about int) iter.Seq2[whatisup.Logged, error]
	EventsBefore(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, before whatisup.Position, about int) iter.Seq2[whatisup.Logged, error]
	PutEvent(context.Context, whatisup.Event) error
}

// Store is all that the API keeps anywhere.
type Store interface {
	Access
	KeyUse
	Buckets
	Places
	Keys
	Requests
	Instances
	Configs
	Wishes
	Outcomes
	Owners
	Log
}

// Commands sends to the queue of the shard that owns an instance.
type Commands interface {
	Send(context.Context, whatisup.Shard, whatisup.Command) error
}

// Events sends to every event queue: nil once all of them have all events.
type Events interface {
	Send(context.Context, ...whatisup.Event) error
}

// Config of an [API]. Store and Peppers are always needed, Commands by every
// function that changes what is wanted.
type Config struct {
	Store    Store
	Commands Commands
	Events   Events // nil: no queues
	Peppers  whatisup.Peppers
	Limits   whatisup.RateLimit // of customers without one of their own
	// Sandbox says that the deployment runs a sandbox for test keys.
	Sandbox bool
	// EventsURL is where the event stream is; empty: at /v1/events of the API.
	EventsURL string
	// Dashboard serves GET requests outside /v1; nil: there is none. A 404 of
	// its own is answered in the API's form.
	Dashboard http.Handler
	// Arrival says when the request arrived at the gateway, zero if unknown.
	Arrival func(context.Context) time.Time
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now

	// StreamFor is how long one event stream lasts, 0 for five minutes.
	StreamFor time.Duration
	// StreamPoll is how often a stream looks for events, 0 for a second.
	StreamPoll time.Duration
}

// DefaultLimits are a customer's, unless the deployment or the operator says
// otherwise.
var DefaultLimits = whatisup.RateLimit{Burst: 60, PerSecond: 1}

// API makes the functions' handlers. It is safe for concurrent use.
type API struct {
	Config
	keys   keyring
	owners owners
	seal   cursorSeal
}

// New returns an API. It calls nothing.
func New(c Config) *API {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Arrival == nil {
		c.Arrival = func(context.Context) time.Time { return time.Time{} }
	}
	c.Limits.Burst = cmp.Or(c.Limits.Burst, DefaultLimits.Burst)
	c.Limits.PerSecond = cmp.Or(c.Limits.PerSecond, DefaultLimits.PerSecond)
	c.StreamFor = cmp.Or(c.StreamFor, 5*time.Minute)
	c.StreamPoll = cmp.Or(c.StreamPoll, time.Second)
	return &API{Config: c, seal: cursorSeal{c.Peppers}}
}

// now is the time of this moment, as everything in the API sees it.
func (a *API) now() time.Time { return a.Now() }

// Handler serves every function's routes, as API Gateway does over all of them.
func (a *API) Handler() http.Handler {
	functions := map[string]http.Handler{
		FunctionInstances: a.InstancesFunction(),
		FunctionQR:        a.QRFunction(),
		FunctionKeys:      a.KeysFunction(),
		FunctionSandbox:   a.SandboxFunction(),
		FunctionEvents:    a.EventsFunction(),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := FunctionInstances
		if route, _, _ := find(r.Method, r.URL); route != nil {
			name = route.Function
		}
		functions[name].ServeHTTP(w, r)
	})
}
