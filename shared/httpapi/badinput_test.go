package httpapi_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

// badCase is one wrong request and what it must be answered.
type badCase struct {
	name    string
	method  string
	path    string
	body    string
	headers []string
	status  int
	code    string
	field   string // named first in details.fields, if any
}

const megabyte = 1 << 20

func nested(open, close string, depth int) string {
	return strings.Repeat(open, depth) + strings.Repeat(close, depth)
}

// anyBody is what no route with a body takes.
var anyBody = []badCase{
	{name: "broken JSON", body: `{"name":`, field: "body"},
	{name: "not JSON", body: `hello`, field: "body"},
	{name: "two values", body: `{} {}`, field: "body"},
	{name: "a brace too many", body: `{}}`, field: "body"},
	{name: "null", body: `null`, field: "body"},
	{name: "an array", body: `[]`, field: "body"},
	{name: "a string", body: `"x"`, field: "body"},
	{name: "a huge number", body: `1e99999999`, field: "body"},
	{name: "unknown field", body: `{"zzz":1}`, field: "*"},
	{name: "a known field in capitals", body: `{"NAME":"x","PHONE_NUMBER":"1","CODE":"x","FROM":"1","KIND":"drop"}`, field: "*"},
	{name: "a field twice", body: `{"name":"a","name":"b"}`, field: "name"},
	{name: "a field twice, once escaped", body: `{"name":"a","n\u0061me":"b"}`, field: "name"},
	{name: "a field twice, deep within", body: `{"metadata":{"a":[{"b":1,"b":2}]}}`, field: "metadata.a.b"},
	{name: "nested 100000 deep", body: `{"metadata":` + nested("[", "]", 100000) + `}`, field: "body"},
	{name: "invalid UTF-8", body: "{\"name\":\"\xff\xfe\"}", field: "body"},
	{name: "a cut-off rune", body: "{\"name\":\"\xe2\x82\"}", field: "body"},
	{name: "a byte order mark", body: "\xef\xbb\xbf{}", field: "body"},
	{name: "NUL bytes", body: "\x00\x00", field: "body"},
	{name: "single quotes", body: `{'name':'x'}`, field: "body"},
	{name: "a trailing comma", body: `{"name":"x",}`, field: "body"},
	{name: "a comment", body: `{/**/}`, field: "body"},
	{name: "257 KB", body: `{"name":"` + strings.Repeat("x", 257<<10) + `"}`, status: 413, code: "payload_too_large"},
	{name: "a megabyte of space", body: strings.Repeat(" ", megabyte), status: 413, code: "payload_too_large"},
	{name: "text/plain", body: `{}`, headers: []string{"Content-Type", "text/plain"}, status: 415, code: "unsupported_media_type"},
	{name: "a form", body: `a=b`, headers: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415, code: "unsupported_media_type"},
	{name: "no content type", body: `{}`, headers: []string{"Content-Type", ""}, status: 415, code: "unsupported_media_type"},
	{name: "a broken content type", body: `{}`, headers: []string{"Content-Type", "application/json;;=="}, status: 415, code: "unsupported_media_type"},
	{name: "another charset", body: `{}`, headers: []string{"Content-Type", "application/json; charset=latin1"}, status: 415, code: "unsupported_media_type"},
	{name: "compressed", body: `{}`, headers: []string{"Content-Encoding", "gzip"}, status: 415, code: "unsupported_media_type"},
	{name: "too large and of the wrong type", body: strings.Repeat("x", 257<<10), headers: []string{"Content-Type", "text/plain"}, status: 413, code: "payload_too_large"},
}

