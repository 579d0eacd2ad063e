package line

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

const (
	// lateEvents is how long the cause of an end may take to arrive after the
	// end itself: the library hands both over on goroutines of their own.
	lateEvents = 300 * time.Millisecond
	// handlersWithin bounds the wait for handlers when a link is given up.
	handlersWithin = 2 * time.Second
	// pairCodeWithin bounds the question for a pair code.
	pairCodeWithin = 15 * time.Second
	// unlinkWithin bounds the request to unlink.
	unlinkWithin = 10 * time.Second
	// eventsKept is how many events may wait for the session. They are few; a line
	// that tells more is broken and is shut.
	eventsKept = 16
)

// Device is what the library knows of a link.
type Device = store.Device

// NumberOf is the phone number of a paired device, empty if it is not paired.
func NumberOf(d *Device) whatisup.PhoneNumber {
	if d.ID == nil {
		return ""
	}
	return whatisup.PhoneNumber(d.ID.User)
}

// Handler decides while the library waits. Its methods are called on the
// library's goroutines and must not wait for the session's.
type Handler interface {
	// MayLink is asked when the phone has scanned, before anything is stored.
	MayLink(ctx context.Context) bool
	// Linking says that a scan was let through: a link may be stored any moment.
	// It is never called after Shut has returned.
	Linking()
	// Received stores a message. An error ends the line before the message is
	// acknowledged, so that WhatsApp delivers it again.
	Received(ctx context.Context, m Message) error
	// Receipt stores how far messages of ours have come. An error ends the line
	// before the receipt is acknowledged.
	Receipt(ctx context.Context, r Receipt) error
	// MembersLeft says that people have left a group, and that the next message must
	// not be readable by them. Own is this device. An error ends the line, so that it is told again.
	MembersLeft(ctx context.Context, group, own waconv.JID) error
	// GroupNamed keeps a group's name and returns it. Without a name it returns the one
	// that is kept, empty if none is.
	GroupNamed(ctx context.Context, group waconv.JID, name string) (kept string, err error)
	// AskedAgain says that a device can't read a message of ours in a group. The
	// library sends it again, with our key.
	AskedAgain(ctx context.Context, group, device waconv.JID)
	// Histories are those that the phone has told of and that were not read yet: they
	// are kept from before the receipt of the notice. HistoryTried notes that one is about
	// to be read, and says for which time; HistoryRead forgets it.
	Histories() []History
	HistoryTried(ctx context.Context, id string) (tries int, err error)
	HistoryRead(ctx context.Context, id string) error
	// Restricted stores what WhatsApp keeps the account from.
	Restricted(ctx context.Context, d whatisup.RestrictedData) error
	// Noticed stores what WhatsApp tells beside messages.
	Noticed(ctx context.Context, n waconv.Notice) error
}

// Message is what came in a chat: a message, or a change of one.
type Message struct {
	*waconv.Decoded
	Part string          // its id, if it came within another message
	Self whatisup.Person // the number's own person
}

// Options of a line.
type Options struct {
	Device  *Device
	Ref     whatisup.Ref // a simulator is told whose connection it is
	Trusted func() bool  // whether the process may act for the shard
	Handler Handler
	// Settings are the instance's at this moment; nil: the defaults.
	Settings func() whatisup.Settings
	// File reads a file of at most so many bytes that a call names. Its errors are
	// [whatisup.Error]s.
	File func(ctx context.Context, id whatisup.MediaID, most int64) ([]byte, error)
	Log  *slog.Logger
	// Background counts what may outlive the line for some seconds: the library's
	// handshake can't be interrupted.
	Background *sync.WaitGroup
}

// Line is one connection with its client. It is used once.
type Line struct {
	cli        *whatsmeow.Client
	device     *Device
	handler    Handler
	settings   func() whatisup.Settings
	file       func(ctx context.Context, id whatisup.MediaID, most int64) ([]byte, error)
	log        *slog.Logger
	background *sync.WaitGroup
	ctx        context.Context
	cancel     context.CancelFunc
	events     chan Event

	mu      sync.Mutex
	conn    *conn
	shut    bool
	scanned bool // a scan was let through
	groups  map[waconv.JID]*waconv.Group
	// calls are those that were offered, by id; presences is what was told last of a
	// person in a chat.
	calls     map[string]whatisup.CallData
	retries   map[retryKey]chan *events.MediaRetry // who waits for the phone
	made      map[types.JID]bool                   // new groups that were told of
	known     map[whatisup.PhoneNumber]bool        // whose LID was told
	presences map[[2]string]string
	said      atomic.Bool // the presence that the settings want
	names     names

	handlers  sync.WaitGroup
	histories chan struct{}   // of the network
	reading   map[string]bool // histories that this line has begun to read
}

