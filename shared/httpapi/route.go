package httpapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// The functions that routes belong to.
const (
	FunctionInstances = "instances"
	FunctionQR        = "qr"
	FunctionKeys      = "keys"
	FunctionSandbox   = "sandbox"
	FunctionEvents    = "events"
)

// Route is one method of one path. Operation is its operationId in the OpenAPI
// document.
type Route struct {
	Method    string
	Path      string // with {id} for an id
	Function  string
	Operation string

	access  access
	subject subject
	free    bool // costs no token
}

// access is who may call a route.
type access int

const (
	anybody  access = iota // without a key
	unbound                // keys of the whole customer
	boundToo               // also keys that are bound to the instance of the path
)

// subject is what {id} names.
type subject int

const (
	nothing subject = iota
	instance
	apiKey
)

// Routes are all routes of the API, as template.yaml declares them and the
// OpenAPI document describes them; tests hold the three together. What is not
// under /v1 reaches the instances function as API Gateway's default.
var Routes = []Route{
	{"GET", "/v1", FunctionInstances, "getRoot", anybody, nothing, true},
	{"GET", "/v1/instances", FunctionInstances, "listInstances", unbound, nothing, false},
	{"POST", "/v1/instances", FunctionInstances, "createInstance", unbound, nothing, false},
	{"GET", "/v1/instances/{id}", FunctionInstances, "getInstance", boundToo, instance, false},
	{"PATCH", "/v1/instances/{id}", FunctionInstances, "updateInstance", boundToo, instance, false},
	{"DELETE", "/v1/instances/{id}", FunctionInstances, "deleteInstance", unbound, instance, false},
	{"GET", "/v1/instances/{id}/status", FunctionInstances, "getInstanceStatus", boundToo, instance, false},
	{"POST", "/v1/instances/{id}/connect", FunctionInstances, "connectInstance", boundToo, instance, false},
	{"POST", "/v1/instances/{id}/disconnect", FunctionInstances, "disconnectInstance", boundToo, instance, false},
	{"POST", "/v1/instances/{id}/logout", FunctionInstances, "logoutInstance", boundToo, instance, false},
	{"GET", "/v1/instances/{id}/qr", FunctionQR, "getInstanceQR", boundToo, instance, false},
	{"POST", "/v1/instances/{id}/pair-code", FunctionQR, "createPairCode", boundToo, instance, false},
	{"GET", "/v1/api-keys", FunctionKeys, "listAPIKeys", unbound, nothing, false},
	{"POST", "/v1/api-keys", FunctionKeys, "createAPIKey", unbound, nothing, false},
	{"DELETE", "/v1/api-keys/{id}", FunctionKeys, "revokeAPIKey", unbound, apiKey, false},
	{"GET", "/v1/limits", FunctionKeys, "getLimits", boundToo, nothing, true},
	{"POST", "/v1/sandbox/instances/{id}/scan", FunctionSandbox, "sandboxScan", boundToo, instance, false},
	{"POST", "/v1/sandbox/instances/{id}/enter-code", FunctionSandbox, "sandboxEnterCode", boundToo, instance, false},
	{"POST", "/v1/sandbox/instances/{id}/unlink", FunctionSandbox, "sandboxUnlink", boundToo, instance, false},
	{"POST", "/v1/sandbox/instances/{id}/messages", FunctionSandbox, "sandboxMessage", boundToo, instance, false},
	{"POST", "/v1/sandbox/instances/{id}/faults", FunctionSandbox, "sandboxFault", boundToo, instance, false},
	{"GET", "/v1/events", FunctionEvents, "listEvents", boundToo, nothing, false},
	{"GET", "/openapi.json", FunctionInstances, "getOpenAPI", anybody, nothing, true},
	{"GET", "/docs", FunctionInstances, "getDocs", anybody, nothing, true},
}

// HeadAllowed says whether HEAD may be sent where r answers GET: everywhere but
// where GET has an effect. A fetch of the QR code starts a session, and a stream
// takes up a place.
func (r Route) HeadAllowed() bool {
	return r.Method == http.MethodGet && r.Operation != "getInstanceQR" && r.Operation != "listEvents"
}

// find matches a request to a route. params is what stands at {id}. Without a
// route for the method, allow lists the methods that the path has; it is empty
// for an unknown path.
func find(method string, u *url.URL) (r *Route, id string, allow []string) {
	segments, ok := split(u)
	if !ok {
		return nil, "", nil
	}
	for i := range Routes {
		candidate := &Routes[i]
		got, ok := match(candidate.Path, segments)
		if !ok {
			continue
		}
		if candidate.Method == method || method == http.MethodHead && candidate.HeadAllowed() {
			return candidate, got, nil
		}
		allow = append(allow, candidate.Method)
		if candidate.HeadAllowed() {
			allow = append(allow, http.MethodHead)
		}
	}
	if len(allow) > 0 && u.Path == eventsPath {
		allow = append(allow, http.MethodOptions)
	}
	slices.Sort(allow)
	return nil, "", allow
}

// split takes a path apart before it is unescaped, so that an escaped slash
// stays within its segment.
func split(u *url.URL) ([]string, bool) {
	path, ok := strings.CutPrefix(u.EscapedPath(), "/")
	if !ok {
		return nil, false
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		var err error
		if segments[i], err = url.PathUnescape(s); err != nil {
			return nil, false
		}
	}
	return segments, true
}

func match(pattern string, segments []string) (id string, ok bool) {
	want := strings.Split(pattern[1:], "/")
	if len(want) != len(segments) {
		return "", false
	}
	for i, w := range want {
		switch {
		case w == "{id}" && segments[i] != "":
			id = segments[i]
		case w != segments[i]:
			return "", false
		}
	}
	return id, true
}

// Match says whether u is at a route's path, and what stands at {id}.
func Match(path string, u *url.URL) (id string, ok bool) {
	segments, ok := split(u)
	if !ok {
		return "", false
	}
	return match(path, segments)
}