// badFields are wrong values, by operation.
var badFields = map[string][]badCase{
	"createWebhookEndpoint": {
		{name: "no URL", body: `{"events":["*"]}`, field: "url"},
		{name: "no events", body: `{"url":"https://1.1.1.1/"}`, field: "events"},
		{name: "an empty list of events", body: `{"url":"https://1.1.1.1/","events":[]}`, field: "events"},
		{name: "an event that there is not", body: `{"url":"https://1.1.1.1/","events":["message.*","nothing"]}`, field: "events[1]"},
		{name: "a beginning without a dot", body: `{"url":"https://1.1.1.1/","events":["mess*"]}`, field: "events[0]"},
		{name: "http", body: `{"url":"http://1.1.1.1/","events":["*"]}`, field: "url"},
		{name: "the metadata of a cloud", body: `{"url":"https://169.254.169.254/","events":["*"]}`, field: "url"},
		{name: "a password", body: `{"url":"https://a:b@1.1.1.1/","events":["*"]}`, field: "url"},
		{name: "a kind of chat that there is not", body: `{"url":"https://1.1.1.1/","events":["*"],"chat_types":["dm"]}`, field: "chat_types[0]"},
		{name: "a short secret", body: `{"url":"https://1.1.1.1/","events":["*"],"signing_secret":"whsec_AAAA"}`, field: "signing_secret"},
		{name: "a secret without padding", body: `{"url":"https://1.1.1.1/","events":["*"],"signing_secret":"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`, field: "signing_secret"},
		{name: "17 in flight", body: `{"url":"https://1.1.1.1/","events":["*"],"max_in_flight":17}`, field: "max_in_flight"},
		{name: "enabled by a word", body: `{"url":"https://1.1.1.1/","events":["*"],"enabled":"yes"}`, field: "enabled"},
	},
	"checkContacts": {
		{name: "no numbers", body: `{}`, field: "phone_numbers"},
		{name: "an empty list", body: `{"phone_numbers":[]}`, field: "phone_numbers"},
		{name: "a number that is no text", body: `{"phone_numbers":[4915112345678]}`, field: "phone_numbers"},
		{name: "null among them", body: `{"phone_numbers":["4915112345678",null]}`, field: "phone_numbers"},
		{name: "a group", body: `{"phone_numbers":["4915112345678","120363012345678901@g.us"]}`, field: "phone_numbers[1]"},
	},
	"createGroup": {
		{name: "no subject", body: `{"participants":["4915112345678"]}`, field: "subject"},
		{name: "an empty subject", body: `{"subject":"","participants":["4915112345678"]}`, field: "subject"},
		{name: "a long subject", body: `{"subject":"` + strings.Repeat("x", 101) + `","participants":["4915112345678"]}`, field: "subject"},
		{name: "nobody", body: `{"subject":"x"}`, field: "participants"},
		{name: "a group in it", body: `{"subject":"x","participants":["120363012345678901@g.us"]}`, field: "participants[0]"},
		{name: "a short time", body: `{"subject":"x","participants":["4915112345678"],"ephemeral_seconds":60}`, field: "ephemeral_seconds"},
		{name: "no such audience", body: `{"subject":"x","participants":["4915112345678"],"who_may_write":"owner"}`, field: "who_may_write"},
	},
	"updateGroup":        {{name: "a long description", body: `{"description":"` + strings.Repeat("x", 2049) + `"}`, field: "description"}, {name: "an unknown picture", body: `{"picture":"x"}`, field: "picture"}},
	"changeParticipants": {{name: "nobody", body: `{}`, field: "add"}, {name: "no person", body: `{"remove":["x"]}`, field: "remove[0]"}},
	"joinGroup":          {{name: "no link", body: `{}`, field: "link"}, {name: "another page", body: `{"link":"https://example.com/AAAA"}`, field: "link"}},
	"updateProfile":      {{name: "an empty name", body: `{"name":""}`, field: "name"}, {name: "a number", body: `{"about":1}`, field: "about"}, {name: "a picture that is no id", body: `{"picture":{}}`, field: "picture"}, {name: "an empty picture", body: `{"picture":""}`, field: "picture"}},
	"readChat": {
		{name: "an empty list", body: `{"message_ids":[]}`, field: "message_ids"},
		{name: "no list", body: `{"message_ids":"3A00"}`, field: "message_ids"},
		{name: "an empty id", body: `{"message_ids":["3A00",""]}`, field: "message_ids[1]"},
		{name: "a long id", body: `{"message_ids":["` + strings.Repeat("x", 129) + `"]}`, field: "message_ids[0]"},
	},
	"setChatPresence":     {{name: "no state", body: `{}`, field: "state"}, {name: "no such state", body: `{"state":"asleep"}`, field: "state"}},
	"setPresence":         {{name: "no state", body: `{}`, field: "state"}, {name: "a state of a chat", body: `{"state":"typing"}`, field: "state"}},
	"rotateWebhookSecret": {{name: "169 hours", body: `{"overlap_hours":169}`, field: "overlap_hours"}},
	"replayWebhooks": {
		{name: "no time", body: `{"to":"2026-05-01T00:00:00.000Z"}`, field: "from"},
		{name: "long ago", body: `{"from":"2016-05-01T00:00:00.000Z","to":"2016-05-01T00:00:00.000Z"}`, field: "from"},
		{name: "a status that there is not", body: `{"from":"2099-05-01T00:00:00.000Z","to":"2099-05-01T00:00:00.000Z","status":"lost"}`, field: "status"},
	},
	"createInstance": {
		{name: "nothing", body: `{}`, field: "name"},
		{name: "no body", body: ``, field: "name"},
		{name: "null", body: `{"name":null}`, field: "name"},
		{name: "a number", body: `{"name":1}`, field: "name"},
		{name: "an object", body: `{"name":{}}`, field: "name"},
		{name: "empty", body: `{"name":""}`, field: "name"},
		{name: "space", body: `{"name":" \t\n\u00a0\u3000"}`, field: "name"},
		{name: "101 characters", body: `{"name":"` + strings.Repeat("é", 101) + `"}`, field: "name"},
		{name: "a control character", body: `{"name":"a\u0007b"}`, field: "name"},
		{name: "NUL", body: `{"name":"a\u0000b"}`, field: "name"},
		{name: "a line break", body: `{"name":"a\nb"}`, field: "name"},
		{name: "C1 control", body: `{"name":"a\u0085b"}`, field: "name"},
		{name: "half a surrogate pair", body: `{"name":"\ud800"}`, field: "name"},
		{name: "half a surrogate pair in metadata", body: `{"name":"x","metadata":{"a":["\udc00"]}}`, field: "metadata"},
		{name: "metadata null", body: `{"name":"x","metadata":null}`, field: "metadata"},
		{name: "metadata array", body: `{"name":"x","metadata":[]}`, field: "metadata"},
		{name: "metadata string", body: `{"name":"x","metadata":"{}"}`, field: "metadata"},
		{name: "metadata over 16 KB", body: `{"name":"x","metadata":{"a":"` + strings.Repeat("x", 16<<10) + `"}}`, field: "metadata"},
		{name: "metadata 33 deep", body: `{"name":"x","metadata":` + nested(`{"a":`, "}", 32)[:32*5] + "{}" + strings.Repeat("}", 32) + `}`, field: "metadata"},
		{name: "an id", body: `{"name":"x","id":"01a2041a-cb31-75ab-a808-e5930c7b0de1"}`, field: "id"},
		{name: "another's customer_id", body: `{"name":"x","customer_id":"01a2041a-cb31-75ab-a808-e5930c7b0de1"}`, field: "customer_id"},
		{name: "a status", body: `{"name":"x","status":"connected"}`, field: "status"},
		{name: "an idempotency key of 256", body: `{"name":"x"}`, headers: []string{"Idempotency-Key", strings.Repeat("k", 256)}, field: "Idempotency-Key"},
		{name: "an idempotency key of tabs", body: `{"name":"x"}`, headers: []string{"Idempotency-Key", "a\tb"}, field: "Idempotency-Key"},
		{name: "several problems", body: `{"name":"","metadata":1,"b":1,"a":2}`, field: "name"},
	},
	"updateInstance": {
		{name: "nothing", body: `{}`, field: "body"},
		{name: "no body", body: ``, field: "body"},
		{name: "null name", body: `{"name":null}`, field: "name"},
		{name: "null metadata", body: `{"metadata":null}`, field: "metadata"},
		{name: "empty name", body: `{"name":""}`, field: "name"},
		{name: "phone_number", body: `{"phone_number":"4915112345678"}`, field: "*"},
		{name: "a stale ETag", body: `{"name":"x"}`, headers: []string{"If-Match", `"99"`}, status: 412, code: "concurrent_modification"},
		{name: "a weak ETag", body: `{"name":"x"}`, headers: []string{"If-Match", `W/"1"`}, status: 412, code: "concurrent_modification"},
		{name: "a bare ETag", body: `{"name":"x"}`, headers: []string{"If-Match", `1`}, status: 412, code: "concurrent_modification"},
		{name: "a bad body before a stale ETag", body: `{`, headers: []string{"If-Match", `"99"`}, field: "body"},
	},
	"updateSettings": {
		{name: "nothing", body: `{}`, field: "body"},
		{name: "unknown", body: `{"receive":{"dms":true}}`, field: "receive.dms"},
		{name: "no object", body: `{"receive":true}`, field: "receive"},
		{name: "no truth", body: `{"receive":{"groups":1}}`, field: "receive.groups"},
		{name: "a text for a flag", body: `{"online":"true"}`, field: "online"},
		{name: "another word", body: `{"media":"later"}`, field: "media"},
		{name: "a negative gap", body: `{"min_gap_ms":-1}`, field: "min_gap_ms"},
		{name: "a gap of over an hour", body: `{"min_gap_ms":3600001}`, field: "min_gap_ms"},
		{name: "half a chat", body: `{"new_chats_per_day":0.5}`, field: "new_chats_per_day"},
		{name: "a stale ETag", body: `{"online":true}`, headers: []string{"If-Match", `"99"`}, status: 412, code: "concurrent_modification"},
	},
	"connectInstance":    {{name: "a field", body: `{"force":true}`, field: "force"}},
	"disconnectInstance": {{name: "a field", body: `{"force":true}`, field: "force"}},
	"logoutInstance":     {{name: "a field", body: `{"force":true}`, field: "force"}},
	"createPairCode": {
		{name: "nothing", body: `{}`, field: "phone_number"},
		{name: "null", body: `{"phone_number":null}`, field: "phone_number"},
		{name: "a number", body: `{"phone_number":4915112345678}`, field: "phone_number"},
		{name: "too short", body: `{"phone_number":"123456"}`, field: "phone_number"},
		{name: "too long", body: `{"phone_number":"1234567890123456"}`, field: "phone_number"},
		{name: "letters", body: `{"phone_number":"49151CALLME"}`, field: "phone_number"},
		{name: "a slash", body: `{"phone_number":"49/151/12345678"}`, field: "phone_number"},
		{name: "no country code", body: `{"phone_number":"015112345678"}`, field: "phone_number"},
		{name: "other digits", body: `{"phone_number":"٤٩١٥١١٢٣٤٥٦٧٨"}`, field: "phone_number"},
		{name: "empty", body: `{"phone_number":""}`, field: "phone_number"},
		{name: "only a plus", body: `{"phone_number":"+"}`, field: "phone_number"},
	},
	"createAPIKey": {
		{name: "nothing", body: `{}`, field: "name"},
		{name: "empty name", body: `{"name":""}`, field: "name"},
		{name: "instance_id of a number", body: `{"name":"x","instance_id":1}`, field: "instance_id"},
		{name: "instance_id that is none", body: `{"name":"x","instance_id":"x"}`, status: 404, code: "instance_not_found"},
		{name: "instance_id empty", body: `{"name":"x","instance_id":""}`, status: 404, code: "instance_not_found"},
		{name: "expires in the past", body: `{"name":"x","expires_at":"2020-01-01T00:00:00Z"}`, field: "expires_at"},
		{name: "expires at no time", body: `{"name":"x","expires_at":"tomorrow"}`, field: "expires_at"},
		{name: "expires at a number", body: `{"name":"x","expires_at":1999999999}`, field: "expires_at"},
		{name: "a mode", body: `{"name":"x","mode":"live"}`, field: "mode"},
		{name: "a customer", body: `{"name":"x","customer_id":"x"}`, field: "customer_id"},
	},
	"sandboxScan": {
		{name: "a bad number", body: `{"phone_number":"x"}`, field: "phone_number"},
		{name: "null", body: `{"phone_number":null}`, field: "phone_number"},
	},
	"sandboxEnterCode": {
		{name: "nothing", body: `{}`, field: "code"},
		{name: "empty", body: `{"code":""}`, field: "code"},
		{name: "too long", body: `{"code":"` + strings.Repeat("x", 33) + `"}`, field: "code"},
		{name: "a bad number", body: `{"code":"ABCD-2345","phone_number":"x"}`, field: "phone_number"},
	},
	"sandboxUnlink": {{name: "a field", body: `{"now":true}`, field: "now"}},
	"sandboxMessage": {
		{name: "nothing", body: `{}`, field: "from"},
		{name: "no text", body: `{"from":"4915112345678"}`, field: "text"},
		{name: "empty text", body: `{"from":"4915112345678","text":""}`, field: "text"},
		{name: "too much text", body: `{"from":"4915112345678","text":"` + strings.Repeat("x", 65537) + `"}`, field: "text"},
		{name: "a bad sender", body: `{"from":"me","text":"x"}`, field: "from"},
		{name: "text of a number", body: `{"from":"4915112345678","text":1}`, field: "text"},
	},
	"sandboxFault": {
		{name: "nothing", body: `{}`, field: "kind"},
		{name: "unknown kind", body: `{"kind":"explode"}`, field: "kind"},
		{name: "zero seconds", body: `{"kind":"drop","seconds":0}`, field: "seconds"},
		{name: "half a second", body: `{"kind":"drop","seconds":0.5}`, field: "seconds"},
		{name: "too many seconds", body: `{"kind":"drop","seconds":3601}`, field: "seconds"},
		{name: "very many seconds", body: `{"kind":"drop","seconds":99999999999999999999}`, field: "seconds"},
		{name: "seconds of text", body: `{"kind":"drop","seconds":"1"}`, field: "seconds"},
		{name: "seconds null", body: `{"kind":"drop","seconds":null}`, field: "seconds"},
	},
}

