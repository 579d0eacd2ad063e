package httpapi_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/shared/dynamo"
	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

// recorder keeps what is asked of DynamoDB.
type recorder struct {
	mu  sync.Mutex
	ops []string
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	_, op, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	r.mu.Lock()
	r.ops = append(r.ops, op+" "+string(body))
	r.mu.Unlock()
	return http.DefaultTransport.RoundTrip(req)
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ops := r.ops
	r.ops = nil
	return ops
}

// Over every route below an instance and in both modes: another customer's id, a
// deleted one, one of the other mode, a random one, and what is no id at all are
// answered with the same bytes but for the request id, after the same operations
// on the tables, which touch nothing outside the caller's own partition.
func TestForeignInstancesDoNotExist(t *testing.T) {
	t.Parallel()
	rec := &recorder{}
	f := start(t)
	f.url = startWith(f, func(c *httpapi.Config) {
		client := dynamodb.NewFromConfig(f.aws.Config, func(o *dynamodb.Options) { o.HTTPClient = &http.Client{Transport: rec} })
		c.Store = dynamo.New(dynamo.Config{Client: client, Tables: dynamo.Local(), Clock: dynamo.NewClock(f.clock.now)})
	})
	for _, mode := range []struct {
		name            string
		a, b, otherMode string
	}{
		{"test", f.a.TestKey, f.b.TestKey, f.a.LiveKey},
		{"live", f.a.LiveKey, f.b.LiveKey, f.a.TestKey},
	} {
		_, foreign := f.create(mode.b, "foreign")
		_, other := f.create(mode.otherMode, "other mode")
		path, deleted := f.create(mode.a, "deleted")
		f.want(204, "", mode.a, "DELETE", path, "")
		f.call(mode.a, "GET", "/v1/limits", "") // the key is known from here on, and the buckets are begun
		f.call(mode.a, "POST", "/v1/instances/"+string(whatisup.NewInstanceID())+"/messages", bodies["sendMessage"])
		ids := []struct{ name, id string }{
			{"random", string(whatisup.NewInstanceID())},
			{"another customer's", string(foreign)},
			{"of the other mode", string(other)},
			{"deleted", string(deleted)},
			{"upper case", strings.ToUpper(string(foreign))},
			{"no id", "x"},
			{"in braces", "%7B" + string(foreign) + "%7D"},
			{"with a slash", "a%2Fb"},
			{"with a NUL", "%00"},
			{"not UTF-8", "%ff"},
			{"dots", ".."},
			{"long", strings.Repeat("0", 3000)},
		}
		for _, route := range httpapi.Routes {
			if !strings.Contains(route.Path, "/instances/{id}") {
				continue
			}
			var wantBody string
			var wantOps []string
			for n, c := range ids {
				path := fill(route.Path, c.id)
				rec.take()
				r := f.call(mode.a, route.Method, path, bodies[route.Operation])
				ops := rec.take()
				if r.status != 404 || r.code() != "instance_not_found" {
					t.Fatalf("%s %s %s: %d %s", mode.name, route.Operation, c.name, r.status, r.body)
				}
				body := strings.Replace(string(r.body), r.header.Get("X-Request-Id"), "req", 1)
				var names []string
				reads := 0
				for _, op := range ops {
					name, input, _ := strings.Cut(op, " ")
					names = append(names, name)
					if name != "Query" {
						continue
					}
					reads++
					if !strings.Contains(input, string(f.a.Customer)+"#"+mode.name) || strings.Contains(input, string(f.b.Customer)) {
						t.Errorf("%s %s read %s", route.Operation, c.name, input)
					}
				}
				if reads != 1 {
					t.Errorf("%s %s: %d reads: %q", route.Operation, c.name, reads, ops)
				}
				// A bucket that is full takes one update more than one that is not.
				names = slices.Compact(names)
				if n == 0 {
					wantBody, wantOps = body, names
				}
				if body != wantBody || !slices.Equal(names, wantOps) {
					t.Errorf("%s %s: answered %s after %v, want %s after %v", route.Operation, c.name, body, names, wantBody, wantOps)
				}
			}
		}
		f.want(204, "", mode.b, "DELETE", "/v1/instances/"+string(foreign), "")
	}
}

