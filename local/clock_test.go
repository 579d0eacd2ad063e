package local_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"whatisup/local"
	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// A session host whose clock is off does all that another does: calls with work are
// carried out, codes are shown, events come on the stream while they are news, and
// what is scheduled is sent at its time. In the test everybody else's clock is off the
// other way.
func TestHostsClockIsOff(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{10 * time.Second, -30 * time.Second, 3 * time.Minute} {
		t.Run(ahead.String(), func(t *testing.T) {
			t.Parallel()
			s := localtest.Start(t, func(c *local.Config) {
				c.Clock = func() time.Time { return time.Now().Add(-ahead) }
			})
			c := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
			frames := follow(t, s.API, s.Keys[whatisup.Test])
			m := newMailbox(t, c)
			instance := strings.Split(m.path, "/")[3]
			p := people{c, instance}

			sent := m.send(text("4915100000001", "now"))
			m.await(sent.ID, "read")
			due := time.Now().Add(-ahead).Add(2 * time.Second)
			later := m.send(text("4915100000001", "later", fmt.Sprintf(`,"scheduled_at":%q`, due.UTC().Format(time.RFC3339Nano))))
			var sentAt *string
			localtest.Await(t, "what was scheduled has been sent", func() bool {
				var l letter
				m.Must(200, "GET", m.path+"/"+later.ID, "", &l)
				sentAt = l.Timeline["sent_at"]
				return sentAt != nil
			})
			if at, err := time.Parse(time.RFC3339Nano, *sentAt); err != nil || at.Before(due.Add(-2*time.Second)) {
				t.Errorf("due at %v, it was sent at %v", due, *sentAt)
			}
			p.write(`{"from":"4915100000002","text":"hello"}`)
			for _, name := range []whatisup.EventName{whatisup.InstanceConnected, whatisup.MessageReceived} {
				frames.await(t, name)
			}
			var told float64
			page, err := http.Get(s.Health + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			figures, err := io.ReadAll(page.Body)
			page.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			_, value, _ := strings.Cut(string(figures), "\nwhatisup_clock_ahead_seconds")
			_, value, _ = strings.Cut(value, " ")
			value, _, _ = strings.Cut(value, "\n")
			if fmt.Sscan(value, &told); math.Abs(told-ahead.Seconds()) > 1.1 {
				t.Errorf("a clock that is %v ahead is told to be %q s ahead", ahead, value)
			}
		})
	}
}

// frames are the names of events as the stream tells them.
type frames chan string

func follow(t *testing.T, api, key string) frames {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	r, err := http.NewRequestWithContext(ctx, "GET", api+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(answer.Body)
		t.Fatalf("the stream: %d %s", answer.StatusCode, b)
	}
	f := make(frames, 1000)
	go func() {
		defer answer.Body.Close()
		for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				f <- name
			}
		}
	}()
	return f
}

func (f frames) await(t *testing.T, name whatisup.EventName) {
	t.Helper()
	for end := time.After(30 * time.Second); ; {
		select {
		case got := <-f:
			if got == string(name) {
				return
			}
		case <-end:
			t.Fatalf("the stream does not show %s", name)
		}
	}
}