var badQueries = []badCase{
	{path: "/v1/instances?limit=0", field: "limit"},
	{path: "/v1/instances?limit=1001", field: "limit"},
	{path: "/v1/instances?limit=-1", field: "limit"},
	{path: "/v1/instances?limit=x", field: "limit"},
	{path: "/v1/instances?limit=", field: "limit"},
	{path: "/v1/instances?limit=1.5", field: "limit"},
	{path: "/v1/instances?limit=01", field: "limit"},
	{path: "/v1/instances?limit=%2B1", field: "limit"},
	{path: "/v1/instances?limit=99999999999999999999", field: "limit"},
	{path: "/v1/instances?limit=1&limit=2", field: "limit"},
	{path: "/v1/instances?status=online", field: "status"},
	{path: "/v1/instances?status=", field: "status"},
	{path: "/v1/instances?status=qr,", field: "status"},
	{path: "/v1/instances?status=QR", field: "status"},
	{path: "/v1/instances?status=qr&status=x", field: "status"},
	{path: "/v1/instances?cursor=", field: "cursor"},
	{path: "/v1/instances?cursor=x", field: "cursor"},
	{path: "/v1/instances?cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", field: "cursor"},
	{path: "/v1/instances?cursor=a&cursor=b", field: "cursor"},
	{path: "/v1/instances?cursor=" + strings.Repeat("A", 5000), field: "cursor"},
	{path: "/v1/instances?include=everything", field: "include"},
	{path: "/v1/instances?%zz", field: "query"},
	{path: "/v1/instances?a=%f", field: "query"},
	{path: "/v1/instances?limit=1;cursor=x", field: "query"},
	{path: "/v1/instances/{id}?include=", field: "include"},
	{path: "/v1/events?instance_id=x", headers: []string{"Accept", "application/json"}, field: "instance_id"},
	{path: "/v1/events?events=boom", headers: []string{"Accept", "application/json"}, field: "events"},
	{path: "/v1/events?events=", headers: []string{"Accept", "application/json"}, field: "events"},
	{path: "/v1/events?limit=0", headers: []string{"Accept", "application/json"}, field: "limit"},
	{path: "/v1/events?cursor=x", headers: []string{"Accept", "application/json"}, field: "cursor"},
	{path: "/v1/events", headers: []string{"Last-Event-ID", "x"}, field: "Last-Event-ID"},
	{path: "/v1/events", headers: []string{"Last-Event-ID", "01a2041a-cb31-75ab-a808-e5930c7b0de1"}, field: "Last-Event-ID"},
}

