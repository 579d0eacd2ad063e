package shard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow/types"

	"whatisup/sessionhost/courier"
	"whatisup/sessionhost/line"
	"whatisup/sessionhost/outbox"
	"whatisup/sessionhost/session"
	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// world is everything around the sessions of one shard, in memory: the rows, the
// auth state, the queues, WhatsApp and its phones. What it must promise to
// sessions it does for real (epochs, conditions, one connection a device); the
// rest is as simple as can be.
type world struct {
	t   *testing.T
	rnd *rand.Rand

	mu        sync.Mutex
	epoch     whatisup.Epoch
	live      map[whatisup.InstanceID]*whatisup.Instance
	dead      map[whatisup.InstanceID]*whatisup.Instance
	finished  map[whatisup.InstanceID]bool
	auth      map[whatisup.InstanceID]*authRow
	codes     map[whatisup.InstanceID]whatisup.Pairing
	log       []whatisup.Logged
	told      map[string]map[whatisup.EventID]int // by queue
	arrived   map[string][]whatisup.Event         // by queue, each once
	storeDown time.Time
	queueDown map[string]time.Time
	illegal   []string

	// WhatsApp.
	nextDevice  uint32
	devices     map[uint32]phone // linked, by the number of the device
	connections map[uint32]*fakeLine
	handles     map[*line.Device]*handle // which handle a device came from
	showing     map[whatisup.InstanceID]*registration
	faults      map[whatisup.InstanceID]fault
	overlaps    int
	suspect     map[whatisup.InstanceID]bool

	// The owner of the shard.
	host *owner
}

type authRow struct {
	epoch     whatisup.Epoch
	link      whatisup.Link
	device    uint32
	number    string
	confirmed bool
}

type phone struct {
	instance whatisup.InstanceID
	number   string
}

type registration struct {
	l      *fakeLine
	auth   *handle
	device *line.Device
}

// fault is how WhatsApp answers an instance until a time.
type fault struct {
	kind  string
	until time.Time
}

func newWorldOf(t *testing.T, seed uint64) *world {
	return &world{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)),
		live: make(map[whatisup.InstanceID]*whatisup.Instance), dead: make(map[whatisup.InstanceID]*whatisup.Instance),
		finished: make(map[whatisup.InstanceID]bool), auth: make(map[whatisup.InstanceID]*authRow),
		codes: make(map[whatisup.InstanceID]whatisup.Pairing), told: make(map[string]map[whatisup.EventID]int), arrived: make(map[string][]whatisup.Event), queueDown: make(map[string]time.Time),
		devices: make(map[uint32]phone), connections: make(map[uint32]*fakeLine), handles: make(map[*line.Device]*handle),
		showing: make(map[whatisup.InstanceID]*registration), faults: make(map[whatisup.InstanceID]fault),
	}
}

const customer = whatisup.CustomerID("0197f0a0-1234-7abc-8def-0123456789ab")

func refTo(id whatisup.InstanceID) whatisup.Ref {
	return whatisup.Ref{Customer: customer, Mode: whatisup.Test, ID: id}
}

// Rows.

func clone(i *whatisup.Instance) *whatisup.Instance {
	c := *i
	c.Observed.Owed = maps.Clone(i.Observed.Owed)
	return &c
}

func (w *world) available() error {
	if time.Now().Before(w.storeDown) {
		return whatisup.ErrUnavailable
	}
	return nil
}

func (w *world) row(id whatisup.InstanceID) *whatisup.Instance {
	if i := w.live[id]; i != nil {
		return i
	}
	if w.finished[id] {
		return nil
	}
	return w.dead[id]
}

func (w *world) Adopt(_ context.Context, r whatisup.Ref, epoch whatisup.Epoch) (*whatisup.Instance, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.available(); err != nil {
		return nil, err
	}
	if epoch != w.epoch {
		return nil, whatisup.ErrFenced
	}
	i := w.row(r.ID)
	if i == nil {
		return nil, whatisup.ErrNotFound
	}
	i.Observed.Epoch = epoch
	if w.auth[r.ID] == nil {
		w.auth[r.ID] = &authRow{}
	}
	w.auth[r.ID].epoch = epoch
	return clone(i), nil
}

