package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/shared/whatisup"
)

const (
	// lateEvents is how long the cause of an end may take to arrive after the
	// end itself: the library hands both over on goroutines of their own.
	lateEvents = 300 * time.Millisecond
	// handlersWithin bounds the wait for handlers when a link is given up.
	handlersWithin = 2 * time.Second
)

// What a line tells its session, beside the library's own events.
type (
	// lineClosed: the connection has ended, and no cause came with it.
	lineClosed struct{ cause error }
	// lineFailed: it never came to be.
	lineFailed struct{ cause error }
	// handlerFailed: an event could not be handled, so the line was closed before
	// it could be acknowledged.
	handlerFailed struct{ cause error }
	// storeFailed: the auth state could not be kept.
	storeFailed struct{ cause error }
)

// line is one connection with its client. It is used once.
type line struct {
	client client
	auth   Auth
	began  time.Time
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	forget func() // takes the tenure's end back

	// happened carries what the session must know. Nothing but the few control
	// events goes through it; a line that overflows it is broken and is closed.
	happened chan any

	mu       sync.Mutex
	conn     *conn
	shutDown bool

	scanned bool // the phone has scanned; a link may be stored any moment

	handlers sync.WaitGroup
}

// client is what a session asks of a WhatsApp client; what it has to say comes
// out of the line's happened.
type client interface {
	device() *store.Device
	// pairPhone asks for the code that links the phone of this number.
	pairPhone(ctx context.Context, number string) (string, error)
	// unlink asks WhatsApp to remove the device.
	unlink(ctx context.Context) error
}

// open begins to connect with a device. What becomes of it comes out of
// happened; shut ends it.
func (s *session) open(device *store.Device) *line {
	l := &line{auth: s.auth, began: time.Now(), log: s.log, happened: make(chan any, 16)}
	l.ctx, l.cancel = context.WithCancel(s.ctx)
	s.line.Store(l)
	l.forget = s.tenure.OnLost(l.shut)
	if s.kit.dial != nil {
		l.client = s.kit.dial(s, l, device)
	} else {
		l.client = s.dial(l, device)
	}
	return l
}

// dial connects with the library.
func (s *session) dial(l *line, device *store.Device) client {
	cli := whatsmeow.NewClient(device, libraryLog{log: s.log})
	cli.EnableAutoReconnect = false
	cli.DisableLoginAutoReconnect = true
	cli.SynchronousAck = true
	cli.EnableDecryptedEventBuffer = true
	cli.ManualHistorySyncDownload = true
	cli.BackgroundEventCtx = l.ctx
	cli.UseRetryMessageStore = true
	cli.SetMaxParallelRetryReceiptHandling(4)
	cli.PrePairCallback = func(types.JID, string, string) bool { return s.mayLink(l) }
	connected := make(chan struct{})
	http := s.kit.Network.client(func(c net.Conn) (net.Conn, error) { return l.take(c, s.tenure.Trusted, connected) }, l.upgraded)
	cli.SetPreLoginHTTPClient(http)
	cli.SetWebsocketHTTPClient(http)
	cli.SetMediaHTTPClient(s.kit.Network.media)
	if s.kit.Network.Simulated() {
		cli.WebSocketHeaders.Set("X-WhatsApp-World", string(s.ref.Customer))
		cli.WebSocketHeaders.Set("X-WhatsApp-Instance", string(s.ref.ID))
	}
	cli.AddEventHandlerWithSuccessStatus(func(evt any) bool { return s.handle(l, evt) })
	s.kit.Background.Go(func() {
		err := s.kit.Network.payload(func() error { return cli.ConnectContext(l.ctx) })
		close(connected)
		if err != nil {
			l.tell(lineFailed{err})
			l.shut()
		}
	})
	return library{cli}
}

// library is the real client.
type library struct{ cli *whatsmeow.Client }

func (c library) device() *store.Device { return c.cli.Store }

// clientName is what WhatsApp shows for a link by code; it accepts only names of
// common browsers and systems.
const clientName = "Chrome (Linux)"

func (c library) pairPhone(ctx context.Context, number string) (string, error) {
	return c.cli.PairPhone(ctx, number, true, whatsmeow.PairClientChrome, clientName)
}

// unlink is the request alone: the library's own Logout would also wait for the
// connection to close, and wipe.
func (c library) unlink(ctx context.Context) error {
	own := c.cli.Store.GetJID()
	if own.IsEmpty() {
		return nil
	}
	_, err := c.cli.DangerousInternals().SendIQ(ctx, whatsmeow.DangerousInfoQuery{
		Namespace: "md", Type: "set", To: types.ServerJID, NoRetry: true,
		Content: []waBinary.Node{{
			Tag:   "remove-companion-device",
			Attrs: waBinary.Attrs{"jid": own, "reason": "user_initiated"},
		}},
	})
	return err
}

// mayLink is asked when the phone has scanned, before anything is stored.
// A line that is shut makes no link any more, so after its end it is known
// whether one may have been made.
func (s *session) mayLink(l *line) bool {
	if !s.stillWanted(l.ctx) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shutDown {
		return false
	}
	l.scanned = true
	s.linking.Store(true)
	return true
}

// mayHaveLinked says whether a scan was let through.
func (l *line) mayHaveLinked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.scanned
}

// take makes c the line's connection, unless the line was shut meanwhile.
func (l *line) take(c net.Conn, trusted func() bool, connected <-chan struct{}) (net.Conn, error) {
	own := newConn(c, trusted)
	own.connected = connected
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shutDown {
		c.Close()
		return nil, net.ErrClosed
	}
	l.conn = own
	own.onEnd = l.closed
	return own, nil
}

