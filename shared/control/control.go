package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"time"

	"whatisup/shared/whatisup"
)

// Instances reads live instances, consistently; ErrNotFound is one answer for
// everything that is not the customer's.
type Instances interface {
	Instance(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.InstanceID) (*whatisup.Instance, error)
	Instances(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, before whatisup.InstanceID, about int) iter.Seq2[*whatisup.Instance, error]
}

// Configs writes what customers configure. Each write is on the instance as it
// was read: ErrConflict if it changed since, ErrNotFound if it is gone.
type Configs interface {
	// CreateInstance also answers ErrTooMany, ErrSuspended and ErrClaimLost.
	CreateInstance(context.Context, whatisup.Config, whatisup.Created) error
	UpdateConfig(ctx context.Context, read *whatisup.Instance, cfg whatisup.Config, e whatisup.Event) error
	UpdateSettings(ctx context.Context, read *whatisup.Instance, s whatisup.Settings) error
	// DeleteInstance also revokes keys, and answers ErrClaimLost.
	DeleteInstance(ctx context.Context, read *whatisup.Instance, e whatisup.Event, also *whatisup.Deleted) error
}

// Wants writes what is wanted of the session host.
type Wants interface {
	// Want answers ErrConflict, ErrNotFound, ErrSuspended and ErrClaimLost.
	Want(ctx context.Context, read *whatisup.Instance, w whatisup.Wanted, record *whatisup.Record) error
	// Sent removes the mark of the instance's unsent events as it was read.
	Sent(ctx context.Context, read *whatisup.Instance) error
}

// Slots limit how many of a kind of thing a customer has at one time.
type Slots interface {
	// TakeSlot takes a slot for id until a time, or renews it: ErrTooMany. The
	// slot of a predecessor is given up in the same write.
	TakeSlot(ctx context.Context, s whatisup.Slots, id string, until time.Time, predecessor string) error
	// KeepSlot renews a slot: ErrNotFound if id has it no longer.
	KeepSlot(ctx context.Context, s whatisup.Slots, id string, until time.Time) error
	FreeSlots(ctx context.Context, s whatisup.Slots, ids ...string) error
	TakenSlots(ctx context.Context, s whatisup.Slots) ([]string, error)
}

// Keys are a customer's API keys of one mode.
type Keys interface {
	// Keys lists those not revoked, newest first, without hashes.
	Keys(context.Context, whatisup.CustomerID, whatisup.Mode) iter.Seq2[whatisup.APIKey, error]
	// CreateKey stores a key and the record: ErrSuspended, ErrNotFound if the
	// instance that it is bound to is gone, ErrClaimLost.
	CreateKey(context.Context, whatisup.APIKey, *whatisup.Record) error
	// RevokeKey answers ErrNotFound for another's, an unknown and a revoked key.
	RevokeKey(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.KeyID) error
}

// Outcomes are what session hosts leave for a call that waits: nil while there
// is nothing.
type Outcomes interface {
	Pairing(context.Context, whatisup.InstanceID) (*whatisup.Pairing, error)
	Result(context.Context, whatisup.CommandID) (*whatisup.Result, error)
	// TakePairCode takes the pair code of a minute that a number is sent. hash
	// names it within the scope. It answers ErrTooMany, with when the next is to
	// be had.
	TakePairCode(ctx context.Context, scope, hash string) (next time.Time, err error)
}

// Owners tells when the owner of each of a mode's shards was last alive, zero
// for never.
type Owners interface {
	OwnersAlive(context.Context, whatisup.Mode) ([]whatisup.Owner, error)
	// WorldShard is the shard whose owner makes the calls about the simulated
	// phones of a customer's world.
	WorldShard(whatisup.CustomerID) whatisup.Shard
}

// Log is the event log.
type Log interface {
	EventsAfter(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, after whatisup.Position, about int) iter.Seq2[whatisup.Logged, error]
	EventsBefore(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, before whatisup.Position, about int) iter.Seq2[whatisup.Logged, error]
	PutEvent(context.Context, whatisup.Event) error
}