var badRoutes = []badCase{
	{path: "/v1/", status: 404, code: "route_not_found"},
	{path: "/v2/instances", status: 404, code: "route_not_found"},
	{path: "/", status: 404, code: "route_not_found"},
	{path: "/V1/instances", status: 404, code: "route_not_found"},
	{path: "/v1/instances/", status: 404, code: "route_not_found"},
	{path: "/v1/instances/{id}/", status: 404, code: "route_not_found"},
	{path: "/v1/instances/{id}/qr/", status: 404, code: "route_not_found"},
	{path: "/v1//instances", status: 404, code: "route_not_found"},
	{path: "//v1/instances", status: 404, code: "route_not_found"},
	{path: "/v1/instances/{id}/letters", status: 404, code: "route_not_found"},
	{path: "/v1/instances/{id}/qr/png", status: 404, code: "route_not_found"},
	{path: "/v1/./instances", status: 404, code: "route_not_found"},
	{path: "/v1/x/../instances", status: 404, code: "route_not_found"},
	{path: "/v1%2Finstances", status: 404, code: "route_not_found"},
	{path: "/v1/instances%00", status: 404, code: "route_not_found"},
	{path: "/v1/instances;x=1", status: 404, code: "route_not_found"},
	{path: "/v1/customers", status: 404, code: "route_not_found"},
	{path: "/v1/sandbox/instances/{id}", status: 404, code: "route_not_found"},
	{path: "/openapi.json/", status: 404, code: "route_not_found"},
	{path: "/docs/", status: 404, code: "route_not_found"},
	{path: "/favicon.ico", status: 404, code: "route_not_found"},
	{path: "/.env", status: 404, code: "route_not_found"},
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	f := start(t, short(300*time.Millisecond), func(c *httpapi.Config) { c.StreamFor = 1 })
	_, id := f.create(f.a.TestKey, "x")
	endpoint, delivery := f.hook(f.a.TestKey)
	at := func(path string) string {
		switch {
		case strings.HasPrefix(path, "/v1/webhook-endpoints/"):
			return fill(path, endpoint)
		case strings.HasPrefix(path, "/v1/webhook-deliveries/"):
			return fill(path, delivery)
		}
		return fill(path, string(id))
	}
	n := 0
	check := func(what string, c badCase) {
		t.Helper()
		n++
		if c.status == 0 {
			c.status, c.code = 400, "invalid_request"
		}
		if c.method == "" {
			c.method = "GET"
		}
		r := f.call(f.a.TestKey, c.method, at(c.path), c.body, c.headers...)
		if r.status != c.status || r.code() != c.code {
			t.Errorf("%s: answered %d %s, want %d %s: %.300s", what, r.status, r.code(), c.status, c.code, r.body)
			return
		}
		if c.status != 400 {
			return
		}
		details := into[struct {
			Error struct {
				Details struct {
					Fields []struct{ Field, Problem string }
				}
			}
		}](t, r).Error.Details.Fields
		if len(details) == 0 || details[0].Problem == "" || c.field != "*" && details[0].Field != c.field {
			t.Errorf("%s: names %v, want %s", what, details, c.field)
		}
	}
	for _, route := range httpapi.Routes {
		path := route.Path
		if strings.Contains(path, "/api-keys/{id}") {
			continue
		}
		if route.Method == "POST" || route.Method == "PATCH" {
			for _, c := range anyBody {
				c.method, c.path = route.Method, path
				check(route.Operation+": "+c.name, c)
			}
		}
		for _, c := range badFields[route.Operation] {
			c.method, c.path = route.Method, path
			check(route.Operation+": "+c.name, c)
		}
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "X"} {
			has := slices.ContainsFunc(httpapi.Routes, func(r httpapi.Route) bool {
				return r.Path == path && (r.Method == method || method == "HEAD" && r.HeadAllowed())
			})
			if has || path == "/v1/events" && method == "OPTIONS" {
				continue
			}
			n++
			r := f.call("", method, at(path), "") // 405 comes before 401
			if r.status != 405 || method != "HEAD" && r.code() != "method_not_allowed" || !strings.Contains(r.header.Get("Allow"), route.Method) {
				t.Errorf("%s %s: %d %s, Allow %q", method, path, r.status, r.code(), r.header.Get("Allow"))
			}
		}
	}
	for _, c := range badQueries {
		check(c.path, c)
	}
	for _, c := range badRoutes {
		check(c.path, c)
		c.method, c.body = "POST", `{}`
		check("POST "+c.path, c)
	}
	if n < 150 {
		t.Errorf("only %d cases", n)
	}
	t.Logf("%d cases", n)
	if strings.Contains(f.logs.String(), `"level":"ERROR"`) {
		t.Error("bad input made an error of ours")
	}
	if names := f.names(f.a.TestKey); len(names) != 1 || names[0] != "x" {
		t.Errorf("bad input made %v", names)
	}
}

