package host

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

// hasty is a fleet that notices a death within two seconds.
func (w *world) hasty() *world {
	w.fleet.Renew, w.fleet.RenewTry = slowness*300*time.Millisecond, slowness*600*time.Millisecond
	w.fleet.Trust, w.fleet.Takeover = slowness*1500*time.Millisecond, slowness*2*time.Second
	w.fleet.Look, w.fleet.FreeForAll = 200*time.Millisecond, 300*time.Millisecond
	return w
}

// mortal is a host on a lifeline of its own.
func (w *world) mortal(id string) (*runningHost, *lifeline) {
	w.t.Helper()
	l := newLifeline(w.t, w)
	cfg, conf := l.config(w, id)
	return w.hostOn(cfg, conf), l
}

func (w *world) send(number, from, text string) string {
	w.t.Helper()
	id, err := w.sim.SendText(w.t.Context(), whatsapp.Text{World: string(w.customer), From: from, To: number, Text: text})
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// received are the message events of the log, by message id.
func (w *world) received(id whatisup.InstanceID) map[string]int {
	n := make(map[string]int)
	for _, e := range w.events(id) {
		if e.Name == whatisup.MessageReceived {
			var d whatisup.MessageData
			if err := json.Unmarshal(e.Data, &d); err != nil {
				w.t.Fatal(err)
			}
			n[d.MessageID]++
		}
	}
	return n
}

// queued drains the events queue into what it has seen so far: how often each
// event came.
func (w *world) queued(seen map[whatisup.EventID]int) {
	w.t.Helper()
	for {
		out, err := w.queues.ReceiveMessage(w.t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: aws.String(w.urls.Events), MaxNumberOfMessages: 10, WaitTimeSeconds: 1, MessageAttributeNames: []string{"All"},
		})
		if err != nil {
			w.t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return
		}
		for _, m := range out.Messages {
			var e whatisup.Event
			if err := json.Unmarshal([]byte(aws.ToString(m.Body)), &e); err != nil {
				w.t.Fatal(err)
			}
			if a := aws.ToString(m.MessageAttributes["event"].StringValue); a != string(e.Name) {
				w.t.Errorf("attribute event %q of a %s", a, e.Name)
			}
			seen[e.ID]++
			if _, err := w.queues.DeleteMessage(w.t.Context(), &sqs.DeleteMessageInput{QueueUrl: aws.String(w.urls.Events), ReceiptHandle: m.ReceiptHandle}); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// everyEventIsTold checks the promise: each event exactly once in the log (by
// its id) and at least once on the queue.
func (w *world) everyEventIsTold(id whatisup.InstanceID) {
	w.t.Helper()
	seen := w.told
	missing := ""
	defer func() {
		if missing != "" {
			w.t.Logf("missing on the queue: %s", missing)
		}
	}()
	w.await("every event of the log on the queue", func() bool {
		w.queued(seen)
		missing = ""
		for _, e := range w.events(id) {
			if seen[e.ID] == 0 {
				missing += string(e.Name) + " "
			}
		}
		return missing == ""
	})
	once := make(map[whatisup.EventID]int)
	for _, e := range w.events(id) {
		if once[e.ID]++; once[e.ID] > 1 {
			w.t.Errorf("%s stands in the log %d times", e.Name, once[e.ID])
		}
	}
	for mid, n := range w.received(id) {
		if n != 1 {
			w.t.Errorf("message %s has %d events", mid, n)
		}
	}
}

// Text that somebody writes is an event, in order, once.
func TestMessages(t *testing.T) {
	t.Parallel()
	w := quick(t)
	w.host("one")
	id := w.create()
	w.link(id, "491800000001")
	var ids []string
	for n := range 20 {
		ids = append(ids, w.send("491800000001", "491800000002", "text "+strconv.Itoa(n)))
	}
	w.await("all messages", func() bool { return len(w.received(id)) == len(ids) })
	n := 0
	for _, e := range w.events(id) {
		if e.Name != whatisup.MessageReceived {
			continue
		}
		var d whatisup.MessageData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			t.Fatal(err)
		}
		if d.MessageID != ids[n] || d.Text == nil || *d.Text != "text "+strconv.Itoa(n) || d.Type != "text" || d.From.PhoneNumber == nil || *d.From.PhoneNumber != "491800000002" {
			t.Errorf("message %d is %s", n, e.Data)
		}
		n++
	}
	w.everyEventIsTold(id)
}

// A host that is cut off loses its sessions to another; no link and no message
// is lost, and the first one says nothing more.
func TestTakeover(t *testing.T) {
	t.Parallel()
	w := quick(t).hasty()
	_, line := w.mortal("one")
	const number = "491800000010"
	id := w.create()
	w.link(id, number)
	before, _ := w.device(id)
	w.host("two")
	line.cut()
	var sent []string
	for n := range 5 {
		sent = append(sent, w.send(number, "491800000011", fmt.Sprint(n)))
	}
	w.await("a login from the other host", func() bool { d, _ := w.device(id); return d.Logins > before.Logins && d.Connected })
	w.await("what was written meanwhile", func() bool { return len(w.received(id)) == len(sent) })
	w.status(id, whatisup.Connected, "")
	w.everyEventIsTold(id)
}

// A hand-over emits no event and shows nothing.
func TestHandOver(t *testing.T) {
	t.Parallel()
	w := quick(t)
	first := w.host("one")
	const number = "491800000020"
	id := w.create()
	w.link(id, number)
	before, _ := w.device(id)
	events := len(w.events(id))
	w.host("two")
	first.stop()
	w.await("a login from the other host", func() bool { d, _ := w.device(id); return d.Logins > before.Logins && d.Connected })
	mid := w.send(number, "491800000021", "after")
	w.await("a message", func() bool { return w.received(id)[mid] == 1 })
	if n := len(w.events(id)); n != events+1 {
		t.Errorf("%d events came of a hand-over and one message", n-events)
	}
	w.status(id, whatisup.Connected, "")
}

// What was asked while no host lived is done when one comes, wake-up or not.
func TestAskedWithoutHost(t *testing.T) {
	t.Parallel()
	w := quick(t)
	first := w.host("one")
	linked, deleted, loggedOut, fresh := w.create(), w.create(), w.create(), w.create()
	w.link(linked, "491800000030")
	w.link(deleted, "491800000031")
	w.link(loggedOut, "491800000032")
	first.stop()
	w.delete(deleted)
	w.logout(loggedOut)
	w.disconnect(linked)
	w.fetchQR(fresh)
	w.loseWakeUps()
	w.host("two")
	w.status(loggedOut, whatisup.Pending, whatisup.LoggedOut)
	w.status(linked, whatisup.Disconnected, whatisup.Stopped)
	w.scan(fresh, "491800000033")
	w.status(fresh, whatisup.Connected, "")
	w.await("two devices unlinked", func() bool { return len(w.sim.Devices(string(w.customer))) == 2 })
}

// loseWakeUps takes everything off the shards' queues.
func (w *world) loseWakeUps() {
	for s := range whatisup.Shard(w.shards) {
		for {
			got, err := w.commands.Poll(w.t.Context(), whatisup.Test, s, 0)
			if err != nil {
				w.t.Fatal(err)
			}
			if len(got) == 0 {
				break
			}
			if err := w.commands.Delete(w.t.Context(), whatisup.Test, s, got...); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// TestDeathAtEveryWrite tells one story, in which the host dies before or after
// one of its writes; another host goes on. Links and events must survive it. The
// short run takes some of the points, make soak takes all, again and again.
func TestDeathAtEveryWrite(t *testing.T) {
	t.Parallel()
	points := storyPoints(t)
	t.Logf("%d writes in the story", len(points))
	for k := 0; k < 2*len(points); k += 23 {
		dieAt(t, points, k)
	}
}

// dieAt tells the story with the k-th death: even ones before a write, odd ones
// after it.
func dieAt(t *testing.T, points []string, k int) {
	n, after := k/2, k%2 == 1
	t.Run(fmt.Sprintf("%d %s after=%v", n, points[n], after), func(t *testing.T) {
		t.Parallel()
		tellStory(t, n, after)
	})
}

// TestSoakDeath dies until a thousand deaths are died or the time is over.
func TestSoakDeath(t *testing.T) {
	if os.Getenv("SOAK") == "" {
		t.Skip("make soak")
	}
	within, err := time.ParseDuration(os.Getenv("SOAK"))
	if err != nil {
		within = 10 * time.Minute
	}
	points := storyPoints(t)
	deaths := 0
	for began := time.Now(); deaths < 1000 && time.Since(began) < within; {
		t.Run(fmt.Sprint(deaths), func(t *testing.T) {
			for range 4 {
				dieAt(t, points, (deaths*37)%(2*len(points)))
				deaths++
			}
		})
	}
	t.Logf("%d deaths", deaths)
}

// storyPoints are the writes of a story in which nobody dies.
func storyPoints(t *testing.T) []string { return tellStory(t, -1, false) }

func tellStory(t *testing.T, deadly int, after bool) []string {
	w := quick(t).hasty()
	one, line := w.mortal("one")
	w.await("the shard", func() bool { return len(one.fleet.Owned()) == 1 })
	var mu sync.Mutex
	var points []string
	died := false
	line.mu.Lock()
	line.point = func(name string) (bool, bool) {
		mu.Lock()
		defer mu.Unlock()
		points = append(points, name)
		if len(points)-1 == deadly {
			died = true
			return !after, after
		}
		return false, false
	}
	line.mu.Unlock()
	if deadly >= 0 {
		w.host("two")
	}
	const number = "491800000040"
	id := w.create()
	// A scan may fail, or what came of it may be wiped, when the host dies over
	// it; then a person scans again.
	deadline := time.Now().Add(patience)
	var fetched time.Time
	for linked := false; !linked; {
		if time.Now().After(deadline) {
			i := w.get(id)
			t.Fatalf("not linked: %s (%s)", i.Observed.Status, i.Observed.Reason)
		}
		if time.Since(fetched) > time.Second {
			fetched = time.Now()
			w.fetchQR(id)
		}
		p, err := w.db.Pairing(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if i := w.get(id); p.Scannable(i.Wanted.Generation, time.Now()) {
			_, _ = w.sim.ScanQR(t.Context(), string(w.customer), p.Raw, number)
		}
		time.Sleep(20 * time.Millisecond)
		linked = w.get(id).Observed.Status == whatisup.Connected
	}
	link := w.get(id).Observed.Link
	var sent []string
	for n := range 3 {
		sent = append(sent, w.send(number, "491800000041", fmt.Sprint("before ", n)))
	}
	w.await("three messages", func() bool { return len(w.received(id)) == len(sent) })
	w.fault(id, whatsapp.Fault{Kind: "drop"})
	sent = append(sent, w.send(number, "491800000041", "after the drop"))
	w.await("four messages", func() bool { return len(w.received(id)) == len(sent) })
	w.status(id, whatisup.Connected, "")
	if i := w.get(id); i.Observed.Link != link || !i.Observed.Confirmed {
		t.Errorf("link %d became %d", link, i.Observed.Link)
	}
	w.everyEventIsTold(id)
	w.logout(id)
	w.status(id, whatisup.Pending, whatisup.LoggedOut)
	w.await("unlinked device", func() bool { return len(w.sim.Devices(string(w.customer))) == 0 })
	shard := w.get(id).Shard
	w.delete(id)
	w.await("finished tombstone", func() bool {
		hints, err := w.db.ShardInstances(t.Context(), whatisup.Test, shard)
		if err != nil {
			t.Fatal(err)
		}
		return len(hints) == 0
	})
	w.everyEventIsTold(id)
	mu.Lock()
	defer mu.Unlock()
	if deadly >= 0 && !died {
		t.Logf("the host did not come to its write %d", deadly)
	}
	return points
}

// A rolling replacement leaves no session without a connection for long, shows
// nothing and tells nobody.
func TestRollingReplacement(t *testing.T) {
	t.Parallel()
	w := quickWith(t, 4)
	old := w.host("old")
	const sessions = 16
	ids := make([]whatisup.InstanceID, sessions)
	var wg sync.WaitGroup
	for n := range ids {
		ids[n] = w.create()
		wg.Go(func() { w.link(ids[n], fmt.Sprintf("4918000001%02d", n)) })
	}
	wg.Wait()
	events := 0
	for _, id := range ids {
		events += len(w.events(id))
	}
	fresh := w.host("new")
	w.await("the new host on the list", func() bool {
		hosts, err := w.db.Hosts(t.Context(), whatisup.Test)
		return err == nil && len(hosts) == 2
	})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		old.stop()
	}()
	since := make(map[string]time.Time)
	var longest time.Duration
	for done := false; !done; {
		select {
		case <-stopped:
			done = len(fresh.fleet.Owned()) == 4
		default:
		}
		for _, d := range w.sim.Devices(string(w.customer)) {
			switch at, down := since[d.Instance]; {
			case d.Connected && down:
				longest = max(longest, time.Since(at))
				delete(since, d.Instance)
			case !d.Connected && !down:
				since[d.Instance] = time.Now()
			}
		}
		done = done && len(since) == 0
		time.Sleep(5 * time.Millisecond) // between looks
	}
	t.Logf("the longest gap was %v", longest)
	if longest > 4*time.Second {
		t.Errorf("a session was without a connection for %v", longest)
	}
	after := 0
	for _, id := range ids {
		w.status(id, whatisup.Connected, "")
		after += len(w.events(id))
	}
	if after != events {
		t.Errorf("%d events were told of it", after-events)
	}
}
