package host

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

// crowd is many linked sessions on hosts that are processes of their own. What
// happened to their connections is read from the simulator's journal.
type crowd struct {
	*world
	ids      []whatisup.InstanceID
	settings []string
	hosts    []*process // that run, the oldest first
}

// A storm ends every connection at once, and a deployment replaces every host:
// all sessions come back, spread by the budgets, or are hardly ever away.
func TestCrowd(t *testing.T) {
	if testing.Short() {
		t.Skip("runs hosts at the pace of a deployment")
	}
	t.Parallel()
	c := newCrowd(t, 24, 4, 3)
	c.storm(3)
	c.replaceAll()
}

// TestSoakCrowd is a thousand of them with the budgets of a deployment; then
// hosts fall asleep and die over them, too.
func TestSoakCrowd(t *testing.T) {
	if os.Getenv("SOAK") == "" {
		t.Skip("make soak")
	}
	c := newCrowd(t, 1000, 16, DefaultConnectsPerSecond)
	c.storm(DefaultConnectsPerSecond)
	c.replaceAll()
	c.takeOver()
}

func newCrowd(t *testing.T, sessions, shards, connectsPerSecond int) *crowd {
	c := &crowd{
		world:    newWorldWith(t, shards, whatsapp.Config{JournalBytes: 128 << 20}),
		settings: []string{fmt.Sprint("CONNECTS_PER_SECOND=", connectsPerSecond)},
	}
	c.start("one")
	c.start("two")
	c.awaitFor(slowness*2*time.Minute, "two hosts with half of the shards each", func() bool {
		owned := c.owned()
		return owned["one"] == shards/2 && owned["two"] == shards/2
	})
	c.ids = make([]whatisup.InstanceID, sessions)
	turns := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for n := range c.ids {
		c.ids[n] = c.create()
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			c.link(c.ids[n], fmt.Sprintf("4921%08d", n))
		})
	}
	wg.Wait()
	return c
}

func (c *crowd) start(id string) *process {
	p := c.spawn(id, false, c.settings...)
	c.hosts = append(c.hosts, p)
	p.line(c.t, "session host runs")
	return p
}

// owned is how many shards each host has; nobody is "".
func (c *crowd) owned() map[string]int {
	leases, err := c.db.Leases(c.t.Context(), whatisup.Test)
	if err != nil {
		c.t.Fatal(err)
	}
	n := make(map[string]int)
	for _, l := range leases {
		n[l.Owner]++
	}
	return n
}

// span is a connection of a device: from its login to its end, or until now.
type span struct {
	from, to time.Time
	open     bool
}

// spans reads the connections of each instance, in the order of their logins.
func (c *crowd) spans() map[string][]span {
	ends := make(map[uint64]time.Time)
	for _, e := range c.entries("closed") {
		ends[e.Connection] = e.At
	}
	all := make(map[string][]span)
	for _, e := range c.entries("success") {
		s := span{from: e.At, to: ends[e.Connection]}
		if s.to.IsZero() {
			s.to, s.open = time.Now(), true
		}
		all[e.Instance] = append(all[e.Instance], s)
	}
	return all
}

func (c *crowd) entries(tag string) []whatsapp.Entry {
	return c.sim.Journal(whatsapp.JournalFilter{Target: whatsapp.Target{World: string(c.customer)}, Tag: tag, Limit: 1 << 20})
}

// awayAtMost is how long each session was without a connection since a moment,
// the shortest first.
func (c *crowd) awayAtMost(since time.Time) []time.Duration {
	var all []time.Duration
	for _, spans := range c.spans() {
		longest, covered := time.Duration(0), since
		for _, s := range spans {
			if !s.to.After(since) {
				continue
			}
			longest = max(longest, s.from.Sub(covered))
			if s.to.After(covered) {
				covered = s.to
			}
		}
		all = append(all, longest)
	}
	slices.Sort(all)
	return all
}