func (w *world) Owned(_ context.Context, r whatisup.Ref) (*whatisup.Instance, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.available(); err != nil {
		return nil, err
	}
	i := w.row(r.ID)
	if i == nil {
		return nil, whatisup.ErrNotFound
	}
	return clone(i), nil
}

func (w *world) mine(i *whatisup.Instance) (*whatisup.Instance, error) {
	if err := w.available(); err != nil {
		return nil, err
	}
	row := w.live[i.Config.ID]
	if !i.DeletedAt.IsZero() {
		row = w.dead[i.Config.ID]
		if w.finished[i.Config.ID] {
			row = nil
		}
	}
	switch {
	case row == nil:
		return nil, whatisup.ErrNotFound
	case row.Observed.Epoch != i.Observed.Epoch:
		return nil, whatisup.ErrFenced
	}
	return row, nil
}

func (w *world) Observe(_ context.Context, i *whatisup.Instance, o whatisup.Observed, events ...whatisup.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	row, err := w.mine(i)
	if err != nil {
		return err
	}
	was := row.Observed
	if (o.Status != was.Status || o.Reason != was.Reason) && !was.Status.MayBecome(o.Status, o.Reason) {
		w.illegal = append(w.illegal, fmt.Sprintf("%s (%s) → %s (%s)", was.Status, was.Reason, o.Status, o.Reason))
	}
	now := time.Now()
	o.Epoch, o.UpdatedAt = was.Epoch, was.UpdatedAt
	if o.Status != was.Status {
		o.Since, o.UpdatedAt = now, now
	}
	o.Unsent, o.Owed = was.Unsent.With(now, events...), was.Owed
	w.record(events...)
	row.Observed = o
	i.Observed = clone(row).Observed
	return nil
}

func (w *world) HostSent(_ context.Context, i *whatisup.Instance) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	row, err := w.mine(i)
	if err != nil {
		return err
	}
	row.Observed.Unsent, i.Observed.Unsent = whatisup.Unsent{}, whatisup.Unsent{}
	return nil
}

func (w *world) Owe(_ context.Context, r whatisup.Ref, epoch whatisup.Epoch, owed map[string]whatisup.Position) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	row := w.row(r.ID)
	if err := w.available(); err != nil {
		return err
	}
	switch {
	case row == nil:
		return whatisup.ErrNotFound
	case row.Observed.Epoch != epoch:
		return whatisup.ErrFenced
	}
	row.Observed.Owed = maps.Clone(owed)
	return nil
}

// record puts events into the log.
func (w *world) record(events ...whatisup.Event) {
	for _, e := range events {
		w.log = append(w.log, whatisup.Logged{Position: whatisup.NewPosition(), Event: e})
	}
}

func (w *world) Position() whatisup.Position { return whatisup.NewPosition() }

func (w *world) EventsAfter(_ context.Context, _ whatisup.CustomerID, _ whatisup.Mode, after whatisup.Position, _ int) iter.Seq2[whatisup.Logged, error] {
	return func(yield func(whatisup.Logged, error) bool) {
		w.mu.Lock()
		log, err := slices.Clone(w.log), w.available()
		w.mu.Unlock()
		if err != nil {
			yield(whatisup.Logged{}, err)
			return
		}
		for _, e := range log {
			if e.Position > after && !yield(e, nil) {
				return
			}
		}
	}
}

func (w *world) Queues() []string { return []string{"one", "two"} }

func (w *world) SendTo(_ context.Context, queue string, events ...whatisup.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Now().Before(w.queueDown[queue]) {
		return whatisup.ErrUnavailable
	}
	if w.told[queue] == nil {
		w.told[queue] = make(map[whatisup.EventID]int)
	}
	for _, e := range events {
		if w.told[queue][e.ID]++; w.told[queue][e.ID] == 1 {
			w.arrived[queue] = append(w.arrived[queue], e)
		}
	}
	return nil
}

