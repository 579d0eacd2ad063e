package httpapi_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/dynamo"
	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

func TestAuthentication(t *testing.T) {
	t.Parallel()
	f := start(t)
	good := f.a.TestKey
	other, _ := whatisup.NewAPIKeyText(whatisup.Test, whatisup.NewKeyID())
	_, id, _ := whatisup.ParseAPIKeyText(good)
	forged, _ := whatisup.NewAPIKeyText(whatisup.Test, id)
	swapped, _ := whatisup.NewAPIKeyText(whatisup.Live, id)
	for _, c := range []struct{ header, code string }{
		{"", "auth_missing"},
		{"Basic " + good, "auth_malformed"},
		{good, "auth_malformed"},
		{"Bearer", "auth_malformed"},
		{"Bearer x", "auth_malformed"},
		{"Bearer " + good[:len(good)-1], "auth_malformed"},
		{"Bearer " + good + "x", "auth_malformed"},
		{"Bearer " + strings.Replace(good, "_test_", "_live_", 1), "auth_malformed"},
		{"Bearer " + good + ",Bearer " + good, "auth_malformed"},
		{"Bearer " + string(other), "auth_invalid"},
		{"Bearer " + string(forged), "auth_invalid"},
		{"Bearer " + string(swapped), "auth_invalid"},
	} {
		r := f.want(401, c.code, "", "GET", "/v1/instances", "", "Authorization", c.header)
		if r.header.Get("WWW-Authenticate") == "" {
			t.Error("no WWW-Authenticate")
		}
	}
	f.want(200, "", "", "GET", "/v1/instances", "", "Authorization", "bearer "+good)
}

