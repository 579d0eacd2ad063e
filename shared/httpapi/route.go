package httpapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// The functions that routes belong to: the Lambda functions that answer HTTP.
const (
	FunctionInstances = "instances"
	FunctionQR        = "qr"
	FunctionKeys      = "keys"
	FunctionSandbox   = "sandbox"
	FunctionEvents    = "events"
	FunctionMessages  = "messages"
	FunctionMedia     = "media"
	FunctionWebhooks  = "webhooks"
	FunctionChats     = "chats"
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
	sends   bool // draws on the bucket of sends
	asks    bool // asks WhatsApp and waits: of its errors only 400 and outcome_unknown are kept
	do      operation
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
	endpoint
	delivery
)

// Functions are the handlers of all functions, by name. Each serves its own
// routes; the function called instances also answers what has no route.
func (a *API) Functions() map[string]http.Handler {
	all := map[string]http.Handler{}
	for _, r := range Routes {
		all[r.Function] = a.Function(r.Function)
	}
	return all
}

// Function is the handler of one function.
func (a *API) Function(name string) http.Handler { return &function{a, name} }

// ServeHTTP serves every function's routes, as API Gateway does over all of them.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := FunctionInstances
	if route, _, _ := find(r.Method, r.URL); route != nil {
		name = route.Function
	}
	a.Function(name).ServeHTTP(w, r)
}