// Store is all that the operations keep anywhere.
type Store interface {
	Instances
	Configs
	Wants
	Slots
	Keys
	Outcomes
	Owners
	Log
	Messages
	Files
	Endpoints
	Numbers
	Usage
	// CallOffChange records that a try of a change must not be sent. It returns what
	// stands there instead if the change was begun.
	CallOffChange(ctx context.Context, id whatisup.ChangeID, try whatisup.CommandID) (*whatisup.Change, error)
	// Complete stores the record of a request that has written nothing else:
	// ErrClaimLost.
	Complete(context.Context, whatisup.Record) error
}

// Commands sends to the queue of the shard that owns an instance.
type Commands interface {
	Send(context.Context, whatisup.Shard, whatisup.Command) error
}

// Events sends to every event queue: nil once all of them have all events.
type Events interface {
	Send(context.Context, ...whatisup.Event) error
}

// Config of a [Control]. Store is always needed, Commands by every program that
// changes what is wanted.
type Config struct {
	Store    Store
	Commands Commands
	Events   Events           // nil: no queues
	Webhooks Webhooks         // of programs that serve the calls of webhooks
	Peppers  whatisup.Peppers // for new API keys
	// MaxInstances is how many instances a customer may have in one mode, where
	// the operator has set nothing else; 0: DefaultMaxInstances.
	MaxInstances int
	// Sandbox says that the deployment runs a sandbox for test keys.
	Sandbox bool
	Now     func() time.Time // nil: time.Now

	// Of the programs that have to do with files.
	Objects   Objects
	Work      Work
	Links     *whatisup.MediaLinks
	MediaKept time.Duration // 0: whatisup.MediaKept
	// Foreign refuses a URL that must not be fetched; its error is a problem of the
	// field. nil: none may be.
	Foreign func(ctx context.Context, url string, m whatisup.Mode) error

	// Of the program that works on them.
	Fetcher Fetcher
	Stream  func(ctx context.Context, key string) Stream // begins an object
}

// DefaultMaxInstances is the limit of a deployment that sets none.
const DefaultMaxInstances = 10_000

// Control runs operations. It is safe for concurrent use.
type Control struct {
	Config
	owners owners
	counts counts
}

// New returns a Control. It calls nothing.
func New(c Config) *Control {
	if c.Now == nil {
		c.Now = time.Now
	}
	c.MaxInstances = cmp.Or(c.MaxInstances, DefaultMaxInstances)
	c.MediaKept = cmp.Or(c.MediaKept, whatisup.MediaKept)
	if c.Foreign == nil {
		c.Foreign = func(context.Context, string, whatisup.Mode) error {
			return errors.New("can't be fetched by this deployment")
		}
	}
	return &Control{Config: c}
}

// Caller is on whose behalf an operation runs.
type Caller struct {
	Customer whatisup.Customer
	Mode     whatisup.Mode
	Key      whatisup.APIKey    // zero for the integration queue
	Request  whatisup.RequestID // in every log line, and in what the request causes
	Command  whatisup.CommandID // of the integration queue; empty for a request
	Began    time.Time          // when the request arrived, from which waiting counts
	Log      *slog.Logger
}

// Seal makes the record of a request from the result of its operation. A nil
// Seal belongs to a request without a record.
type Seal[R any] func(R) (*whatisup.Record, error)

func (s Seal[R]) record(r R) (*whatisup.Record, error) {
	if s == nil {
		return nil, nil
	}
	return s(r)
}

// complete stores the record of a request that had nothing to write.
func (s Seal[R]) complete(ctx context.Context, store Store, r R) error {
	record, err := s.record(r)
	if err != nil || record == nil {
		return err
	}
	return store.Complete(ctx, *record)
}