// Open begins to connect with a device. What becomes of it comes out of Events.
// Shut, or the end of ctx, ends it.
func (n *Network) Open(ctx context.Context, o Options) *Line {
	l := &Line{
		device: o.Device, handler: o.Handler, settings: o.Settings, file: o.File, log: o.Log, background: o.Background,
		events: make(chan Event, eventsKept), histories: n.histories,
	}
	if l.settings == nil {
		l.settings = whatisup.DefaultSettings
	}
	l.ctx, l.cancel = context.WithCancel(ctx)
	l.cli = whatsmeow.NewClient(o.Device, libraryLog{log: o.Log})
	l.configure()

	connected := make(chan struct{})
	http := n.client(func(c net.Conn) (net.Conn, error) { return l.take(c, o.Trusted, connected) }, l.upgraded)
	l.cli.SetPreLoginHTTPClient(http)
	l.cli.SetWebsocketHTTPClient(http)
	l.cli.SetMediaHTTPClient(n.media)
	if n.Simulated() {
		l.cli.WebSocketHeaders.Set("X-WhatsApp-World", string(o.Ref.Customer))
		l.cli.WebSocketHeaders.Set("X-WhatsApp-Instance", string(o.Ref.ID))
	}

	o.Background.Go(func() {
		err := n.payload(func() error { return l.cli.ConnectContext(l.ctx) })
		close(connected)
		if errors.Is(err, store.ErrDeviceDeleted) {
			// WhatsApp has removed the device on a connection that nobody listened to any
			// more, and the library has wiped it.
			l.end(Ended{Cause: StoreFailed, Err: err})
		} else if err != nil {
			l.end(Ended{Cause: NotDialled, Err: err})
		}
	})
	return l
}

// configure sets the client so that it reconnects nothing by itself and
// acknowledges nothing before it is handled.
func (l *Line) configure() {
	cli := l.cli
	cli.EnableAutoReconnect = false
	cli.DisableLoginAutoReconnect = true
	cli.SynchronousAck = true
	cli.EnableDecryptedEventBuffer = true
	cli.ManualHistorySyncDownload = true
	cli.BackgroundEventCtx = l.ctx
	cli.UseRetryMessageStore = true
	cli.SetMaxParallelRetryReceiptHandling(4)
	cli.PreRetryCallback = func(r *events.Receipt, _ types.MessageID, _ int, _ *waE2E.Message) bool {
		if r.IsGroup {
			l.handler.AskedAgain(l.ctx, r.Chat, r.Sender)
		}
		return true
	}
	cli.PrePairCallback = func(types.JID, string, string) bool { return l.mayLink() }
	cli.AddEventHandlerWithSuccessStatus(l.handle)
}

// Events tells what becomes of the line.
func (l *Line) Events() <-chan Event { return l.events }

// clientName is what WhatsApp shows for a link by code; it accepts only names of
// common browsers and systems.
const clientName = "Chrome (Linux)"

// AskPairCode asks WhatsApp for the code that links the phone of this number. The
// answer comes as a [PairCode].
func (l *Line) AskPairCode(phone whatisup.PhoneNumber, serial uint64) {
	l.background.Go(func() {
		ctx, cancel := context.WithTimeout(l.ctx, pairCodeWithin)
		defer cancel()
		code, err := l.cli.PairPhone(ctx, string(phone), true, whatsmeow.PairClientChrome, clientName)
		if l.ctx.Err() == nil {
			l.tell(PairCode{Serial: serial, Phone: phone, Code: code, Err: redact(err), RetryAfter: refusedFor(err)})
		}
	})
}

// pairCodePause is how long to ask for no pair code after WhatsApp has refused one
// because of too many. Its answer rarely says; users tell of hours, and asking
// again makes it longer.
const pairCodePause = 15 * time.Minute

