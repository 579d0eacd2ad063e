package outbox

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// Ledger is the rows of messages. Errors are those of package whatisup.
type Ledger interface {
	// Line reads the messages that wait and became due at since or later, in order.
	Line(ctx context.Context, r whatisup.Ref, since time.Time, most int) ([]*whatisup.Message, error)
	// Message reads one own message: ErrNotFound.
	Message(ctx context.Context, r whatisup.Ref, id whatisup.MessageID) (*whatisup.Message, error)
	// StepMessage moves a message to a higher rank, or leaves it, and returns it and the
	// status that it had.
	StepMessage(ctx context.Context, r whatisup.Ref, id whatisup.MessageID, s whatisup.Step) (m *whatisup.Message, previous whatisup.MessageStatus, err error)
	// EndMessages writes what only the owner may: ErrFenced, ErrConflict.
	EndMessages(ctx context.Context, r whatisup.Ref, epoch whatisup.Epoch, steps map[whatisup.MessageID]whatisup.Step) error
	// TryMessage counts an attempt before its frame leaves: ErrConflict if it waits no more.
	TryMessage(ctx context.Context, r whatisup.Ref, id whatisup.MessageID, attempts int) error
	// WaitMessage writes what a message waits for: ErrConflict if it waits no more.
	WaitMessage(ctx context.Context, r whatisup.Ref, id whatisup.MessageID, why whatisup.WaitingFor, until time.Time) error
	// PutRecipients, Recipients and CountRecipients keep how far a message to a group has
	// come with each member: ErrNotFound.
	PutRecipients(ctx context.Context, r whatisup.Ref, id whatisup.MessageID, p *whatisup.Recipients, first bool) error
	Recipients(ctx context.Context, r whatisup.Ref, id whatisup.MessageID) (*whatisup.Recipients, error)
	CountRecipients(ctx context.Context, r whatisup.Ref, id whatisup.MessageID, c *whatisup.RecipientCounts) error
	// MarkUntold, Untold and Stepped keep which steps may not have been told.
	MarkUntold(ctx context.Context, r whatisup.Ref, since time.Time) error
	Untold(ctx context.Context, r whatisup.Ref) (since time.Time, err error)
	Stepped(ctx context.Context, r whatisup.Ref, created, since time.Time, most int) ([]*whatisup.Message, error)
	// Restrictions and KeepRestrictions keep what WhatsApp keeps the account from.
	Restrictions(ctx context.Context, r whatisup.Ref) (whatisup.Restrictions, error)
	KeepRestrictions(ctx context.Context, r whatisup.Ref, all whatisup.Restrictions) error
	// Exchanged names all with whom messages were exchanged, by each of their ids, and
	// counts the chats that were begun at since or later.
	Exchanged(ctx context.Context, r whatisup.Ref, since time.Time) (known map[whatisup.Address]bool, begun int, err error)
	// Received reads a received message by chat, sender and id: ErrNotFound.
	Received(ctx context.Context, r whatisup.Ref, chat, from whatisup.Address, id whatisup.MessageID) (*whatisup.Message, error)
}

// Copies are the device store's records of what may have left.
type Copies interface {
	// Copy is what is kept of a message that may have been sent, nil if it surely
	// was not.
	Copy(ctx context.Context, id whatisup.MessageID) (*Copy, error)
}

// Copy is a message as it may have been sent.
type Copy struct {
	Chat    waconv.JID
	Message *waconv.Content
	Kept    any // the store's own form of it
}

// Conn is a connection that is logged in.
type Conn interface {
	// Resolve asks WhatsApp who has a number; found is false if nobody has. The
	// answer may be an earlier one.
	Resolve(ctx context.Context, n whatisup.PhoneNumber) (p whatisup.Person, found bool, err error)
	// Send sends one message and waits for WhatsApp's answer, however long the
	// connection lasts. Again is its copy if it may have been sent before; else the
	// copy is kept before the frame leaves.
	Send(ctx context.Context, to waconv.JID, id whatisup.MessageID, m *waconv.Content, again *Copy) Outcome
	// Forget says that WhatsApp finds what the client keeps of a chat's devices or
	// members out of date, before the message is tried once more.
	Forget(to waconv.JID)
	// Typing shows the recipient that somebody writes.
	Typing(ctx context.Context, to waconv.JID, on bool) error
	// Self is the number's own address: its LID, or its number.
	Self(byLID bool) waconv.JID
	// Address is how a chat addresses a person, as far as that is known.
	Address(ctx context.Context, a whatisup.Address, byLID bool) waconv.JID
	// Group is what has to be known of a group. The error of one that the number is no
	// member of has the code not_in_group.
	Group(ctx context.Context, group waconv.JID) (*waconv.Group, error)
	// PutFile uploads an encrypted file to WhatsApp's media host.
	PutFile(ctx context.Context, kind whatisup.BodyType, sealed io.Reader, size int64, hash []byte) (url, directPath string, err error)
}

