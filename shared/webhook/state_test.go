package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"whatisup/shared/webhook"
	"whatisup/shared/whatisup"
)

// message is an event as the queue gives it.
func (w *world) message(i whatisup.InstanceID, n int) webhook.Message {
	w.t.Helper()
	ev, err := whatisup.NewEvent(whatisup.MessageReceived, w.customer, whatisup.Test, i, w.path.Now(), map[string]any{"n": n})
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := json.Marshal(ev)
	if err != nil {
		w.t.Fatal(err)
	}
	return webhook.Message{Body: body, Order: fmt.Sprintf("%015d#%020d", w.path.Now().UnixMilli(), n)}
}

// fan hands one event to FanOut, and no queue before it.
func (w *world) fan(i whatisup.InstanceID, n int) {
	w.t.Helper()
	if err := w.fanOut(w.t.Context(), w.message(i, n)); err != nil {
		w.t.Fatal(err)
	}
}

// TestMarksOfTheQueueAreMadeGood leaves as many marks behind as an endpoint may have
// deliveries in the queue, as deaths between a delivery's way into the queue and the
// acknowledgement of its event do. The endpoint goes on, and the marks are gone.
func TestMarksOfTheQueueAreMadeGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t)
	e := w.endpoint(r.URL, nil)
	i := whatisup.NewInstanceID()
	w.fan(i, 0)
	w.work()
	if n := w.queued(e); n != 0 {
		t.Fatalf("%d in an empty queue", n)
	}
	done := w.deliveries()[0]
	for n := range whatisup.MaxInQueue {
		mark := *done
		mark.Turn, mark.UpdatedAt, mark.Payload = n, w.path.Now(), nil // of one that is sent from its row
		for range 2 {                                                  // twice is once
			if err := w.db.MarkQueued(t.Context(), &mark); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := w.queued(e); n != whatisup.MaxInQueue {
		t.Fatalf("%d marks", n)
	}
	w.pass(10 * time.Minute)
	w.fan(i, 1)
	if !w.read(e).Behind {
		t.Error("the endpoint is not behind")
	}
	for range 2 {
		w.pass(2 * time.Minute)
		w.sweep()
	}
	if now := w.read(e); now.Behind || w.queued(e) != 0 || !slices.Equal(r.order, []int{0, 1}) {
		t.Errorf("behind %v, %d marks, received %v", now.Behind, w.queued(e), r.order)
	}
	// A delivery that is acknowledged twice takes nobody else's mark.
	mark := *done
	mark.Turn = 9999
	if err := w.db.MarkQueued(t.Context(), &mark); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := w.db.UnmarkQueued(t.Context(), done); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.queued(e); n != 1 {
		t.Errorf("%d marks, want 1", n)
	}
}

// TestSlowEndpoint has an endpoint whose answers take long get one delivery at a time,
// in the order of its instance.
func TestSlowEndpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t)
	e := w.endpoint(r.URL, func(e *whatisup.Endpoint) { e.MaxInFlight = 16 })
	if err := w.db.SetAnswerTime(t.Context(), e, whatisup.SlowAfter*2); err != nil {
		t.Fatal(err)
	}
	most := 0
	w.path.Halt = func(step string) {
		if step == "request" {
			most = max(most, w.queued(e))
		}
	}
	i := whatisup.NewInstanceID()
	for n := range 3 {
		w.fan(i, n)
	}
	if n := w.queued(e); n != 0 {
		t.Errorf("%d in the queue at once", n)
	}
	w.work()
	if most != 1 || !slices.Equal(r.order, []int{0, 1, 2}) {
		t.Errorf("%d at a time, received %v", most, r.order)
	}
	for n := range 40 { // its answers are quick again
		w.fan(i, 3+n)
		w.work()
	}
	if now := w.read(e); now.Slow() || now.AnswerTime != 0 || now.Behind {
		t.Errorf("the endpoint: %+v", now)
	}
	if !slices.IsSorted(r.order) || len(r.order) != 43 {
		t.Errorf("received %v", r.order)
	}
}

// TestDeletedEndpoint deletes an endpoint that is owed deliveries: they fail, and their
// rows stay.
func TestDeletedEndpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t)
	r.answer(http.StatusInternalServerError)
	e := w.endpoint(r.URL, nil)
	i := whatisup.NewInstanceID()
	for n := range 8 {
		w.happen(i, n)
	}
	w.work()
	if err := w.path.CatchUp(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := w.db.DeleteEndpoint(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Minute)
	w.sweep()
	all := w.deliveries()
	if len(all) != 8 {
		t.Errorf("%d rows", len(all))
	}
	for _, d := range all {
		if d.Status != whatisup.DeliveryFailed || d.Error != whatisup.ErrorEndpointDeleted || !d.NextAt.IsZero() {
			t.Errorf("%s is %s: %s", d.ID, d.Status, d.Error)
		}
	}
}

