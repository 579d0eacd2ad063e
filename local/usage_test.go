package local_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

type usage struct {
	From, To string
	Total    whatisup.Usage
	Data     []whatisup.UsageHour
}

// What was received, sent and delivered is counted once: for the customer and for the
// instance, and for nobody else.
func TestUsage(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	r := receive(t)
	c := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	c.Must(201, "POST", "/v1/webhook-endpoints", fmt.Sprintf(`{"url":%q,"events":["message.received"]}`, r.URL), nil)
	m := newMailbox(t, c)
	instance := m.path[len("/v1/instances/") : len(m.path)-len("/messages")]
	other := c.Pair("other")

	const received = 3
	for n := range received {
		c.Must(202, "POST", "/v1/sandbox/instances/"+instance+"/messages", fmt.Sprintf(`{"from":"1555010000%d","text":"hello"}`, n), nil)
	}
	sent := m.send(text("15550100007", "Hello!"))
	m.await(sent.ID, "read")
	nobody := m.send(text("+49 151 00000000", "Hello?"))
	c.Must(200, "GET", m.path+"/"+nobody.ID, "", nil)
	ended := m.await(nobody.ID, "failed", "read")

	want := whatisup.Usage{In: received, Out: 1, Deliveries: received}
	if ended.Status == "failed" {
		want.Failed = 1
	} else {
		want.Out = 2
	}
	var got usage
	for _, query := range []string{"", "?instance_id=" + instance} {
		localtest.Await(t, "everything is counted", func() bool {
			c.Must(200, "GET", "/v1/usage"+query, "", &got)
			return got.Total == want
		}, func() string { return fmt.Sprintf("%q: %+v, want %+v", query, got.Total, want) })
	}
	if len(got.Data) != 25 {
		t.Errorf("%d hours", len(got.Data))
	}
	var sum whatisup.Usage
	for _, h := range got.Data {
		sum.Add(h.Usage)
	}
	if sum != got.Total {
		t.Errorf("the hours make %+v, the total is %+v", sum, got.Total)
	}
	var none usage
	c.Must(200, "GET", "/v1/usage?instance_id="+other.ID, "", &none)
	if none.Total != (whatisup.Usage{}) {
		t.Errorf("an instance that did nothing: %+v", none.Total)
	}
	var key struct{ Secret string }
	c.Must(201, "POST", "/v1/api-keys", `{"name":"bound","instance_id":"`+other.ID+`"}`, &key)
	bound := localtest.NewClient(t, s.API, key.Secret)
	bound.Must(200, "GET", "/v1/usage", "", &none)
	if none.Total != (whatisup.Usage{}) {
		t.Errorf("a key of another instance sees %+v", none.Total)
	}
	bound.Must(403, "GET", "/v1/usage?instance_id="+instance, "", nil)

	for _, bad := range []string{"from=yesterday", "from=2026-01-01T00:00:00Z", "from=2999-01-01T00:00:00Z", "to=2999-01-01T00:00:00Z", "instance_id=x"} {
		c.Must(400, "GET", "/v1/usage?"+bad, "", nil)
	}
	from := time.Now().UTC().Add(-29 * 24 * time.Hour).Format(time.RFC3339)
	c.Must(200, "GET", "/v1/usage?from="+url.QueryEscape(from), "", &got)
	if len(got.Data) != 29*24+1 || got.Total != want {
		t.Errorf("%d hours, %+v", len(got.Data), got.Total)
	}
}
