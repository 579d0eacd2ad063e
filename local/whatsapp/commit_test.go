package whatsapp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
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

// What was answered is there after the process was killed: on the screens and for the
// device, in order. What the device acknowledged does not come again in the same
// process, though it may still be in the file.
func TestMessagesOutliveAKilledProcess(t *testing.T) {
	t.Parallel()
	dir, number, friend := t.TempDir(), "4915100000001", "4915500000001"
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
	_ = w.ws.CloseNow()
	const count = 20
	for i := range count {
		if err := child.post("/control/messages", fmt.Sprintf(`{"world":"w","from":%q,"to":%q,"text":"x","message_id":"id%d"}`, friend, number, i)); err != nil {
			t.Fatal(err)
		}
	}
	child.kill()

	child = startChild(t, dir)
	answer, err := http.Get("http://" + child.address + "/control/phones/" + friend + "/messages?world=w")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var screen struct{ Data []Shown }
	if err := json.NewDecoder(answer.Body).Decode(&screen); err != nil || len(screen.Data) != count {
		t.Errorf("the phone shows %d messages: %v", len(screen.Data), err)
	}
	if w, err = d.start(child.address, "w", "i"); err != nil {
		t.Fatal(err)
	}
	if _, err = w.query("active", "passive", "set", Node{Tag: "active"}); err != nil {
		t.Fatal(err)
	}
	// All but the last are acknowledged.
	for i := range count {
		n, err := w.until("message")
		if err != nil || str(n, "id") != "id"+strconv.Itoa(i) {
			t.Fatalf("message %d is %v: %v", i, n, err)
		}
		if i == count-1 {
			break
		}
		if err = w.send(Node{Tag: "ack", Attrs: Attrs{"class": "message", "id": n.Attrs["id"], "to": n.Attrs["from"]}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err = w.query("ping", "w:p", "get"); err != nil {
		t.Fatal(err)
	}
	_ = w.ws.CloseNow()
	if w, err = d.start(child.address, "w", "i"); err != nil {
		t.Fatal(err)
	}
	defer w.ws.CloseNow()
	if err = w.send(Node{Tag: "ib", Content: []Node{{Tag: "offline_batch", Attrs: Attrs{"count": "100"}}}}); err != nil {
		t.Fatal(err)
	}
	if n, err := w.until("message"); err != nil || str(n, "id") != "id"+strconv.Itoa(count-1) {
		t.Errorf("after the acknowledgements came %v: %v", n, err)
	}
}
