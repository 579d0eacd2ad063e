package gateway

import (
	"encoding/base64"
	"fmt"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"whatisup/local/gateway/template"
)

const (
	account = "000000000000"
	apiID   = "whatisup"
	stage   = "$default"
)

// newEvent makes the event that an HTTP API makes of a request.
func newEvent(r *http.Request, route template.Route, params map[string]string, body []byte, id string, received time.Time) events.APIGatewayV2HTTPRequest {
	path, source := decodedPath(r), sourceIP(r)
	headers, cookies := foldHeaders(r, source)
	text, encoded := encodeBody(r.Header, body)
	prefix, _, _ := strings.Cut(hostname(r), ".")
	return events.APIGatewayV2HTTPRequest{
		Version:               "2.0",
		RouteKey:              route.Key(),
		RawPath:               path,
		RawQueryString:        r.URL.RawQuery,
		Cookies:               cookies,
		Headers:               headers,
		QueryStringParameters: foldQuery(r.URL.RawQuery),
		PathParameters:        params,
		Body:                  text,
		IsBase64Encoded:       encoded,
		RequestContext: events.APIGatewayV2HTTPRequestContext{
			RouteKey:     route.Key(),
			AccountID:    account,
			Stage:        stage,
			RequestID:    id,
			APIID:        apiID,
			DomainName:   hostname(r),
			DomainPrefix: prefix,
			Time:         received.UTC().Format("02/Jan/2006:15:04:05 -0700"),
			TimeEpoch:    received.UnixMilli(),
			HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{
				Method:    r.Method,
				Path:      path,
				Protocol:  r.Proto,
				SourceIP:  source,
				UserAgent: r.UserAgent(),
			},
		},
	}
}

// decodedPath is the path as an HTTP API shows it in rawPath, which in spite of
// its name has been decoded; and what follows a decoded question mark is cut off.
func decodedPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.URL.Path, "?")
	return path
}

func hostname(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return r.Host
}

func sourceIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// perConnection are the headers that end at the gateway.
var perConnection = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect"}

// foldHeaders gives each header once, by its name in lower case, repeated ones
// joined by commas; cookies stand apart; and what the gateway adds is there.
func foldHeaders(r *http.Request, source string) (map[string]string, []string) {
	folded := make(map[string]string, len(r.Header)+6)
	var cookies []string
	for name, values := range r.Header {
		switch {
		case name == "Cookie":
			for _, v := range values {
				for c := range strings.SplitSeq(v, ";") {
					cookies = append(cookies, strings.TrimSpace(c))
				}
			}
		case !slices.Contains(perConnection, name):
			folded[strings.ToLower(name)] = strings.Join(values, ",")
		}
	}
	folded["host"] = r.Host
	if r.ContentLength > 0 {
		folded["content-length"] = strconv.FormatInt(r.ContentLength, 10)
	} else if r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch {
		folded["content-length"] = "0"
	}
	if before := folded["x-forwarded-for"]; before != "" {
		source = before + ", " + source
	}
	folded["x-forwarded-for"] = source
	scheme, port := "http", "80"
	if r.TLS != nil {
		scheme, port = "https", "443"
	}
	if _, p, err := net.SplitHostPort(r.Host); err == nil {
		port = p
	}
	folded["x-forwarded-proto"] = scheme
	folded["x-forwarded-port"] = port
	return folded, cookies
}

func foldQuery(raw string) map[string]string {
	if raw == "" {
		return nil
	}
	values, _ := url.ParseQuery(raw) // what can't be decoded is left out, and stays in rawQueryString
	folded := make(map[string]string, len(values))
	for name, all := range values {
		folded[name] = strings.Join(all, ",")
	}
	return folded
}

// encodeBody gives the body as text if its type is one that an HTTP API takes for
// text, and else, or if it turns out not to be, in base64. A body without a type, or
// with a suffix such as +json, is base64.
func encodeBody(h http.Header, body []byte) (string, bool) {
	if len(body) == 0 {
		return "", false
	}
	if isText(h.Get("Content-Type")) && h.Get("Content-Encoding") == "" && utf8.Valid(body) {
		return string(body), false
	}
	return base64.StdEncoding.EncodeToString(body), true
}

func isText(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	switch media {
	case "application/json", "application/xml", "application/javascript":
		return true
	}
	return strings.HasPrefix(media, "text/")
}

func headerSize(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(r.Proto) + len(r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v)
		}
	}
	return n
}

// eventSize is about what the event takes as JSON; the body makes nearly all of
// it.
func eventSize(e events.APIGatewayV2HTTPRequest) int {
	n := len(e.Body) + 1024
	for name, v := range e.Headers {
		n += len(name) + len(v)
	}
	return n
}

// writeResponse writes a function's answer as API Gateway does. On an error
// nothing has been written.
func writeResponse(w http.ResponseWriter, method string, response events.APIGatewayV2HTTPResponse) error {
	if response.StatusCode < 200 || response.StatusCode > 599 {
		return fmt.Errorf("answer with status %d", response.StatusCode)
	}
	body := []byte(response.Body)
	if len(body) > maxEvent {
		return fmt.Errorf("answer of %d bytes is over Lambda's limit", len(body))
	}
	if response.IsBase64Encoded {
		decoded, err := base64.StdEncoding.DecodeString(response.Body)
		if err != nil {
			return fmt.Errorf("answer is not base64: %w", err)
		}
		body = decoded
	}
	// Payload format 2.0 has no multi-value headers: API Gateway ignores them.
	for _, name := range slices.Sorted(maps.Keys(response.Headers)) {
		canonical := http.CanonicalHeaderKey(name)
		if canonical == "Content-Length" || slices.Contains(perConnection, canonical) {
			continue
		}
		w.Header().Set(canonical, response.Headers[name])
	}
	for _, c := range response.Cookies {
		w.Header().Add("Set-Cookie", c)
	}
	if len(body) > 0 {
		if w.Header().Get("Content-Type") == "" {
			w.Header().Set("Content-Type", "text/plain;charset=utf-8")
		}
	}
	if response.StatusCode != http.StatusNoContent && response.StatusCode != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(response.StatusCode)
	if method != http.MethodHead {
		w.Write(body) // a client that left is nobody's failure
	}
	return nil
}