// The order of checks, each before the next: every request is wrong in all the
// ways that come later too.
func TestOrderOfChecks(t *testing.T) {
	t.Parallel()
	f := start(t)
	limited := f.customer("limited")
	if err := f.db.SetLimits(t.Context(), limited.Customer, 0, whatisup.RateLimit{Burst: 1, PerSecond: 0.0001}, whatisup.SendLimits{}); err != nil {
		t.Fatal(err)
	}
	f.create(limited.TestKey, "x")
	_, own := f.create(f.a.TestKey, "x")
	bound, text, err := peppers.NewKey(whatisup.APIKey{Customer: f.a.Customer, Mode: whatisup.Test, Instance: own, Name: "bound"})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.db.CreateKey(t.Context(), bound, nil); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("x", 257<<10)
	plain := []string{"Content-Type", "text/plain"}
	unknown := "/v1/instances/" + string(whatisup.NewInstanceID())
	path, own := f.create(f.a.TestKey, "x")
	h := f.host()
	f.want(202, "", f.a.TestKey, "POST", path+"/connect", "")
	h.link(f.of(f.a.Customer, own), whatisup.Connected, "")
	f.clock.advance(6 * time.Second)
	for _, c := range []struct {
		status          int
		code, key, m, p string
		body            string
	}{
		{404, "route_not_found", "", "BREW", unknown + "/nothing", big},
		{405, "method_not_allowed", "", "BREW", unknown, big},
		{401, "auth_missing", "", "PATCH", unknown, big},
		{429, "rate_limited", limited.TestKey, "PATCH", unknown, big},
		{403, "instance_scoped_key", string(text), "PATCH", unknown, big},
		{404, "instance_not_found", f.a.TestKey, "PATCH", unknown, big},
		{413, "payload_too_large", f.a.TestKey, "POST", path + "/connect", big},
		{415, "unsupported_media_type", f.a.TestKey, "POST", path + "/connect", "x"},
	} {
		f.want(c.status, c.code, c.key, c.m, c.p, c.body, plain...)
	}
	f.want(400, "invalid_request", f.a.TestKey, "POST", path+"/connect", `{"x":1}`)
	f.want(409, "invalid_lifecycle_transition", f.a.TestKey, "POST", path+"/connect", `{}`)
}