// refusedFor says how long WhatsApp gives no pair code after the error: 0 if that
// is not what the error says. The limit is one of the address, so it meets all
// instances of a host.
func refusedFor(err error) time.Duration {
	refused, ok := errors.AsType[*whatsmeow.IQError](err)
	if !ok || refused.Code != 429 {
		return 0
	}
	if refused.ErrorNode != nil {
		if s := refused.ErrorNode.AttrGetter().OptionalInt("backoff"); s > 0 && s <= 24*3600 {
			return time.Duration(s) * time.Second
		}
	}
	return pairCodePause
}

// internals is the library's door to what it has no other call for.
func (l *Line) internals() *whatsmeow.DangerousInternalClient {
	return l.cli.DangerousInternals() //lint:ignore SA1019 its name says what it is; it goes away in no version
}

// Unlink asks WhatsApp to remove the device. It is the request alone: the
// library's own Logout would also wait for the connection to close, and wipe.
func (l *Line) Unlink(ctx context.Context) error {
	own := l.device.GetJID()
	if own.IsEmpty() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, unlinkWithin)
	defer cancel()
	_, err := l.internals().SendIQ(ctx, whatsmeow.DangerousInfoQuery{
		Namespace: "md", Type: "set", To: types.ServerJID, NoRetry: true,
		Content: []waBinary.Node{{
			Tag:   "remove-companion-device",
			Attrs: waBinary.Attrs{"jid": own, "reason": "user_initiated"},
		}},
	})
	return redact(err)
}

// mayLink lets a scan through, unless the line was shut meanwhile. A line that is
// shut makes no link any more, so after its end it is known whether one may have
// been made.
func (l *Line) mayLink() bool {
	if !l.handler.MayLink(l.ctx) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut {
		return false
	}
	l.scanned = true
	l.handler.Linking()
	return true
}

// MayHaveLinked says whether a scan was let through.
func (l *Line) MayHaveLinked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.scanned
}

// take makes c the line's connection, unless the line was shut meanwhile.
func (l *Line) take(c net.Conn, trusted func() bool, connected <-chan struct{}) (net.Conn, error) {
	own := newConn(c, trusted)
	own.connected = connected
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut {
		c.Close()
		return nil, net.ErrClosed
	}
	l.conn = own
	own.onEnd = l.closed
	return own, nil
}

// upgraded: the connection is a WebSocket now.
func (l *Line) upgraded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.conn.upgraded.Store(true)
	}
}

// closed is called once, when the connection has ended, from whichever side. Silent:
// WhatsApp has said nothing before it that could say why.
func (l *Line) closed(cause error, silent bool) {
	l.mu.Lock()
	ours := l.shut
	l.mu.Unlock()
	if ours {
		return
	}
	if silent {
		l.end(Ended{Cause: Closed, Err: cause})
		return
	}
	// The stanza that says why may still be on its way through the library.
	time.AfterFunc(lateEvents, func() { l.end(Ended{Cause: Closed, Err: cause}) })
}

// tell hands an event to the session. It never blocks.
func (l *Line) tell(e Event) {
	select {
	case l.events <- e:
	default:
		l.log.Error("too much happened on one connection", "last", fmt.Sprintf("%T", e))
		l.Shut()
	}
}

// end tells the session why the line is over, and shuts it.
func (l *Line) end(e Ended) {
	l.tell(e)
	l.Shut()
}

// Fail ends the line because the auth state could not be kept.
func (l *Line) Fail(err error) { l.end(Ended{Cause: StoreFailed, Err: err}) }

// Shut ends the line at once: first the connection, so that nothing can be said
// any more, then everything that works for it. It waits for nobody and may be
// called from anywhere, any number of times.
func (l *Line) Shut() {
	l.mu.Lock()
	if l.shut {
		l.mu.Unlock()
		return
	}
	l.shut = true
	c := l.conn
	l.mu.Unlock()
	if c != nil {
		c.Close()
	}
	l.cancel()
}