func (w *world) Sent(_ context.Context, i *whatisup.Instance) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if row := w.row(i.Config.ID); row != nil && row.Unsent == i.Unsent {
		row.Unsent = whatisup.Unsent{}
	}
	return w.available()
}

func (w *world) TellDeleted(_ context.Context, i *whatisup.Instance) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	row, err := w.mine(i)
	if err == nil {
		row.Farewell = nil
	}
	return err
}

func (w *world) FinishDeleted(_ context.Context, i *whatisup.Instance) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.mine(i); err != nil {
		return err
	}
	if w.auth[i.Config.ID] != nil {
		return whatisup.ErrConflict
	}
	w.finished[i.Config.ID] = true
	return nil
}

func (w *world) ShardInstances(context.Context, whatisup.Mode, whatisup.Shard) ([]whatisup.Hint, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.available(); err != nil {
		return nil, err
	}
	var hints []whatisup.Hint
	for id := range w.live {
		hints = append(hints, w.hint(id))
	}
	for id := range w.dead {
		if !w.finished[id] {
			hints = append(hints, w.hint(id))
		}
	}
	return hints, nil
}

func (w *world) hint(id whatisup.InstanceID) whatisup.Hint {
	i := w.row(id)
	h := whatisup.Hint{
		Ref: refTo(id), Deleted: !i.DeletedAt.IsZero(), Online: i.Wanted.Online, Generation: i.Wanted.Generation,
		UnlinkThrough: i.Wanted.UnlinkThrough, Link: i.Observed.Link, Epoch: i.Observed.Epoch,
		ObservedGeneration: i.Observed.ObservedGeneration, DoneGeneration: i.Observed.DoneGeneration,
	}
	if i.Unsent.From != "" || i.Observed.Unsent.From != "" {
		h.UnsentAt = time.Now().Add(-time.Minute)
	}
	if len(i.Observed.Owed) > 0 {
		h.OwedAt = time.Now()
	}
	return h
}

func (w *world) PutPairing(_ context.Context, p whatisup.Pairing) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.available(); err != nil {
		return err
	}
	if w.codes[p.Instance].Attempt.Compare(p.Attempt) > 0 {
		return whatisup.ErrFenced
	}
	w.codes[p.Instance] = p
	return nil
}

func (w *world) VouchPairing(_ context.Context, id whatisup.InstanceID, a whatisup.AttemptID, until time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.available(); err != nil {
		return err
	}
	p := w.codes[id]
	if p.Attempt != a {
		return whatisup.ErrFenced
	}
	p.AliveUntil = until
	w.codes[id] = p
	return nil
}

func (w *world) PutResult(context.Context, whatisup.Result) error { return nil }

// Auth state.

type handle struct {
	w     *world
	id    whatisup.InstanceID
	fence session.Fence
	made  *line.Device // of New
	link  whatisup.Link

	mu   sync.Mutex
	err  error
	shut bool
}

func (w *world) Open(r whatisup.Ref, f session.Fence) session.Auth {
	return &handle{w: w, id: r.ID, fence: f}
}

func (h *handle) row() (*authRow, error) {
	h.mu.Lock()
	shut := h.shut
	h.mu.Unlock()
	if shut || h.fence.Context.Err() != nil {
		return nil, context.Canceled
	}
	if err := h.w.available(); err != nil {
		return nil, err
	}
	r := h.w.auth[h.id]
	if r == nil || r.epoch != h.fence.Epoch {
		return nil, whatisup.ErrFenced
	}
	return r, nil
}

func (h *handle) New(l whatisup.Link) *line.Device {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.nextDevice++
	h.made, h.link = &line.Device{RegistrationID: h.w.nextDevice}, l
	h.w.handles[h.made] = h
	return h.made
}

func (h *handle) PrepareKey(context.Context) error { return nil }

func (h *handle) Load(context.Context) (session.Device, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	r, err := h.row()
	if err != nil {
		return session.Device{}, err
	}
	if r.link == 0 {
		return session.Device{}, whatisup.ErrNotFound
	}
	jid := types.NewADJID(r.number, 0, 1)
	d := &line.Device{RegistrationID: r.device, ID: &jid}
	h.w.handles[d] = h
	return session.Device{Store: d, Link: r.link, Confirmed: r.confirmed}, nil
}