// Routes are all routes of the API, as template.yaml declares them and the
// OpenAPI document describes them; tests hold the three together. What is not
// under /v1 reaches the instances function as API Gateway's default.
var Routes = []Route{
	{Method: "GET", Path: "/v1", Function: FunctionInstances, Operation: "getRoot", access: anybody, free: true, do: getRoot},
	{Method: "GET", Path: "/v1/instances", Function: FunctionInstances, Operation: "listInstances", access: unbound, do: listInstances},
	{Method: "POST", Path: "/v1/instances", Function: FunctionInstances, Operation: "createInstance", access: unbound, do: createInstance},
	{Method: "GET", Path: "/v1/instances/{id}", Function: FunctionInstances, Operation: "getInstance", access: boundToo, subject: instance, do: getInstance},
	{Method: "PATCH", Path: "/v1/instances/{id}", Function: FunctionInstances, Operation: "updateInstance", access: boundToo, subject: instance, do: updateInstance},
	{Method: "DELETE", Path: "/v1/instances/{id}", Function: FunctionInstances, Operation: "deleteInstance", access: unbound, subject: instance, do: deleteInstance},
	{Method: "GET", Path: "/v1/instances/{id}/settings", Function: FunctionInstances, Operation: "getSettings", access: boundToo, subject: instance, do: getSettings},
	{Method: "PATCH", Path: "/v1/instances/{id}/settings", Function: FunctionInstances, Operation: "updateSettings", access: boundToo, subject: instance, do: updateSettings},
	{Method: "GET", Path: "/v1/instances/{id}/status", Function: FunctionInstances, Operation: "getInstanceStatus", access: boundToo, subject: instance, do: getStatus},
	{Method: "POST", Path: "/v1/instances/{id}/connect", Function: FunctionInstances, Operation: "connectInstance", access: boundToo, subject: instance, do: connect},
	{Method: "POST", Path: "/v1/instances/{id}/disconnect", Function: FunctionInstances, Operation: "disconnectInstance", access: boundToo, subject: instance, do: disconnect},
	{Method: "POST", Path: "/v1/instances/{id}/logout", Function: FunctionInstances, Operation: "logoutInstance", access: boundToo, subject: instance, do: logout},
	{Method: "GET", Path: "/openapi.json", Function: FunctionInstances, Operation: "getOpenAPI", access: anybody, free: true, do: getOpenAPI},
	{Method: "GET", Path: "/docs", Function: FunctionInstances, Operation: "getDocs", access: anybody, free: true, do: getDocs},

	{Method: "GET", Path: "/v1/instances/{id}/qr", Function: FunctionQR, Operation: "getInstanceQR", access: boundToo, subject: instance, do: getQR},
	{Method: "GET", Path: "/v1/instances/{id}/qr.png", Function: FunctionQR, Operation: "getInstanceQRPicture", access: boundToo, subject: instance, do: getQRPicture},
	{Method: "POST", Path: "/v1/instances/{id}/pair-code", Function: FunctionQR, Operation: "createPairCode", access: boundToo, subject: instance, do: createPairCode},

	{Method: "GET", Path: "/v1/api-keys", Function: FunctionKeys, Operation: "listAPIKeys", access: unbound, do: listKeys},
	{Method: "POST", Path: "/v1/api-keys", Function: FunctionKeys, Operation: "createAPIKey", access: unbound, do: createKey},
	{Method: "DELETE", Path: "/v1/api-keys/{id}", Function: FunctionKeys, Operation: "revokeAPIKey", access: unbound, subject: apiKey, do: revokeKey},
	{Method: "GET", Path: "/v1/limits", Function: FunctionKeys, Operation: "getLimits", access: boundToo, free: true, do: getLimits},

	{Method: "POST", Path: "/v1/sandbox/instances/{id}/scan", Function: FunctionSandbox, Operation: "sandboxScan", access: boundToo, subject: instance, do: sandboxScan},
	{Method: "POST", Path: "/v1/sandbox/instances/{id}/enter-code", Function: FunctionSandbox, Operation: "sandboxEnterCode", access: boundToo, subject: instance, do: sandboxEnterCode},
	{Method: "POST", Path: "/v1/sandbox/instances/{id}/unlink", Function: FunctionSandbox, Operation: "sandboxUnlink", access: boundToo, subject: instance, do: sandboxUnlink},
	{Method: "POST", Path: "/v1/sandbox/instances/{id}/messages", Function: FunctionSandbox, Operation: "sandboxMessage", access: boundToo, subject: instance, do: sandboxMessage},
	{Method: "POST", Path: "/v1/sandbox/instances/{id}/faults", Function: FunctionSandbox, Operation: "sandboxFault", access: boundToo, subject: instance, do: sandboxFault},
	{Method: "GET", Path: "/v1/sandbox/phones", Function: FunctionSandbox, Operation: "sandboxPhones", access: unbound, do: sandboxPhones},
	{Method: "GET", Path: "/v1/sandbox/phones/{phone_number}", Function: FunctionSandbox, Operation: "sandboxPhone", access: unbound, do: sandboxPhone},
	{Method: "PUT", Path: "/v1/sandbox/phones/{phone_number}", Function: FunctionSandbox, Operation: "sandboxSetPhone", access: unbound, do: sandboxSetPhone},
	{Method: "GET", Path: "/v1/sandbox/phones/{phone_number}/messages", Function: FunctionSandbox, Operation: "sandboxPhoneMessages", access: unbound, do: sandboxPhoneMessages},
	{Method: "POST", Path: "/v1/sandbox/phones/{phone_number}/actions", Function: FunctionSandbox, Operation: "sandboxAct", access: unbound, do: sandboxAct},

	{Method: "POST", Path: "/v1/instances/{id}/messages", Function: FunctionMessages, Operation: "sendMessage", access: boundToo, subject: instance, sends: true, do: sendMessage},
	{Method: "GET", Path: "/v1/instances/{id}/messages", Function: FunctionMessages, Operation: "listMessages", access: boundToo, subject: instance, do: listMessages},
	{Method: "GET", Path: "/v1/instances/{id}/messages/{message_id}", Function: FunctionMessages, Operation: "getMessage", access: boundToo, subject: instance, do: getMessage},
	{Method: "DELETE", Path: "/v1/instances/{id}/messages/{message_id}", Function: FunctionMessages, Operation: "cancelMessage", access: boundToo, subject: instance, do: cancelMessage},
	{Method: "GET", Path: "/v1/instances/{id}/chats", Function: FunctionMessages, Operation: "listChats", access: boundToo, subject: instance, do: listChats},

	{Method: "GET", Path: "/v1/usage", Function: FunctionMessages, Operation: "getUsage", access: boundToo, do: getUsage},

	{Method: "GET", Path: "/v1/webhook-endpoints", Function: FunctionWebhooks, Operation: "listWebhookEndpoints", access: unbound, do: listEndpoints},
	{Method: "POST", Path: "/v1/webhook-endpoints", Function: FunctionWebhooks, Operation: "createWebhookEndpoint", access: unbound, do: createEndpoint},
	{Method: "GET", Path: "/v1/webhook-endpoints/{id}", Function: FunctionWebhooks, Operation: "getWebhookEndpoint", access: unbound, subject: endpoint, do: getEndpoint},
	{Method: "PATCH", Path: "/v1/webhook-endpoints/{id}", Function: FunctionWebhooks, Operation: "updateWebhookEndpoint", access: unbound, subject: endpoint, do: updateEndpoint},
	{Method: "DELETE", Path: "/v1/webhook-endpoints/{id}", Function: FunctionWebhooks, Operation: "deleteWebhookEndpoint", access: unbound, subject: endpoint, do: deleteEndpoint},
	{Method: "POST", Path: "/v1/webhook-endpoints/{id}/rotate-secret", Function: FunctionWebhooks, Operation: "rotateWebhookSecret", access: unbound, subject: endpoint, do: rotateSecret},
	{Method: "POST", Path: "/v1/webhook-endpoints/{id}/test", Function: FunctionWebhooks, Operation: "testWebhookEndpoint", access: unbound, subject: endpoint, do: testEndpoint},
	{Method: "POST", Path: "/v1/webhook-endpoints/{id}/replay", Function: FunctionWebhooks, Operation: "replayWebhooks", access: unbound, subject: endpoint, do: replayRange},
	{Method: "GET", Path: "/v1/webhook-deliveries", Function: FunctionWebhooks, Operation: "listWebhookDeliveries", access: unbound, do: listDeliveries},
	{Method: "GET", Path: "/v1/webhook-deliveries/{id}", Function: FunctionWebhooks, Operation: "getWebhookDelivery", access: unbound, subject: delivery, do: getDelivery},
	{Method: "POST", Path: "/v1/webhook-deliveries/{id}/replay", Function: FunctionWebhooks, Operation: "replayWebhookDelivery", access: unbound, subject: delivery, do: replayDelivery},

	{Method: "POST", Path: "/v1/instances/{id}/contacts/check", Function: FunctionChats, Operation: "checkContacts", access: boundToo, subject: instance, asks: true, do: checkContacts},
	{Method: "GET", Path: "/v1/instances/{id}/contacts", Function: FunctionChats, Operation: "listContacts", access: boundToo, subject: instance, asks: true, do: listContacts},
	{Method: "GET", Path: "/v1/instances/{id}/contacts/{contact}", Function: FunctionChats, Operation: "getContact", access: boundToo, subject: instance, asks: true, do: getContact},
	{Method: "POST", Path: "/v1/instances/{id}/contacts/{contact}/presence", Function: FunctionChats, Operation: "subscribePresence", access: boundToo, subject: instance, asks: true, do: subscribePresence},
	{Method: "GET", Path: "/v1/instances/{id}/profile", Function: FunctionChats, Operation: "getProfile", access: boundToo, subject: instance, asks: true, do: getProfile},
	{Method: "PATCH", Path: "/v1/instances/{id}/profile", Function: FunctionChats, Operation: "updateProfile", access: boundToo, subject: instance, asks: true, do: updateProfile},
	{Method: "GET", Path: "/v1/instances/{id}/blocks", Function: FunctionChats, Operation: "listBlocks", access: boundToo, subject: instance, asks: true, do: listBlocks},
	{Method: "PUT", Path: "/v1/instances/{id}/blocks/{contact}", Function: FunctionChats, Operation: "blockContact", access: boundToo, subject: instance, asks: true, do: blockContact},
	{Method: "DELETE", Path: "/v1/instances/{id}/blocks/{contact}", Function: FunctionChats, Operation: "unblockContact", access: boundToo, subject: instance, asks: true, do: unblockContact},
	{Method: "GET", Path: "/v1/instances/{id}/groups", Function: FunctionChats, Operation: "listGroups", access: boundToo, subject: instance, asks: true, do: listGroups},
	{Method: "POST", Path: "/v1/instances/{id}/groups", Function: FunctionChats, Operation: "createGroup", access: boundToo, subject: instance, asks: true, do: createGroup},
	{Method: "POST", Path: "/v1/instances/{id}/groups/join", Function: FunctionChats, Operation: "joinGroup", access: boundToo, subject: instance, asks: true, do: joinGroup},
	{Method: "GET", Path: "/v1/instances/{id}/groups/{group}", Function: FunctionChats, Operation: "getGroup", access: boundToo, subject: instance, asks: true, do: getGroup},
	{Method: "PATCH", Path: "/v1/instances/{id}/groups/{group}", Function: FunctionChats, Operation: "updateGroup", access: boundToo, subject: instance, asks: true, do: updateGroup},
	{Method: "POST", Path: "/v1/instances/{id}/groups/{group}/leave", Function: FunctionChats, Operation: "leaveGroup", access: boundToo, subject: instance, asks: true, do: leaveGroup},
	{Method: "POST", Path: "/v1/instances/{id}/groups/{group}/participants", Function: FunctionChats, Operation: "changeParticipants", access: boundToo, subject: instance, asks: true, do: changeParticipants},
	{Method: "GET", Path: "/v1/instances/{id}/groups/{group}/invite", Function: FunctionChats, Operation: "getGroupInvite", access: boundToo, subject: instance, asks: true, do: getGroupInvite},
	{Method: "POST", Path: "/v1/instances/{id}/groups/{group}/invite/renew", Function: FunctionChats, Operation: "renewGroupInvite", access: boundToo, subject: instance, asks: true, do: renewGroupInvite},
	{Method: "POST", Path: "/v1/instances/{id}/chats/{chat}/read", Function: FunctionChats, Operation: "readChat", access: boundToo, subject: instance, asks: true, do: readChat},
	{Method: "PUT", Path: "/v1/instances/{id}/chats/{chat}/presence", Function: FunctionChats, Operation: "setChatPresence", access: boundToo, subject: instance, asks: true, do: setChatPresence},
	{Method: "PUT", Path: "/v1/instances/{id}/presence", Function: FunctionChats, Operation: "setPresence", access: boundToo, subject: instance, asks: true, do: setPresence},

	{Method: "POST", Path: "/v1/media", Function: FunctionMedia, Operation: "createMedia", access: boundToo, do: createMedia},
	{Method: "GET", Path: "/v1/media/{media_id}", Function: FunctionMedia, Operation: "getMedia", access: boundToo, do: getMedia},
	{Method: "DELETE", Path: "/v1/media/{media_id}", Function: FunctionMedia, Operation: "deleteMedia", access: boundToo, do: deleteMedia},
	{Method: "GET", Path: "/v1/media-files/{token}", Function: FunctionMedia, Operation: "getMediaFile", access: anybody, free: true, do: getMediaFile},

	{Method: "GET", Path: "/v1/events", Function: FunctionEvents, Operation: "listEvents", access: boundToo, do: listEvents},
	{Method: "GET", Path: "/v1/event-log", Function: FunctionEvents, Operation: "listEventLog", access: boundToo, do: listEventLog},
}

