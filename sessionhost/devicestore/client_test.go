package devicestore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	wa "go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"whatisup/local/whatsapp"
	"whatisup/local/whatsapp/whatsapptest"
	"whatisup/shared/whatisup"
)

// The tests of this file run an unmodified whatsmeow client on this store,
// against a simulated WhatsApp.

// patience is how long a test waits for what should happen soon.
const patience = 60 * time.Second

var trustOnce sync.Once

func simulator(t *testing.T) *whatsapptest.Simulator {
	sim := whatsapptest.Start(t, whatsapp.Config{})
	trustOnce.Do(func() { whatsmeow.WACertPubKey = sim.Root() })
	return sim
}

// attendant is a session as the session host runs it, as far as the store is
// concerned: a client whose connection the fence closes, and whose messages go
// into the log before they are acknowledged.
type attendant struct {
	*host
	b      *bench
	sim    *whatsapptest.Simulator
	client *whatsmeow.Client
	epoch  whatisup.Epoch

	mu    sync.Mutex
	conns []net.Conn
	dead  chan struct{} // closed when the connection is gone for good
	once  sync.Once
	gone  chan struct{} // closed when the client has noticed that
	ready chan struct{} // closed at the login
	codes chan string
	skip  int // events that are refused by the handler
	done  int // handled
}

// attend adopts the instance and opens it; with link not 0 as a new link.
func (b *bench) attend(sim *whatsapptest.Simulator, epoch whatisup.Epoch, link whatisup.Link) (*attendant, error) {
	b.adopt(epoch)
	a := &attendant{b: b, sim: sim, epoch: epoch, dead: make(chan struct{}), gone: make(chan struct{}), ready: make(chan struct{}), codes: make(chan string, 8)}
	a.host = b.reopen(epoch)
	a.fence.Fail = func(error) { a.cut() }
	device := &store.Device{}
	if link > 0 {
		device = a.New(link)
	} else {
		d, err := a.Load(b.t.Context())
		if err != nil {
			return nil, err
		}
		device = d.Store
	}
	logger := waLog.Noop
	if os.Getenv("WHATSAPP_TEST_LOG") != "" {
		logger = waLog.Stdout(fmt.Sprint("epoch ", epoch), "DEBUG", false)
	}
	a.client = whatsmeow.NewClient(device, logger)
	a.client.SynchronousAck = true
	a.client.EnableDecryptedEventBuffer = true
	a.client.EnableAutoReconnect = false
	a.client.UseRetryMessageStore = true
	a.client.BackgroundEventCtx = a.ctx
	web := a.web()
	a.client.SetPreLoginHTTPClient(web)
	a.client.SetWebsocketHTTPClient(web)
	a.client.AddEventHandlerWithSuccessStatus(a.handle)
	return a, nil
}

// web is an HTTP client whose connections the attendant can cut.
func (a *attendant) web() *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.sim.CA())
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, a.sim.Address)
			if err != nil {
				return nil, err
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			select {
			case <-a.dead:
				_ = conn.Close()
				return nil, errors.New("dead")
			default:
			}
			a.conns = append(a.conns, conn)
			return conn, nil
		},
		TLSClientConfig: &tls.Config{RootCAs: roots},
	}}
}

// cut closes the connection for good, as the fence does.
func (a *attendant) cut() {
	a.once.Do(func() {
		a.mu.Lock()
		close(a.dead)
		for _, c := range a.conns {
			_ = c.Close()
		}
		a.mu.Unlock()
	})
}

// end is what becomes of an attendant whose connection was cut.
func (a *attendant) end() {
	a.cut()
	a.cancel(ErrClosed)
	select { // Disconnect races with the library's own end of a broken connection
	case <-a.gone:
	case <-time.After(time.Second):
	}
	a.client.Disconnect()
}

func (a *attendant) handle(event any) bool {
	switch e := event.(type) {
	case *events.QR:
		a.codes <- e.Codes[0]
	case *events.Connected:
		close(a.ready)
	case *events.Disconnected:
		a.cut()
		close(a.gone)
	case *events.Message:
		text := e.Message.GetConversation()
		if text == "" || e.Info.IsFromMe {
			return true
		}
		m, ok := a.Handling()
		if !ok {
			return false
		}
		a.mu.Lock()
		refuse := a.skip > 0
		a.skip--
		a.mu.Unlock()
		if refuse {
			go a.cut()
			return false
		}
		if err := a.Handled(a.ctx, m, a.logOf(m, text), unsent); err != nil {
			a.cut()
			return false
		}
		a.mu.Lock()
		a.done++
		a.mu.Unlock()
	}
	return true
}

// connect connects and waits for the login; false if the host died before.
func (a *attendant) connect() bool {
	if err := a.client.ConnectContext(a.ctx); err != nil {
		return false
	}
	return a.login()
}

func (a *attendant) login() bool {
	select {
	case <-a.ready:
		return true
	case <-a.dead:
		return false
	case <-time.After(patience):
		a.b.t.Error("no login")
		return false
	}
}