func TestKeys(t *testing.T) {
	t.Parallel()
	f := start(t)
	type key struct {
		ID         string
		Secret     string
		InstanceID *string `json:"instance_id"`
		Prefix     string
		LastUsedAt *string `json:"last_used_at"`
		ExpiresAt  *string `json:"expires_at"`
	}
	path, id := f.create(f.a.TestKey, "x")
	made := into[key](t, f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys", fmt.Sprintf(`{"name":"n","instance_id":%q}`, id)))
	if made.InstanceID == nil || *made.InstanceID != string(id) || !strings.HasPrefix(made.Secret, made.Prefix+"_") {
		t.Errorf("%+v", made)
	}
	f.want(404, "instance_not_found", f.a.TestKey, "POST", "/v1/api-keys", `{"name":"n","instance_id":"`+string(whatisup.NewInstanceID())+`"}`)
	f.want(404, "instance_not_found", f.b.TestKey, "POST", "/v1/api-keys", fmt.Sprintf(`{"name":"n","instance_id":%q}`, id))
	list := into[struct{ Data []key }](t, f.want(200, "", f.a.TestKey, "GET", "/v1/api-keys", ""))
	if len(list.Data) != 2 || list.Data[0].ID != made.ID || list.Data[1].LastUsedAt == nil || list.Data[0].LastUsedAt != nil {
		t.Errorf("%+v", list)
	}
	if used, _ := time.Parse(time.RFC3339, *list.Data[1].LastUsedAt); !used.Equal(used.Truncate(time.Hour)) {
		t.Errorf("last used %v", used)
	}
	f.want(200, "", made.Secret, "GET", path, "")
	// A key that expires makes none that outlives it.
	soon := whatisup.At(f.clock.now().Add(time.Hour)).String()
	late := whatisup.At(f.clock.now().Add(2 * time.Hour)).String()
	short := into[key](t, f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys", `{"name":"n","expires_at":"`+soon+`"}`))
	f.want(400, "invalid_request", short.Secret, "POST", "/v1/api-keys", `{"name":"n","expires_at":"`+late+`"}`)
	child := into[key](t, f.want(201, "", short.Secret, "POST", "/v1/api-keys", `{"name":"n"}`))
	if child.ExpiresAt == nil || *child.ExpiresAt != soon {
		t.Errorf("expires %v", child.ExpiresAt)
	}
	// Revoked: at once for whoever has not seen the key, within a minute for all.
	f.want(200, "", child.Secret, "GET", "/v1/limits", "")
	f.want(404, "api_key_not_found", f.b.TestKey, "DELETE", "/v1/api-keys/"+child.ID, "")
	f.want(404, "api_key_not_found", f.a.LiveKey, "DELETE", "/v1/api-keys/"+child.ID, "")
	f.want(204, "", f.a.TestKey, "DELETE", "/v1/api-keys/"+child.ID, "")
	f.want(404, "api_key_not_found", f.a.TestKey, "DELETE", "/v1/api-keys/"+child.ID, "")
	f.want(404, "api_key_not_found", f.a.TestKey, "DELETE", "/v1/api-keys/x", "")
	f.clock.advance(time.Minute)
	f.want(401, "auth_expired", child.Secret, "GET", "/v1/limits", "")
	f.want(200, "", short.Secret, "GET", "/v1/limits", "")
	f.clock.advance(time.Hour)
	f.want(401, "auth_expired", short.Secret, "GET", "/v1/limits", "")
	// The instance takes its keys with it.
	f.want(204, "", f.a.TestKey, "DELETE", path, "")
	f.clock.advance(time.Minute)
	f.want(401, "auth_expired", made.Secret, "GET", "/v1/limits", "")
	list = into[struct{ Data []key }](t, f.want(200, "", f.a.TestKey, "GET", "/v1/api-keys", ""))
	if len(list.Data) != 2 { // the first one, and the one that has expired but is not revoked
		t.Errorf("%+v", list)
	}
}

func TestPepperRotates(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.want(200, "", f.a.TestKey, "GET", "/v1/limits", "")
	cursorOf := func() string {
		f.create(f.a.TestKey, "x")
		f.create(f.a.TestKey, "y")
		return *into[struct {
			Next *string `json:"next_cursor"`
		}](t, f.want(200, "", f.a.TestKey, "GET", "/v1/instances?limit=1", "")).Next
	}
	cursor := cursorOf()
	both := start2(f, whatisup.Peppers{1: peppers[1], 2: "another sixteen bytes of pepper"})
	f.url = both
	f.want(200, "", f.a.TestKey, "GET", "/v1/instances?limit=1&cursor="+cursor, "")
	_, id, _ := whatisup.ParseAPIKeyText(f.a.TestKey)
	k, err := f.db.Key(t.Context(), id)
	if err != nil || k.Pepper != 2 {
		t.Fatalf("%v: pepper %d", err, k.Pepper)
	}
	// The old pepper can go, for every key that was used since.
	f.url = start2(f, whatisup.Peppers{2: "another sixteen bytes of pepper"})
	f.want(200, "", f.a.TestKey, "GET", "/v1/limits", "")
}

func TestSuspendedCustomer(t *testing.T) {
	t.Parallel()
	f := start(t)
	path, id := f.create(f.a.TestKey, "x")
	f.want(202, "", f.a.TestKey, "POST", path+"/connect", "")
	if n, err := f.operator.Suspend(t.Context(), f.a.Customer); err != nil || n != 1 {
		t.Fatalf("stopped %d: %v", n, err)
	}
	f.clock.advance(time.Minute)
	f.want(403, "customer_suspended", f.a.TestKey, "GET", path, "")
	f.want(200, "", f.b.TestKey, "GET", "/v1/instances", "")
	i, err := f.db.Instance(t.Context(), f.a.Customer, whatisup.Test, id)
	if err != nil || i.Wanted.Online {
		t.Errorf("%v: %+v", err, i.Wanted)
	}
	if err := f.operator.Resume(t.Context(), f.a.Customer); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(time.Minute)
	f.want(200, "", f.a.TestKey, "GET", path, "")
}

// Concurrent functions share one bucket: as many requests pass as it holds, and
// one a second afterwards.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *httpapi.Config) { c.Limits = whatisup.RateLimit{Burst: 20, PerSecond: 0.001} })
	urls := []string{f.url, start2(f, peppers, whatisup.RateLimit{Burst: 20, PerSecond: 0.001})}
	var passed, refused atomic.Int64
	var calls sync.WaitGroup
	for n := range 40 {
		calls.Go(func() {
			g := *f
			g.url = urls[n%2]
			switch r, err := g.send(t.Context(), f.a.TestKey, "GET", "/v1/instances", ""); {
			case err != nil:
				t.Error(err)
			case r.status == 200:
				passed.Add(1)
			case r.status == 429 && r.header.Get("X-RateLimit-Remaining") == "0":
				refused.Add(1)
			default:
				t.Errorf("%d %s %v", r.status, r.body, r.header)
			}
		})
	}
	calls.Wait()
	if passed.Load() != 20 || refused.Load() != 20 {
		t.Errorf("%d passed, %d were refused", passed.Load(), refused.Load())
	}
	// Another mode and another customer have buckets of their own; a look at
	// the limits costs nothing.
	f.want(200, "", f.a.LiveKey, "GET", "/v1/instances", "")
	f.want(200, "", f.b.TestKey, "GET", "/v1/instances", "")
	for range 3 {
		r := f.want(200, "", f.a.TestKey, "GET", "/v1/limits", "")
		l := into[struct {
			PerCustomer struct {
				Limit, Remaining int
				ResetAt          whatisup.Time `json:"reset_at"`
			} `json:"per_customer"`
		}](t, r)
		reset, _ := strconv.ParseInt(r.header.Get("X-RateLimit-Reset"), 10, 64)
		if l.PerCustomer.Limit != 20 || l.PerCustomer.Remaining != 0 || reset < l.PerCustomer.ResetAt.Unix() || reset > l.PerCustomer.ResetAt.Unix()+1 {
			t.Errorf("%s %v", r.body, r.header)
		}
	}
	f.clock.advance(1001 * time.Second)
	f.want(200, "", f.a.TestKey, "GET", "/v1/instances", "")
	r := f.want(429, "rate_limited", f.a.TestKey, "GET", "/v1/instances", "")
	if s, _ := strconv.Atoi(r.header.Get("Retry-After")); s < 900 || s > 1001 {
		t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
	}
	// A customer's own limit wins.
	if err := f.db.SetLimits(t.Context(), f.b.Customer, 0, whatisup.RateLimit{Burst: 2, PerSecond: 0.001}, whatisup.SendLimits{}); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(time.Minute)
	if r := f.call(f.b.TestKey, "GET", "/v1/limits", ""); r.header.Get("X-RateLimit-Limit") != "2" {
		t.Errorf("%v", r.header)
	}
}

// A key whose instance is gone is refused, also one that the deletion has missed.
func TestBoundKeyOfADeletedInstance(t *testing.T) {
	t.Parallel()
	f := start(t)
	path, id := f.create(f.a.TestKey, "x")
	k, text, err := peppers.NewKey(whatisup.APIKey{Customer: f.a.Customer, Mode: whatisup.Test, Name: "x", Instance: id})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.db.CreateKey(t.Context(), k, nil); err != nil {
		t.Fatal(err)
	}
	f.want(200, "", string(text), "GET", "/v1/limits", "")
	f.want(204, "", f.a.TestKey, "DELETE", path, "")
	// As if the deletion had not known of the key.
	_, err = dynamodb.NewFromConfig(f.aws.Config).UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName:        aws.String(dynamo.Local().Access),
		Key:              map[string]types.AttributeValue{"pk": &types.AttributeValueMemberS{Value: "key#" + string(k.ID)}, "sk": &types.AttributeValueMemberS{Value: "key"}},
		UpdateExpression: aws.String("SET revoked_at = :zero"), ConditionExpression: aws.String("revoked_at > :zero"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":zero": &types.AttributeValueMemberN{Value: "0"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.clock.advance(time.Minute)
	for _, call := range [][2]string{{"GET", "/v1/limits"}, {"GET", "/v1/event-log"}, {"GET", "/v1/media/x"}, {"GET", path}} {
		f.want(401, "auth_expired", string(text), call[0], call[1], "")
	}
}
