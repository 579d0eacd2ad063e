package dashboardtest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// door forwards connections to a stack, unless it is shut.
type door struct {
	URL string

	to string
	mu sync.Mutex
	// open holds the connections of both sides while the door is open; nil when
	// it is shut.
	open map[net.Conn]bool
}

func newDoor(t *testing.T, to string) *door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{URL: "http://" + l.Addr().String(), to: to, open: make(map[net.Conn]bool)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { d.pass(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		d.Shut()
		all.Wait()
	})
	return d
}

// Shut breaks every connection and takes no new one.
func (d *door) Shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.open {
		c.Close()
	}
	d.open = nil
}

func (d *door) Open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = make(map[net.Conn]bool)
}

// hold takes note of a connection, and says whether the door is open.
func (d *door) hold(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		return false
	}
	d.open[c] = true
	return true
}

func (d *door) drop(c net.Conn) {
	c.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, c)
}

func (d *door) pass(c net.Conn) {
	defer d.drop(c)
	if !d.hold(c) {
		return
	}
	s, err := net.Dial("tcp", d.to)
	if err != nil {
		return
	}
	defer d.drop(s)
	if !d.hold(s) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		io.Copy(c, s) // ends when either side does
		c.Close()
	})
	io.Copy(s, c)
	s.Close()
	back.Wait()
}
