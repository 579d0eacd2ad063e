package whatsapp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Changes that are written in one transaction do not notice one that fails or panics
// after it has written something.
func TestAChangeFailsAlone(t *testing.T) {
	t.Parallel()
	_, server := serve(t, Config{})
	d := server.db
	put := func(key string) func(*tx) error {
		return func(tx *tx) error { return tx.Bucket(bucketMeta).Put([]byte(key), []byte("here")) }
	}
	broken := errors.New("broken")
	changes := []func(*tx) error{
		put("first"),
		func(tx *tx) error { return errors.Join(put("failed")(tx), broken) },
		put("second"),
		func(tx *tx) error { _ = put("panicked")(tx); panic("on purpose") },
		put("third"),
	}
	d.commits.lead <- struct{}{} // so that all of them wait
	var working sync.WaitGroup
	results := make([]any, len(changes))
	for i, change := range changes {
		working.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					results[i] = p
				}
			}()
			if err := d.update(change); err != nil {
				results[i] = err
			}
		})
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(wireTimeout); ; <-tick.C {
		d.commits.mu.Lock()
		waiting := len(d.commits.waiting)
		d.commits.mu.Unlock()
		if waiting >= len(changes) { // and what the server may do at its start
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d changes are waiting", waiting)
		}
	}
	<-d.commits.lead
	working.Wait()
	if want := []any{nil, broken, nil, "on purpose", nil}; !slices.EqualFunc(results, want, func(a, b any) bool {
		err, ok := a.(error)
		return a == b || ok && errors.Is(err, broken) && b == error(broken)
	}) {
		t.Errorf("%v, want %v", results, want)
	}
	_ = d.view(func(tx *tx) error {
		for key, want := range map[string]bool{"first": true, "failed": false, "second": true, "panicked": false, "third": true} {
			if got := tx.Bucket(bucketMeta).Get([]byte(key)) != nil; got != want {
				t.Errorf("%s is there: %v", key, got)
			}
		}
		return nil
	})
}

// What was answered is there after the process was killed while many wrote: on the
// screens and for the device, each sender's in order. What the device acknowledged does
// not come again in the same process, though it may still be in the file. SOAK=1 kills
// more often.
func TestMessagesOutliveAKilledProcess(t *testing.T) {
	t.Parallel()
	dir, number := t.TempDir(), "4915100000001"
	child := startChild(t, dir)
	d := newWireDevice()
	if err := d.link(child.address, "w", "i", child.scan("w", number)); err != nil {
		t.Fatal(err)
	}
	w, err := d.start(child.address, "w", "i")
	if err == nil {
		err = d.uploadKeys(w, 50)
	}
	if err != nil {
		t.Fatal(err)
	}
	rounds := 2
	if os.Getenv("SOAK") != "" {
		rounds = 50
	}
	for round := range rounds {
		_ = w.ws.CloseNow()
		answered := writeUntilKilled(t, child, number, fmt.Sprintf("r%d-", round), 60+37*round%200)
		child = startChild(t, dir)
		w = takeAnswered(t, child, d, answered)
	}
	_ = w.ws.CloseNow()
}

// writeUntilKilled lets some people write to a number and kills the process when so
// many messages are answered. It says how many of each person were.
func writeUntilKilled(t *testing.T, child *childProcess, number, prefix string, count int) map[string][]string {
	t.Helper()
	var mu sync.Mutex
	var writing sync.WaitGroup
	answered, total, enough := map[string][]string{}, 0, make(chan struct{})
	for i := range 4 {
		friend := "491550000000" + strconv.Itoa(i)
		writing.Go(func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("%s%s-%d", prefix, friend, n)
				if child.post("/control/messages", fmt.Sprintf(`{"world":"w","from":%q,"to":%q,"text":"x","message_id":%q}`, friend, number, id)) != nil {
					return // killed
				}
				mu.Lock()
				answered[friend] = append(answered[friend], id)
				if total++; total == count {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(wireTimeout):
		t.Error("nothing is answered")
	}
	child.kill()
	writing.Wait()
	return answered
}

// takeAnswered looks for what was answered on the senders' screens and in the device's
// queue, and acknowledges all but the last.
func takeAnswered(t *testing.T, child *childProcess, d *wireDevice, answered map[string][]string) *wire {
	t.Helper()
	for friend, ids := range answered {
		for _, id := range ids {
			answer, err := http.Get("http://" + child.address + "/control/phones/" + friend + "/messages?world=w&message_id=" + id)
			if err != nil {
				t.Fatal(err)
			}
			var screen struct{ Data []Shown }
			err = json.NewDecoder(answer.Body).Decode(&screen)
			_ = answer.Body.Close()
			if err != nil || len(screen.Data) != 1 {
				t.Fatalf("the phone that wrote %s shows %v: %v", id, screen.Data, err)
			}
		}
	}
	w, waiting := queuedFor(t, child, d)
	for friend, ids := range answered {
		got := slices.DeleteFunc(slices.Clone(waiting), func(n *Node) bool { return !strings.Contains(str(n, "id"), friend) })
		if len(got) < len(ids) || len(got) > len(ids)+1 { // one more, that was not answered
			t.Errorf("%d messages of %s wait for the device, %d were answered", len(got), friend, len(ids))
		}
		for i, id := range ids {
			if i < len(got) && str(got[i], "id") != id {
				t.Errorf("message %d of %s is %s", i, friend, str(got[i], "id"))
			}
		}
	}
	acknowledge := func(n *Node) {
		if err := w.send(Node{Tag: "ack", Attrs: Attrs{"class": n.Tag, "id": n.Attrs["id"], "to": n.Attrs["from"]}}); err != nil {
			t.Fatal(err)
		}
	}
	last := waiting[len(waiting)-1]
	for _, n := range waiting[:len(waiting)-1] {
		acknowledge(n)
	}
	if _, err := w.query("ping", "w:p", "get"); err != nil {
		t.Fatal(err)
	}
	_ = w.ws.CloseNow()
	if w, waiting = queuedFor(t, child, d); len(waiting) != 1 || str(waiting[0], "id") != str(last, "id") {
		t.Errorf("after the acknowledgements came %v", waiting)
	}
	acknowledge(last)
	if _, err := w.query("ping", "w:p", "get"); err != nil {
		t.Fatal(err)
	}
	return w
}

// queuedFor lets the device log in, and returns the messages that have waited for it.
func queuedFor(t *testing.T, child *childProcess, d *wireDevice) (*wire, []*Node) {
	t.Helper()
	w, err := d.start(child.address, "w", "i")
	if err == nil {
		err = w.send(Node{Tag: "ib", Content: []Node{{Tag: "offline_batch", Attrs: Attrs{"count": "100"}}}})
	}
	var out []*Node
	for err == nil {
		var n *Node
		if n, err = w.receive(); err != nil {
			break
		}
		if n.Tag == "ib" && strings.Contains(render(n), "<offline ") {
			return w, out
		}
		if n.Tag == "message" {
			out = append(out, n)
		}
	}
	t.Fatal(err)
	return nil, nil
}