func TestHeadAndOptions(t *testing.T) {
	t.Parallel()
	f := start(t)
	path, _ := f.create(f.a.TestKey, "x")
	f.phone(func(whatisup.Command, whatisup.SandboxArgs) whatisup.Result {
		return whatisup.Result{Answer: []byte(
			`{"data":[],"next":null,"phone_number":"5511987654321","lid":"1","reads":"auto","replies":"none"}`)}
	})
	endpoint, delivery := f.hook(f.a.TestKey)
	for _, route := range httpapi.Routes {
		if !route.HeadAllowed() {
			continue
		}
		if strings.Contains(route.Path, "{message_id}") || strings.Contains(route.Path, "/media") {
			continue // there is none here; its GET and HEAD are the function's
		}
		at := strings.Replace(route.Path, "/v1/instances/{id}", path, 1)
		at = strings.Replace(at, "/v1/webhook-endpoints/{id}", "/v1/webhook-endpoints/"+endpoint, 1)
		at = strings.Replace(at, "/v1/webhook-deliveries/{id}", "/v1/webhook-deliveries/"+delivery, 1)
		at = fill(at, "")
		get, head := f.call(f.a.TestKey, "GET", at, ""), f.call(f.a.TestKey, "HEAD", at, "")
		want := 200
		if get.code() == "not_connected" { // what is asked of WhatsApp needs a connection
			want = 409
		}
		if head.status != want || len(head.body) != 0 || head.header.Get("Content-Type") != get.header.Get("Content-Type") ||
			head.header.Get("ETag") != get.header.Get("ETag") {
			t.Errorf("HEAD %s: %d %v, GET has %v", at, head.status, head.header, get.header)
		}
	}
	r := f.call("", "OPTIONS", "/v1/events", "", "Origin", "https://example.org", "Access-Control-Request-Method", "GET")
	if r.status != 204 || r.header.Get("Access-Control-Allow-Origin") != "*" ||
		!strings.Contains(r.header.Get("Access-Control-Allow-Headers"), "Authorization") ||
		!strings.Contains(r.header.Get("Access-Control-Allow-Headers"), "Last-Event-ID") {
		t.Errorf("%d %v", r.status, r.header)
	}
	if r := f.call("", "GET", "/v1/events", ""); r.status != 401 || r.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("a refusal must be readable too: %v", r.header)
	}
	for _, p := range []string{"/v1/instances", "/v1"} {
		if r := f.call("", "GET", p, "", "Origin", "https://example.org"); r.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s lets other origins in", p)
		}
	}
}

