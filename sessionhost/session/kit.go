package session

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"whatisup/sessionhost/courier"
	"whatisup/sessionhost/line"
	"whatisup/sessionhost/outbox"
	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// Tenure is the ownership that a session acts under; fleet.Tenure is one.
type Tenure interface {
	Shard() whatisup.Shard
	Epoch() whatisup.Epoch
	// HandedOver says that the owner before had given the shard up just then.
	HandedOver() bool
	// Trusted says whether this process may act as the owner now.
	Trusted() bool
	// Confirm reads the lease: ErrFenced if it is not ours any more.
	Confirm(ctx context.Context) error
	// OnLost registers what must end at once when the tenure is lost.
	OnLost(func()) (forget func())
	// Up says that every linked session has been started.
	Up()
}

// Store is what sessions do to the rows of instances. Errors are ErrFenced
// (another owner has it), ErrNotFound (no such row: deleted meanwhile, or wiped
// and done), and ErrUnavailable (try again).
type Store interface {
	// Adopt makes the epoch count for the instance and reads it, or its tombstone.
	Adopt(ctx context.Context, r whatisup.Ref, epoch whatisup.Epoch) (*whatisup.Instance, error)
	// Owned reads the instance, or its tombstone.
	Owned(ctx context.Context, r whatisup.Ref) (*whatisup.Instance, error)
	// Observe stores what was found, and the events of it, in one transaction.
	Observe(ctx context.Context, i *whatisup.Instance, o whatisup.Observed, events ...whatisup.Event) error
	// HostSent and Sent remove the marks of the host's and of the API's unsent
	// events.
	HostSent(ctx context.Context, i *whatisup.Instance) error
	Sent(ctx context.Context, i *whatisup.Instance) error
	// Owe stores what the queues lack of the instance's events.
	Owe(ctx context.Context, r whatisup.Ref, epoch whatisup.Epoch, owed map[string]whatisup.Position) error
	// TellDeleted writes the Farewell of a tombstone to the log.
	TellDeleted(ctx context.Context, i *whatisup.Instance) error
	// FinishDeleted takes a tombstone out of the shard. ErrConflict: something is
	// still to be wiped.
	FinishDeleted(ctx context.Context, i *whatisup.Instance) error
}

// Codes keeps what an attempt has to show.
type Codes interface {
	PutPairing(ctx context.Context, p whatisup.Pairing) error
	// VouchPairing renews, or with the zero time withdraws, the word that the
	// socket behind the attempt's code is alive.
	VouchPairing(ctx context.Context, id whatisup.InstanceID, a whatisup.AttemptID, until time.Time) error
}

// Fence is what auth state is held under.
type Fence struct {
	Epoch   whatisup.Epoch
	Context context.Context
	// Fail closes the session's connection, before the operation that can't be
	// mended returns.
	Fail func(error)
}

// Devices opens the auth state of adopted instances.
type Devices interface {
	Open(r whatisup.Ref, f Fence) Auth
}

// Auth is one instance's auth state in the hands of its session. ErrNotFound
// means that there is no link.
type Auth interface {
	// New returns an unpaired device for a link of this number; nothing is stored
	// before it is paired.
	New(l whatisup.Link) *line.Device
	// PrepareKey fetches the data key beforehand; its error may be ignored.
	PrepareKey(ctx context.Context) error
	// Load reads the paired device. With ErrCorrupt the device has its link's number
	// alone.
	Load(ctx context.Context) (Device, error)
	// Confirm records that the first login has succeeded.
	Confirm(ctx context.Context) error
	// Wipe makes the link unreadable for ever.
	Wipe(ctx context.Context, l whatisup.Link) error
	// Remove takes away what is left of a deleted instance, once all is wiped.
	Remove(ctx context.Context) error
	// Inbound is the message that is being handed to the event handler at this
	// moment; it must be asked by the handler, on its goroutine.
	// part is the id of a message that it carries among others, empty if it is
	// the message itself.
	Inbound(part string) (Inbound, bool)
	// Copy is what is kept of a message that may have been sent; nil: it surely was
	// not.
	Copy(ctx context.Context, id whatisup.MessageID) (*outbox.Copy, error)
	// Sending begins an attempt to send a message, and returns the context for
	// [Line.Send]: the copy is kept before the frame leaves. Again is the copy of an
	// earlier attempt.
	Sending(ctx context.Context, id whatisup.MessageID, again *outbox.Copy) (context.Context, error)
	// Acked notes, of an attempt that WhatsApp's server has acknowledged, which devices
	// have the group's key now.
	Acked(ctx context.Context, attempt context.Context) error
	// RenewKey makes the next message to a group have a new key. ForgetKey gives the
	// present one to a device again.
	RenewKey(ctx context.Context, group, own waconv.JID) error
	ForgetKey(ctx context.Context, group, device waconv.JID) error
	// Histories are those that the phone has told of and that were not read yet.
	// HistoryTried notes a try, and says which it is; HistoryRead forgets one.
	Histories() []line.History
	HistoryTried(ctx context.Context, id string) (tries int, err error)
	HistoryRead(ctx context.Context, id string) error
	Err() error
	Close(ctx context.Context) error
}

