package httpapi

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"whatisup/shared/control"
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

// Buckets are the token buckets of the customers, and of single keys, shared by
// all functions. An empty key means the customer's.
type Buckets interface {
	// Take takes a token: ErrTooMany, with the bucket as it stands, if there is
	// none.
	Take(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.KeyID, whatisup.RateLimit) (whatisup.Bucket, error)
	Bucket(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.KeyID, whatisup.RateLimit) (whatisup.Bucket, error)
	// TakeSend and SendBucket are those of the buckets that sends draw on: the
	// customer's, or with the id of an instance or of a key, that one's.
	TakeSend(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, of string, l whatisup.RateLimit) (whatisup.Bucket, error)
	SendBucket(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, of string, l whatisup.RateLimit) (whatisup.Bucket, error)
}

// FileBuckets are the token buckets of whoever uses files' URLs without a key.
type FileBuckets interface {
	TakeFile(ctx context.Context, who string, l whatisup.RateLimit) (whatisup.Bucket, error)
}

// Requests are the records of requests with an Idempotency-Key.
type Requests interface {
	// Claim makes this call the one that runs the request, until a time; or
	// answers the record that is there already.
	Claim(ctx context.Context, r whatisup.Record, until time.Time) (*whatisup.Record, error)
	// Complete stores the answer: ErrClaimLost.
	Complete(context.Context, whatisup.Record) error
	// Abandon gives a claim back that came to nothing.
	Abandon(context.Context, whatisup.Record) error
}

// Store is all that the API keeps anywhere.
type Store interface {
	control.Store
	Access
	KeyUse
	Buckets
	FileBuckets
	Requests
}

// Config of an [API]. Store and Peppers are always needed, Commands by every
// function that changes what is wanted.
type Config struct {
	Store    Store
	Commands control.Commands
	Events   control.Events // nil: no queues
	Webhooks control.Webhooks
	Peppers  whatisup.Peppers
	Limits   whatisup.RateLimit // of customers without one of their own
	// SendLimits are those of messages, of customers without their own.
	SendLimits whatisup.SendLimits
	// MaxInstances is a customer's limit in one mode, where it has none of its
	// own; 0: control.DefaultMaxInstances.
	MaxInstances int
	// Sandbox says that the deployment runs a sandbox for test keys.
	Sandbox bool
	// EventsURL is where the event stream is; empty: at /v1/events of the API.
	EventsURL string
	// Document is the contract; the function of instances needs it.
	Document *Document
	// Dashboard serves GET requests outside /v1; nil: there is none. A 404 of
	// its own is answered in the API's form.
	Dashboard http.Handler
	// Arrival says when the request arrived at the gateway, zero if unknown.
	Arrival func(context.Context) time.Time
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now

	// Of the functions that have to do with files: see [control.Config].
	Objects   control.Objects
	Work      control.Work
	Links     *whatisup.MediaLinks
	MediaKept time.Duration
	Foreign   func(ctx context.Context, url string, m whatisup.Mode) error
	// PublicURL is the address that the deployment is known by; empty: the one that
	// it was asked at.
	PublicURL string

	// StreamFor is how long one event stream lasts, 0 for five minutes.
	StreamFor time.Duration
	// StreamPoll is how often a stream looks for events where there are none, 0 for a
	// second.
	StreamPoll time.Duration
	// Stirred is closed by the customer's next event, once it can be read; nil: nobody
	// tells, and streams only look.
	Stirred func(whatisup.CustomerID, whatisup.Mode) <-chan struct{}
}

// DefaultLimits are a customer's, unless the deployment or the operator says
// otherwise.
var DefaultLimits = whatisup.RateLimit{Burst: 60, PerSecond: 1}

// API makes the functions' handlers. It is safe for concurrent use.
type API struct {
	Config
	control *control.Control
	keys    keyring
	seal    cursorSeal
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
	c.Limits = c.Limits.Or(DefaultLimits)
	c.SendLimits = c.SendLimits.Or(DefaultSendLimits)
	c.StreamFor = cmp.Or(c.StreamFor, 5*time.Minute)
	c.StreamPoll = cmp.Or(c.StreamPoll, time.Second)
	return &API{Config: c, seal: cursorSeal{c.Peppers}, control: control.New(control.Config{
		Store: c.Store, Commands: c.Commands, Events: c.Events, Webhooks: c.Webhooks, Peppers: c.Peppers, Sandbox: c.Sandbox, Now: c.Now, MaxInstances: c.MaxInstances,
		Objects: c.Objects, Work: c.Work, Links: c.Links, MediaKept: c.MediaKept, Foreign: c.Foreign,
	})}
}

// now is the time of this moment, as everything in the API sees it.
func (a *API) now() time.Time { return a.Now() }