// TestSuspended holds the deliveries of a suspended customer, and sends none of them by
// itself afterwards.
func TestSuspended(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t)
	e := w.endpoint(r.URL, nil)
	i := whatisup.NewInstanceID()
	if err := w.db.CreateCustomer(t.Context(), whatisup.Customer{ID: w.customer, Name: "held", CreatedAt: w.path.Now()}); err != nil {
		t.Fatal(err)
	}
	suspend := func(yes bool) {
		t.Helper()
		if err := w.db.SetSuspended(t.Context(), w.customer, yes); err != nil {
			t.Fatal(err)
		}
	}
	w.fan(i, 0) // on its way when the customer is suspended
	suspend(true)
	w.fan(i, 1)
	w.work()
	for _, d := range w.deliveries() {
		if d.Status != whatisup.DeliveryHeld || len(d.Attempts) > 0 {
			t.Errorf("%s is %s", d.ID, d.Status)
		}
	}
	suspend(false)
	w.fan(i, 2)
	w.pass(time.Minute)
	w.sweep()
	if !slices.Equal(r.order, []int{2}) || w.queued(e) != 0 {
		t.Errorf("received %v", r.order)
	}
}

// TestReplayHonoursStatus replays what was held and failed, not what arrived, with the
// very bytes of the first time.
func TestReplayHonoursStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t)
	e := w.endpoint(r.URL, nil)
	i := whatisup.NewInstanceID()
	from := w.path.Now()
	arrived := w.happen(i, 1)
	w.work()
	e.Disabled = whatisup.DisabledByCustomer
	if err := w.db.UpdateEndpoint(t.Context(), e, false); err != nil {
		t.Fatal(err)
	}
	held := w.happen(i, 2)
	w.work()
	now := w.read(e)
	now.Disabled = ""
	if err := w.db.UpdateEndpoint(t.Context(), now, true); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Minute)
	replay := func(status whatisup.DeliveryStatus) {
		t.Helper()
		err := w.path.StartReplay(t.Context(), &whatisup.Replay{
			Customer: w.customer, Mode: whatisup.Test, ID: whatisup.NewReplayID(), Endpoint: e.ID, At: w.path.Now(), Since: from.Add(-time.Second),
			To: w.path.Now(), Cursor: whatisup.PositionAt(from.Add(-time.Minute)), Status: status,
		})
		if err != nil {
			t.Fatal(err)
		}
		w.sweep()
	}
	replay(whatisup.DeliveryHeld)
	if len(r.got[string(arrived.ID)]) != 1 || len(r.got[string(held.ID)]) != 1 {
		t.Errorf("after the replay of what was held: %v", r.order)
	}
	replay("")
	for _, id := range []whatisup.EventID{arrived.ID, held.ID} {
		bodies := r.got[string(id)]
		if len(bodies) != 2 || bodies[0] != bodies[1] {
			t.Errorf("%s arrived as %q", id, bodies)
		}
	}
}

// TestDisabledIsToldOnce has two attempts find at one moment that the endpoint is gone.
func TestDisabledIsToldOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t)
	r.answer(http.StatusGone)
	e := w.endpoint(r.URL, nil)
	i := whatisup.NewInstanceID()
	for n := range 4 {
		w.fan(i, n)
	}
	deaths := 0
	w.die = func(step string) bool {
		if (step == "disabled" || step == "told disabled") && deaths < 2 {
			deaths++
			return true
		}
		return false
	}
	w.work()
	w.die = nil
	w.pass(time.Minute)
	w.sweep()
	var told []whatisup.EventID
	for l, err := range w.db.EventsAfter(context.Background(), w.customer, whatisup.Test, whatisup.PositionAt(time.UnixMilli(0)), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Name == whatisup.WebhookDisabled {
			told = append(told, l.ID)
		}
	}
	if len(told) != 1 || deaths != 2 {
		t.Errorf("told %v after %d deaths", told, deaths)
	}
	if now := w.read(e); now.Disabled != whatisup.DisabledGone {
		t.Errorf("disabled %q", now.Disabled)
	}
}

// TestLate has the sweep say that an endpoint with room is owed a delivery for long, and
// not that one is whose endpoint has not answered for it.
func TestLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t)
	e, failing := w.endpoint(r.URL, nil), w.endpoint("http://127.0.0.1:9/", nil)
	logs := &bytes.Buffer{}
	w.path.Slog = slog.New(slog.NewJSONHandler(logs, nil))
	for n := range 6 { // one of them is degraded, and is owed something
		w.fan(whatisup.NewInstanceID(), n)
	}
	w.work()
	if !w.read(failing).Degraded() {
		t.Fatal("not degraded")
	}
	w.pass(10 * time.Minute)
	w.sweep()
	if strings.Contains(logs.String(), webhook.LateMessage) {
		t.Errorf("logged %s", logs)
	}
	if err := w.db.SetBehind(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	w.fan(whatisup.NewInstanceID(), 7)
	w.pass(lateAfter + time.Second)
	w.sweep()
	if !strings.Contains(logs.String(), `"msg":"`+webhook.LateMessage+`","mode":"test","endpoints":1`) {
		t.Errorf("logged %s", logs)
	}
}

const lateAfter = 5 * time.Minute
