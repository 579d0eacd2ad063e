package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"whatisup/shared/control"
	"whatisup/shared/whatisup"
)

// operation handles a request. It returns the answer, or nil without an error if
// it has already written one.
type operation func(*call) (*answer, error)

// call is one request on its way.
type call struct {
	*API
	w        http.ResponseWriter
	r        *http.Request
	ctx      context.Context
	id       whatisup.RequestID
	began    time.Time // when the request arrived at the gateway
	route    *Route
	caller   caller
	segment  string             // what stands at {id}
	sub      string             // what stands below it: a message's id
	sends    *whatisup.Bucket   // the bucket of sends with the fewest tokens left
	instance *whatisup.Instance // of routes below one
	log      *slog.Logger
	status   int // answered
}

// customer and mode are first in everything that touches data.
func (c *call) customer() whatisup.CustomerID { return c.caller.key.Customer }
func (c *call) mode() whatisup.Mode           { return c.caller.key.Mode }

// answer is what a handler answers.
type answer struct {
	status  int
	headers [][2]string
	body    any    // as JSON; nil: none
	raw     []byte // instead of body, of the given type
	kind    string
}

func reply(status int, body any) *answer { return &answer{status: status, body: body} }

func (a *answer) set(name, value string) *answer {
	a.headers = append(a.headers, [2]string{name, value})
	return a
}

// encode is the body's bytes and its type. Metadata goes out as it came in: the
// encoder must not escape what its JSON didn't.
func (a *answer) encode() ([]byte, string, error) {
	if a.raw != nil {
		return a.raw, a.kind, nil
	}
	if a.body == nil {
		return nil, "", nil
	}
	b, err := encode(a.body)
	return append(b, '\n'), "application/json", err
}

func encode(v any) ([]byte, error) { return control.Encode(v) }

// who is on whose behalf an operation runs.
func (c *call) who() control.Caller {
	return control.Caller{
		Customer: c.caller.customer, Mode: c.mode(), Key: c.caller.key,
		Request: c.id, Began: c.began, Log: c.log,
	}
}

// function is the handler of one Lambda function.
type function struct {
	*API
	name string
}

func (f *function) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{
		API: f.API, w: w, r: r, ctx: r.Context(), id: whatisup.NewRequestID(), began: f.now(),
	}
	if t := f.Arrival(r.Context()); !t.IsZero() && t.Before(c.began) {
		c.began = t
	}
	c.log = f.Log.With("request_id", string(c.id))
	h := w.Header()
	h.Set("X-Request-Id", string(c.id))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic", "panic", p, "stack", string(debug.Stack()))
			if c.status == 0 {
				c.write(errorAnswer(errInternal, c.id))
			}
		}
		c.logged(f.now().Sub(c.began))
	}()
	a, err := f.serve(c)
	if err != nil {
		if whatisup.ErrorCode(err) == whatisup.CodeInternal && c.ctx.Err() == nil { // an outage too
			c.log.Error("request failed", "error", err)
		} else {
			c.log = c.log.With("code", string(whatisup.ErrorCode(err)))
		}
		if c.status != 0 {
			return // too late to say so
		}
		if e, ok := errors.AsType[*whatisup.Error](err); ok && e.Code == whatisup.CodeMethodNotAllowed {
			h.Set("Allow", strings.Join(c.allow(), ", "))
		}
		a = errorAnswer(err, c.id)
	}
	if a != nil {
		c.write(a)
	}
}