// Timers tell after how long the messages of a direct chat disappear.
type Timers interface {
	Timer(ctx context.Context, chat whatisup.Address) (whatisup.Timer, error)
}

// Files are the files of messages.
type Files interface {
	// Ready has a message's file at WhatsApp, through a connection. It says how long to
	// wait if the file is not ready yet, or why the message can't be sent.
	Ready(ctx context.Context, conn Conn, r whatisup.Ref, id whatisup.MediaID, b *whatisup.Body) (u *whatisup.StoredUpload, wait time.Duration, why *whatisup.MessageError, err error)
}

// Outcome is what came of a send. Without an error WhatsApp's server has the
// message.
type Outcome struct {
	At       time.Time // WhatsApp's time
	Refused  int       // WhatsApp's code; 0: it refused nothing
	NoDevice bool      // it can be read by no device of the recipient; nothing has left
	Err      error     // no answer, or none that says anything
}

// Teller makes events of what happens to messages. It returns when the event
// can't be lost any more.
type Teller interface {
	// Status tells that a message has come to a status. All is the furthest that
	// everybody in a group has come to by it, empty for none.
	// What only the owner decides is told before the row is written, so that a death in
	// between repeats and never omits.
	Status(ctx context.Context, m *whatisup.Message, previous, all whatisup.MessageStatus) error
	// Restricted tells that WhatsApp keeps the account from beginning chats.
	Restricted(ctx context.Context, d whatisup.RestrictedData) error
}

// Metrics sees what an outbox does.
type Metrics interface {
	MessageEnded(status whatisup.MessageStatus, code whatisup.MessageCode)
	MessageAcked(took time.Duration)
}

// Config of an [Outbox].
type Config struct {
	Ref     whatisup.Ref
	Epoch   whatisup.Epoch
	Ledger  Ledger
	Files   Files  // nil: no message with a file can be sent
	Timers  Timers // nil: messages stay
	Copies  Copies
	Teller  Teller
	Metrics Metrics
	Log     *slog.Logger
	Trusted func() bool
	// Changed is called when [Outbox.Next] may have changed. It must not block.
	Changed func()
	// Go runs a worker; whoever ends the host waits for it. A worker may outlive its
	// session by some seconds, while the library gives up a connection.
	Go  func(func())
	Now func() time.Time
	// Settings are the instance's as they are now; nil: the defaults.
	Settings func() whatisup.Settings
	// Stops says what the operator lets not be sent now; nil: nothing.
	Stops func() (all, newChats bool)
	// Restricted is called when WhatsApp has restricted the account. It must not block.
	Restricted func(whatisup.Restriction)
	// ClockOff says that Now can't be trusted to call a message expired; nil: never.
	// Such a message is neither sent nor ended until it can be, or until another host
	// has the instance.
	ClockOff func() bool
}

// lineMost is how many messages are held in memory; more wait in the table.
const lineMost = whatisup.WaitingMost

// rereadBack is how far behind the last read the next one begins: the clocks of
// two functions differ, and a row can become visible later than its time says.
const rereadBack = time.Minute

// rereadAll is how often the whole line is read.
const rereadAll = time.Hour

// Outbox sends the messages of one instance. It works only while
// something waits: an idle outbox has no goroutine.
type Outbox struct {
	c Config

	mu       sync.Mutex
	link     whatisup.Link // of which messages are sent; 0: none
	over     bool          // that link is about to be wiped: nothing works any more
	conn     Conn          // nil: not connected
	resendAt time.Time     // what may have been sent is not sent again before; zero: it is
	working  bool          // a worker runs
	stale    bool          // something may wait that was not read yet
	waiting  map[whatisup.MessageID]*entry
	next     time.Time // when to work again; zero: when woken
	again    bool      // something was prepared since the last look

	preparing int // messages that are being prepared
	writing   int // messages that are acked

	tellMu   sync.Mutex
	tellings map[whatisup.MessageID]*telling
	telling  bool // somebody tells them
	tellers  sync.WaitGroup
	marked   time.Time // when it was written that steps may be untold
	// doubt has the messages of which a step may have been written though the answer
	// was lost: it is not told yet, and its receipt comes again. unsure: there were more
	// than tellingsMost, and whoever comes next tells them.
	doubt   map[whatisup.MessageID]struct{}
	unsure  bool
	closed  bool
	closing chan struct{}

	pace pace

	recipientsMu sync.Mutex
	recipients   map[whatisup.MessageID]*recipients

	// The worker's own.
	readAt  time.Time // of the newest read
	wholeAt time.Time // of the newest read of the whole line
	old     bool      // the first read: what it finds may have been sent by an earlier owner
	good    bool      // what an earlier owner left untold is told
	fails   int
}

