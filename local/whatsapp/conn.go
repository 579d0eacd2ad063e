package whatsapp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

const (
	maxOutQueue  = 20_000                 // stanzas waiting for a slow client
	writeTimeout = 10 * time.Second       // for one stanza
	lastGrace    = 300 * time.Millisecond // between the last stanza and the end, if the client does not close first
)

// Connection is what is known of a connection from outside.
type Connection struct {
	ID       uint64
	World    string
	Instance string
	JID      types.JID // empty before login
}

// conn is one WebSocket. Its reading side is one goroutine; its writing side is a goroutine that exists only while there is something to
// write, so that an idle connection has one goroutine.
type conn struct {
	s        *Server
	ws       *websocket.Conn
	id       uint64
	world    string
	instance string
	local    string       // the server's address as the client has reached it
	heard    atomic.Int64 // when the client last sent something, unix nanoseconds
	nextIQ   atomic.Uint64

	read    cipher.AEAD
	counter uint32
	in      frames

	// Guarded by Server.mu.
	device       *device
	registration *registration
	active       bool
	available    bool            // the client says that somebody looks at it
	watches      map[person]bool // whose presence it wants to know
	live         bool            // stanzas go out as they come, because the queue was delivered
	passive      *time.Timer     // until a passive login is taken for active
	deafUntil    time.Time

	deaf atomic.Bool // everything is lost in both directions

	out struct {
		sync.Mutex
		queue   []outgoing
		running bool
		closing bool // nothing may follow what is queued
		aead    cipher.AEAD
		counter uint32
	}

	waiting struct {
		sync.Mutex
		answers map[string]chan *Node
	}

	closeOnce sync.Once
	done      chan struct{}
}

type outgoing struct {
	plain []byte
	last  bool
	due   time.Time // when it has arrived, zero: at once
}

func (c *conn) describe() Connection {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.describeLocked()
}

func (c *conn) describeLocked() Connection {
	out := Connection{ID: c.id, World: c.world, Instance: c.instance}
	if c.device != nil {
		out.JID = c.s.jidOf(c.device.person(), c.device.ID)
	}
	return out
}

// serveChat is the handler of /ws/chat.
func (s *Server) serveChat(w http.ResponseWriter, r *http.Request) {
	world, instance := r.Header.Get(HeaderWorld), r.Header.Get(HeaderInstance)
	if world == "" {
		world = DefaultWorld
	}
	if !validWorld(world) || instance != "" && !validWorld(instance) {
		http.Error(w, "bad world or instance", http.StatusBadRequest)
		return
	}
	c := &conn{s: s, world: world, instance: instance, done: make(chan struct{})}
	if address, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		c.local = address.String()
	}
	if s.meets(kindUnreachable, c) != nil {
		refuseConnection(w)
		return
	}
	ws, err := websocket.Accept(smallBuffers{w}, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // the origin is WhatsApp's, whatever our name is
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return
	}
	ws.SetReadLimit(maxFrame + 1024)
	c.ws = ws
	c.heard.Store(s.now().UnixNano())
	if !s.enter(c) {
		_ = ws.CloseNow()
		return
	}
	if err = c.contained(c.open); err != nil {
		c.close(reasonOf(err))
		s.leave(c)
		return
	}
	// From here on the connection needs a small stack and nothing of the request.
	go func() {
		defer s.leave(c)
		c.close(reasonOf(c.contained(c.listen)))
	}()
}

var errPanic = errors.New("internal error")

// contained lets a panic end one connection and nothing else.
func (c *conn) contained(work func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			c.s.log.Error("a connection panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return work()
}

// smallBuffers takes the HTTP server's buffers from a connection and gives it
// small ones: there are thousands, and they are idle.
type smallBuffers struct{ http.ResponseWriter }

const connBuffer = 512

func (w smallBuffers) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	raw, buffers, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, _ := buffers.Reader.Peek(buffers.Reader.Buffered())
	reader := bufio.NewReaderSize(bytes.NewReader(bytes.Clone(early)), max(connBuffer, len(early)))
	_, _ = reader.Peek(len(early)) // so that it is found where it was: buffered
	return raw, bufio.NewReadWriter(reader, bufio.NewWriterSize(raw, connBuffer)), nil
}

// refuseConnection ends a connection before the upgrade as a network would,
// without an answer.
func refuseConnection(w http.ResponseWriter) {
	if raw, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = raw.Close()
	}
}

func (s *Server) enter(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.nextID++
	c.id = s.nextID
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	return true
}