// overlapAtMost is for how long a device had two connections at once since a
// moment.
func (c *crowd) overlapAtMost(since time.Time) time.Duration {
	var longest time.Duration
	for _, spans := range c.spans() {
		for n, s := range spans {
			for _, before := range spans[:n] {
				if s.from.After(since) {
					longest = max(longest, before.to.Sub(s.from))
				}
			}
		}
	}
	return longest
}

// back waits until so many sessions have logged in since a moment, and every one
// is connected, once. It answers when the last one had logged in.
func (c *crowd) back(since time.Time, sessions int) time.Duration {
	c.t.Helper()
	var last time.Time
	c.awaitFor(slowness*4*time.Minute, "every session to be back", func() bool {
		connected := 0
		for _, d := range c.sim.Devices(string(c.customer)) {
			if d.Connected {
				connected++
			}
		}
		if connected < len(c.ids) {
			return false
		}
		last = time.Time{}
		n := 0
		for _, spans := range c.spans() {
			newest := spans[len(spans)-1]
			if newest.from.After(since) {
				n++
				if newest.from.After(last) {
					last = newest.from
				}
			}
			for _, s := range spans[:len(spans)-1] {
				if s.open {
					return false // replaced a moment ago
				}
			}
		}
		return n >= sessions
	})
	return last.Sub(since)
}

// storm ends every connection at once. Each of two hosts connects again what its
// budget allows.
func (c *crowd) storm(connectsPerSecond int) {
	since := time.Now()
	if _, err := c.sim.Inject(whatsapp.Fault{Kind: "storm", Target: whatsapp.Target{World: string(c.customer)}}); err != nil {
		c.t.Fatal(err)
	}
	took := c.back(since, len(c.ids))
	perSecond, burst := 2*connectsPerSecond, 2*max(connectsPerSecond/4, 1)
	var logins []time.Time
	tries := make(map[string]int)
	for _, e := range c.entries("login") {
		if e.At.After(since) {
			logins = append(logins, e.At)
			tries[e.Instance]++
		}
	}
	slices.SortFunc(logins, time.Time.Compare)
	inSecond, inTen := 0, 0
	for n, at := range logins {
		if early := time.Duration(n+1-burst) * time.Second / time.Duration(perSecond); at.Sub(since) < early {
			c.t.Errorf("login %d came %v after the storm; the budgets allow it after %v", n+1, at.Sub(since), early)
			break
		}
		inSecond = max(inSecond, loginsWithin(logins[n:], time.Second))
		inTen = max(inTen, loginsWithin(logins[n:], 10*time.Second))
	}
	c.t.Logf("%d sessions were back %v after the storm, with at most %d logins within a second, %d within ten", len(c.ids), took, inSecond, inTen)
	// What ten seconds allow, and what a stalled machine had not got done in the
	// five before.
	if inTen > 15*perSecond+burst {
		c.t.Errorf("%d logins within ten seconds, where the budgets allow %d a second", inTen, perSecond)
	}
	for id, n := range tries {
		if n > 1 {
			c.t.Errorf("%s logged in %d times", id, n)
		}
	}
	c.allShown()
}

// loginsWithin counts those within a time after the first.
func loginsWithin(logins []time.Time, within time.Duration) int {
	n, _ := slices.BinarySearchFunc(logins, logins[0].Add(within), time.Time.Compare)
	return n
}

// replaceAll replaces both hosts, one after the other.
func (c *crowd) replaceAll() {
	events, since := c.logged(), time.Now()
	for _, name := range []string{"three", "four"} {
		c.start(name)
		c.end(c.hosts[0], syscall.SIGTERM)
		c.hosts = c.hosts[1:]
	}
	c.await("all shards with the new hosts", func() bool {
		owned := c.owned()
		return owned["three"]+owned["four"] == c.shards
	})
	c.back(since, len(c.ids))
	away, overlap := c.awayAtMost(since), c.overlapAtMost(since)
	p99 := away[len(away)*99/100]
	c.t.Logf("a replacement of all hosts left %d sessions without a connection for %v at the median, %v at p99, %v at most; two connections of one overlapped for %v",
		len(away), away[len(away)/2], p99, away[len(away)-1], overlap)
	if p99 > slowness*4*time.Second {
		c.t.Errorf("one in a hundred sessions was without a connection for %v", p99)
	}
	if overlap > 0 {
		c.t.Errorf("a hand-over left a device with two connections for %v", overlap)
	}
	c.allShown()
	if n := c.logged(); n != events {
		c.t.Errorf("%d events were told of it", n-events)
	}
}