// paired is what the library does with a link before it tells the phone.
func (h *handle) paired(d *line.Device, number string) error {
	r, err := h.row()
	if err != nil {
		return err
	}
	if r.link != 0 || d != h.made {
		return errors.New("there is a link already")
	}
	r.link, r.device, r.number, r.confirmed = h.link, d.RegistrationID, number, false
	return nil
}

func (h *handle) Confirm(context.Context) error {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	r, err := h.row()
	if err == nil {
		r.confirmed = true
	}
	return err
}

func (h *handle) Wipe(_ context.Context, l whatisup.Link) error {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return h.wipe(l)
}

func (h *handle) wipe(l whatisup.Link) error {
	r, err := h.row()
	if err != nil {
		return err
	}
	if r.link != 0 && r.link != l {
		return whatisup.ErrConflict
	}
	*r = authRow{epoch: r.epoch}
	return nil
}

func (h *handle) Remove(context.Context) error {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	r, err := h.row()
	if err != nil {
		if errors.Is(err, whatisup.ErrFenced) && h.w.auth[h.id] == nil {
			return nil
		}
		return err
	}
	if r.link != 0 {
		return whatisup.ErrConflict
	}
	delete(h.w.auth, h.id)
	return nil
}

func (h *handle) Copy(context.Context, whatisup.MessageID) (*outbox.Copy, error) { return nil, nil }

func (h *handle) Sending(ctx context.Context, _ whatisup.MessageID, _ *outbox.Copy) (context.Context, error) {
	return ctx, nil
}

func (h *handle) Acked(context.Context, context.Context) error            { return nil }
func (h *handle) RenewKey(context.Context, waconv.JID, waconv.JID) error  { return nil }
func (h *handle) ForgetKey(context.Context, waconv.JID, waconv.JID) error { return nil }
func (h *handle) Histories() []line.History                               { return nil }
func (h *handle) HistoryTried(context.Context, string) (int, error)       { return 1, nil }
func (h *handle) HistoryRead(context.Context, string) error               { return nil }

// uncounted is for tests that are not about usage.
type uncounted struct{}

func (uncounted) Count(whatisup.Ref, whatisup.Usage) {}

func (h *handle) Inbound(string) (session.Inbound, bool) { return session.Inbound{}, false }

func (h *handle) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

func (h *handle) Close(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shut = true
	return nil
}

// WhatsApp.

// fakeLine is a connection to it.
type fakeLine struct {
	w      *world
	o      line.Options
	ctx    context.Context
	cancel context.CancelFunc
	events chan line.Event

	mu      sync.Mutex
	shut    bool
	scanned bool
}

func (l *fakeLine) Events() <-chan line.Event { return l.events }

func (l *fakeLine) Ask(context.Context, whatisup.CommandKind, json.RawMessage) (json.RawMessage, error) {
	return nil, line.ErrNoAnswer
}

func (l *fakeLine) AskPairCode(phone whatisup.PhoneNumber, serial uint64) {
	l.o.Background.Go(func() {
		time.Sleep(50 * time.Millisecond)
		if l.ctx.Err() == nil {
			l.tell(line.PairCode{Serial: serial, Phone: phone, Code: "ABCD-EFGH"})
		}
	})
}

func (l *fakeLine) Unlink(ctx context.Context) error {
	time.Sleep(20 * time.Millisecond)
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if n := l.o.Device.RegistrationID; ctx.Err() != nil || l.w.connections[n] != l {
		return errors.New("no connection")
	}
	delete(l.w.devices, l.o.Device.RegistrationID)
	return nil
}

func (l *fakeLine) SayPresence() {}

func (l *fakeLine) MayHaveLinked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.scanned
}

func (l *fakeLine) Fail(err error) {
	l.tell(line.Ended{Cause: line.StoreFailed, Err: err})
	l.Shut()
}

func (l *fakeLine) Shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut = true
	l.cancel()
}