// leave takes a connection out of every register. No writer starts after it.
func (s *Server) leave(c *conn) {
	c.out.Lock()
	c.out.closing = true
	c.out.Unlock()
	s.mu.Lock()
	delete(s.conns, c)
	if d := c.device; d != nil && d.conn == c {
		d.conn, d.since = nil, s.now()
	}
	if c.passive != nil {
		c.passive.Stop()
	}
	if c.registration != nil {
		for _, ref := range c.registration.refs {
			delete(s.refs, ref)
		}
	}
	s.mu.Unlock()
	s.wg.Done()
}

func reasonOf(err error) string {
	switch {
	case err == nil:
		return "closed"
	case errors.Is(err, errHandshake), errors.Is(err, errStanza), errors.Is(err, errFrameTooLarge), errors.Is(err, errHeader), errors.Is(err, errTransport), errors.Is(err, errPanic), errors.Is(err, errEnded):
		return err.Error()
	default:
		return "closed by the client"
	}
}

// close ends the connection as a broken network would: without a farewell.
func (c *conn) close(why string) {
	c.closeOnce.Do(func() {
		close(c.done)
		c.s.record(c, In, &Node{Tag: "closed", Attrs: Attrs{"reason": why}})
		_ = c.ws.CloseNow()
	})
}

func (c *conn) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

var errEnded = errors.New("ended")

var errTransport = errors.New("a frame cannot be decrypted")

// open shakes hands and admits the client.
func (c *conn) open() error {
	s := c.s
	if d, ok := s.take(kindSlowHandshake, c); ok {
		if !c.pause(time.Duration(d.Millis) * time.Millisecond) {
			return errEnded
		}
	}
	if s.meets(kindSilent, c) != nil {
		c.goDeaf(s.faultEnd(kindSilent, c))
	}
	deadline := time.AfterFunc(s.cfg.HandshakeTimeout, func() {
		if !c.deaf.Load() {
			c.close("handshake took too long")
		}
	})
	defer deadline.Stop()
	c.in.limit = maxHandshakeFrame
	prologue, err := c.readHeader()
	if err != nil {
		return err
	}
	shaken, err := handshake(prologue, s.noise, s.chain, c.readFrame, func(frame []byte) error {
		ctx, cancel := context.WithTimeout(s.ctx, writeTimeout)
		defer cancel()
		return c.ws.Write(ctx, websocket.MessageBinary, putFrame(frame))
	})
	if err != nil {
		return err
	}
	deadline.Stop()
	c.in.limit = maxFrame
	c.read = shaken.read
	c.out.Lock()
	c.out.aead = shaken.write
	c.out.Unlock()
	return c.admit(shaken)
}

// listen takes the client's stanzas until the connection ends.
func (c *conn) listen() error {
	s := c.s
	for {
		node, err := c.readStanza()
		if err != nil {
			return err
		}
		if c.deaf.Load() {
			continue
		}
		s.record(c, In, node)
		s.handle(c, node)
	}
}

func (c *conn) readMessage() error {
	kind, data, err := c.ws.Read(context.Background()) // ends with close
	if err != nil {
		return err
	}
	if kind != websocket.MessageBinary {
		return fmt.Errorf("%w: a text message", errTransport)
	}
	c.heard.Store(c.s.now().UnixNano())
	if !c.deaf.Load() || c.read != nil {
		c.in.add(data)
	}
	return nil
}

func (c *conn) readHeader() ([]byte, error) {
	for {
		if head, err := c.in.header(); head != nil || err != nil {
			return head, err
		}
		if err := c.readMessage(); err != nil {
			return nil, err
		}
	}
}

func (c *conn) readFrame() ([]byte, error) {
	for {
		if frame, err := c.in.next(); frame != nil || err != nil {
			return frame, err
		}
		if err := c.readMessage(); err != nil {
			return nil, err
		}
	}
}

func (c *conn) readStanza() (*Node, error) {
	frame, err := c.readFrame()
	if err != nil {
		return nil, err
	}
	plain, err := c.read.Open(frame[:0], nonce(c.counter), frame, nil)
	if err != nil {
		return nil, errTransport
	}
	c.counter++
	return decodeStanza(plain)
}

// pause waits unless the connection ends first.
func (c *conn) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.done:
		return false
	}
}

// send queues a stanza. It never waits for the client.
func (c *conn) send(n Node) { c.enqueue(n, nil, false) }

