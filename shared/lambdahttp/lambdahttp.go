// Package lambdahttp puts an http.Handler where Lambda wants a function of an
// API Gateway event (HTTP API, payload format 2.0), over
// aws-lambda-go-api-proxy, and a streaming function URL, over aws-lambda-go's
// lambdaurl. Both adapters differ from net/http in ways that a handler must not
// have to know; this package is the place where that is put right:
//
//   - A handler that writes nothing has answered 200, the first status counts,
//     and a panic is a 500 in the API's own form.
//   - Headers reach the handler as the client sent them; the adapter would split
//     them at commas. What a client sends in the adapter's own headers is
//     dropped: they would pass for what API Gateway says.
//   - A path or a query that is no valid URL is the handler's to refuse, and no
//     failure of the function. The path stays the path, whatever is escaped in
//     it.
//   - The context tells when the request arrived, and ends before Lambda's
//     deadline does.
package lambdahttp

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdaurl"
	"github.com/awslabs/aws-lambda-go-api-proxy/httpadapter"
	"github.com/google/uuid"
)

// Handler is a function as lambda.Start takes it.
type Handler = func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)

// Wrap makes a function of a handler. It never returns an error.
func Wrap(h http.Handler, log *slog.Logger) Handler {
	adapter := httpadapter.NewV2(guard(h, log))
	return func(ctx context.Context, e events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		body, err := decoded(e)
		if err != nil {
			log.Error("event's body is not what it says", "error", err)
			return failed(http.StatusBadRequest, "invalid_request", "The body could not be read."), nil
		}
		ctx = context.WithValue(ctx, eventKey{}, &request{e: e, body: body})
		bare := events.APIGatewayV2HTTPRequest{
			RawPath: "/", Cookies: e.Cookies, Headers: map[string]string{},
			RequestContext: e.RequestContext, // for the adapter's own accessor
		}
		bare.RequestContext.DomainName = "lambda.invalid"
		bare.RequestContext.HTTP.Method = method(e.RequestContext.HTTP.Method)
		answer, err := adapter.ProxyWithContext(ctx, bare)
		if err != nil {
			log.Error("request was not adapted", "error", err)
			return failed(http.StatusInternalServerError, "internal", internalMessage), nil
		}
		return answer, nil
	}
}

// request is an event on its way through the adapter.
type request struct {
	e    events.APIGatewayV2HTTPRequest
	body []byte
	url  bool // of a function URL, whose path is still escaped
}

type (
	eventKey   struct{}
	arrivalKey struct{}
)

// Arrival is when API Gateway took the request; the zero time if ctx is none of
// this package's.
func Arrival(ctx context.Context) time.Time {
	t, _ := ctx.Value(arrivalKey{}).(time.Time)
	return t
}

func withArrival(ctx context.Context, epoch int64) context.Context {
	if epoch <= 0 {
		return ctx
	}
	return context.WithValue(ctx, arrivalKey{}, time.UnixMilli(epoch))
}

func decoded(e events.APIGatewayV2HTTPRequest) ([]byte, error) {
	if e.IsBase64Encoded {
		return base64.StdEncoding.DecodeString(e.Body)
	}
	return []byte(e.Body), nil
}

// method is what http.NewRequest takes, so that a method that is none reaches
// the handler as one that no route has.
func method(m string) string {
	for _, c := range m {
		if c < '!' || c > '~' || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c) {
			return "INVALID"
		}
	}
	if m == "" {
		return "INVALID"
	}
	return m
}

// guard restores around a handler what net/http does around it: the request as
// it was sent, the rules of the ResponseWriter, and a net under panics.
func guard(h http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q, ok := r.Context().Value(eventKey{}).(*request); ok {
			r = q.restore(r)
		}
		out := &writer{ResponseWriter: w}
		defer out.finish()
		defer func() {
			if p := recover(); p != nil {
				log.Error("panic", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				if out.status == 0 {
					answer := failed(http.StatusInternalServerError, "internal", internalMessage)
					for k, v := range answer.Headers {
						w.Header().Set(k, v)
					}
					out.WriteHeader(answer.StatusCode)
					out.Write([]byte(answer.Body))
				}
			}
		}()
		h.ServeHTTP(out, r)
	})
}