func (l *fakeLine) Settle() {}

// No message is sent here; package outbox has the tests of that.
func (l *fakeLine) Send(context.Context, waconv.JID, whatisup.MessageID, *waconv.Content) line.Sent {
	return line.Sent{}
}
func (l *fakeLine) GetFile(context.Context, *whatisup.MediaOrigin) (io.ReadCloser, int64, error) {
	return nil, 0, whatisup.ErrNotFound
}

func (l *fakeLine) AskFile(context.Context, *whatisup.MediaOrigin) (string, error) {
	return "", whatisup.ErrNotFound
}

func (l *fakeLine) PutFile(context.Context, whatisup.BodyType, io.Reader, int64, []byte) (string, string, error) {
	return "", "", errors.New("no file is sent here")
}
func (l *fakeLine) Resolve(_ context.Context, n whatisup.PhoneNumber) (whatisup.Person, bool, error) {
	return whatisup.Person{PhoneNumber: n}, true, nil
}
func (l *fakeLine) Forget(waconv.JID)                              {}
func (l *fakeLine) Typing(context.Context, waconv.JID, bool) error { return nil }
func (l *fakeLine) Self(bool) waconv.JID                           { return waconv.JID{} }
func (l *fakeLine) Address(context.Context, whatisup.Address, bool) waconv.JID {
	return waconv.JID{}
}
func (l *fakeLine) Group(context.Context, waconv.JID) (*waconv.Group, error) {
	return nil, whatisup.ErrNotFound
}

// noMessages is a ledger without messages.
type noMessages struct{}

func (noMessages) Line(context.Context, whatisup.Ref, time.Time, int) ([]*whatisup.Message, error) {
	return nil, nil
}
func (noMessages) Message(context.Context, whatisup.Ref, whatisup.MessageID) (*whatisup.Message, error) {
	return nil, whatisup.ErrNotFound
}
func (noMessages) StepMessage(context.Context, whatisup.Ref, whatisup.MessageID, whatisup.Step) (*whatisup.Message, whatisup.MessageStatus, error) {
	return nil, "", whatisup.ErrNotFound
}
func (noMessages) PutRecipients(context.Context, whatisup.Ref, whatisup.MessageID, *whatisup.Recipients, bool) error {
	return nil
}
func (noMessages) Recipients(context.Context, whatisup.Ref, whatisup.MessageID) (*whatisup.Recipients, error) {
	return nil, whatisup.ErrNotFound
}
func (noMessages) CountRecipients(context.Context, whatisup.Ref, whatisup.MessageID, *whatisup.RecipientCounts) error {
	return nil
}
func (noMessages) MarkUntold(context.Context, whatisup.Ref, time.Time) error { return nil }
func (noMessages) Untold(context.Context, whatisup.Ref) (time.Time, error) {
	return time.Time{}, nil
}
func (noMessages) Stepped(context.Context, whatisup.Ref, time.Time, time.Time, int) ([]*whatisup.Message, error) {
	return nil, nil
}
func (noMessages) EndMessages(context.Context, whatisup.Ref, whatisup.Epoch, map[whatisup.MessageID]whatisup.Step) error {
	return nil
}
func (noMessages) TryMessage(context.Context, whatisup.Ref, whatisup.MessageID, int) error {
	return nil
}
func (noMessages) WaitMessage(context.Context, whatisup.Ref, whatisup.MessageID, whatisup.WaitingFor, time.Time) error {
	return nil
}
func (noMessages) Restrictions(context.Context, whatisup.Ref) (whatisup.Restrictions, error) {
	return nil, nil
}
func (noMessages) KeepRestrictions(context.Context, whatisup.Ref, whatisup.Restrictions) error {
	return nil
}
func (noMessages) Exchanged(context.Context, whatisup.Ref, time.Time) (map[whatisup.Address]bool, int, error) {
	return nil, 0, nil
}
func (noMessages) Received(context.Context, whatisup.Ref, whatisup.Address, whatisup.Address, whatisup.MessageID) (*whatisup.Message, error) {
	return nil, whatisup.ErrNotFound
}
func (noMessages) KeepReceived(context.Context, *whatisup.Message) (*whatisup.Message, error) {
	return nil, nil
}
func (noMessages) UpdateReceived(context.Context, *whatisup.Message) error { return nil }
func (noMessages) Messages(context.Context, whatisup.Ref, whatisup.Listing, int) iter.Seq2[whatisup.Listed, error] {
	return func(func(whatisup.Listed, error) bool) {}
}
func (noMessages) ChatTimer(context.Context, whatisup.Ref, whatisup.Address) (whatisup.Timer, error) {
	return whatisup.Timer{}, nil
}