// Over a bare connection: what no HTTP client sends.
func TestRawRequests(t *testing.T) {
	t.Parallel()
	f := start(t)
	address := strings.TrimPrefix(f.url, "http://")
	auth := "Host: x\r\nAuthorization: Bearer " + f.a.TestKey + "\r\n"
	for _, c := range []struct {
		name, request string
		status        int
	}{
		{"chunked", "POST /v1/instances HTTP/1.1\r\n" + auth + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nc\r\n{\"name\":\"x\"}\r\n0\r\n\r\n", 201},
		{"chunked, too large", "POST /v1/instances HTTP/1.1\r\n" + auth + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n40001\r\n" + strings.Repeat("x", 0x40001) + "\r\n0\r\n\r\n", 413},
		{"no length", "POST /v1/instances/x/connect HTTP/1.1\r\n" + auth + "\r\n", 404},
		{"no length, no body", "POST /v1/instances HTTP/1.1\r\n" + auth + "\r\n", 400},
		{"expect", "POST /v1/instances HTTP/1.1\r\n" + auth + "Content-Type: application/json\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n{\"name\":\"x\"}", 201},
		{"an absolute URL", "GET http://other.example/v1/limits HTTP/1.1\r\n" + auth + "\r\n", 200},
		{"a key in the URL", "GET /v1/limits?authorization=Bearer%20" + f.a.TestKey + " HTTP/1.1\r\nHost: x\r\n\r\n", 401},
		{"two keys", "GET /v1/limits HTTP/1.1\r\n" + auth + "Authorization: Bearer x\r\n\r\n", 401},
		{"a method override", "POST /v1/limits HTTP/1.1\r\n" + auth + "X-HTTP-Method-Override: GET\r\n\r\n", 405},
		{"a gateway's header", "GET /v1/limits HTTP/1.1\r\n" + auth + "X-GoLambdaProxy-ApiGw-Context: {}\r\n\r\n", 200},
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		go io.WriteString(conn, c.request)
		in := bufio.NewReader(conn)
		var resp *http.Response
		for {
			if resp, err = http.ReadResponse(in, nil); err != nil || resp.StatusCode != 100 {
				break
			}
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if resp.StatusCode != c.status {
			b, _ := io.ReadAll(resp.Body)
			t.Errorf("%s: %d, want %d: %s", c.name, resp.StatusCode, c.status, b)
		}
		conn.Close()
	}
}

func TestGoodInputAtItsLimits(t *testing.T) {
	t.Parallel()
	f := start(t)
	for _, body := range []string{
		`{"name":"` + strings.Repeat("é", 100) + `"}`,
		`{"name":"\ud83d\ude00 \ufffd <&>","metadata":{"":"","\u0000":"\ud83d\ude00"}}`,
		`{"name":"x","metadata":{"a":"` + strings.Repeat("x", 16<<10-8) + `"}}`,
		`{"name":"x","metadata":` + strings.Repeat(`{"a":`, 31) + "{}" + strings.Repeat("}", 31) + `}`,
		`{"name":"x","metadata":{"n":[1e300,-0,0.10,123456789012345678901234567890,1E+2]}}`,
	} {
		r := f.want(201, "", f.a.TestKey, "POST", "/v1/instances", body, "Content-Type", `application/json; charset="UTF-8"`)
		w := into[whatisup.Wire](t, r)
		got := f.want(200, "", f.a.TestKey, "GET", "/v1/instances/"+string(w.ID), "")
		if _, metadata, ok := strings.Cut(body, `"metadata":`); ok && !strings.Contains(string(got.body), `"metadata":`+strings.TrimSuffix(metadata, "}")+",") {
			t.Errorf("gave %.200s, got %.400s", metadata, got.body)
		}
	}
	for _, query := range []string{"limit=1", "limit=1000", "status=qr,qr,failed", "include=status", "unknown=1", "status=" + url.QueryEscape("pending,qr")} {
		f.want(200, "", f.a.TestKey, "GET", "/v1/instances?"+query, "")
	}
}
