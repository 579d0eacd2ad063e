package whatsapp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// What a message costs the simulator: processor time and writes, from the
// phone that writes it until nothing of it waits for the device any more, and the
// other way from the device until it has acknowledged that it was read.

// writes is how often the database was written.
func writes(s *Server) int {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	return s.db.writes
}

// crowd is devices that take what comes, and who can write to them.
type crowd struct {
	address string
	write   func(Text) error
	scan    func(number string) func(qr string) error
	queued  func() (int, error)
	members []*member
}

// member is one linked device.
type member struct {
	*wireDevice
	number string
	w      *wire
	signal *phone // encrypts

	mu   sync.Mutex    // over what is sent
	free chan struct{} // places for messages under way
	read chan string   // ids that the device was told of as read
}

// flights is how many messages may be under way to or from one device.
const flights = 8

func crowdAt(address string, s *Server) *crowd {
	return &crowd{
		address: address,
		write: func(m Text) error {
			_, err := s.SendText(s.ctx, m)
			return err
		},
		scan: func(number string) func(string) error {
			return func(qr string) error {
				_, err := s.ScanQR(s.ctx, "w", qr, number)
				return err
			}
		},
		queued: func() (n int, err error) {
			for _, d := range s.Devices("") {
				n += d.Queued
			}
			return n, nil
		},
	}
}

// crowdIn writes and scans over HTTP, as everybody else does.
func crowdIn(child *childProcess) *crowd {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	call := func(method, path string, in, out any) error {
		ctx, cancel := wireContext()
		defer cancel()
		data, _ := json.Marshal(in)
		request, err := http.NewRequestWithContext(ctx, method, "http://"+child.address+path, bytes.NewReader(data))
		if err != nil {
			return err
		}
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		data, err = io.ReadAll(answer.Body)
		if err == nil && answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s: %s", path, answer.Status, data)
		}
		return errors.Join(err, json.Unmarshal(data, out))
	}
	return &crowd{
		address: child.address,
		write: func(m Text) error {
			return call(http.MethodPost, "/control/messages", map[string]string{"world": m.World, "from": m.From, "to": m.To, "text": m.Text}, new(any))
		},
		scan: func(number string) func(string) error {
			return func(qr string) error {
				return call(http.MethodPost, "/control/scan", map[string]string{"world": "w", "qr": qr, "phone_number": number}, new(any))
			}
		},
		queued: func() (n int, err error) {
			var list struct{ Data []Device }
			var raw json.RawMessage
			if err = call(http.MethodGet, "/control/devices", nil, &raw); err != nil {
				return 0, err
			}
			if json.Unmarshal(raw, &list) != nil {
				err = json.Unmarshal(raw, &list.Data)
			}
			for _, d := range list.Data {
				n += d.Queued
			}
			return n, err
		},
	}
}

// join links as many devices, and lets them take what comes until the test ends.
func (c *crowd) join(t testing.TB, count int) {
	t.Helper()
	_, keys := serve(t, Config{}) // holds the sessions of the devices
	c.members = make([]*member, count)
	var working sync.WaitGroup
	next, failed := atomic.Int64{}, make(chan error, count)
	for range min(8, count) {
		working.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				var err error
				if c.members[i], err = c.enter(keys, i); err != nil {
					failed <- err
				}
			}
		})
	}
	working.Wait()
	close(failed)
	for err := range failed {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	for _, m := range c.members {
		reading.Go(m.take)
	}
	t.Cleanup(func() {
		for _, m := range c.members {
			_ = m.w.ws.CloseNow()
		}
		reading.Wait()
	})
}

func (c *crowd) enter(keys *Server, i int) (*member, error) {
	m := &member{
		wireDevice: newWireDevice(), number: strconv.Itoa(4915100000000 + i),
		free: make(chan struct{}, flights), read: make(chan string, 2*flights),
	}
	for range flights {
		m.free <- struct{}{}
	}
	err := m.link(c.address, "w", "i"+strconv.Itoa(i), c.scan(m.number))
	if err != nil {
		return nil, err
	}
	if m.w, err = m.start(c.address, "w", "i"+strconv.Itoa(i)); err != nil {
		return nil, err
	}
	if err = m.uploadKeys(m.w, 50); err != nil {
		return nil, err
	}
	m.signal = &phone{
		s: keys, p: person{"w", m.number}, account: m.identity,
		changed: map[deviceName][]byte{}, read: map[deviceName][]byte{}, senderKeys: map[string][]byte{}, sealed: map[string]groupSealed{},
	}
	return m, m.begin(friendOf(m.number))
}

