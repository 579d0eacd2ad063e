package line

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// errFenced ends a connection whose process may no longer act for the shard.
var errFenced = errors.New("the shard is not ours any more")

// writeWithin bounds one write: a peer that takes nothing is as good as gone.
const writeWithin = 20 * time.Second

// conn is the connection under a client. It asks before each read and write,
// and after each read, whether the process may still act; the answer changes
// while a process is stopped, so it can't be given beforehand.
type conn struct {
	net.Conn
	trusted func() bool
	onEnd   func(cause error, silent bool) // called once, at the first error or at Close
	once    sync.Once
	shut    chan struct{} // closed by Close
	shutter sync.Once

	// The library sets up its socket at the end of the handshake, and tears it
	// down at the end of the connection, without one knowing of the other. So
	// from the upgrade on, the end is kept from it until the handshake is over.
	upgraded  atomic.Bool
	connected <-chan struct{} // closed when the library's connect has returned

	// What came lately, of the one goroutine that reads.
	heardAt time.Time
	heard   int
}

// A stanza of WhatsApp is longer than silentBytes, with its frames, its seal and at
// least eight bytes of its own; the end of a WebSocket is four bytes, that of a TLS 1.3
// connection 24. What came within lately may still be on its way through the library.
const (
	lately      = time.Second
	silentBytes = 24
)

// hear counts what was read.
func (c *conn) hear(n int) {
	now := time.Now()
	if now.Sub(c.heardAt) > lately {
		c.heard = 0
	}
	c.heardAt, c.heard = now, c.heard+n
}

// endedSilently says whether nothing came before the end that could say why. While the
// library still connects, it says why that fails. Only the goroutine that reads asks.
func (c *conn) endedSilently() bool {
	if !c.upgraded.Load() {
		return false
	}
	select {
	case <-c.connected:
		return c.heard <= silentBytes
	default:
		return false
	}
}

// linger is the delay before the library sees EOF. On EOF it discards stanzas that
// it has read but not handled, and the last one carries the reason for the end.
const linger = 150 * time.Millisecond

func newConn(c net.Conn, trusted func() bool) *conn {
	return &conn{Conn: c, trusted: trusted, shut: make(chan struct{})}
}

func (c *conn) Read(b []byte) (int, error) {
	if !c.trusted() {
		return 0, c.fence()
	}
	n, err := c.Conn.Read(b)
	c.hear(n)
	if err != nil {
		c.end(err, c.endedSilently())
		t := time.NewTimer(linger)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.shut:
		}
		if c.upgraded.Load() {
			select {
			case <-c.connected: // the library's handshake has a time limit
			case <-c.shut:
			}
		}
		return n, err
	}
	if !c.trusted() {
		return 0, c.fence()
	}
	return n, nil
}

func (c *conn) Write(b []byte) (int, error) {
	if !c.trusted() {
		return 0, c.fence()
	}
	if err := c.Conn.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		c.end(err, false)
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if err != nil {
		c.end(err, false)
	}
	return n, err
}

// SetWriteDeadline and SetDeadline leave the deadline of writes alone, which is
// set for each one.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
func (c *conn) SetDeadline(t time.Time) error    { return c.Conn.SetReadDeadline(t) }

// Close ends the connection at once; it waits for nobody.
func (c *conn) Close() error {
	c.shutter.Do(func() { close(c.shut) })
	err := c.Conn.Close()
	c.end(net.ErrClosed, false)
	return err
}

func (c *conn) fence() error {
	c.shutter.Do(func() { close(c.shut) })
	c.Conn.Close()
	c.end(errFenced, false)
	return errFenced
}

func (c *conn) end(cause error, silent bool) {
	c.once.Do(func() {
		if c.onEnd != nil {
			c.onEnd(cause, silent)
		}
	})
}