// Settle waits until no handler of the line runs, but not for long.
func (l *Line) Settle() {
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

// handle is the one place that takes the library's events. It says whether the
// event may be acknowledged. It runs on the library's goroutines and never waits
// for the session.
func (l *Line) handle(evt any) (ok bool) {
	l.handlers.Add(1)
	defer l.handlers.Done()
	defer func() {
		if p := recover(); p != nil {
			// The library would take a panic for success.
			l.log.Error("event handler panicked", "event", fmt.Sprintf("%T", evt), "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			l.end(Ended{Cause: HandlerFailed, Err: errors.New("panic")})
			ok = false
		}
	}()

	switch evt := evt.(type) {
	case *events.QR:
		l.tell(Codes{evt.Codes})
	case *events.PairSuccess:
		l.tell(Linked{whatisup.PhoneNumber(evt.ID.User)})
	case *events.PairError:
		l.tell(ScanFailed{})
	case *events.PairPasskeyRequest, *events.PairPasskeyError:
		l.tell(PasskeyAsked{})
	case *events.Connected:
		l.tell(Up{})
		l.SayPresence()
		l.readHistories() // that a connection before, or a host, has not come to the end of
	case *events.OfflineSyncCompleted:
		l.tell(CaughtUp{})
	case *events.PushNameSetting:
		if !l.said.Load() { // WhatsApp takes none without a name
			l.SayPresence()
		}

	case *events.LoggedOut:
		l.tell(loggedOut(evt))
	case *events.StreamReplaced:
		l.tell(Ended{Cause: Replaced})
	case *events.TemporaryBan:
		l.tell(Ended{Cause: TempBanned, For: evt.Expire})
	case *events.ClientOutdated:
		l.tell(Ended{Cause: Outdated})
	case *events.ConnectFailure:
		l.tell(Ended{Cause: Refused, Code: int(evt.Reason)})
	case *events.StreamError:
		// Without a code it is no error of the stream; if the stream does end, the
		// connection says so.
		if evt.Code != "" {
			l.tell(Ended{Cause: StreamError})
		}
	case *events.ManualLoginReconnect:
		l.tell(Ended{Cause: Restart})
	case *events.KeepAliveTimeout:
		l.tell(Ended{Cause: Silent})

	case *events.Message:
		d := waconv.Decode(l.ctx, evt, l.env())
		if !l.received(d, waconv.Part(evt)) {
			return false
		}
		if evt.Info.Chat.Server == types.GroupServer && l.settings().Receive.Groups {
			l.groupNamed(evt.Info.Chat, "")
		}
		if d.Learnt != nil && d.Learnt.PhoneNumber != "" {
			l.heard(waconv.ContactChanged(*d.Learnt, whatisup.ContactPhoneNumber))
		}
		if evt.Info.IsFromMe && evt.Message.GetProtocolMessage().GetHistorySyncNotification() != nil {
			l.readHistories()
		}
		if d.Event == whatisup.MessageReceived {
			l.readAtOnce(&evt.Info, d.ChatType)
		}
	case *events.UndecryptableMessage:
		if evt.DecryptFailMode == events.DecryptFailHide {
			return true // a reaction or the like, which nobody waits for
		}
		return l.received(waconv.Undecryptable(evt, l.env()), "")
	case *events.Receipt:
		return l.receipt(evt)
	case *events.GroupInfo:
		return l.groupChanged(evt)
	case *events.JoinedGroup:
		return l.groupJoined(evt)
	case *events.Picture:
		return l.pictureChanged(evt)
	case *events.PushName:
		return l.contactChanged(whatisup.ContactPushName, evt.JID, evt.JIDAlt)
	case *events.BusinessName:
		return l.contactChanged(whatisup.ContactBusinessName, evt.JID)
	case *events.UserAbout:
		return l.contactChanged(whatisup.ContactAbout, evt.JID)
	case *events.Contact:
		if evt.FromFullSync {
			return true // the whole address book, after a new link
		}
		return l.contactChanged(whatisup.ContactName, evt.JID)
	case *events.Presence:
		return l.presence(waconv.Presence(l.other, evt))
	case *events.ChatPresence:
		return evt.IsFromMe || l.presence(waconv.Typing(l.other, evt))
	case *events.CallOffer:
		return l.callOffered(&evt.BasicCallMeta, offersVideo(evt))
	case *events.CallOfferNotice:
		return l.callOffered(&evt.BasicCallMeta, evt.Media == "video")
	case *events.CallTerminate:
		return l.callEnded(&evt.BasicCallMeta, waconv.CallOutcome(evt.Reason))
	case *events.NotifyAccountReachoutTimelock:
		return l.restricted(evt)
	case *events.MediaRetry:
		l.retried(evt)

	default:
		if !ignored(evt) {
			l.log.Warn("the library told something unknown", "event", fmt.Sprintf("%T", evt))
		}
	}
	return true
}

// env is what messages are read with.
func (l *Line) env() waconv.Env {
	return waconv.Env{
		Directory: l.other, Secrets: l.cli, Own: []types.JID{l.device.GetJID().ToNonAD(), l.device.GetLID().ToNonAD()}, Now: time.Now(),
	}
}

// other is the other address of a person, empty if it is not known.
func (l *Line) other(j types.JID) (other types.JID) {
	var err error
	if j.Server == types.DefaultUserServer {
		other, err = l.device.LIDs.GetLIDForPN(l.ctx, j)
	} else {
		other, err = l.device.LIDs.GetPNForLID(l.ctx, j)
	}
	if err != nil {
		return types.EmptyJID // a store that fails ends the line by itself
	}
	return other
}

// received hands what came in a chat to the session, and says whether it may be
// acknowledged.
func (l *Line) received(d *waconv.Decoded, part string) bool {
	self := waconv.Person(nil, "", l.device.GetLID(), l.device.GetJID())
	err := l.handler.Received(l.ctx, Message{Decoded: d, Part: part, Self: self})
	if err != nil {
		l.log.Warn("message not stored; WhatsApp delivers it again", "error", err.Error())
		l.end(Ended{Cause: HandlerFailed, Err: err}) // before the library can acknowledge
	}
	return err == nil
}

// receipt hands a receipt to the session, and says whether it may be acknowledged.
func (l *Line) receipt(r *events.Receipt) bool {
	receipt, ok := receiptOf(r)
	if !ok {
		return true
	}
	err := l.handler.Receipt(l.ctx, receipt)
	if err != nil {
		l.log.Warn("receipt not stored; WhatsApp delivers it again", "error", err.Error())
		l.end(Ended{Cause: HandlerFailed, Err: err})
	}
	return err == nil
}

// restricted hands the notice of a restriction to the session.
func (l *Line) restricted(n *events.NotifyAccountReachoutTimelock) bool {
	d := whatisup.RestrictedData{Kind: whatisup.RestrictReachout, Active: n.IsActive}
	if ends := n.TimeEnforcementEnds.Time; n.IsActive && !ends.IsZero() {
		d.Until = whatisup.At(ends)
	}
	err := l.handler.Restricted(l.ctx, d)
	if err != nil {
		l.log.Warn("a restriction was not stored; WhatsApp tells it again", "error", err.Error())
		l.end(Ended{Cause: HandlerFailed, Err: err})
	}
	return err == nil
}

// ignored lists the library's events that nothing is done about, with the reason.
func ignored(evt any) bool {
	switch evt.(type) {
	// The end of the connection is seen on the connection itself, earlier.
	case *events.Disconnected:
	// A first timeout ends the connection, so none is ever restored.
	case *events.KeepAliveRestored:
	// Only the person at the phone can do something about it, and sees it there.
	case *events.QRScannedWithoutMultidevice:
	// The other device of a passkey link; such links are refused before.
	case *events.PairPasskeyConfirmation:
	// The history is read by us: its notification arrives as a message that nobody
	// sent.
	case *events.HistorySync:
	// What was kept for us while we were away begins to come, as messages.
	case *events.OfflineSyncPreview:

	// Not part of this release: the chats on the phone,
	case *events.IdentityChange, *events.Pin, *events.Star, *events.Mute, *events.Archive,
		*events.MarkChatAsRead, *events.ClearChat, *events.DeleteChat, *events.DeleteForMe,
		*events.UnarchiveChatsSetting, *events.UserStatusMute, *events.LabelEdit, *events.LabelAssociationChat,
		*events.LabelAssociationMessage:
	// the state of the app on the phone,
	case *events.AppState, *events.AppStateSyncComplete, *events.AppStateSyncError:
	// newsletters.
	case *events.NewsletterJoin, *events.NewsletterLeave, *events.NewsletterMuteChange, *events.NewsletterLiveUpdate:
	// How a call is set up, and who took it: its end tells.
	case *events.CallAccept, *events.CallPreAccept, *events.CallTransport, *events.CallRelayLatency, *events.CallReject,
		*events.UnknownCallEvent:
	// settings, limits of the account, and what concerns another app.
	case *events.PrivacySettings, *events.Blocklist, *events.FBMessage, *events.CATRefreshError:
	default:
		return false
	}
	return true
}

func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, whatsmeow.ErrIQTimedOut)
}
