package httpapi_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"whatisup/shared/control"
	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

// The list of keys has pages like every list, and an end: expired keys leave it,
// and there is a limit.
func TestKeysAreListedInPages(t *testing.T) {
	t.Parallel()
	f := start(t)
	type list struct {
		Data []struct{ ID, Name string }
		Next *string `json:"next_cursor"`
	}
	for n := range 4 {
		f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys", fmt.Sprintf(`{"name":"k%d"}`, n))
	}
	f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys", fmt.Sprintf(`{"name":"short","expires_at":%q}`, whatisup.At(f.clock.now().Add(time.Minute))))
	all := into[list](t, f.want(200, "", f.a.TestKey, "GET", "/v1/api-keys", ""))
	if len(all.Data) != 6 || all.Next != nil {
		t.Fatalf("%+v", all)
	}
	var names []string
	query := "?limit=2"
	for range 4 {
		page := into[list](t, f.want(200, "", f.a.TestKey, "GET", "/v1/api-keys"+query, ""))
		for _, k := range page.Data {
			names = append(names, k.Name)
		}
		if page.Next == nil {
			break
		}
		query = "?limit=2&cursor=" + *page.Next
		f.want(400, "invalid_request", f.b.TestKey, "GET", "/v1/api-keys"+query, "")
	}
	if got := fmt.Sprint(names); got != "[short k3 k2 k1 k0 first]" {
		t.Errorf("pages hold %s", got)
	}
	f.clock.advance(31 * 24 * time.Hour)
	if left := into[list](t, f.want(200, "", f.a.TestKey, "GET", "/v1/api-keys", "")); len(left.Data) != 5 {
		t.Errorf("an expired key is still listed: %+v", left)
	}
}

func TestKeysAreLimited(t *testing.T) {
	t.Parallel()
	f := start(t)
	for range whatisup.MaxKeys - 1 { // one there is
		k, _, err := peppers.NewKey(whatisup.APIKey{Customer: f.a.Customer, Mode: whatisup.Test, Name: "x"})
		if err == nil {
			err = f.db.CreateKey(t.Context(), k, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f.want(409, "api_key_limit_reached", f.a.TestKey, "POST", "/v1/api-keys", `{"name":"one too many"}`)
	f.want(201, "", f.a.LiveKey, "POST", "/v1/api-keys", `{"name":"another mode"}`)
}

// A deployment has a limit of instances; the operator may set another for a
// customer.
func TestInstancesAreLimited(t *testing.T) {
	t.Parallel()
	if control.DefaultMaxInstances != 10_000 {
		t.Errorf("the default limit is %d", control.DefaultMaxInstances)
	}
	f := start(t, func(c *httpapi.Config) { c.MaxInstances = 2 })
	f.create(f.a.TestKey, "1")
	f.create(f.a.TestKey, "2")
	f.want(409, "instance_limit_reached", f.a.TestKey, "POST", "/v1/instances", `{"name":"3"}`)
	f.create(f.a.LiveKey, "another mode")
	if err := f.db.SetLimits(t.Context(), f.a.Customer, 3, whatisup.RateLimit{}, whatisup.SendLimits{}); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(time.Minute)
	f.create(f.a.TestKey, "3")
}

// A filter reads a bounded amount for one token: the page is short, and goes on.
func TestFilterReadsABoundedAmount(t *testing.T) {
	t.Parallel()
	f := start(t)
	body := `{"name":"x","metadata":{"a":"` + string(make16K()) + `"}}`
	for range 300 {
		f.want(201, "", f.a.TestKey, "POST", "/v1/instances", body)
	}
	for _, path := range []string{"/v1/instances?status=failed", "/v1/event-log?events=command.refused"} {
		page := into[struct {
			Data []struct{}
			Next *string `json:"next_cursor"`
		}](t, f.want(200, "", f.a.TestKey, "GET", path, ""))
		if len(page.Data) != 0 || page.Next == nil {
			t.Errorf("%s: %d found, and no cursor", path, len(page.Data))
			continue
		}
		rest := into[struct {
			Next *string `json:"next_cursor"`
		}](t, f.want(200, "", f.a.TestKey, "GET", path+"&cursor="+*page.Next, ""))
		if rest.Next != nil {
			t.Errorf("%s does not end", path)
		}
	}
}

func make16K() []byte {
	b := make([]byte, 16<<10-10)
	for i := range b {
		b[i] = 'x'
	}
	return b
}

// Sends have buckets of their own, one of them the instance's: one that is used up
// leaves the customer's other instances and calls alone.
func TestSendsAreLimited(t *testing.T) {
	t.Parallel()
	f := start(t)
	path, _ := f.create(f.a.TestKey, "busy")
	other, _ := f.create(f.a.TestKey, "quiet")
	const body = `{"to":"4915112345678","body":{"type":"text","text":"x"}}`
	var taken atomic.Int32
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for { // faster than the bucket refills
				r := f.call(f.a.TestKey, "POST", path+"/messages", body)
				switch {
				case r.status == 409 && taken.Add(1) < 10*int32(httpapi.DefaultSendLimits.Instance.Burst):
					continue
				case r.status != 429 || r.code() != "rate_limited" || r.header.Get("Retry-After") == "" || r.header.Get("X-RateLimit-Remaining") != "0":
					t.Errorf("%d %s %v", r.status, r.body, r.header)
				}
				return
			}
		})
	}
	calls.Wait()
	if n := taken.Load(); n < int32(httpapi.DefaultSendLimits.Instance.Burst) {
		t.Errorf("only %d sends were let through", n)
	}
	f.want(409, "not_connected", f.a.TestKey, "POST", other+"/messages", body)
	f.want(200, "", f.a.TestKey, "GET", path, "")
}