// sendEncoded is send for a stanza that was encoded already.
func (c *conn) sendEncoded(n Node, plain []byte) { c.enqueue(n, plain, false) }

// sendLast queues a stanza after which the connection ends. The client gets a
// moment to read it and to close by itself.
func (c *conn) sendLast(n Node) { c.enqueue(n, nil, true) }

func (c *conn) enqueue(n Node, plain []byte, last bool) {
	if c.deaf.Load() {
		if last {
			c.close("ended while half-open")
		}
		return
	}
	if plain == nil {
		var err error
		if plain, err = waBinary.Marshal(n); err != nil {
			c.s.log.Error("cannot encode a stanza", "tag", n.Tag, "error", err)
			return
		}
	}
	c.out.Lock()
	defer c.out.Unlock()
	if c.out.closing {
		return
	}
	if c.out.aead == nil { // a fault meets a client that is still shaking hands
		if last {
			c.s.wg.Go(func() { c.close("ended before the handshake") })
		}
		return
	}
	if len(c.out.queue) >= maxOutQueue {
		c.out.closing = true
		c.s.wg.Go(func() { c.close("too slow") })
		return
	}
	c.s.record(c, Out, &n)
	var due time.Time
	if latency := c.s.latency(c); latency > 0 {
		due = time.Now().Add(latency)
	}
	c.out.queue = append(c.out.queue, outgoing{plain, last, due})
	c.out.closing = last
	if !c.out.running {
		c.out.running = true
		c.s.wg.Add(1)
		go c.drain()
	}
}

func (c *conn) drain() {
	defer c.s.wg.Done()
	for {
		c.out.Lock()
		if len(c.out.queue) == 0 {
			c.out.running, c.out.queue = false, nil
			c.out.Unlock()
			return
		}
		next := c.out.queue[0]
		c.out.queue = c.out.queue[1:]
		c.out.Unlock()

		if wait := time.Until(next.due); !next.due.IsZero() && wait > 0 && !c.pause(wait) {
			return
		}
		if c.deaf.Load() {
			continue
		}
		sealed := c.out.aead.Seal(nil, nonce(c.out.counter), next.plain, nil)
		c.out.counter++
		stuck := time.AfterFunc(writeTimeout, func() { c.close("cannot write") })
		err := c.ws.Write(context.Background(), websocket.MessageBinary, putFrame(sealed))
		stuck.Stop()
		if err != nil {
			c.close("cannot write")
			return
		}
		if next.last {
			c.pause(lastGrace)
			c.close("ended by the server")
			return
		}
	}
}

// goDeaf makes the connection half-open: it stays up, and nothing passes.
func (c *conn) goDeaf(until time.Time) {
	c.s.mu.Lock()
	c.deafUntil = until
	c.s.mu.Unlock()
	if !c.deaf.Swap(true) {
		c.s.record(c, In, &Node{Tag: "silence", Attrs: Attrs{"until": until.UTC().Format(time.RFC3339)}})
	}
}

// ask sends a query and waits for its answer.
func (c *conn) ask(ctx context.Context, query Node) (*Node, error) {
	id := "sim-" + strconv.FormatUint(c.nextIQ.Add(1), 10)
	query.Attrs["id"] = id
	answer := make(chan *Node, 1)
	c.waiting.Lock()
	if c.waiting.answers == nil {
		c.waiting.answers = map[string]chan *Node{}
	}
	c.waiting.answers[id] = answer
	c.waiting.Unlock()
	defer func() {
		c.waiting.Lock()
		delete(c.waiting.answers, id)
		c.waiting.Unlock()
	}()
	c.send(query)
	select {
	case n := <-answer:
		return n, nil
	case <-c.done:
		return nil, refuse(http.StatusConflict, "connection_lost", "the device closed the connection")
	case <-ctx.Done():
		return nil, refuse(http.StatusGatewayTimeout, "no_answer", "the device did not answer")
	}
}

// answered hands an answer to who waits for it.
func (c *conn) answered(n *Node) {
	c.waiting.Lock()
	answer := c.waiting.answers[str(n, "id")]
	delete(c.waiting.answers, str(n, "id"))
	c.waiting.Unlock()
	if answer != nil {
		answer <- n
	}
}

func streamError(code, conflict string) *Node {
	n := &Node{Tag: "stream:error"}
	if code != "" {
		n.Attrs = Attrs{"code": code}
	}
	if conflict != "" {
		n.Content = []Node{{Tag: "conflict", Attrs: Attrs{"type": conflict}}}
	}
	return n
}
