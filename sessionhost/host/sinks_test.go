package host

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	local "whatisup/local/aws"
	"whatisup/local/whatsapp"
	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

// makeQueue makes an event queue.
func (w *world) makeQueue(name string) (url string) {
	w.t.Helper()
	in := &sqs.CreateQueueInput{QueueName: aws.String(name), Attributes: map[string]string{"MaximumMessageSize": "1048576"}}
	if strings.HasSuffix(name, ".fifo") {
		in.Attributes["FifoQueue"] = "true"
	}
	out, err := w.queues.CreateQueue(w.t.Context(), in)
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.QueueUrl
}

// mail is what has arrived on a queue, each event once, in order of arrival.
type mail struct {
	w    *world
	url  string
	got  []whatisup.Event
	seen map[whatisup.EventID]bool
}

func (m *mail) look() {
	for {
		out, err := m.w.queues.ReceiveMessage(m.w.t.Context(), &sqs.ReceiveMessageInput{QueueUrl: aws.String(m.url), MaxNumberOfMessages: 10})
		if err != nil {
			m.w.t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return
		}
		for _, in := range out.Messages {
			var e whatisup.Event
			if err := json.Unmarshal([]byte(*in.Body), &e); err != nil {
				m.w.t.Fatal(err)
			}
			if !m.seen[e.ID] {
				m.seen[e.ID] = true
				m.got = append(m.got, e)
			}
			if _, err := m.w.queues.DeleteMessage(m.w.t.Context(), &sqs.DeleteMessageInput{QueueUrl: aws.String(m.url), ReceiptHandle: in.ReceiptHandle}); err != nil {
				m.w.t.Fatal(err)
			}
		}
	}
}

// has says whether every event of the log has arrived.
func (m *mail) has(events []whatisup.Event) bool {
	m.look()
	return !slices.ContainsFunc(events, func(e whatisup.Event) bool { return !m.seen[e.ID] })
}

// inOrder says whether the events arrived as they stand in the log.
//
// What the library tells of beside messages, on goroutines of its own, is left out: its
// place in the log is taken when it is stored, that of a message when it is decrypted.
// Two events that are told side by side reach a queue in either order, unless it is
// owed them.
func (m *mail) inOrder(events []whatisup.Event) error {
	beside := []whatisup.EventName{whatisup.ContactUpdated, whatisup.CallOffered, whatisup.GroupCreated, whatisup.GroupUpdated}
	events = slices.DeleteFunc(slices.Clone(events), func(e whatisup.Event) bool { return slices.Contains(beside, e.Name) })
	at := 0
	for _, e := range m.got {
		is := func(l whatisup.Event) bool { return l.ID == e.ID }
		if !slices.ContainsFunc(events, is) {
			continue // from before the mark: the log is read from a little earlier
		}
		if at >= len(events) || events[at].ID != e.ID {
			return fmt.Errorf("the %dth event of the instance is %s", at+1, e.Name)
		}
		at++
	}
	return nil
}

// texts are what strangers write.
func texts() []string {
	return []string{"hi", "x \uffff", "\ufffe", strings.Repeat("long ", 60_000/5), "\x00\x01", "🙂" + strings.Repeat("\uffff", 20_000), "bye"}
}

// One queue that is missing, failing, throttled, or slow keeps nothing from the
// log, from the other queue, and from the connection; when it is back, it gets what
// it missed, in order.
func TestFaultySinks(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"missing", "internal", "throttle", "slow", "full", "forbidden"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := quick(t)
			good := &mail{w: w, url: w.makeQueue("good.fifo"), seen: make(map[whatisup.EventID]bool)}
			bad := &mail{w: w, seen: make(map[whatisup.EventID]bool)}
			cfg := w.config("one")
			var mend func()
			if kind == "missing" {
				bad.url = strings.TrimSuffix(good.url, "good.fifo") + "bad"
				mend = func() { w.makeQueue("bad") }
			} else {
				bad.url = w.makeQueue("bad")
				f := local.Fault{Kind: local.FaultKind(kind), Service: "sqs", Resource: "bad"}
				if kind == "slow" {
					f.Kind, f.Delay = "latency", time.Minute
				}
				if err := w.aws.Inject(f); err != nil {
					t.Fatal(err)
				}
				mend = func() { w.aws.ClearFaults() }
			}
			cfg.EventQueues = []string{bad.url, good.url}
			w.hostWith(cfg)

			id := w.create()
			created := w.get(id) // the API sends this event itself
			if err := w.db.Sent(t.Context(), created); err != nil {
				t.Fatal(err)
			}
			const number = "491700000001"
			w.link(id, number)
			before, _ := w.device(id)
			began := time.Now()
			for _, text := range texts() {
				w.send(number, "14155550123", text)
			}
			w.await("every message in the log", func() bool { return len(w.received(id)) == len(texts()) })
			if took := time.Since(began); kind == "slow" && took > slowness*15*time.Second {
				t.Errorf("%d messages took %v: each waits for the slow queue", len(texts()), took)
			}
			w.disconnect(id)
			w.status(id, whatisup.Disconnected, whatisup.Stopped)
			w.connect(id)
			w.status(id, whatisup.Connected, "")
			events := w.events(id)[1:]
			w.await("every event on the other queue", func() bool { return good.has(events) })
			if after, _ := w.device(id); after.Logins != before.Logins+1 {
				t.Errorf("%d logins, not %d: the connection was lost", after.Logins, before.Logins+1)
			}

			mend()
			w.awaitFor(3*patience, "every event on the queue that is back", func() bool { return bad.has(events) })
			for _, m := range []*mail{bad, good} {
				if err := m.inOrder(events); err != nil {
					t.Errorf("%s: %v", m.url, err)
				}
			}
			w.await("no debt", func() bool { return len(w.get(id).Observed.Owed) == 0 })
		})
	}
}