// upgraded: the connection is a WebSocket now.
func (l *line) upgraded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.conn.upgraded.Store(true)
	}
}

// closed is called once, when the connection has ended, from whichever side.
func (l *line) closed(cause error) {
	l.mu.Lock()
	ours := l.shutDown
	l.mu.Unlock()
	if ours {
		return
	}
	// The stanza that says why may still be on its way through the library.
	time.AfterFunc(lateEvents, func() {
		l.tell(lineClosed{cause})
		l.shut()
	})
}

// tell hands something to the session. It never blocks.
func (l *line) tell(what any) {
	select {
	case l.happened <- what:
	default:
		l.log.Error("too much happened on one connection", "last", fmt.Sprintf("%T", what))
		l.shut()
	}
}

// shut ends the line at once: first the connection, so that nothing can be said
// any more, then everything that works for it. It waits for nobody and may be
// called from anywhere, any number of times.
func (l *line) shut() {
	l.mu.Lock()
	if l.shutDown {
		l.mu.Unlock()
		return
	}
	l.shutDown = true
	c := l.conn
	l.mu.Unlock()
	if c != nil {
		c.Close()
	}
	l.cancel()
}

// end is shut for the session itself, which keeps no trace of the line.
func (l *line) end() {
	l.shut()
	l.forget()
}

// settle waits until no handler of the line runs, but not for long.
func (l *line) settle() {
	done := make(chan struct{})
	go func() { // ends with the handlers, each of which has its own bounds
		l.handlers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(handlersWithin):
	}
}

// handle is the one place that takes the library's events. It answers whether
// the event may be acknowledged. It runs on the library's goroutines and never
// waits for the session.
func (s *session) handle(l *line, evt any) (ok bool) {
	l.handlers.Add(1)
	defer l.handlers.Done()
	defer func() {
		if p := recover(); p != nil {
			// The library would take a panic for success.
			l.log.Error("event handler panicked", "event", fmt.Sprintf("%T", evt), "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			l.tell(handlerFailed{errors.New("panic")})
			l.shut()
			ok = false
		}
	}()
	switch evt := evt.(type) {
	// What decides about the connection or the link goes to the session.
	case *events.QR, *events.PairSuccess, *events.PairError, *events.PairPasskeyRequest, *events.PairPasskeyError,
		*events.Connected, *events.LoggedOut, *events.StreamReplaced, *events.TemporaryBan, *events.ClientOutdated,
		*events.ConnectFailure, *events.StreamError, *events.ManualLoginReconnect, *events.KeepAliveTimeout:
		l.tell(evt)
	case *events.Message:
		if err := s.receive(l, evt); err != nil {
			l.log.Warn("message not taken; it is delivered again", "error", err.Error())
			l.tell(handlerFailed{err})
			l.shut() // before the library can acknowledge
			return false
		}
	// The end of the connection is seen on the connection itself, earlier.
	case *events.Disconnected:
	// A first timeout ends the connection, so none is ever restored.
	case *events.KeepAliveRestored:
	// Only the person at the phone can do something about it, and sees it there.
	case *events.QRScannedWithoutMultidevice:
	// The other device of a passkey link; such links are refused before.
	case *events.PairPasskeyConfirmation:
	// The library asks the sender again by itself; nothing can be told yet.
	case *events.UndecryptableMessage:
	// History is not downloaded: its notification arrives as a message that is
	// no message, see receive.
	case *events.HistorySync:
	// Progress of what was kept for us while we were away: the messages
	// themselves come as messages.
	case *events.OfflineSyncPreview, *events.OfflineSyncCompleted:
	// Receipts, presence, contacts, groups, calls, settings, newsletters: not
	// part of this release.
	default:
	}
	return true
}

// receive makes an event of a message: on the queues first, then in the log and
// out of the buffer. Only then may it be acknowledged.
func (s *session) receive(l *line, m *events.Message) error {
	data, ok := messageData(m)
	if !ok {
		return nil
	}
	in, ok := l.auth.Inbound(carried(m))
	if !ok {
		// Unencrypted kinds of messages don't pass the buffer; none of them is
		// for the customer.
		return nil
	}
	e, err := whatisup.NewEvent(whatisup.MessageReceived, s.ref.Customer, s.ref.Mode, s.ref.ID, time.Now(), data)
	if err != nil {
		return err
	}
	e.ID = in.EventID
	ctx, cancel := context.WithTimeout(l.ctx, handleWithin)
	defer cancel()
	if !s.tenure.Trusted() {
		return errFenced
	}
	if err := s.kit.Events.Send(ctx, e); err != nil {
		return err
	}
	if err := in.Keep(ctx, e); err != nil {
		return err
	}
	s.kit.Metrics.EventSent(time.Since(m.Info.Timestamp))
	return nil
}

// handleWithin bounds the handling of one message.
const handleWithin = 15 * time.Second

// stillWanted is asked when the phone has scanned, before anything is stored:
// an attempt that was given up meanwhile is refused there, which the phone
// shows. When the rows can't be read the scan goes on; a link that should not be
// is given up right after.
func (s *session) stillWanted(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	i, err := s.kit.Store.Owned(ctx, s.ref)
	if err != nil {
		return !errors.Is(err, whatisup.ErrNotFound)
	}
	return i.DeletedAt.IsZero() && i.AttemptOpen()
}
