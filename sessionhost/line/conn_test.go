package line

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// A connection whose process may not act any more says nothing and hands
// nothing on, also when the right ended while a read was waiting.
func TestConnIsFenced(t *testing.T) {
	t.Parallel()
	var trusted atomic.Bool
	trusted.Store(true)
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := newConn(ours, trusted.Load)
	var ended atomic.Int32
	c.onEnd = func(error, bool) { ended.Add(1) }
	go func() { _, _ = theirs.Write([]byte("hello")) }()
	b := make([]byte, 8)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "hello" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	read := make(chan error, 1)
	go func() {
		n, err := c.Read(b)
		read <- errors.Join(err, map[bool]error{true: errors.New("bytes came through")}[n > 0])
	}()
	trusted.Store(false)
	go func() { _, _ = theirs.Write([]byte("secret")) }()
	if err := <-read; !errors.Is(err, errFenced) || strings.Contains(err.Error(), "bytes") {
		t.Errorf("the read ended with %v", err)
	}
	if _, err := c.Write([]byte("ack")); !errors.Is(err, errFenced) {
		t.Errorf("the write ended with %v", err)
	}
	if _, err := theirs.Read(b); err != io.EOF {
		t.Errorf("the other side saw %v", err)
	}
	if ended.Load() != 1 {
		t.Errorf("the end was told %d times", ended.Load())
	}
}

// TestSilentEnd: an end before which WhatsApp said nothing has no cause that could still
// be on its way; any stanza may be one.
func TestSilentEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		said      int
		connected bool
		silent    bool
	}{
		"it just breaks":              {0, true, true},
		"the end of a TLS connection": {24, true, true},
		"the shortest stanza":         {29, true, false},
		"while the library connects":  {0, false, false},
	} {
		ours, theirs := net.Pipe()
		conn := newConn(ours, func() bool { return true })
		connected := make(chan struct{})
		conn.connected = connected
		conn.upgraded.Store(true)
		if c.connected {
			close(connected)
		}
		ended := make(chan bool, 1)
		conn.onEnd = func(_ error, silent bool) { ended <- silent }
		go func() {
			if c.said > 0 {
				_, _ = theirs.Write(make([]byte, c.said))
			}
			theirs.Close()
		}()
		go func() {
			for b := make([]byte, 64); ; {
				if _, err := conn.Read(b); err != nil {
					return
				}
			}
		}()
		if got := <-ended; got != c.silent {
			t.Errorf("%s: silent %v", name, got)
		}
		conn.Close()
	}
}
