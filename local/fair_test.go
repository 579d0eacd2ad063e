package local_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/local"
	"whatisup/local/localtest"
	"whatisup/shared/dynamo"
	"whatisup/shared/operator"
	"whatisup/shared/whatisup"
)

// The slow calls of one customer in a shard hold up nobody else's there.
func TestSlowCustomerHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	mine := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	theirKey := anotherCustomer(t, s).TestKey
	theirs := localtest.NewClient(t, s.API, theirKey)
	i := mine.Create("mine")
	mine.QR(i.ID)
	shard := whatisup.ShardOf(whatisup.InstanceID(i.ID), whatisup.DefaultShardCount)

	// Their phones scan codes of connections that say nothing any more.
	const slow = 18 // more than the shard does at a time
	var ids []string
	for len(ids) < slow {
		other := theirs.Create("slow")
		if whatisup.ShardOf(whatisup.InstanceID(other.ID), whatisup.DefaultShardCount) == shard {
			ids = append(ids, other.ID)
		}
	}
	for _, id := range ids {
		theirs.QR(id)
		theirs.Must(204, "POST", "/v1/sandbox/instances/"+id+"/faults", `{"kind":"silent","seconds":60}`, nil)
	}
	var inHand atomic.Int32
	var calls sync.WaitGroup
	defer calls.Wait()
	for _, id := range ids {
		inHand.Add(1)
		calls.Go(func() {
			defer inHand.Add(-1)
			call(t.Context(), s.API, theirKey, "POST", "/v1/sandbox/instances/"+id+"/scan", "")
		})
	}
	mine.Must(204, "POST", "/v1/sandbox/instances/"+i.ID+"/scan", "", nil)
	if n := inHand.Load(); n < slow-4 {
		t.Errorf("of %d slow calls %d are in hand: the other customer's had to wait for them", slow, n)
	}
	mine.AwaitStatus(i.ID, "connected")
}

// call makes a call whose answer does not matter, and returns its status, 0 if there
// is none.
func call(ctx context.Context, api, key, method, path, body string) int {
	r, err := http.NewRequestWithContext(ctx, method, api+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0
	}
	r.Header.Set("Authorization", "Bearer "+key)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// A customer that is suspended has no session 60 s later, whatever it calls
// meanwhile, without pause, over HTTP and over the queue; its links are kept, and
// after the end of it they connect.
func TestSuspendedCustomerHasNoSession(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the minute in which functions trust a key")
	}
	t.Parallel()
	s := localtest.Start(t, func(c *local.Config) { c.EventQueue = true })
	made := anotherCustomer(t, s)
	theirs := localtest.NewClient(t, s.API, made.TestKey)
	var paths []string
	for n := range 4 {
		paths = append(paths, "/v1/instances/"+theirs.Pair(fmt.Sprint("linked ", n)).ID)
	}
	// One stays without a link, and one is stopped.
	paths = append(paths, "/v1/instances/"+theirs.Create("fresh").ID)
	theirs.Must(202, "POST", paths[1]+"/disconnect", "", nil)
	mine := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	other := mine.Pair("another customer's")

	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	var refused, began atomic.Int64
	for n, path := range paths {
		for range 2 {
			calls.Go(func() {
				for ctx.Err() == nil {
					for _, c := range [][3]string{
						{"POST", path + "/connect", ""}, {"GET", path + "/qr", ""}, {"POST", path + "/disconnect", ""}, {"POST", path + "/connect", ""},
						{"POST", "/v1/sandbox" + path[len("/v1"):] + "/scan", ""}, {"POST", "/v1/instances", `{"name":"late"}`},
						{"POST", "/v1/api-keys", `{"name":"late"}`}, {"POST", path + "/messages", `{"to":"4915112345678","body":{"type":"text","text":"late"}}`},
						{"POST", path + "/pair-code", fmt.Sprintf(`{"phone_number":"49151123456%d"}`, n)},
					} {
						began.Add(1)
						if call(ctx, s.API, made.TestKey, c[0], c[1], c[2]) == http.StatusForbidden {
							refused.Add(1)
						}
					}
				}
			})
		}
	}
	localtest.Await(t, "calls", func() bool { return began.Load() > 40 })
	db := dynamo.New(dynamo.Config{Client: dynamodb.NewFromConfig(s.AWSConf), Tables: dynamo.Local()})
	if _, err := operator.New(db, nil).Suspend(t.Context(), made.Customer); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	connected := func() (n int) {
		for _, d := range localtest.Devices(t, s.WhatsApp) {
			if d.World == string(made.Customer) && d.Connected {
				n++
			}
		}
		return n
	}
	localtest.Await(t, "no session", func() bool { return connected() == 0 && time.Since(at) > 52*time.Second })
	if took := time.Since(at); took > 60*time.Second {
		t.Errorf("the sessions have gone after %v", took)
	}
	// It goes on calling, and nothing comes back.
	before := refused.Load()
	localtest.Await(t, "refusals", func() bool {
		if n := connected(); n > 0 {
			t.Fatalf("%d sessions of a suspended customer", n)
		}
		return refused.Load() > before+500
	})
	cancel()
	calls.Wait()
	for i, err := range db.Instances(t.Context(), made.Customer, whatisup.Test, "", 0) {
		if err != nil || i.Wanted.Online || i.Config.ID.CreatedAt().After(at.Add(time.Second)) {
			t.Errorf("%v: %q was made at %v, and wanted is %+v", err, i.Config.Name, i.Config.ID.CreatedAt(), i.Wanted)
		}
	}
	if got := mine.Get(other.ID); got.Status != "connected" {
		t.Errorf("another customer's instance is %s", got.Status)
	}
	peppers, err := whatisup.ParsePeppers(s.Env["PEPPER"])
	if err != nil {
		t.Fatal(err)
	}
	o := operator.New(db, peppers)
	if err := o.Resume(t.Context(), made.Customer); err != nil {
		t.Fatal(err)
	}
	_, fresh, err := o.MakeKey(t.Context(), made.Customer, whatisup.Test, "not kept yet")
	if err != nil {
		t.Fatal(err)
	}
	again := localtest.NewClient(t, s.API, fresh)
	again.Must(202, "POST", paths[0]+"/connect", "", nil)
	again.AwaitStatus(paths[0][len("/v1/instances/"):], "connected")
}