// serve is the order of checks that the contract promises.
func (f *function) serve(c *call) (*answer, error) {
	if c.r.URL.Path == eventsPath {
		c.allowOrigin()
		if c.r.Method == http.MethodOptions {
			return c.preflight(), nil
		}
	}
	route, id, allow := find(c.r.Method, c.r.URL)
	if route == nil && len(allow) == 0 {
		if f.name == FunctionInstances && f.Dashboard != nil && c.dashboard() {
			return nil, nil
		}
		return nil, errRoute
	}
	if route == nil {
		return nil, errMethod
	}
	if route.Function != f.name {
		return nil, errRoute // API Gateway would have asked the other function
	}
	c.route, c.segment, c.sub = route, id, route.below(c.r.URL)
	if route.access == anybody {
		return route.do(c)
	}
	var err error
	if c.caller, err = f.authenticate(c.ctx, c.r.Header); err != nil {
		return nil, err
	}
	c.log = c.log.With("customer_id", string(c.customer()), "mode", string(c.mode()))
	if err := c.takeToken(); err != nil {
		return nil, err
	}
	if err := c.inScope(); err != nil {
		return nil, err
	}
	if route.subject == instance {
		// Only what is an id is logged: anybody can write a key, a number or a
		// token at its place.
		if id, ok := whatisup.ParseInstanceID(c.segment); ok {
			c.log = c.log.With("instance_id", string(id))
		}
		if c.instance, err = c.control.Find(c.ctx, c.who(), c.segment); err != nil {
			return nil, err
		}
	}
	return route.do(c)
}

// inScope is the check of what the key may do at all.
func (c *call) inScope() error {
	if c.caller.customer.Suspended {
		return control.ErrSuspended
	}
	bound := c.caller.key.Instance
	if bound == "" {
		return nil
	}
	if c.route.access != boundToo || c.route.subject == instance && c.segment != string(bound) {
		return errScoped
	}
	return nil
}

// allow lists the methods that the path has.
func (c *call) allow() []string {
	_, _, allow := find("", c.r.URL)
	return allow
}

// write sends an answer. A body is told of and left out for HEAD.
func (c *call) write(a *answer) {
	b, kind, err := a.encode()
	if err != nil {
		c.log.Error("answer does not encode", "error", err)
		a = errorAnswer(errInternal, c.id)
		b, kind, _ = a.encode()
	}
	h := c.w.Header()
	for _, kv := range a.headers {
		h.Set(kv[0], kv[1])
	}
	if kind != "" {
		h.Set("Content-Type", kind)
		h.Set("Content-Length", strconv.Itoa(len(b)))
	}
	c.status = a.status
	c.w.WriteHeader(a.status)
	if c.r.Method != http.MethodHead {
		c.w.Write(b) // an error means that the caller has gone
	}
}

// logged is the request's one line.
func (c *call) logged(took time.Duration) {
	operation := ""
	if c.route != nil {
		operation = c.route.Operation
	}
	c.log.Info("request", "method", c.r.Method, "operation", operation, "status", c.status, "ms", took.Milliseconds())
}

// dashboard lets the dashboard answer, and says whether it had one.
func (c *call) dashboard() bool {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead ||
		c.r.URL.Path == "/v1" || strings.HasPrefix(c.r.URL.Path, "/v1/") {
		return false
	}
	w := &unlessNotFound{ResponseWriter: c.w, header: c.w.Header().Clone()}
	c.Dashboard.ServeHTTP(w, c.r)
	c.status = w.status
	return !w.missing
}

// unlessNotFound passes an answer on unless it is a 404.
type unlessNotFound struct {
	http.ResponseWriter
	header  http.Header
	status  int
	missing bool
}

func (w *unlessNotFound) Header() http.Header { return w.header }

func (w *unlessNotFound) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	if w.missing = status == http.StatusNotFound; w.missing {
		return
	}
	w.status = status
	h := w.ResponseWriter.Header()
	for k, v := range w.header {
		h[k] = v
	}
	h.Set("Cache-Control", "no-store")
	w.ResponseWriter.WriteHeader(status)
}

func (w *unlessNotFound) Write(b []byte) (int, error) {
	if w.status == 0 && !w.missing {
		w.WriteHeader(http.StatusOK)
	}
	if w.missing {
		return len(b), nil
	}
	return w.ResponseWriter.Write(b)
}
