package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"whatisup/local/body"
	"whatisup/local/gateway/template"
)

// Limits of an HTTP API and of Lambda, none of which can be raised.
const (
	maxBody    = 10 << 20
	maxHeaders = 10240
	maxEvent   = 6 << 20
)

const (
	defaultMaxBodies  = 64 << 20
	defaultBodyWithin = 30 * time.Second // what API Gateway gives a request in all
)

// Handler is a function as its main hands it to lambda.Start.
type Handler = func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)

// Config is what a gateway is made of.
type Config struct {
	Template *template.Template
	// Functions are the handlers by name, which is that of the folder under
	// functions/. Every function with a route must be here or in Streams.
	Functions map[string]Handler
	// Streams are the functions with a streaming URL, by name. Their routes are
	// passed to them as they are.
	Streams map[string]http.Handler
	// StreamPath is where a streaming URL that has no routes is answered. On AWS it
	// has an origin of its own; here what asks for JSON goes on to the path's route.
	StreamPath string
	// MaxBody is how much of a body functions see, and one byte more, by which
	// they know that it was longer; API Gateway's own 10 MB by default.
	MaxBody int64
	// MaxBodies bounds the sum of the bodies in hand, in bytes; 64 MiB by default.
	// BodyWithin is how long one may take to come; 30 seconds by default.
	MaxBodies  int64
	BodyWithin time.Duration
	// Observe, if given, is told of each answer: the function, the route's key, the
	// status, and how long it took. Streams are told of when they end.
	Observe func(function, route string, status int, took time.Duration)
	Log     *slog.Logger
}

// Gateway serves the API. It is an [http.Handler] for the whole origin.
type Gateway struct {
	functions map[string]function
	streams   map[string]http.Handler
	apart     http.Handler // the stream that has no routes; nil: there is none
	apartAt   string
	routes    routes
	log       *slog.Logger
	running   sync.WaitGroup

	seen       int64 // of a body, by functions
	bodies     *body.Room
	bodyWithin time.Duration
	observe    func(function, route string, status int, took time.Duration)
}

type function struct {
	handler Handler
	timeout time.Duration
}

// New returns a gateway for the template. It fails if a route has no handler, or
// a handler no place in the template.
func New(c Config) (*Gateway, error) {
	g := &Gateway{functions: make(map[string]function), streams: make(map[string]http.Handler), log: c.Log,
		seen: cmp.Or(c.MaxBody, maxBody), bodies: body.NewRoom(cmp.Or(c.MaxBodies, defaultMaxBodies)),
		bodyWithin: cmp.Or(c.BodyWithin, defaultBodyWithin), observe: c.Observe}
	all, err := c.Template.Functions()
	if err != nil {
		return nil, err
	}
	var problems []error
	known := make(map[string]bool)
	for _, f := range all {
		known[f.Name] = true
		handler, stream := c.Functions[f.Name], c.Streams[f.Name]
		switch {
		case stream != nil && !f.Streams:
			problems = append(problems, fmt.Errorf("function %s has no streaming URL in the template", f.Name))
		case handler == nil && stream == nil && len(f.Routes) > 0:
			problems = append(problems, fmt.Errorf("function %s has routes but no handler", f.Name))
		}
		if stream != nil {
			g.streams[f.Name] = stream
			if len(f.Routes) == 0 {
				g.apart, g.apartAt = stream, c.StreamPath
			}
		} else if handler != nil {
			g.functions[f.Name] = function{handler: handler, timeout: f.Timeout}
		}
		for _, r := range f.Routes {
			if err := g.routes.add(r); err != nil {
				problems = append(problems, err)
			}
		}
	}
	for name := range c.Functions {
		if !known[name] {
			problems = append(problems, fmt.Errorf("the template has no function %s", name))
		}
	}
	for name := range c.Streams {
		if !known[name] {
			problems = append(problems, fmt.Errorf("the template has no function %s", name))
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("gateway: %w", errors.Join(problems...))
	}
	return g, nil
}

func asksForJSON(r *http.Request) bool {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	return strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/event-stream")
}

// Wait returns when no function runs any more. Stop serving first.
func (g *Gateway) Wait() { g.running.Wait() }

func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.observe == nil {
		g.serve(w, r)
		return
	}
	began := time.Now()
	seen := &witness{ResponseWriter: w}
	function, route := g.serve(seen, r)
	g.observe(function, route, cmp.Or(seen.status, http.StatusOK), time.Since(began))
}

// witness notes the status of an answer.
type witness struct {
	http.ResponseWriter
	status int
}