// What a queue lacks is known to the next owner, which pays it.
func TestDebtOutlivesItsHost(t *testing.T) {
	t.Parallel()
	w := quick(t)
	good := w.makeQueue("good")
	bad := &mail{w: w, url: strings.TrimSuffix(good, "good") + "bad.fifo", seen: make(map[whatisup.EventID]bool)}
	cfg := w.config("one")
	cfg.EventQueues = []string{bad.url, good}
	first := w.hostWith(cfg)
	id := w.create()
	const number = "491700000002"
	w.link(id, number)
	w.send(number, "14155550123", "hi")
	w.await("the message in the log", func() bool { return len(w.received(id)) == 1 })
	first.stop()
	if len(w.get(id).Observed.Owed) != 1 {
		t.Errorf("owed is %v", w.get(id).Observed.Owed)
	}
	w.makeQueue("bad.fifo")
	cfg.ID = "two"
	w.hostWith(cfg)
	events := w.events(id)
	w.awaitFor(3*patience, "every event on the queue", func() bool { return bad.has(events) })
	w.await("no debt", func() bool { return len(w.get(id).Observed.Owed) == 0 })
}

// outage is how long a log takes no rows: under SOAK so long that the library goes on to
// further messages while the first still waits.
func outage() time.Duration {
	if os.Getenv("SOAK") != "" {
		return 11 * time.Minute
	}
	return slowness * 15 * time.Second
}

func (w *world) act(a whatsapp.Action) {
	w.t.Helper()
	a.World = string(w.customer)
	if _, err := w.sim.Act(w.t.Context(), a); err != nil {
		w.t.Fatal(err)
	}
}

// A log that is missing, failing, throttled, forbidden or slow keeps no connection from
// staying: what it was not told yet it is told when it is back, in order, and so are
// the queues.
func TestFaultyLog(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"missing", "internal", "throttle", "slow", "forbidden"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := quick(t)
			good := &mail{w: w, url: w.makeQueue("good.fifo"), seen: make(map[whatisup.EventID]bool)}
			cfg := w.config("one")
			cfg.EventQueues = []string{good.url}
			w.hostWith(cfg)
			id := w.create()
			if err := w.db.Sent(t.Context(), w.get(id)); err != nil { // the API sends this event itself
				t.Fatal(err)
			}
			const number = "491700000003"
			w.link(id, number)
			before, _ := w.device(id)

			f := local.Fault{Kind: local.FaultKind(kind), Service: "dynamodb", Resource: dynamo.Local().Events}
			if kind == "slow" {
				f.Kind, f.Delay = "latency", time.Minute
			}
			if err := w.aws.Inject(f); err != nil {
				t.Fatal(err)
			}
			w.act(whatsapp.Action{PhoneNumber: "14155550123", Kind: "create_group", Subject: "before", Members: []string{number}})
			for _, text := range texts() {
				w.send(number, "14155550123", text)
			}
			w.act(whatsapp.Action{PhoneNumber: "14155550123", Kind: "call", To: number})
			time.Sleep(outage())
			after, online := w.device(id)
			if after.Logins != before.Logins || !online {
				t.Errorf("%d logins, not %d; online: %v", after.Logins, before.Logins, online)
			}
			w.aws.ClearFaults()
			w.awaitFor(3*patience, "every message in the log that is back", func() bool { return len(w.received(id)) == len(texts()) })
			for _, name := range []whatisup.EventName{whatisup.GroupCreated, whatisup.CallOffered} {
				w.await(string(name)+" in the log", func() bool { return w.count(id, name) == 1 })
			}
			events := w.events(id)[1:]
			w.awaitFor(3*patience, "every event on the queue", func() bool { return good.has(events) })
			if err := good.inOrder(events); err != nil {
				t.Error(err)
			}
			if last, _ := w.device(id); last.Logins != before.Logins {
				t.Errorf("%d logins, not %d: the connection was lost", last.Logins, before.Logins)
			}
		})
	}
}