// entry is a message that waits.
type entry struct {
	*whatisup.Message
	copied   bool      // may have been sent
	unknown  int       // sends of unknown outcome
	retried  bool      // sent again after 421 or 479
	before   time.Time // not to be tried before
	tries    int       // failures before the frame
	received bool      // a receipt has come: it needs not be sent again
	acked    bool      // WhatsApp has it, and that is being written
	typed    bool      // the recipient was shown that somebody writes
	canceled bool

	members    []whatisup.Person   // of the group that it was sent to
	preparing  bool                // belongs, as ready, to whoever holds the mutex
	ready      *prepared           // the worker's, once preparing is false
	hold       whatisup.WaitingFor // until before
	vague      bool                // nobody knows until when it holds
	target     whatisup.MessageID  // that the hold is for: it goes first
	waits      whatisup.WaitingFor // what the row should say
	waitsUntil time.Time
}

// New returns an outbox that has nothing and does nothing until it is woken.
func New(c Config) *Outbox {
	return &Outbox{
		c: c, waiting: make(map[whatisup.MessageID]*entry), stale: true, old: true,
		tellings: make(map[whatisup.MessageID]*telling), doubt: make(map[whatisup.MessageID]struct{}), closing: make(chan struct{}),
		recipients: make(map[whatisup.MessageID]*recipients),
	}
}

// Link says which link the instance has, 0 for none. What was accepted under
// another one is ended.
func (o *Outbox) Link(l whatisup.Link) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if l == o.link {
		return
	}
	o.link, o.stale = l, true
	if o.over {
		o.over, o.working, o.wholeAt = false, false, time.Time{}
	}
}

func (o *Outbox) current() whatisup.Link {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return 0
	}
	return o.link
}

// catchUpWithin is how long after a login what may have been sent waits for the receipts
// that WhatsApp kept meanwhile.
const catchUpWithin = 10 * time.Second

// Connected lets the outbox use a connection, nil for none. What may have been sent is
// not sent again before [Outbox.CaughtUp].
func (o *Outbox) Connected(ctx context.Context, conn Conn) {
	o.mu.Lock()
	if o.conn = conn; conn != nil {
		o.resendAt = o.c.Now().Add(catchUpWithin)
	}
	o.mu.Unlock()
	if conn != nil {
		o.Work(ctx)
	}
}

// CaughtUp says that the receipts that WhatsApp kept while the link was away have been
// handled.
func (o *Outbox) CaughtUp(ctx context.Context) {
	o.mu.Lock()
	o.resendAt = time.Time{}
	o.mu.Unlock()
	o.Work(ctx)
}

// Wake makes the outbox look for messages. It does not block.
func (o *Outbox) Wake(ctx context.Context) {
	o.mu.Lock()
	o.stale = true
	o.mu.Unlock()
	o.Work(ctx)
}

// Cancel asks that a message be not sent. Its outcome is told by its row.
func (o *Outbox) Cancel(ctx context.Context, id whatisup.MessageID) {
	o.mu.Lock()
	if e := o.waiting[id]; e != nil {
		e.canceled = true
	} else {
		o.stale = true
	}
	o.mu.Unlock()
	o.Work(ctx)
}

// Next is when [Outbox.Work] is to be called again, zero for not before a wake-up.
func (o *Outbox) Next() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.next
}

// Work starts a worker if there is something to do and none runs. The worker ends
// with ctx, when nothing is ready, or with the process.
func (o *Outbox) Work(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.working || ctx.Err() != nil {
		return
	}
	o.working, o.next = true, time.Time{}
	o.c.Go(func() { o.work(ctx) })
}

// Idle says whether nothing waits, as far as was read.
func (o *Outbox) Idle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.working && !o.stale && len(o.waiting) == 0
}