func (noMessages) KeepChatTimer(context.Context, whatisup.Ref, whatisup.Address, whatisup.Timer) error {
	return nil
}

func (noMessages) ReadThrough(context.Context, whatisup.Ref, whatisup.Address) (string, error) {
	return "", nil
}
func (noMessages) KeepReadThrough(context.Context, whatisup.Ref, whatisup.Address, string) error {
	return nil
}
func (noMessages) Subscriptions(context.Context, whatisup.Ref) ([]whatisup.Subscription, error) {
	return nil, nil
}
func (noMessages) KeepGroupName(context.Context, whatisup.Ref, whatisup.Address, string) (string, error) {
	return "", nil
}
func (noMessages) KeepSubscriptions(context.Context, whatisup.Ref, []whatisup.Subscription) error {
	return nil
}
func (noMessages) PutEvent(context.Context, whatisup.Event) error { return nil }

func (l *fakeLine) tell(e line.Event) {
	select {
	case l.events <- e:
	default:
		l.w.t.Error("too much happened on one connection")
	}
}

// closed is the end of the connection from the other side. What it means may be
// told a little later.
func (l *fakeLine) closed() {
	time.AfterFunc(300*time.Millisecond, func() {
		if l.ctx.Err() == nil {
			l.tell(line.Ended{Cause: line.Closed, Err: errors.New("closed")})
			l.Shut()
		}
	})
}

func (l *fakeLine) mayLink() bool {
	if !l.o.Handler.MayLink(l.ctx) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut {
		return false
	}
	l.scanned = true
	l.o.Handler.Linking()
	return true
}

func (w *world) faultOf(id whatisup.InstanceID) string {
	if f, ok := w.faults[id]; ok && time.Now().Before(f.until) {
		return f.kind
	}
	return ""
}

// open is a client's dial and everything up to the login or the first code.
func (w *world) open(ctx context.Context, o line.Options) session.Line {
	l := &fakeLine{w: w, o: o, events: make(chan line.Event, 16)}
	l.ctx, l.cancel = context.WithCancel(ctx)
	o.Background.Go(func() {
		time.Sleep(5 * time.Millisecond)
		if !o.Trusted() || l.ctx.Err() != nil {
			l.tell(line.Ended{Cause: line.NotDialled, Err: errFenced})
			l.Shut()
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.answer(l)
	})
	return l
}

// answer is what WhatsApp does with a new connection.
func (w *world) answer(l *fakeLine) {
	id, d := l.o.Ref.ID, l.o.Device
	auth := w.handles[d]
	f := w.faults[id]
	kind := w.faultOf(id)
	end := func(e line.Ended) {
		l.tell(e)
		l.closed()
	}
	switch kind {
	case "unreachable":
		l.tell(line.Ended{Cause: line.NotDialled, Err: errors.New("refused")})
		go l.Shut()
		return
	case "silent":
		return // until somebody gives up
	case "outdated":
		end(line.Ended{Cause: line.Outdated})
		return
	}

	if d.ID == nil {
		w.showing[id] = &registration{l, auth, d}
		l.tell(line.Codes{Texts: []string{"a", "b", "c", "d", "e", "f"}})
		context.AfterFunc(l.ctx, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if r := w.showing[id]; r != nil && r.l == l {
				delete(w.showing, id)
			}
		})
		return
	}
	if _, ok := w.devices[d.RegistrationID]; !ok {
		w.loggedOut(l, auth, line.RemovedOnPhone)
		return
	}
	switch kind {
	case "403", "406":
		delete(w.devices, d.RegistrationID)
		w.loggedOut(l, auth, map[string]line.Cause{"403": line.LinkInvalid, "406": line.BannedForGood}[kind])
		return
	case "banned":
		end(line.Ended{Cause: line.TempBanned, For: time.Until(f.until)})
		return
	case "refused":
		end(line.Ended{Cause: line.Refused, Code: 429})
		return
	case "500":
		l.closed()
		return
	}
	if other := w.connections[d.RegistrationID]; other != nil && other != l {
		w.overlaps++
		other.tell(line.Ended{Cause: line.Replaced})
		other.closed()
	}
	w.connections[d.RegistrationID] = l
	context.AfterFunc(l.ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.connections[d.RegistrationID] == l {
			delete(w.connections, d.RegistrationID)
		}
	})
	l.tell(line.Up{})
}

