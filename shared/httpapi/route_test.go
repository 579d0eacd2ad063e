package httpapi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

// bodies are valid ones for every route that takes one. A new route must be here:
// TestRoutesRefuse fails for one that is not.
var bodies = map[string]string{
	"createInstance":     `{"name":"x"}`,
	"updateInstance":     `{"name":"y"}`,
	"updateSettings":     `{"online":true}`,
	"connectInstance":    `{}`,
	"disconnectInstance": `{}`,
	"logoutInstance":     `{}`,
	"createPairCode":     `{"phone_number":"4915112345678"}`,
	"createAPIKey":       `{"name":"x"}`,
	"sendMessage":        `{"to":"4915112345678","body":{"type":"text","text":"x"}}`,
	"checkContacts":      `{"phone_numbers":["4915112345678"]}`,
	"subscribePresence":  `{}`,
	"updateProfile":      `{"about":"x"}`,
	"blockContact":       `{}`,
	"createGroup":        `{"subject":"x","participants":["4915112345678"]}`,
	"joinGroup":          `{"link":"https://chat.whatsapp.com/x"}`,
	"updateGroup":        `{"subject":"x"}`,
	"createMedia":        `{"size":10,"mime_type":"image/png"}`,
	"leaveGroup":         `{}`,
	"changeParticipants": `{"add":["4915112345678"]}`,
	"renewGroupInvite":   `{}`,
	"readChat":           `{"message_ids":["3A00"]}`,
	"setChatPresence":    `{"state":"typing"}`,
	"setPresence":        `{"state":"available"}`,
	"sandboxScan":        `{}`,
	"sandboxEnterCode":   `{"code":"ABCD-2345"}`,
	"sandboxUnlink":      `{}`,
	"sandboxMessage":     `{"from":"4915112345678","text":"x"}`,
	"sandboxFault":       `{"kind":"drop"}`,
	"sandboxSetPhone":    `{"reads":"manual"}`,
	"sandboxAct":         `{"kind":"offline"}`,

	"createWebhookEndpoint": `{"url":"https://1.1.1.1/","events":["*"]}`,
	"updateWebhookEndpoint": `{"enabled":true}`,
	"rotateWebhookSecret":   `{}`,
	"testWebhookEndpoint":   `{}`,
	"replayWebhooks":        `{"from":"2026-05-01T00:00:00.000Z","to":"2026-05-01T00:00:00.000Z"}`,
	"replayWebhookDelivery": `{}`,
}

// open are the routes that need no key.
var open = []string{"getRoot", "getOpenAPI", "getDocs"}