// A bound key does what it may, and no more.
func TestBoundKey(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *httpapi.Config) { short(0)(c); c.StreamFor = 1 })
	_, id := f.create(f.a.TestKey, "own")
	_, other := f.create(f.a.TestKey, "other")
	bound := into[struct{ Secret string }](t, f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys", fmt.Sprintf(`{"name":"n","instance_id":%q}`, id))).Secret
	may := map[string]bool{
		"getInstance": true, "updateInstance": true, "getSettings": true, "updateSettings": true, "getInstanceStatus": true, "connectInstance": true,
		"disconnectInstance": true, "logoutInstance": true, "getInstanceQR": true, "getInstanceQRPicture": true, "createPairCode": true,
		"sandboxScan": true, "sandboxEnterCode": true, "sandboxUnlink": true, "sandboxMessage": true, "sandboxFault": true,
		"checkContacts": true, "listContacts": true, "getContact": true, "subscribePresence": true, "getProfile": true, "updateProfile": true,
		"listBlocks": true, "blockContact": true, "unblockContact": true, "listGroups": true, "createGroup": true, "joinGroup": true,
		"getGroup": true, "updateGroup": true, "leaveGroup": true, "changeParticipants": true, "getGroupInvite": true, "renewGroupInvite": true,
		"readChat": true, "setChatPresence": true, "setPresence": true,
		"sendMessage": true, "listMessages": true, "getMessage": true, "cancelMessage": true, "listChats": true,
		"listEvents": true, "listEventLog": true, "getLimits": true, "getUsage": true, "getRoot": true, "getOpenAPI": true, "getDocs": true,
		"createMedia": true, "getMedia": true, "deleteMedia": true, "getMediaFile": true,
	}
	for _, route := range httpapi.Routes {
		own := f.call(bound, route.Method, fill(route.Path, string(id)), bodies[route.Operation])
		if refused := own.code() == "instance_scoped_key"; refused == may[route.Operation] || refused != (own.status == 403) {
			t.Errorf("%s: %d %s", route.Operation, own.status, own.code())
		}
		if !strings.Contains(route.Path, "/instances/{id}") {
			continue
		}
		for _, foreign := range []string{string(other), string(whatisup.NewInstanceID()), "x"} {
			r := f.call(bound, route.Method, fill(route.Path, foreign), bodies[route.Operation])
			if r.status != 403 || r.code() != "instance_scoped_key" {
				t.Errorf("%s on another instance: %d %s", route.Operation, r.status, r.code())
			}
		}
	}
	// Its events are its instance's, whatever it asks for.
	f.want(403, "instance_scoped_key", bound, "GET", "/v1/events?instance_id="+string(other), "", "Accept", "application/json")
	for _, query := range []string{"", "?instance_id=" + string(id)} {
		log := into[struct{ Data []whatisup.Event }](t, f.want(200, "", bound, "GET", "/v1/events"+query, "", "Accept", "application/json"))
		if len(log.Data) == 0 {
			t.Error("no events")
		}
		for _, e := range log.Data {
			if e.Instance != id {
				t.Errorf("an event of %s", e.Instance)
			}
		}
	}
}

// What one customer or mode makes the other never sees in a list, nor in the log.
func TestListsAreApart(t *testing.T) {
	t.Parallel()
	f := start(t)
	keys := map[string]string{"a-test": f.a.TestKey, "a-live": f.a.LiveKey, "b-test": f.b.TestKey, "b-live": f.b.LiveKey}
	for name, key := range keys {
		f.create(key, name)
		f.want(201, "", key, "POST", "/v1/api-keys", `{"name":"`+name+`"}`)
	}
	for name, key := range keys {
		if got := f.names(key); !slices.Equal(got, []string{name}) {
			t.Errorf("%s lists %v", name, got)
		}
		list := into[struct{ Data []struct{ Name string } }](t, f.want(200, "", key, "GET", "/v1/api-keys", ""))
		if len(list.Data) != 2 || list.Data[0].Name != name || list.Data[1].Name != "first" {
			t.Errorf("%s has the keys %v", name, list.Data)
		}
		log := into[struct {
			Data []struct{ Data struct{ Name string } }
		}](t, f.want(200, "", key, "GET", "/v1/events", "", "Accept", "application/json"))
		if len(log.Data) != 1 || log.Data[0].Data.Name != name {
			t.Errorf("%s logs %v", name, log.Data)
		}
	}
	// Sandbox calls exist for test keys only.
	path, _ := f.create(f.a.LiveKey, "x")
	f.want(404, "instance_not_found", f.a.LiveKey, "POST", strings.Replace(path, "/v1/", "/v1/sandbox/", 1)+"/scan", "")
}

// fill puts an instance's id into a route's path, and an id of a message that is
// not there.
func fill(path, id string) string {
	return strings.NewReplacer("{id}", id, "{message_id}", "3EB0000000000000000001", "{media_id}", id, "{token}", id,
		"{phone_number}", "5511987654321", "{contact}", "5511987654321", "{group}", "120363041234567890@g.us", "{chat}", "5511987654321").Replace(path)
}