// link pairs a new link by a scan.
func (b *bench) link(sim *whatsapptest.Simulator, number string) *attendant {
	b.t.Helper()
	a, err := b.attend(sim, 1, 1)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := a.client.ConnectContext(a.ctx); err != nil {
		b.t.Fatal(err)
	}
	if _, err := sim.ScanQR(b.t.Context(), whatsapp.DefaultWorld, <-a.codes, number); err != nil {
		b.t.Fatal(err)
	}
	if !a.login() {
		b.t.Fatalf("no login: %v", a.Err())
	}
	if err := a.Confirm(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	return a
}

// waitFor waits for a condition that something else brings about.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
		<-tick.C
	}
}

func textMessage(text string) *waE2E.Message { return &waE2E.Message{Conversation: proto.String(text)} }

func (a *attendant) handled() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.done
}

// The requests of a real client, from the scan to a conversation.
func TestClientCosts(t *testing.T) {
	t.Parallel()
	sim := simulator(t)
	b := newBench(t)
	const ours, friend = "4915110000001", "4915110000002"
	a := b.link(sim, ours)
	w, r := a.rec.counts()
	t.Logf("pairing and first login: %d writes, %d reads", w, r)
	if w > 25 {
		t.Errorf("pairing and first login took %d write requests, want at most 25", w)
	}
	receiveOne := func(text string) {
		t.Helper()
		n := a.handled()
		if _, err := sim.SendText(t.Context(), whatsapp.Text{World: whatsapp.DefaultWorld, From: friend, To: ours, Text: text, Name: "A friend"}); err != nil {
			t.Fatal(err)
		}
		waitFor(t, text, func() bool { return a.handled() > n })
	}
	sendOne := func(text string) {
		t.Helper()
		sent, err := a.client.SendMessage(t.Context(), wa.NewJID(friend, wa.DefaultUserServer), textMessage(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sim.AwaitMessage(t.Context(), whatsapp.MessageFilter{ID: sent.ID}, func(m whatsapp.Message) bool { return m.Text == text }); err != nil {
			t.Fatal(err)
		}
	}
	receiveOne("the first one")
	sendOne("the first reply")
	for range 3 {
		receiveOne("and again")
		sendOne("yes")
	}
	check := func(name string, do func(string), writes, reads int) {
		t.Helper()
		a.rec.reset()
		do(name)
		w, r := a.rec.counts()
		wcu, _ := a.rec.units()
		t.Logf("%s: %d writes, %d reads, %.0f write units", name, w, r, wcu)
		if w > writes || r > reads {
			t.Errorf("%s: %d writes and %d reads, want at most %d and %d", name, w, r, writes, reads)
		}
	}
	check("a received message in a known session", receiveOne, 2, 0)
	check("a sent message to a known contact", sendOne, 1, 0)

	device := a.client.Store
	a.end()
	a.rec.reset()
	again, err := b.attend(sim, 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !again.connect() {
		t.Fatal("no login")
	}
	w, r = again.rec.counts()
	t.Logf("a login of a stored link: %d writes, %d reads", w, r)
	if w > 1 || r > 3 {
		t.Errorf("a login took %d writes and %d reads, want at most 1 and 3", w, r)
	}
	if again.client.Store.PushName != device.PushName || *again.client.Store.ID != *device.ID {
		t.Error("the device has changed")
	}
	a = again
	receiveOne("after the restart")
	sendOne("still here")
	a.end()
}

// A host that dies at any request, again and again, with messages of several
// people in both directions: each is in the log once, in its sender's order, and
// what left can be read.
func TestClientKilled(t *testing.T) {
	t.Parallel()
	sim := simulator(t)
	b := newBench(t)
	const ours = "4915120000001"
	friends := []string{"4915120000002", "4915120000003", "4915120000004"}
	a := b.link(sim, ours)
	r := rand.New(rand.NewPCG(3, 4))

	n := messages(80) / 2
	var current sync.Mutex
	var sent []string
	ctx, stop := context.WithTimeout(t.Context(), max(2*time.Minute, time.Duration(n)*time.Second))
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { // people write
		for i := range n {
			text := fmt.Sprintf("%s %05d", friends[i%len(friends)], i)
			if _, err := sim.SendText(ctx, whatsapp.Text{World: whatsapp.DefaultWorld, From: friends[i%len(friends)], To: ours, Text: text}); err != nil {
				t.Errorf("send text: %v", err)
				return
			}
			if i%20 == 19 {
				waitForLog(t, b, i-10)
			}
		}
	})
	wg.Go(func() { // we write
		for i := 0; i < n && ctx.Err() == nil; {
			current.Lock()
			client := a.client
			current.Unlock()
			text := fmt.Sprintf("reply %05d", i)
			try, cancel := context.WithTimeout(ctx, 10*time.Second)
			_, err := client.SendMessage(try, wa.NewJID(friends[i%len(friends)], wa.DefaultUserServer), textMessage(text))
			cancel()
			if err == nil {
				sent = append(sent, text)
				i++
				continue
			}
			select { // until there is a connection again
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	// What a phone could not read at first it has asked for again.
	read := func(sent []string) bool {
		arrived := make(map[string]bool)
		for _, m := range sim.Messages(whatsapp.MessageFilter{From: ours, Limit: 10 * n}) {
			arrived[m.Text] = true
		}
		return !slices.ContainsFunc(sent, func(text string) bool { return !arrived[text] })
	}

	deaths := 0
	var texts []string
	for complete := false; !complete; {
		// The host dies after some requests, or it is told to.
		a.die(1+r.IntN(20), r.IntN(2) == 0)
		poll := time.NewTicker(50 * time.Millisecond)
	life:
		for {
			select {
			case <-a.dead:
				break life
			case <-poll.C:
				select {
				case <-finished:
					if _, texts = b.logged(); len(texts) >= n && read(sent) {
						complete = true
						break life
					}
				default:
				}
			case <-ctx.Done():
				t.Fatalf("not done in time; %d in the log, %d sent", len(texts), len(sent))
			}
		}
		poll.Stop()
		a.end()
		if complete {
			break
		}
		deaths++
		for {
			next, err := b.attend(sim, a.epoch+1, 0)
			if err != nil {
				t.Fatal(err)
			}
			next.skip = max(0, r.IntN(10)-8) // a handler fails at times
			current.Lock()
			a = next
			current.Unlock()
			if a.connect() {
				break
			}
			a.end()
		}
	}

	ids, texts := b.logged()
	if len(texts) != n {
		t.Errorf("%d of %d messages are in the log", len(texts), n)
	}
	slices.Sort(ids)
	if got := len(slices.Compact(ids)); got != len(texts) {
		t.Errorf("%d event ids for %d messages", got, len(texts))
	}
	for _, friend := range friends {
		var of []string
		for _, text := range texts {
			if text[:len(friend)] == friend {
				of = append(of, text)
			}
		}
		if !slices.IsSorted(of) || len(slices.Compact(of)) != len(of) {
			t.Errorf("messages of one sender are twice or out of order: %v", of)
		}
	}
	arrived := make(map[string]bool)
	again := 0
	for _, m := range sim.Messages(whatsapp.MessageFilter{From: ours, Limit: 10 * n}) {
		arrived[m.Text] = true
		if m.Retries > 0 {
			again++
			t.Errorf("%q could not be read at first", m.Text)
		}
	}
	for _, text := range sent {
		if !arrived[text] {
			t.Errorf("%q was sent and did not arrive", text)
		}
	}
	if deaths < n/20 {
		t.Errorf("only %d deaths", deaths)
	}
	t.Logf("%d messages each way, %d deaths, %d asked for again", n, deaths, again)
}

// waitForLog waits until the log has n rows, so that not everything is sent
// before the first death.
func waitForLog(t *testing.T, b *bench, n int) {
	end := time.Now().Add(patience)
	for time.Now().Before(end) {
		if _, texts := b.logged(); len(texts) >= n {
			return
		}
		time.Sleep(20 * time.Millisecond) // polling the table
	}
	t.Errorf("the log does not reach %d rows", n)
}

// The user removes the device on the phone: the library wipes, and the stored
// link is gone for ever.
func TestClientUnlinked(t *testing.T) {
	t.Parallel()
	sim := simulator(t)
	b := newBench(t)
	const ours = "4915130000001"
	a := b.link(sim, ours)
	if n, err := sim.Unlink(whatsapp.Target{PhoneNumber: ours}); n != 1 || err != nil {
		t.Fatalf("unlink: %d, %v", n, err)
	}
	waitFor(t, "the wipe", func() bool { return b.head()[attrLink] == nil })
	if b.head()[attrKey] != nil {
		t.Error("the wrapped key is still there")
	}
	a.end()
	if _, err := b.attend(sim, 2, 0); !errors.Is(err, ErrNoDevice) {
		t.Errorf("load after the unlink: %v", err)
	}
}

// A fault of the table in the middle of a message: no acknowledgement leaves,
// and the message comes again.
func TestClientFailStop(t *testing.T) {
	t.Parallel()
	sim := simulator(t)
	b := newBench(t)
	const ours, friend = "4915140000001", "4915140000002"
	a := b.link(sim, ours)
	a.rec.hook(func(op string) error { return errDenied }, nil)
	id, err := sim.SendText(t.Context(), whatsapp.Text{World: whatsapp.DefaultWorld, From: friend, To: ours, Text: "hello"})
	if err != nil {
		t.Fatal(err)
	}
	<-a.dead
	a.end()
	for _, e := range sim.Journal(whatsapp.JournalFilter{}) {
		if e.Direction == whatsapp.In && e.ID == id {
			t.Errorf("the client has answered with %s", e.Stanza)
		}
	}
	next, err := b.attend(sim, 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !next.connect() {
		t.Fatal("no login")
	}
	waitFor(t, "the message", func() bool { _, texts := b.logged(); return len(texts) == 1 && texts[0] == "hello" })
	if _, err := sim.AwaitMessage(t.Context(), whatsapp.MessageFilter{ID: id}, func(m whatsapp.Message) bool { return !m.Delivered.IsZero() }); err != nil {
		t.Error(err)
	}
	next.end()
}