// restore puts the client's own method, URL, headers and body into the request
// that the adapter made.
func (q *request) restore(r *http.Request) *http.Request {
	e := &q.e
	r = r.Clone(withArrival(r.Context(), e.RequestContext.TimeEpoch))
	r.Header = headers(e.Headers)
	if len(e.Cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(e.Cookies, "; "))
	}
	r.Host = e.RequestContext.DomainName
	path := e.RawPath
	if path == "" {
		path = e.RequestContext.HTTP.Path
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	r.URL = &url.URL{Scheme: "https", Host: r.Host, RawQuery: query(e)}
	// API Gateway has unescaped the path: what looks escaped in it is meant so.
	r.URL.Path = path
	if q.url {
		if unescaped, err := url.PathUnescape(path); err == nil {
			r.URL.Path, r.URL.RawPath = unescaped, path
		}
	}
	r.RequestURI = r.URL.RequestURI()
	r.Body = http.NoBody
	if r.ContentLength = int64(len(q.body)); len(q.body) > 0 {
		r.Body = readCloser{bytes.NewReader(q.body)}
	}
	return r
}

// query is the raw query string; some senders of events only give it parsed.
func query(e *events.APIGatewayV2HTTPRequest) string {
	if e.RawQueryString != "" || len(e.QueryStringParameters) == 0 {
		return e.RawQueryString
	}
	values := url.Values{}
	for k, v := range e.QueryStringParameters {
		values.Set(k, v)
	}
	return values.Encode()
}

func headers(from map[string]string) http.Header {
	h := make(http.Header, len(from))
	for name, value := range from {
		if name = http.CanonicalHeaderKey(name); strings.HasPrefix(name, "X-Golambdaproxy-") || name == "Host" {
			continue
		}
		h[name] = append(h[name], value)
	}
	return h
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// writer makes the first status count, and an answer of nothing a 200.
type writer struct {
	http.ResponseWriter
	status int
}

func (w *writer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *writer) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

func (w *writer) finish() { w.WriteHeader(http.StatusOK) }

// Unwrap lets http.ResponseController flush what can be flushed.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

const internalMessage = "Something failed on our side. Retry; if it keeps failing, report the request id."

// failed is an answer in the API's form, for what no handler could answer.
func failed(status int, code, message string) events.APIGatewayV2HTTPResponse {
	id := "req_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	body, _ := json.Marshal(map[string]any{
		"error": map[string]any{"code": code, "message": message}, "request_id": id,
	})
	return events.APIGatewayV2HTTPResponse{StatusCode: status, Body: string(body), Headers: map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store", "X-Request-Id": id,
	}}
}

// errNotURL is never seen: the events of both kinds are alike.
var errNotURL = errors.New("the event is neither of a function URL nor of API Gateway")

// apiWait is how long a stream may last that is answered through API Gateway,
// which gives up after 30 s and passes nothing on before the end.
const apiWait = 10 * time.Second

// Stream makes a function of a handler that streams. Behind a function URL in
// the mode RESPONSE_STREAM what is written leaves as it is written. Behind API
// Gateway, which does not stream, the same function answers in one piece, with a
// context that ends early enough for a stream to become a short one.
func Stream(h http.Handler, log *slog.Logger) func(context.Context, json.RawMessage) (any, error) {
	buffered := Wrap(h, log)
	streamed := lambdaurl.Wrap(guard(h, log))
	return func(ctx context.Context, payload json.RawMessage) (any, error) {
		var e events.APIGatewayV2HTTPRequest
		if err := json.Unmarshal(payload, &e); err != nil {
			return nil, errors.Join(errNotURL, err)
		}
		if strings.Contains(e.RouteKey, " ") { // of a route; a function URL has none
			ctx, cancel := context.WithTimeout(ctx, apiWait)
			defer cancel()
			return buffered(ctx, e)
		}
		body, err := decoded(e)
		if err != nil {
			return nil, err
		}
		ctx = context.WithValue(ctx, eventKey{}, &request{e: e, body: body, url: true})
		bare := &events.LambdaFunctionURLRequest{RawPath: "/"}
		bare.RequestContext.DomainName = "lambda.invalid"
		bare.RequestContext.HTTP.Method = method(e.RequestContext.HTTP.Method)
		bare.RequestContext.HTTP.SourceIP = e.RequestContext.HTTP.SourceIP
		return streamed(ctx, bare)
	}
}