func (w *witness) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (w *witness) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// serve answers, and says which function's route it was.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) (name, key string) {
	received := time.Now()
	if g.apart != nil && r.URL.Path == g.apartAt && !asksForJSON(r) {
		g.apart.ServeHTTP(w, r)
		return "", "GET " + g.apartAt
	}
	route, params, ok := g.routes.find(r.Method, decodedPath(r))
	if !ok {
		refuse(w, http.StatusNotFound, "Not Found")
		return "", ""
	}
	if headerSize(r) > maxHeaders {
		refuse(w, http.StatusRequestHeaderFieldsTooLarge, "Request Header Fields Too Large")
		return route.Function, route.Key()
	}
	if stream, ok := g.streams[route.Function]; ok {
		stream.ServeHTTP(w, r)
		return route.Function, route.Key()
	}
	// A body that is longer than the functions are to see is cut one byte behind that, so
	// that they refuse it in the API's own form, after they have looked at the key.
	sent, release, err := g.bodies.Read(w, r, body.Limits{Max: maxBody, Cut: g.seen, Within: g.bodyWithin})
	defer release()
	if err != nil {
		w.Header().Set("Connection", "close") // in the middle of a body
		switch err {
		case body.ErrTooLong:
			refuse(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large")
		case body.ErrTooSlow:
			refuse(w, http.StatusRequestTimeout, "Request Timeout")
		case body.ErrNoRoom:
			w.Header().Set("Retry-After", "1")
			refuse(w, http.StatusServiceUnavailable, "Service Unavailable")
		default:
			refuse(w, http.StatusBadRequest, "Bad Request")
		}
		return route.Function, route.Key()
	}
	event := newEvent(r, route, params, sent, requestID(), received)
	if eventSize(event) > maxEvent {
		refuse(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large")
		return route.Function, route.Key()
	}
	g.invoke(w, r, route, event)
	return route.Function, route.Key()
}

// outcome is what came of an invocation.
type outcome struct {
	response events.APIGatewayV2HTTPResponse
	err      error
}

func (g *Gateway) invoke(w http.ResponseWriter, r *http.Request, route template.Route, event events.APIGatewayV2HTTPRequest) {
	f := g.functions[route.Function]
	id := event.RequestContext.RequestID
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), f.timeout)
	ctx = lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{AwsRequestID: id})
	done := make(chan outcome, 1)
	g.running.Go(func() {
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				done <- outcome{err: fmt.Errorf("panic: %v", p)}
			}
		}()
		response, err := f.handler(ctx, event)
		done <- outcome{response, err}
	})
	// A timer of its own: the context also ends when the function has answered.
	killed, integration := time.NewTimer(f.timeout), time.NewTimer(route.Timeout)
	defer killed.Stop()
	defer integration.Stop()
	w.Header().Set("Apigw-Requestid", id)
	select {
	case o := <-done:
		if o.err == nil {
			o.err = writeResponse(w, r.Method, o.response)
		}
		if o.err != nil {
			g.log.Error("function failed", "function", route.Function, "gateway_request_id", id, "error", o.err)
			refuse(w, http.StatusInternalServerError, "Internal Server Error")
		}
	case <-killed.C:
		g.log.Error("function timed out", "function", route.Function, "gateway_request_id", id, "after", f.timeout)
		refuse(w, http.StatusInternalServerError, "Internal Server Error")
	case <-integration.C:
		g.log.Error("integration timed out", "function", route.Function, "gateway_request_id", id, "after", route.Timeout)
		refuse(w, http.StatusServiceUnavailable, "Service Unavailable")
	}
}

// refuse answers as API Gateway does by itself, which is not the API's form.
func refuse(w http.ResponseWriter, status int, message string) {
	body, err := json.Marshal(map[string]string{"message": message})
	if err != nil {
		panic(err) // a map of strings always marshals
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body)
}

// requestID has the form of API Gateway's.
func requestID() string {
	var b [11]byte
	rand.Read(b[:])
	return base64.URLEncoding.EncodeToString(b[:])
}

// routes finds the route of a request as an HTTP API does: the most specific
// match wins, literal segments before variables, $default last.
type routes struct {
	byKey    map[string]bool
	all      []pattern
	fallback *template.Route
}

type pattern struct {
	route    template.Route
	segments []string
	literal  int // segments that are no variables
}

func (rs *routes) add(r template.Route) error {
	if rs.byKey == nil {
		rs.byKey = make(map[string]bool)
	}
	if rs.byKey[r.Key()] {
		return fmt.Errorf("route %s stands twice", r.Key())
	}
	rs.byKey[r.Key()] = true
	if r.Path == "" {
		rs.fallback = &r
		return nil
	}
	p := pattern{route: r, segments: strings.Split(r.Path, "/")}
	for _, s := range p.segments {
		if strings.HasSuffix(s, "+}") {
			return fmt.Errorf("route %s: greedy variables are not known here", r.Key())
		}
		if !isVariable(s) {
			p.literal++
		}
	}
	rs.all = append(rs.all, p)
	return nil
}

func (rs *routes) find(method, path string) (template.Route, map[string]string, bool) {
	segments := strings.Split(path, "/")
	var best *pattern
	for i := range rs.all {
		p := &rs.all[i]
		if p.route.Method != method && p.route.Method != "ANY" || !p.matches(segments) {
			continue
		}
		better := best == nil || p.literal > best.literal ||
			p.literal == best.literal && best.route.Method == "ANY"
		if better {
			best = p
		}
	}
	if best == nil {
		if rs.fallback == nil {
			return template.Route{}, nil, false
		}
		return *rs.fallback, nil, true
	}
	var params map[string]string
	for i, s := range best.segments {
		if isVariable(s) {
			if params == nil {
				params = make(map[string]string)
			}
			params[s[1:len(s)-1]] = segments[i]
		}
	}
	return best.route, params, true
}

func (p *pattern) matches(segments []string) bool {
	if len(segments) != len(p.segments) {
		return false
	}
	for i, s := range p.segments {
		if isVariable(s) {
			if segments[i] == "" {
				return false
			}
		} else if s != segments[i] {
			return false
		}
	}
	return true
}

func isVariable(segment string) bool {
	return strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "}")
}