// friendOf is who writes to a number, and is written to.
func friendOf(number string) string { return "49155" + number[5:] }

// begin fetches the keys of a phone and begins a session with it.
func (m *member) begin(with string) error {
	answer, err := m.w.query("bundle", "encrypt", "get", Node{Tag: "key", Content: []Node{
		{Tag: "user", Attrs: Attrs{"jid": types.NewJID(with, types.DefaultUserServer)}},
	}})
	if err != nil {
		return err
	}
	user, ok := child(answer, "list", "user")
	if !ok {
		return errors.New("no keys but " + render(answer))
	}
	name := deviceName{person{"w", with}, 0}
	d := &device{deviceRecord: deviceRecord{World: "w", Number: with, Identity: content(user, "identity")}}
	bundle, ok := bundleFrom(d, content(user, "registration"), user)
	if !ok {
		return errors.New("bad keys: " + render(user))
	}
	m.signal.s.mu.Lock()
	m.signal.s.devices[name] = d
	m.signal.s.mu.Unlock()
	_, err = m.seal(with, "first", bundle)
	return err
}

func (m *member) seal(to, text string, bundle *prekey.Bundle) (Node, error) {
	plain, err := proto.Marshal(&waE2E.Message{Conversation: &text})
	if err != nil {
		return Node{}, err
	}
	return m.signal.encrypt(m.signal.s.ctx, deviceName{person{"w", to}, 0}, plain, bundle)
}

// send sends a text, and waits neither for the answer nor for receipts.
func (m *member) send(to, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	enc, err := m.seal(to, "the text of "+id, nil)
	if err != nil {
		return err
	}
	jid := types.NewJID(to, types.DefaultUserServer)
	return m.w.send(Node{Tag: "message", Attrs: Attrs{"id": id, "to": jid, "type": "text"}, Content: []Node{
		{Tag: "participants", Content: []Node{{Tag: "to", Attrs: Attrs{"jid": jid}, Content: []Node{enc}}}},
		{Tag: "device-identity", Content: m.proof},
	}})
}

// take acknowledges what comes, as libraries do.
func (m *member) take() {
	for {
		n, err := m.w.receive()
		if err != nil {
			return
		}
		var answers []Node
		ack := Attrs{"class": n.Tag, "id": n.Attrs["id"], "to": n.Attrs["from"]}
		switch n.Tag {
		case "message":
			answers = []Node{
				{Tag: "receipt", Attrs: Attrs{"id": n.Attrs["id"], "to": n.Attrs["from"], "type": "inactive"}},
				{Tag: "ack", Attrs: ack},
			}
		case "receipt", "notification":
			if kind, ok := n.Attrs["type"]; ok {
				ack["type"] = kind
			}
			answers = []Node{{Tag: "ack", Attrs: ack}}
		}
		m.mu.Lock()
		for _, answer := range answers {
			if err = m.w.send(answer); err != nil {
				break
			}
		}
		m.mu.Unlock()
		switch {
		case err != nil:
			return
		case n.Tag == "message":
			m.free <- struct{}{}
		case n.Tag == "receipt" && str(n, "type") == "read":
			m.free <- struct{}{}
		}
	}
}

// forgotten waits until nothing waits for any device.
func (c *crowd) forgotten() error {
	for end := time.Now().Add(wireTimeout); ; time.Sleep(time.Millisecond) {
		n, err := c.queued()
		if err != nil || n == 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d stanzas are still waiting", n)
		}
	}
}