func (o *Outbox) work(ctx context.Context) {
	for {
		next, err := o.step(ctx)
		o.mu.Lock()
		switch {
		case err != nil && ctx.Err() == nil:
			o.fails++
			o.c.Log.Warn("messages are not sent for now", "error", err.Error())
			next = o.c.Now().Add(backoff(o.fails))
		case err == nil && (o.stale || o.again):
			o.mu.Unlock()
			continue // woken at its last moment
		case err == nil && !next.IsZero() && !next.After(o.c.Now()):
			o.mu.Unlock()
			continue
		default:
			o.fails = 0
		}
		o.working, o.next = false, next
		o.mu.Unlock()
		if o.c.Changed != nil {
			o.c.Changed()
		}
		return
	}
}

// backoff is how long to wait after so many failures in a row: from half a second
// to a minute, half of it left to chance.
func backoff(n int) time.Duration {
	d := min(time.Second<<min(n-1, 6), time.Minute)
	return d/2 + rand.N(d/2+1)
}

var errNotOwner = errors.New("the shard is not ours to act for")

// step does what can be done now, and says when there is more.
func (o *Outbox) step(ctx context.Context) (next time.Time, err error) {
	if !o.c.Trusted() {
		return time.Time{}, errNotOwner
	}
	if err := o.read(ctx); err != nil {
		return time.Time{}, err
	}
	if err := o.end(ctx); err != nil {
		return time.Time{}, err
	}

	o.mu.Lock()
	conn := o.conn
	o.again = false
	o.mu.Unlock()
	p := o.look(conn)
	if err := o.tellWaits(ctx, p.waits); err != nil {
		return time.Time{}, err
	}
	for _, e := range p.prepare {
		if ok, err := o.due(ctx, e); err != nil {
			return time.Time{}, err
		} else if ok {
			o.prepare(ctx, conn, e)
		}
	}
	for _, e := range p.settle {
		if _, err := o.settle(ctx, e); err != nil {
			return time.Time{}, err
		}
	}
	switch {
	case p.send != nil && conn != nil:
		if _, err := o.settle(ctx, p.send); err != nil {
			return time.Time{}, err
		}
		if may, err := o.mayGo(ctx, conn, p.send); err != nil {
			return time.Time{}, err
		} else if !may {
			return o.c.Now(), nil
		}
		if err := o.send(ctx, conn, p.send); err != nil {
			return time.Time{}, err
		}
		return o.c.Now(), nil
	case len(p.settle) > 0:
		return o.c.Now(), nil
	}
	return p.next, nil
}

// read takes up what waits and is not known yet.
func (o *Outbox) read(ctx context.Context) error {
	now := o.c.Now()
	o.mu.Lock()
	due := o.stale || now.Sub(o.wholeAt) >= rereadAll
	o.stale = false
	o.mu.Unlock()
	if !due {
		return nil
	}

	if !o.good {
		if err := o.makeGood(ctx); err != nil {
			o.mu.Lock()
			o.stale = true
			o.mu.Unlock()
			return err
		}
		o.good = true
	}
	since := o.readAt.Add(-rereadBack)
	whole := o.wholeAt.IsZero() || now.Sub(o.wholeAt) >= rereadAll
	if whole {
		since = time.Time{}
	}
	line, err := o.c.Ledger.Line(ctx, o.c.Ref, since, lineMost)
	if err == nil {
		err = o.take(ctx, line)
	}
	if err != nil {
		o.mu.Lock()
		o.stale = true
		o.mu.Unlock()
		return err
	}
	o.readAt = now
	if whole {
		o.wholeAt = now
	}
	o.old = false
	return nil
}

// take puts messages into the line. What the first read finds may have been sent
// by an earlier owner, or an earlier life of this process: its copy tells.
func (o *Outbox) take(ctx context.Context, line []*whatisup.Message) error {
	for _, m := range line {
		o.mu.Lock()
		known := o.waiting[m.ID]
		if known != nil {
			known.canceled = known.canceled || m.CancelAsked
		}
		o.mu.Unlock()
		if known != nil {
			continue
		}

		e := &entry{Message: m, canceled: m.CancelAsked, unknown: m.Attempts}
		if o.old && m.Link == o.current() {
			copied, err := o.c.Copies.Copy(ctx, m.ID)
			if err != nil {
				return err
			}
			e.copied = copied != nil
		}
		o.mu.Lock()
		o.waiting[m.ID] = e
		o.mu.Unlock()
	}
	return nil
}