// ErrNoRecipientDevice: a message can be encrypted for no device of its recipient.
// Nothing of it has left.
var ErrNoRecipientDevice = errors.New("no device of the recipient can be reached")

// EventLog keeps the events that belong to no change of an instance's row.
type EventLog interface {
	PutEvent(ctx context.Context, e whatisup.Event) error
}

// Incoming is the rows of what was received. Errors are those of package whatisup.
type Incoming interface {
	// KeepReceived stores a message where nothing stands under its chat, sender and
	// id, or returns what does.
	KeepReceived(ctx context.Context, m *whatisup.Message) (old *whatisup.Message, err error)
	// UpdateReceived replaces one that could not be read: ErrConflict.
	UpdateReceived(ctx context.Context, m *whatisup.Message) error
}

// Device is a paired device as it was stored.
type Device struct {
	Store     *line.Device
	Link      whatisup.Link
	Confirmed bool
}

// Inbound is a message on its way through the event handler.
type Inbound struct {
	EventID whatisup.EventID
	// Keep writes the event to the log, once over all redeliveries, has send send it,
	// and takes the message out of the buffer when both are done.
	Keep func(ctx context.Context, e whatisup.Event, send func(context.Context) error) error
}

// Metrics sees what sessions do.
type Metrics interface {
	Connect(kind, outcome string, took time.Duration)
	FirstCode(took time.Duration)
	Ended(cause string)
	SetAside(sink, reason string)
	// Unreadable counts links whose auth state does not open.
	Unreadable()
	Woken(late time.Duration)
	// Unsupported counts received messages of a kind that is not known, by
	// WhatsApp's name.
	Unsupported(name string)
	outbox.Metrics
}

// Usage counts what instances receive and send.
type Usage interface {
	Count(whatisup.Ref, whatisup.Usage)
}

// Line is one connection to WhatsApp; [line.Line] is one.
type Line interface {
	// Events tells what becomes of the line. Every line that is not shut ends with
	// a [line.Ended].
	Events() <-chan line.Event
	// AskPairCode asks for a pair code; the answer is an event.
	AskPairCode(phone whatisup.PhoneNumber, serial uint64)
	// PutFile uploads an encrypted file to WhatsApp's media host.
	PutFile(ctx context.Context, kind whatisup.BodyType, sealed io.Reader, size int64, hash []byte) (url, directPath string, err error)
	// GetFile reads one from there; AskFile has the phone put it there again.
	GetFile(ctx context.Context, o *whatisup.MediaOrigin) (body io.ReadCloser, size int64, err error)
	AskFile(ctx context.Context, o *whatisup.MediaOrigin) (directPath string, err error)
	// Unlink asks WhatsApp to remove the device. Its error names nobody.
	Unlink(ctx context.Context) error
	// Send sends a message and waits for WhatsApp's answer. Its context is that of
	// [Auth.Sending].
	Send(ctx context.Context, to waconv.JID, id whatisup.MessageID, m *waconv.Content) line.Sent
	// Resolve, Forget, Typing, Self, Address and Group are those of [outbox.Conn].
	Resolve(ctx context.Context, n whatisup.PhoneNumber) (p whatisup.Person, found bool, err error)
	Forget(to waconv.JID)
	Typing(ctx context.Context, to waconv.JID, on bool) error
	Self(byLID bool) waconv.JID
	Address(ctx context.Context, a whatisup.Address, byLID bool) waconv.JID
	Group(ctx context.Context, group waconv.JID) (*waconv.Group, error)
	// Ask is [line.Line.Ask].
	Ask(ctx context.Context, kind whatisup.CommandKind, args json.RawMessage) (json.RawMessage, error)
	// SayPresence says at WhatsApp what the setting online wants. It waits for nobody.
	SayPresence()
	// MayHaveLinked says whether a scan was let through: there may be a link that
	// no event has told of.
	MayHaveLinked() bool
	// Fail ends the line because the auth state could not be kept.
	Fail(error)
	// Shut ends the line at once and waits for nobody. Settle waits until its
	// handlers have returned, but not for long.
	Shut()
	Settle()
}