// Find reads the caller's instance. A text that is no id is read like one, so
// that both are answered alike.
func (c *Control) Find(ctx context.Context, who Caller, id string) (*whatisup.Instance, error) {
	parsed, ok := whatisup.ParseInstanceID(id)
	if !ok {
		parsed = "00000000-0000-0000-0000-000000000000"
	}
	i, err := c.Store.Instance(ctx, who.Customer.ID, who.Mode, parsed)
	if errors.Is(err, whatisup.ErrNotFound) {
		return nil, ErrInstanceNotFound
	}
	return i, err
}

// changeTries is how often a change is made again on an instance that somebody
// else has changed meanwhile.
const changeTries = 8

// again reads an instance again after a write met another one. It returns nil
// where the write's error is the end.
func (c *Control) again(ctx context.Context, who Caller, i *whatisup.Instance, try int, err error) (*whatisup.Instance, error) {
	switch {
	case err == nil:
		return nil, nil
	case errors.Is(err, whatisup.ErrConflict) && try < changeTries:
		return c.Find(ctx, who, string(i.Config.ID))
	case errors.Is(err, whatisup.ErrNotFound):
		return nil, ErrInstanceNotFound
	case errors.Is(err, whatisup.ErrSuspended):
		return nil, ErrSuspended
	}
	return nil, err
}

// Event makes an event of the caller's. The operation's command is named in it.
func (c *Control) Event(who Caller, name whatisup.EventName, id whatisup.InstanceID, data any) (whatisup.Event, error) {
	b, err := Encode(data)
	if err != nil {
		return whatisup.Event{}, err
	}
	e, err := whatisup.NewEvent(name, who.Customer.ID, who.Mode, id, c.Now(), nil)
	if err != nil {
		return whatisup.Event{}, err
	}
	e.Command = who.Command
	e.Data, err = whatisup.StorableData(b)
	return e, err
}

// Encode is v as JSON. Metadata goes out as it came in: the encoder must not
// escape what the customer didn't.
func Encode(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(out.Bytes(), "\n"), nil
}

// publishFor bounds the sending of an event or a wake-up within an operation.
// An event that does not get out in time stays marked on the instance's row, and
// the instance's host sends it from the log.
const publishFor = 2 * time.Second

// publish sends an event that was committed with a change of i to the queues.
func (c *Control) publish(ctx context.Context, who Caller, i *whatisup.Instance, e whatisup.Event) {
	if c.Events == nil {
		return
	}
	if i.Unsent.From != "" || len(i.Observed.Owed) > 0 {
		return // what the queues lack goes first, and the session host sends it
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishFor)
	defer cancel()
	noted := *i
	mark := whatisup.MarkOf(&e)
	noted.Unsent = whatisup.Unsent{From: mark, Last: mark}
	err := c.Events.Send(ctx, e)
	if err == nil {
		err = c.Store.Sent(ctx, &noted)
	}
	if err != nil {
		who.Log.Warn("event left to the session host", "event_id", string(e.ID), "error", err)
	}
}

// wake tells the host of the instance that there is something to do. If the
// message gets lost, the host finds out itself, a little later.
func (c *Control) wake(ctx context.Context, who Caller, i *whatisup.Instance) {
	c.wakeFor(ctx, who, i, whatisup.Wake, "")
}

func (c *Control) wakeFor(ctx context.Context, who Caller, i *whatisup.Instance, kind whatisup.CommandKind, file whatisup.MediaID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishFor)
	defer cancel()
	err := c.Commands.Send(ctx, i.Shard, whatisup.Command{
		ID: whatisup.NewCommandID(), Kind: kind, Media: file,
		Customer: i.Config.Customer, Mode: i.Config.Mode, Instance: i.Config.ID,
		RequestID: who.Request, SentAt: whatisup.At(c.Now()),
	})
	if err != nil {
		who.Log.Warn("wake-up not sent", "error", err)
	}
}