// takeOver stops one host and kills another as a dead machine would be.
func (c *crowd) takeOver() {
	const within = 35 * time.Second // a lease can be taken over after 20
	asleep, other := c.hosts[0], c.hosts[1]
	moved := 0
	before := c.owned()
	for _, id := range c.ids {
		if c.owner(id) == "three" {
			moved++
		}
	}
	since := time.Now()
	if err := asleep.Process.Signal(syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	took, overlap := c.back(since, moved), c.overlapAtMost(since)
	c.t.Logf("%d sessions of a host with %d shards that stopped were back after %v; two connections of one overlapped for %v", moved, before["three"], took, overlap)
	if took > within {
		c.t.Errorf("the sessions were back after %v", took)
	}
	if overlap > time.Second {
		c.t.Errorf("a device had two connections for %v", overlap)
	}
	c.end(asleep, syscall.SIGKILL)

	c.start("five")
	c.await("a free host on the list", func() bool {
		hosts, err := c.db.Hosts(c.t.Context(), whatisup.Test)
		return err == nil && slices.ContainsFunc(hosts, func(h whatisup.Host) bool { return h.ID == "five" })
	})
	since = time.Now()
	c.end(other, syscall.SIGKILL)
	c.awaitFor(time.Minute, "a takeover of every shard", func() bool { return c.owned()["five"] == c.shards })
	c.t.Logf("a code was shown %v after it was asked for, while %d sessions came back", c.slowestCode(), len(c.ids))
	took, overlap = c.back(since, len(c.ids)), c.overlapAtMost(since)
	c.t.Logf("%d sessions of a host that was killed were back after %v; two connections of one overlapped for %v", len(c.ids), took, overlap)
	if took > within {
		c.t.Errorf("the sessions were back after %v", took)
	}
	if overlap > 0 {
		c.t.Errorf("a device had two connections for %v", overlap)
	}
	c.allShown()
}

// slowestCode is how long the last of some instances waits for its code.
func (c *crowd) slowestCode() time.Duration {
	began := time.Now()
	var wg sync.WaitGroup
	for range 8 {
		id := c.create()
		wg.Go(func() {
			c.fetchQR(id)
			c.code(id)
			if took := time.Since(began); took > slowness*10*time.Second {
				c.t.Errorf("a call that waits for a code would have given up: it was there after %v", took)
			}
			c.disconnect(id)
		})
	}
	wg.Wait()
	return time.Since(began)
}

// end ends a process and waits until it has.
func (c *crowd) end(p *process, how syscall.Signal) {
	c.t.Helper()
	if err := p.Process.Signal(how); err != nil {
		c.t.Fatal(err)
	}
	select {
	case err := <-p.done:
		p.done <- err
		if err != nil && how != syscall.SIGKILL {
			c.t.Errorf("a host ended with %v", err)
		}
	case <-time.After(slowness * 2 * time.Minute):
		c.t.Fatal("a host did not end")
	}
}

// owner is the host that has the instance's shard.
func (c *crowd) owner(id whatisup.InstanceID) string {
	l, err := c.db.Lease(c.t.Context(), whatisup.Test, c.db.ShardOf(id))
	if err != nil {
		c.t.Fatal(err)
	}
	return l.Owner
}

// allShown checks that every instance is shown as connected.
func (c *crowd) allShown() {
	c.t.Helper()
	for _, id := range c.ids {
		c.status(id, whatisup.Connected, "")
	}
}