// The limits of sends are the deployment's, and a customer's own before them.
func TestSendLimitsAreSet(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *httpapi.Config) {
		c.SendLimits.Customer = whatisup.RateLimit{Burst: 4, PerSecond: 0.0001}
		c.SendLimits.Instance = whatisup.RateLimit{Burst: 3, PerSecond: 0.0001}
	})
	if err := f.db.SetLimits(t.Context(), f.b.Customer, 0, whatisup.RateLimit{}, whatisup.SendLimits{Instance: whatisup.RateLimit{Burst: 1}}); err != nil {
		t.Fatal(err)
	}
	const body = `{"to":"4915112345678","body":{"type":"text","text":"x"}}`
	for _, c := range []struct {
		key   string
		burst int
	}{{f.a.TestKey, 3}, {f.b.TestKey, 1}} {
		path, _ := f.create(c.key, "one")
		for range c.burst {
			f.want(409, "not_connected", c.key, "POST", path+"/messages", body)
		}
		f.want(429, "rate_limited", c.key, "POST", path+"/messages", body)
		l := into[struct {
			Sends struct {
				PerCustomer struct {
					Limit int `json:"limit"`
				} `json:"per_customer"`
			} `json:"sends"`
		}](t, f.want(200, "", c.key, "GET", "/v1/limits", ""))
		if l.Sends.PerCustomer.Limit != 4 {
			t.Errorf("the customer's limit is %d", l.Sends.PerCustomer.Limit)
		}
	}
}

// A file's URL has a bucket by token: whoever asks for one without end is told to come
// again, and other tokens are not meant.
func TestFilesAreLimited(t *testing.T) {
	t.Parallel()
	f := start(t)
	var limited atomic.Bool
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for range 2_000 { // faster than the bucket refills
				r := f.call("", "GET", "/v1/media-files/one", "")
				if r.status == 404 && !limited.Load() {
					continue
				}
				if r.status == 429 && r.code() == "rate_limited" && r.header.Get("Retry-After") != "" {
					limited.Store(true)
				} else if !limited.Load() {
					t.Errorf("%d %s", r.status, r.body)
				}
				return
			}
		})
	}
	calls.Wait()
	if !limited.Load() {
		t.Error("nothing limits a token")
	}
	f.want(404, "media_not_found", "", "GET", "/v1/media-files/two", "")
}