// Performer runs one kind of command on a line that is logged in. A
// [whatisup.Error] becomes the command's result; after any other error the command
// is delivered again. ctx ends with the caller's time and with the connection.
type Performer func(ctx context.Context, l Line, c *whatisup.Command) (whatisup.Result, error)

// Kit is what all sessions of a host share.
type Kit struct {
	Mode     whatisup.Mode
	Store    Store
	Codes    Codes
	Devices  Devices
	Courier  *courier.Courier // takes events to the queues
	EventLog EventLog
	Ledger   outbox.Ledger
	Incoming Incoming
	Chats    Chats
	Files    Files                                                    // of messages; nil: none are sent or fetched
	Draw     func(raw string) (modules []byte, url string, err error) // a code, and it as a data URL
	Budgets  *Budgets
	Metrics  Metrics
	Usage    Usage
	Log      *slog.Logger

	// Open begins to connect; the line ends with ctx at the latest.
	Open func(ctx context.Context, o line.Options) Line

	// Performers are the commands that a session can run, by kind.
	Performers map[whatisup.CommandKind]Performer

	// Blamed says that the instance has crashed the host too often: it is not
	// started again automatically, only when somebody asks for it again.
	Blamed func(whatisup.InstanceID) bool

	// Stops says what the operator lets an instance not send now; nil: nothing.
	Stops func(whatisup.Ref) (all, newChats bool)
	// Restricted is called when WhatsApp has restricted an account; nil: nobody is told.
	// It must not block.
	Restricted func(whatisup.InstanceID, whatisup.Restriction)

	// Outdated is called when WhatsApp refuses the client's version. It may find a
	// newer one, which it says by waking the sessions concerned. It must not block.
	Outdated func()

	Timing Timing // zero: DefaultTiming

	// Clock tells the time that is written down for other machines, or read from
	// what they wrote; nil: time.Now.
	Clock func() time.Time
	// ClockOff says that this machine's clock differs from the deployment's so much
	// that no message may be called expired here; nil: never.
	ClockOff func() bool

	// Background counts what may outlive its session for some seconds: the
	// library's handshake can't be interrupted. Whoever ends the host waits.
	Background sync.WaitGroup
}

// Now is the deployment's time, see [dynamo.Clock]. All times of a session are of this
// clock, so that what is waited for may also be stored.
func (k *Kit) Now() time.Time {
	if k.Clock == nil {
		return time.Now()
	}
	return k.Clock()
}

// Local is a moment of the deployment's time on the clock of this machine, which
// contexts and timers go by.
func (k *Kit) Local(t time.Time) time.Time { return t.Add(time.Since(k.Now())) }

// Timing of sessions. Tests shorten it.
type Timing struct {
	FirstCode time.Duration // from the dial to the first code; within the waiting call's time
	CodeFirst time.Duration // how long the first of six codes is shown
	CodeNext  time.Duration // ... and any other one
	Login     time.Duration // the watchdog over everything from the dial to the login
	Down      time.Duration // a link without a login for longer is disconnected
	Grace     time.Duration // a connected session that moved between hosts is back within this, or is shown as connecting
	Replaced  time.Duration // wait after having been replaced: longer than a handshake can last
	Replaces  time.Duration // replaced twice within this is kicked out
	Stable    time.Duration // a connection that lasted longer counts as a success
	Unlink    time.Duration // for how long WhatsApp is asked to unlink
	Reconcile time.Duration // between looks through the shard
	Outdated  time.Duration // between logins of a client that WhatsApp refuses as outdated
	Tries     int           // refused logins before it is given up
}

// DefaultTiming is the timing of a deployment.
func DefaultTiming() Timing {
	return Timing{
		FirstCode: 7 * time.Second, CodeFirst: 60 * time.Second, CodeNext: 20 * time.Second,
		Login: 45 * time.Second, Down: time.Minute, Grace: 10 * time.Second,
		Replaced: 25 * time.Second, Replaces: 10 * time.Minute, Stable: 30 * time.Second,
		Unlink: time.Minute, Reconcile: 15 * time.Second, Outdated: time.Hour, Tries: 10,
	}
}