// Over every route: whoever has no right to a thing gets nothing of it, and can't
// tell it from a thing that does not exist.
func TestRoutesRefuse(t *testing.T) {
	t.Parallel()
	f := start(t, short(0))
	_, real := f.create(f.a.TestKey, "real")
	_, other := f.create(f.a.TestKey, "other")
	type made struct{ ID, Secret string }
	newKey := func(body string) made {
		return into[made](t, f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys", body))
	}
	realKey := newKey(`{"name":"real"}`)
	realHook, realDelivery := f.hook(f.a.TestKey)
	bound := newKey(fmt.Sprintf(`{"name":"bound","instance_id":%q}`, other))
	expired := newKey(fmt.Sprintf(`{"name":"expired","expires_at":%q}`, whatisup.At(f.clock.now().Add(time.Minute))))
	revoked := newKey(`{"name":"revoked"}`)
	f.want(204, "", f.a.TestKey, "DELETE", "/v1/api-keys/"+revoked.ID, "")
	f.clock.advance(2 * time.Minute)
	suspended := f.customer("suspended")
	_, itsOwn := f.create(suspended.TestKey, "its own")
	if _, err := f.operator.Suspend(t.Context(), suspended.Customer); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(time.Minute)
	unknown, _ := whatisup.NewAPIKeyText(whatisup.Test, whatisup.NewKeyID())

	type caller struct {
		name, key string
		real      whatisup.InstanceID
		everybody bool // refused also where no thing is named
	}
	callers := []caller{
		{"without a key", "", real, true},
		{"with an unknown key", string(unknown), real, true},
		{"with a malformed key", "x", real, true},
		{"with an expired key", expired.Secret, real, true},
		{"with a revoked key", revoked.Secret, real, true},
		{"suspended", suspended.TestKey, itsOwn, true},
		{"another customer", f.b.TestKey, real, false},
		{"another customer's live key", f.b.LiveKey, real, false},
		{"the other mode", f.a.LiveKey, real, false},
		{"a key bound to another instance", bound.Secret, real, false},
	}
	calls := 0
	for _, route := range httpapi.Routes {
		if slices.Contains(open, route.Operation) {
			continue
		}
		body, ok := bodies[route.Operation]
		if takes := route.Method == "POST" || route.Method == "PATCH" || route.Method == "PUT"; takes != ok {
			t.Errorf("%s: give the route a valid body in the table", route.Operation)
		}
		// Every customer has a phone of each number, in its own world.
		named := strings.Contains(route.Path, "{") && !strings.Contains(route.Path, "{phone_number}")
		for _, c := range callers {
			if !named && !c.everybody {
				continue
			}
			var first string
			for _, thing := range []string{"real", "random"} {
				id := string(whatisup.NewInstanceID())
				switch {
				case thing == "random":
				case strings.Contains(route.Path, "/api-keys/"):
					id = realKey.ID
				case strings.Contains(route.Path, "/webhook-endpoints/"):
					id = realHook
				case strings.Contains(route.Path, "/webhook-deliveries/"):
					id = realDelivery
				default:
					id = string(c.real)
				}
				r := f.call(c.key, route.Method, fill(route.Path, id), body)
				calls++
				if r.status < 400 || r.status >= 500 {
					t.Errorf("%s %s: %d %.300s", c.name, route.Operation, r.status, r.body)
				}
				got := fmt.Sprint(r.status, " ", strings.ReplaceAll(string(r.body), r.header.Get("X-Request-Id"), "req"))
				if thing == "real" {
					first = got
				} else if got != first {
					t.Errorf("%s %s: a real thing is answered\n%s\na random one\n%s", c.name, route.Operation, first, got)
				}
			}
		}
	}
	if calls < 300 {
		t.Errorf("only %d calls", calls)
	}
	f.want(200, "", f.a.TestKey, "GET", "/v1/instances/"+string(real), "")
	f.want(200, "", realKey.Secret, "GET", "/v1/limits", "")
}

// Nothing that a caller writes anywhere reaches the log before it is known what
// it is: no key, no number, no token.
func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	f := start(t, short(0))
	_, id := f.create(f.a.TestKey, "x")
	const number, token = "491701234567", "whsec_c2VjcmV0IHRva2VuIG9mIGEgdGVzdA=="
	secrets := []string{f.a.TestKey, number, token}
	var where []string
	for _, route := range httpapi.Routes {
		for n, secret := range secrets {
			for _, path := range []string{
				fill(route.Path, secret),
				fill(route.Path, "+"+secret),
				fill(route.Path, string(id)),
				strings.NewReplacer("{id}", string(id), "{message_id}", secret, "{contact}", secret, "{group}", secret, "{chat}", secret).Replace(route.Path),
			} {
				query := ""
				for _, name := range []string{"cursor", "limit", "status", "events", "instance_id", "include", secret} {
					query += "&" + name + "=" + secret
				}
				for _, body := range []string{bodies[route.Operation], fmt.Sprintf(`{%q:%q,"name":%q,"metadata":{"a":%q},"phone_number":%q,"from":%q,"text":%q,"code":%q,"kind":%q}`,
					secret, secret, secret, secret, number, number, secret, secret, secret), secret} {
					key := []string{f.a.TestKey, f.b.TestKey, secret}[n]
					f.call(key, route.Method, path+"?"+query[1:], body,
						"Idempotency-Key", secret, "If-Match", secret, "Last-Event-ID", secret, "X-Request-Id", secret, "User-Agent", secret)
				}
			}
		}
		where = append(where, route.Operation)
	}
	for _, secret := range secrets {
		for _, message := range []string{
			secret, fmt.Sprintf("%q", secret),
			f.command(secret, "create", `,"name":"x"`), f.command(secret, "connect", ""),
			f.command("1", secret, ""),
			f.command("2", "create", fmt.Sprintf(`,"name":%q,"metadata":{"a":%q}`, secret, secret)),
			f.command("3", "connect", fmt.Sprintf(`,"instance_id":%q`, secret)),
			fmt.Sprintf(`{"command_id":"4","command":%q,"customer_id":%q,"mode":%q}`, secret, secret, secret),
		} {
			f.carry(message) // what it answers is tried elsewhere
		}
	}
	logs := f.logs.String()
	if strings.Count(logs, "\n") < 200 {
		t.Fatalf("the log has %d lines after %v", strings.Count(logs, "\n"), where)
	}
	for _, secret := range secrets {
		for line := range strings.Lines(logs) {
			if strings.Contains(line, secret) {
				t.Errorf("%s is logged: %s", secret, line)
				break
			}
		}
	}
	if !strings.Contains(logs, string(id)) {
		t.Error("an instance's id is not logged")
	}
}
