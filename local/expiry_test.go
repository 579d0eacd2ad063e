package local_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"whatisup/local"
	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// A stack whose host was killed, and has none any more, still says of a message that its
// time is over.
func TestMessagesExpireWhileNoHostLives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := localtest.StartProcess(t, dir)
	key := p.Key(t, whatisup.Test)
	instance := localtest.NewClient(t, p.API, key).Pair("orphan").ID
	p.Kill(t)

	var ahead atomic.Int64
	ahead.Store(int64(5 * time.Minute))
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	s := localtest.Start(t, func(c *local.Config) {
		c.DataDir, c.Seed, c.NoHost, c.Clock = dir, [32]byte{}, true, clock
	})
	c := localtest.NewClient(t, s.API, key)
	m := mailbox{c, t, "/v1/instances/" + instance + "/messages"}
	over := m.send(text("4915100000001", "soon over"))
	later := m.send(text("4915100000001", "tomorrow", fmt.Sprintf(`,"scheduled_at":%q`, clock().Add(24*time.Hour).UTC().Format(time.RFC3339))))
	ahead.Store(int64(5*time.Minute + 2*time.Hour))
	var l letter
	for began := time.Now(); l.Status != "expired"; time.Sleep(200 * time.Millisecond) { // the sweep runs each minute
		if m.Must(200, "GET", m.path+"/"+over.ID, "", &l); time.Since(began) > 4*time.Minute {
			t.Fatalf("it is %+v", l)
		}
	}
	if l.MayHaveBeenSent {
		t.Error("it may have been sent, though no host has seen it")
	}
	if m.Must(200, "GET", m.path+"/"+later.ID, "", &l); l.Status != "scheduled" {
		t.Errorf("what is for tomorrow is %s", l.Status)
	}
	var list struct {
		Data []struct {
			Event string
			Data  struct {
				ID     string `json:"message_id"`
				Status string
			}
		}
	}
	c.Must(http.StatusOK, "GET", "/v1/events?limit=100", "", &list)
	told := 0
	for _, e := range list.Data {
		if e.Event == string(whatisup.MessageStatusChanged) {
			if told++; e.Data.ID != over.ID || e.Data.Status != "expired" {
				t.Errorf("told: %+v", e)
			}
		}
	}
	if told != 1 {
		t.Errorf("it was told %d times", told)
	}
}