// loggedOut is what the library does when WhatsApp says that the link is gone.
func (w *world) loggedOut(l *fakeLine, auth *handle, why line.Cause) {
	if r, err := auth.row(); err == nil {
		_ = auth.wipe(r.link)
	}
	l.tell(line.Ended{Cause: why})
	l.closed()
}

// scan is a phone that scans the code shown.
func (w *world) scan(id whatisup.InstanceID, number string) {
	w.mu.Lock()
	r := w.showing[id]
	delete(w.showing, id)
	first := w.rnd.IntN(2) == 0
	w.mu.Unlock()
	if r == nil {
		return
	}
	go func() {
		time.Sleep(3 * time.Millisecond)
		if r.l.ctx.Err() != nil {
			return
		}
		if !r.l.mayLink() {
			r.l.tell(line.ScanFailed{})
			return
		}
		time.Sleep(3 * time.Millisecond)
		w.mu.Lock()
		err := r.auth.paired(r.device, number)
		if err != nil {
			w.mu.Unlock()
			r.l.tell(line.ScanFailed{})
			return
		}
		jid := types.NewADJID(number, 0, 1)
		r.device.ID = &jid
		w.devices[r.device.RegistrationID] = phone{id, number}
		w.mu.Unlock()
		success, restart := line.Linked{Number: whatisup.PhoneNumber(number)}, line.Ended{Cause: line.Restart}
		if first {
			r.l.tell(success)
			r.l.tell(restart)
		} else {
			r.l.tell(restart)
			time.Sleep(time.Millisecond)
			r.l.tell(success)
		}
	}()
}

// connection is the instance's open one.
func (w *world) connection(id whatisup.InstanceID) (uint32, *fakeLine) {
	for d, p := range w.devices {
		if l := w.connections[d]; l != nil && p.instance == id {
			return d, l
		}
	}
	return 0, nil
}

// misbehave is something that happens to an instance's connection, or awaits its
// next ones.
func (w *world) misbehave(id whatisup.InstanceID, kind string, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch kind {
	case "drop", "restart", "replaced", "half_open", "stream":
	case "removed":
		for n, p := range w.devices {
			if p.instance != id {
				continue
			}
			delete(w.devices, n)
			if l := w.connections[n]; l != nil {
				w.loggedOut(l, w.handles[l.o.Device], line.RemovedOnPhone)
			}
		}
		return
	default:
		w.faults[id] = fault{kind, time.Now().Add(d)}
	}
	_, l := w.connection(id)
	if r := w.showing[id]; l == nil && r != nil {
		l = r.l
	}
	if l == nil {
		return
	}
	switch kind {
	case "restart":
		l.tell(line.Ended{Cause: line.Restart})
	case "replaced":
		l.tell(line.Ended{Cause: line.Replaced})
	case "stream":
		l.tell(line.Ended{Cause: line.StreamError})
	case "half_open":
		time.AfterFunc(35*time.Second, func() {
			if l.ctx.Err() == nil {
				l.tell(line.Ended{Cause: line.Silent})
			}
		})
		return
	}
	l.closed()
}

// The owner of the shard.

