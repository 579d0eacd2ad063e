package host

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/local/aws/awstest"
	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

// logText is what was logged.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logText) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), s)
}

// When WhatsApp restricts many instances within ten minutes, and not a few among many
// sessions, nobody begins a chat for an hour, on no host; the log says so for the alarm.
func TestManyRestrictionsStopNewChats(t *testing.T) {
	t.Parallel()
	client := dynamodb.NewFromConfig(awstest.Start(t).Config)
	if err := dynamo.Local().Create(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	db := dynamo.New(dynamo.Config{Client: client, Tables: dynamo.Local()})
	var mu sync.Mutex
	at := time.Now().UTC().Truncate(time.Millisecond)
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return at
	}
	pass := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		at = at.Add(d)
	}
	anybody := whatisup.Ref{Customer: whatisup.NewCustomerID(), Mode: whatisup.Live, ID: whatisup.NewInstanceID()}
	log := new(logText)
	host := func() *Host {
		h := &Host{stops: newStops(db, whatisup.Live, now), log: slog.New(slog.NewJSONHandler(log, nil))}
		ctx, stop := context.WithCancel(context.Background())
		var over sync.WaitGroup
		over.Go(func() { h.watchStops(ctx) })
		t.Cleanup(func() { stop(); over.Wait() })
		return h
	}
	h := host()
	restrict := func(n, sessions int) {
		for i := range n {
			h.stops.note(whatisup.InstanceID(fmt.Sprint(i)), sessions)
		}
	}
	tripped := func() bool { return len(h.stops.tripped) > 0 }

	restrict(tripLeast-1, 20)
	pass(tripWithin + time.Second)
	restrict(tripLeast-1, 20) // those of before count no more
	restrict(1, 20)           // ... and one instance counts once
	if tripped() || log.has("restricts many") {
		t.Fatal("a few restrictions have stopped all")
	}
	pass(tripWithin + time.Second)
	restrict(tripLeast, tripLeast*tripPart+1)
	if tripped() || log.has("restricts many") {
		t.Fatal("a small part of many sessions has stopped all")
	}

	restrict(tripLeast, tripLeast*tripPart)
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if all, newChats := h.stops.of(anybody); all {
			t.Fatal("what is sent to known contacts is stopped, too")
		} else if newChats && log.has("WhatsApp restricts many instances") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nothing was stopped")
		}
	}
	// Every other host sees it, and the operator.
	other := newStops(db, whatisup.Live, now)
	if err := other.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, newChats := other.of(anybody); !newChats {
		t.Error("another host goes on")
	}
	if all, err := db.Stops(t.Context(), whatisup.Live); err != nil || len(all) != 1 || all[0].By != "automatic" {
		t.Errorf("%+v, %v", all, err)
	}
	// A second host that sees as much leaves the stop as it is.
	pass(time.Minute)
	if done, err := other.trip(t.Context()); done || err != nil {
		t.Errorf("stopped once more: %v, %v", done, err)
	}
	pass(tripFor)
	if _, newChats := h.stops.of(anybody); newChats {
		t.Error("it does not end")
	}
}

// An automatic stop replaces no stop of the operator's.
func TestTheOperatorsStopStays(t *testing.T) {
	t.Parallel()
	client := dynamodb.NewFromConfig(awstest.Start(t).Config)
	if err := dynamo.Local().Create(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	db := dynamo.New(dynamo.Config{Client: client, Tables: dynamo.Local()})
	s := newStops(db, whatisup.Live, time.Now)
	if err := db.PutStop(t.Context(), whatisup.Live, whatisup.Stop{Scope: whatisup.StopAll, NewChats: true, By: "operator", Since: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if done, err := s.trip(t.Context()); done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	if all, err := db.Stops(t.Context(), whatisup.Live); err != nil || len(all) != 1 || all[0].By != "operator" || !all[0].Until.IsZero() {
		t.Errorf("%+v, %v", all, err)
	}
}