// A bound key takes at most a third of the tokens of sends, and the limits say how many
// are left, for whoever asks.
func TestBoundKeysSends(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, id := f.create(f.a.TestKey, "own")
	key := into[struct{ ID, Secret string }](t, f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys", fmt.Sprintf(`{"name":"n","instance_id":%q}`, id)))
	bound := key.Secret
	left := func(key string) (limit, remaining int) {
		l := into[struct {
			Sends struct {
				PerCustomer struct{ Limit, Remaining int } `json:"per_customer"`
			}
		}](t, f.want(200, "", key, "GET", "/v1/limits", ""))
		return l.Sends.PerCustomer.Limit, l.Sends.PerCustomer.Remaining
	}
	const most = 500 / 3
	if limit, remaining := left(bound); limit != most || remaining != most {
		t.Errorf("a bound key has %d of %d", remaining, limit)
	}
	f.want(400, "invalid_request", bound, "POST", "/v1/instances/"+string(id)+"/messages", `{}`)
	// So slowly does the bucket fill now that it stays empty.
	if _, err := f.db.TakeSend(t.Context(), f.a.Customer, whatisup.Test, key.ID, whatisup.RateLimit{Burst: 10, PerSecond: 0.0001}); err != nil {
		t.Fatal(err)
	}
	f.want(429, "rate_limited", bound, "POST", "/v1/instances/"+string(id)+"/messages", `{}`)
	if limit, remaining := left(bound); limit != most || remaining != 0 {
		t.Errorf("the bound key has %d of %d", remaining, limit)
	}
	if limit, remaining := left(f.a.TestKey); limit != 500 || remaining < 490 {
		t.Errorf("its owner has %d of %d", remaining, limit)
	}
	f.want(400, "invalid_request", f.a.TestKey, "POST", "/v1/instances/"+string(id)+"/messages", `{}`)
}

// An instance takes messages until as many wait as may, and again when one is gone; its
// neighbour takes some all the while.
func TestMessagesThatWaitAreLimited(t *testing.T) {
	t.Parallel()
	f := start(t)
	h := f.host()
	path, id := f.create(f.a.TestKey, "full")
	other, otherID := f.create(f.a.TestKey, "empty")
	for p, id := range map[string]whatisup.InstanceID{path: id, other: otherID} {
		f.want(202, "", f.a.TestKey, "POST", p+"/connect", "")
		h.link(f.of(f.a.Customer, id), whatisup.Connected, whatisup.NoReason)
	}
	f.clock.advance(6 * time.Second) // past what functions remember of leases
	const body = `{"to":"4915112345678","body":{"type":"text","text":"x"}}`
	first := into[struct {
		ID string `json:"message_id"`
	}](t, f.want(202, "", f.a.TestKey, "POST", path+"/messages", body))
	ref, at := whatisup.Ref{Customer: f.a.Customer, Mode: whatisup.Test, ID: id}, f.clock.now()
	next := make(chan struct{})
	var writers sync.WaitGroup
	for range 16 {
		writers.Go(func() {
			for range next {
				to := whatisup.NumberAddress("4915112345678")
				_, err := f.db.AcceptMessage(t.Context(), &whatisup.Message{
					Ref: ref, ID: whatisup.NewMessageID(), Direction: whatisup.Outgoing, To: to, Chat: to, ChatType: whatisup.ChatDirect,
					Raw: []byte(`{"type":"text","text":"x"}`), Link: 1, Status: whatisup.MessageQueued, StatusAt: at,
					DueAt: at, ExpiresAt: at.Add(time.Hour), Times: whatisup.MessageTimes{Created: at, Queued: at},
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range whatisup.WaitingMost - 2 {
		next <- struct{}{}
	}
	close(next)
	writers.Wait()
	f.clock.advance(time.Minute) // past what functions remember of counts
	f.want(202, "", f.a.TestKey, "POST", path+"/messages", body)
	for range 2 {
		r := f.want(429, "queue_full", f.a.TestKey, "POST", path+"/messages", body)
		if r.header.Get("Retry-After") == "" {
			t.Error("it is not said when to try again")
		}
	}
	f.want(202, "", f.a.TestKey, "POST", other+"/messages", body)
	if _, _, err := f.db.StepMessage(t.Context(), ref, whatisup.MessageID(first.ID), whatisup.Step{Status: whatisup.MessageCanceled, At: f.clock.now()}); err != nil {
		t.Fatal(err)
	}
	f.want(202, "", f.a.TestKey, "POST", path+"/messages", body)
	f.want(429, "queue_full", f.a.TestKey, "POST", path+"/messages", body)
}