// HeadAllowed says whether HEAD may be sent where r answers GET: everywhere but
// where GET has an effect. A fetch of the QR code starts a session, and a stream
// takes up a place.
func (r Route) HeadAllowed() bool {
	switch r.Operation {
	case "getInstanceQR", "getInstanceQRPicture", "listEvents":
		return false
	}
	return r.Method == http.MethodGet
}

// find matches a request to a route. params is what stands at {id}. Without a
// route for the method, allow lists the methods that the path has; it is empty
// for an unknown path.
func find(method string, u *url.URL) (r *Route, id string, allow []string) {
	segments, ok := split(u)
	if !ok {
		return nil, "", nil
	}
	// A path that is written out goes before one with a parameter at the same place.
	literal := slices.ContainsFunc(Routes, func(r Route) bool {
		_, ok := match(r.Path, segments)
		return ok && endsLiterally(r.Path)
	})
	for i := range Routes {
		candidate := &Routes[i]
		got, ok := match(candidate.Path, segments)
		if !ok || literal && !endsLiterally(candidate.Path) {
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
		case isParameter(w) && segments[i] != "":
		case w != segments[i]:
			return "", false
		}
	}
	return id, true
}

func endsLiterally(path string) bool { return !isParameter(path[strings.LastIndex(path, "/")+1:]) }

func isParameter(segment string) bool { return strings.HasPrefix(segment, "{") }

// below is what stands at the parameter after {id}, as {message_id}.
func (r *Route) below(u *url.URL) string {
	segments, ok := split(u)
	if !ok {
		return ""
	}
	for i, w := range strings.Split(r.Path[1:], "/") {
		if isParameter(w) && w != "{id}" && i < len(segments) {
			return segments[i]
		}
	}
	return ""
}

// Match says whether u is at a route's path, and what stands at {id}.
func Match(path string, u *url.URL) (id string, ok bool) {
	segments, ok := split(u)
	if !ok {
		return "", false
	}
	return match(path, segments)
}