// each has n messages carried by so many goroutines, with a bound for each device.
func (c *crowd) each(n, parallel int, one func(m *member, i int) error) error {
	var working sync.WaitGroup
	var next atomic.Int64
	failed := make(chan error, parallel)
	for range parallel {
		working.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				m := c.members[i%len(c.members)]
				select {
				case <-m.free:
				case <-time.After(wireTimeout):
					failed <- errors.New("a device does not answer")
					return
				}
				if err := one(m, i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	working.Wait()
	close(failed)
	for _, m := range c.members { // the last ones
		for range flights {
			select {
			case <-m.free:
			case <-time.After(wireTimeout):
				return errors.Join(<-failed, errors.New("a message was not answered"))
			}
		}
		for range flights {
			m.free <- struct{}{}
		}
	}
	return errors.Join(<-failed, c.forgotten())
}

func (c *crowd) received(n, parallel int) error {
	return c.each(n, parallel, func(m *member, i int) error {
		return c.write(Text{World: "w", From: friendOf(m.number), To: m.number, Text: "message " + strconv.Itoa(i)})
	})
}

func (c *crowd) sent(n, parallel int) error {
	return c.each(n, parallel, func(m *member, i int) error {
		return m.send(friendOf(m.number), fmt.Sprintf("3EB0%d%d", time.Now().UnixNano(), i))
	})
}

// A text is one write until the device has it and has acknowledged it, and
// one that a device sends two until the device has the receipts: one before the
// answer, and one for what follows. Acknowledgements cost none of their own, unless
// nothing else is written for a moment.
func TestWhatAMessageCosts(t *testing.T) {
	t.Parallel()
	address, server := serve(t, Config{})
	c := crowdAt(address, server)
	c.join(t, 3)
	const count = 60
	for name, test := range map[string]struct {
		run func(n, parallel int) error
		at  int // writes a message, at most
	}{"received": {c.received, 1}, "sent": {c.sent, 2}} {
		if err := test.run(3, 1); err != nil { // sessions begin
			t.Fatal(err)
		}
		for _, parallel := range []int{1, 6} {
			before, began := writes(server), time.Now()
			if err := test.run(count, parallel); err != nil {
				t.Fatal(err)
			}
			idle := int(time.Since(began)/goneLife) + 2 // at most so often what was acknowledged had to go alone
			if got, most := writes(server)-before, count*test.at+idle; got > most {
				t.Errorf("%d writes for %d that are %s, at most %d are right", got, count, name, most)
			}
		}
	}
}

// processorTime is what a process has used.
func processorTime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	var ticks int
	for _, field := range fields[11:13] {
		n, _ := strconv.Atoi(field)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// BenchmarkReceived is a text that a phone writes, told to the simulator over HTTP,
// until the device has acknowledged it; BenchmarkSent is one that a device sends,
// until it has acknowledged that it was read. The simulator is a process of its
// own, and cpu-µs/op is its processor time.
func BenchmarkReceived(b *testing.B) { benchmark(b, (*crowd).received) }

func BenchmarkSent(b *testing.B) { benchmark(b, (*crowd).sent) }

// BenchmarkLinked is a device that is scanned, logs in and brings its one-time keys.
func BenchmarkLinked(b *testing.B) {
	child := startChild(b, b.TempDir())
	c := crowdIn(child)
	used := processorTime(child.cmd.Process.Pid)
	b.ResetTimer()
	for i := range b.N {
		d, number := newWireDevice(), strconv.Itoa(4915200000000+i)
		err := d.link(c.address, "w", "i", c.scan(number))
		if err != nil {
			b.Fatal(err)
		}
		w, err := d.start(c.address, "w", "i")
		if err == nil {
			err = d.uploadKeys(w, 812)
		}
		if err != nil {
			b.Fatal(err)
		}
		_ = w.ws.CloseNow()
	}
	b.StopTimer()
	used = processorTime(child.cmd.Process.Pid) - used
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/op")
}

func benchmark(b *testing.B, run func(*crowd, int, int) error) {
	for _, count := range []int{1, 10, 200} {
		b.Run("devices="+strconv.Itoa(count), func(b *testing.B) {
			child := startChild(b, b.TempDir())
			c := crowdIn(child)
			c.join(b, count)
			if err := run(c, 2*count, 16); err != nil { // sessions begin
				b.Fatal(err)
			}
			before, err := child.weigh()
			if err != nil {
				b.Fatal(err)
			}
			used := processorTime(child.cmd.Process.Pid)
			b.ResetTimer()
			if err := run(c, b.N, 16); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			used = processorTime(child.cmd.Process.Pid) - used
			after, err := child.weigh()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(after.writes-before.writes)/float64(b.N), "writes/op")
		})
	}
}