type owner struct {
	w     *world
	e     whatisup.Epoch
	shard *Shard
	kit   *Kit
	stop  context.CancelFunc
	end   context.CancelFunc
	done  chan struct{}

	mu     sync.Mutex
	lost   bool
	next   int
	onLost map[int]func()
}

func (o *owner) Shard() whatisup.Shard { return 0 }
func (o *owner) Epoch() whatisup.Epoch { return o.e }
func (o *owner) Up()                   {}
func (o *owner) HandedOver() bool      { return false }

func (o *owner) Trusted() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.lost
}

func (o *owner) Confirm(context.Context) error {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	if o.w.epoch != o.e {
		return whatisup.ErrFenced
	}
	return o.w.available()
}

func (o *owner) OnLost(f func()) func() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lost {
		go f()
		return func() {}
	}
	n := o.next
	o.next++
	o.onLost[n] = f
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.onLost, n)
	}
}

type silent struct{}

func (silent) Connect(string, string, time.Duration) {}
func (silent) FirstCode(time.Duration)               {}
func (silent) Ended(string)                          {}
func (w *world) FetchingMedia(context.Context, whatisup.Mode, whatisup.Shard) ([]whatisup.MediaWork, error) {
	return nil, nil
}

func (w *world) WaitingInstances(context.Context, whatisup.Mode, whatisup.Shard) ([]whatisup.Ref, error) {
	return nil, nil
}

func (silent) Unsupported(string)                                        {}
func (silent) SetAside(string, string)                                   {}
func (silent) Unreadable()                                               {}
func (silent) MessageAcked(time.Duration)                                {}
func (silent) MessageEnded(whatisup.MessageStatus, whatisup.MessageCode) {}
func (silent) Woken(time.Duration)                                       {}

// noMail is a command queue that never has anything; wake-ups come directly.
type noMail struct{}

func (noMail) Poll(ctx context.Context, _ whatisup.Mode, _ whatisup.Shard, wait time.Duration) ([]Message, error) {
	session.Sleep(ctx, wait)
	return nil, ctx.Err()
}

func logger() *slog.Logger {
	if os.Getenv("MODEL_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}

// claim makes a new host the owner of the shard. The one before has drained, is
// dead, or doesn't know yet that it isn't any more.
func (w *world) claim() {
	w.mu.Lock()
	w.epoch++
	o := &owner{w: w, e: w.epoch, done: make(chan struct{}), onLost: make(map[int]func())}
	w.mu.Unlock()
	end, cut := context.WithCancel(context.Background())
	o.end = cut
	o.kit = &Kit{
		Kit: &session.Kit{
			Usage: uncounted{},
			Mode:  whatisup.Test, Store: w, Codes: w, Devices: w, EventLog: noMessages{}, Ledger: noMessages{}, Incoming: noMessages{}, Chats: noMessages{},
			Courier: courier.New(w, w, logger(), func(time.Duration) {}),
			Draw:    func(string) ([]byte, string, error) { return nil, "data:", nil },
			Budgets: session.NewBudgets(1000, 1000, 0), Metrics: silent{}, Log: logger(),
			Blamed: func(whatisup.InstanceID) bool { return false }, Outdated: func() {},
			Timing: session.DefaultTiming(), Open: w.open,
		},
		Shards: w, Rows: w, Results: w, End: end,
	}
	ctx, stop := context.WithCancel(context.Background())
	o.stop = stop
	o.shard = New(o.kit, noMail{}, o)
	w.host = o
	go func() {
		defer close(o.done)
		o.shard.Run(ctx)
	}()
	synctest.Wait()
}

// drain gives the shard up as a host does that is told to go.
func (w *world) drain() {
	o := w.host
	o.stop()
	<-o.done
	o.lose()
}

// die is what a lost lease does, and what a killed process looks like.
func (w *world) die() {
	o := w.host
	o.lose()
	o.stop()
	<-o.done
}

func (o *owner) lose() {
	o.mu.Lock()
	o.lost = true
	fs := slices.Collect(maps.Values(o.onLost))
	o.onLost = nil
	o.mu.Unlock()
	for _, f := range fs {
		f()
	}
	o.end()
}
