package front

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxAddresses bounds the addresses that are remembered. The table is cleared of
// those that are idle when it is full; a flood from more than that many is beyond
// what one machine can tell apart.
const maxAddresses = 50_000

// limits are what one address may take.
type limits struct {
	perSecond  rate.Limit
	burst      int
	perAddress int
	slots      chan struct{} // connections in all

	mu          sync.Mutex
	buckets     map[netip.Prefix]*bucket
	connections map[netip.Prefix]int
}

type bucket struct {
	*rate.Limiter
	used time.Time
}

func newLimits(c Config) *limits {
	l := &limits{
		perSecond: rate.Limit(c.PerSecond), burst: c.Burst, perAddress: c.PerAddress,
		buckets: map[netip.Prefix]*bucket{}, connections: map[netip.Prefix]int{},
	}
	if c.Connections > 0 {
		l.slots = make(chan struct{}, c.Connections)
	}
	return l
}

// subscriber is whom an address stands for.
func subscriber(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits) // never fails for its own length
	return p
}

// take takes a token, or says in how long there is one.
func (l *limits) take(a netip.Addr, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	who := subscriber(a)
	b := l.buckets[who]
	if b == nil {
		if len(l.buckets) >= maxAddresses {
			l.forget(now)
		}
		b = &bucket{Limiter: rate.NewLimiter(l.perSecond, l.burst)}
		l.buckets[who] = b
	}
	b.used = now
	r := b.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// forget removes those whose bucket is full again, or everybody if that is nobody.
func (l *limits) forget(now time.Time) {
	full := time.Duration(float64(l.burst) / float64(l.perSecond) * float64(time.Second))
	for who, b := range l.buckets {
		if now.Sub(b.used) > full {
			delete(l.buckets, who)
		}
	}
	if len(l.buckets) >= maxAddresses {
		clear(l.buckets)
	}
}

func (f *Front) limited(h http.Handler, refuse Refuse) http.Handler {
	if f.c.PerSecond == 0 || f.c.Burst == 0 {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a, ok := addressOf(r.RemoteAddr); ok {
			if wait := f.limits.take(a, time.Now()); wait > 0 {
				refuse(w, wait)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

// listener hands out connections within the limits.
type listener struct {
	net.Listener
	l      *limits
	trusts func(netip.Addr) bool
	done   chan struct{}
	once   sync.Once
}

func (l *limits) listen(from net.Listener, trusts func(netip.Addr) bool) net.Listener {
	return &listener{Listener: from, l: l, trusts: trusts, done: make(chan struct{})}
}

func (n *listener) Accept() (net.Conn, error) {
	for {
		if n.l.slots != nil {
			select {
			case n.l.slots <- struct{}{}:
			case <-n.done:
				return nil, net.ErrClosed
			}
		}
		c, err := n.Listener.Accept()
		if err != nil {
			n.release()
			return nil, err
		}
		a, ok := addressOf(c.RemoteAddr().String())
		if !ok || n.trusts(a) || n.l.perAddress == 0 {
			return &conn{Conn: c, end: n.release}, nil
		}
		who := subscriber(a)
		if n.l.enter(who) {
			return &conn{Conn: c, end: func() { n.l.leave(who); n.release() }}, nil
		}
		c.Close()
		n.release()
	}
}

func (n *listener) Close() error {
	n.once.Do(func() { close(n.done) })
	return n.Listener.Close()
}

func (n *listener) release() {
	if n.l.slots != nil {
		<-n.l.slots
	}
}

func (l *limits) enter(who netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.connections[who] >= l.perAddress {
		return false
	}
	l.connections[who]++
	return true
}

func (l *limits) leave(who netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.connections[who]--; l.connections[who] == 0 {
		delete(l.connections, who)
	}
}

type conn struct {
	net.Conn
	once sync.Once
	end  func()
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.end)
	return err
}
