package aws

import (
	"context"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"whatisup/local/aws/internal/dynamodb"
	"whatisup/local/aws/internal/fault"
	"whatisup/local/aws/internal/kms"
	"whatisup/local/aws/internal/sqs"
	"whatisup/local/aws/internal/wire"
)

// The services by the names that AWS signs requests with.
const (
	serviceDynamoDB = "dynamodb"
	serviceSQS      = "sqs"
	serviceKMS      = "kms"
)

// maxBody is the largest request that DynamoDB takes.
const maxBody = 16 << 20

// call is one request on its way through.
type call struct {
	service   string
	operation string
	resource  string // table or queue
	region    string
	baseURL   string
	input     wire.Node
}

// ServeHTTP answers a request to any of the services, told apart by
// X-Amz-Target, and the control calls under /control/.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", requestID())
	switch {
	case r.Header.Get("Origin") != "":
		// No SDK sends it and every browser does: a web page must not reach
		// what is open to the whole machine.
		http.Error(w, "requests from web pages are refused", http.StatusForbidden)
	case strings.HasPrefix(r.URL.Path, "/control/"):
		s.control(w, r)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "healthy: dynamodb, sqs and kms\n")
	default:
		s.serve(w, r)
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	contentType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	c := &call{baseURL: "http://" + r.Host}
	var out []byte
	err := s.read(r, contentType, c)
	if err == nil {
		out, err = s.answer(r.Context(), c)
	}
	if err != nil && r.Context().Err() != nil {
		return // nobody listens
	}
	if contentType != "application/x-amz-json-1.1" {
		contentType = "application/x-amz-json-1.0"
	}
	w.Header().Set("Content-Type", contentType)
	if err == nil {
		s.write(w, c.service, http.StatusOK, out)
		return
	}
	var e *wire.Error
	if !errors.As(err, &e) {
		s.config.Log.Error("request failed", "service", c.service, "operation", c.operation, "error", err)
		e = internalError(c.service)
	}
	if e.Unknown {
		s.countUnknown(c.service + "." + strings.TrimPrefix(e.Message, "the embedded AWS does not implement "))
	}
	if e.QueryCode != "" {
		w.Header().Set("X-Amzn-Query-Error", e.QueryCode)
	}
	s.write(w, c.service, e.Status, errorBody(c.service, e))
}

func (s *Server) write(w http.ResponseWriter, service string, status int, body []byte) {
	if service == serviceDynamoDB {
		w.Header().Set("X-Amz-Crc32", strconv.FormatUint(uint64(crc32.ChecksumIEEE(body)), 10))
	}
	if len(body) > largeAnswer {
		time.Sleep(breath)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) //nolint:errcheck // the client is gone
}

// The SDK for Go closes its request's body as soon as it has the answer's
// head. If net/http has not quite finished sending that body, it then drops
// the connection under the rest of the answer. No real AWS is near enough for
// that; this one is, so it takes a breath before an answer that does not fit
// into the client's first read. (Smaller ones are safe, and most are smaller.)
const (
	largeAnswer = 3 << 10
	breath      = 2 * time.Millisecond
)

// errorBody writes the message under the name that each service uses.
func errorBody(service string, e *wire.Error) []byte {
	out := append([]byte(`{"__type":`), ""...)
	out = wire.AppendString(out, e.Type)
	name := "message"
	if service == serviceDynamoDB && (strings.HasSuffix(e.Type, "SerializationException") || strings.HasSuffix(e.Type, "TransactionCanceledException")) {
		name = "Message"
	}
	if e.Message != "" {
		out = append(out, `,"`+name+`":`...)
		out = wire.AppendString(out, e.Message)
	}
	if e.Fields != "" {
		out = append(append(out, ','), e.Fields...)
	}
	return append(out, '}')
}

func internalError(service string) *wire.Error {
	switch service {
	case serviceSQS:
		return &wire.Error{Status: 500, Type: "com.amazon.coral.service#InternalFailure", QueryCode: "InternalFailure;Receiver"}
	case serviceKMS:
		return &wire.Error{Status: 500, Type: "KMSInternalException", Message: "An internal error occurred."}
	}
	return wire.DynamoDB("InternalServerError", "Internal server error")
}

var targets = map[string]string{"DynamoDB_20120810": serviceDynamoDB, "AmazonSQS": serviceSQS, "TrentService": serviceKMS}

// read takes a request apart.
func (s *Server) read(r *http.Request, contentType string, c *call) error {
	target := r.Header.Get("X-Amz-Target")
	prefix, operation, _ := strings.Cut(target, ".")
	service, known := targets[prefix]
	c.service, c.operation = service, operation
	if r.Method != http.MethodPost || !known || contentType != "application/x-amz-json-1.0" && contentType != "application/x-amz-json-1.1" && contentType != "application/json" {
		what := target
		switch {
		case r.Method != http.MethodPost:
			what = "the method " + r.Method
		case target == "":
			what = "requests without X-Amz-Target (only the JSON protocols are served)"
		case known:
			what = target + " with content type " + contentType
		}
		return wire.UnknownOperation(what)
	}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	if c.input, err = wire.Parse(body); err != nil {
		return wire.Serialization("")
	}
	if !serves(service, operation) {
		return wire.UnknownOperation(target)
	}
	authorization := r.Header.Get("Authorization")
	if !strings.HasPrefix(authorization, "AWS4-") {
		return &wire.Error{Status: 400, Type: "com.amazon.coral.service#MissingAuthenticationTokenException", Message: "Request is missing Authentication Token"}
	}
	c.region = region(authorization)
	switch service {
	case serviceDynamoDB:
		c.resource = dynamodb.TableOf(&c.input)
	case serviceSQS:
		c.resource = sqs.QueueOf(&c.input)
	}
	return nil
}

func serves(service, operation string) bool {
	switch service {
	case serviceDynamoDB:
		return dynamodb.Serves(operation)
	case serviceSQS:
		return sqs.Serves(operation)
	}
	return kms.Serves(operation)
}

func readBody(r *http.Request) (string, error) {
	tooLarge := &wire.Error{Status: http.StatusRequestEntityTooLarge, Type: "com.amazon.coral.service#RequestEntityTooLargeException", Message: "Request size exceeded the limit of 16 MB"}
	if r.ContentLength > maxBody {
		return "", tooLarge
	}
	if r.ContentLength >= 0 {
		b := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, b); err != nil {
			return "", wire.Serialization("")
		}
		return string(b), nil
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case len(b) > maxBody:
		return "", tooLarge
	case err != nil:
		return "", wire.Serialization("")
	}
	return string(b), nil
}

// region reads the region out of a signature's scope:
// Credential=<key>/<date>/<region>/<service>/aws4_request.
func region(authorization string) string {
	_, scope, _ := strings.Cut(authorization, "Credential=")
	scope, _, _ = strings.Cut(scope, ",")
	parts := strings.Split(scope, "/")
	if n := len(parts); n >= 5 && parts[n-3] != "" {
		return parts[n-3]
	}
	return "us-east-1"
}

// answer does what a request asks for, and what the faults in force want.
func (s *Server) answer(ctx context.Context, c *call) (out []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			s.config.Log.Error("panic", "service", c.service, "operation", c.operation, "panic", v, "stack", string(debug.Stack()))
			out, err = nil, internalError(c.service)
		}
	}()
	if err := s.before(ctx, c); err != nil {
		return nil, err
	}
	out, err = s.do(ctx, c)
	if _, hit := s.faults.Take(fault.Lost, c.service, c.operation, c.resource); hit && err == nil {
		return nil, internalError(c.service)
	}
	return out, err
}

func (s *Server) before(ctx context.Context, c *call) error {
	take := func(k fault.Kind) (fault.Fault, bool) { return s.faults.Take(k, c.service, c.operation, c.resource) }
	if f, hit := take(fault.Latency); hit {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if _, hit := take(fault.Internal); hit {
		return internalError(c.service)
	}
	if _, hit := take(fault.Throttle); hit {
		return throttled(c.service)
	}
	if c.service == serviceDynamoDB && writes[c.operation] {
		if _, hit := take(fault.Conflict); hit {
			return conflict(c)
		}
	}
	return nil
}

var writes = map[string]bool{"PutItem": true, "UpdateItem": true, "DeleteItem": true, "TransactWriteItems": true, "TransactGetItems": true}

func throttled(service string) *wire.Error {
	switch service {
	case serviceSQS:
		return &wire.Error{Status: 400, Type: "com.amazonaws.sqs#RequestThrottled", QueryCode: "RequestThrottled;Sender", Message: "Request is throttled."}
	case serviceKMS:
		return &wire.Error{Status: 400, Type: "ThrottlingException", Message: "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."}
	}
	return wire.DynamoDB("ProvisionedThroughputExceededException", "The level of configured provisioned throughput for the table was exceeded. Consider increasing your provisioning level with the UpdateTable API.")
}

// conflict answers as if another transaction held the first item.
func conflict(c *call) *wire.Error {
	if items := c.input.Get("TransactItems").List; len(items) > 0 {
		codes := make([]string, len(items))
		for i := range codes {
			codes[i] = "None"
		}
		codes[0] = "TransactionConflict"
		return dynamodb.Cancelled(codes)
	}
	return wire.DynamoDB("TransactionConflictException", "Transaction is ongoing for the item")
}

func (s *Server) do(ctx context.Context, c *call) ([]byte, error) {
	var v any
	var err error
	switch c.service {
	case serviceDynamoDB:
		return s.dynamodb.Do(&dynamodb.Request{Operation: c.operation, Region: c.region, Input: &c.input})
	case serviceSQS:
		v, err = s.sqs.Do(ctx, &sqs.Request{Operation: c.operation, Region: c.region, BaseURL: c.baseURL, Input: &c.input})
	default:
		v, err = s.kms.Do(&kms.Request{Operation: c.operation, Region: c.region, Input: &c.input})
	}
	if err != nil || v == nil {
		return nil, err
	}
	return json.Marshal(v)
}

// requestID is 52 letters and digits, as DynamoDB's are.
func requestID() string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
	var b [52]byte
	for i := 0; i < len(b); i += 12 {
		u := rand.Uint64()
		for j := i; j < len(b) && j < i+12; j++ {
			b[j] = digits[u&31]
			u >>= 5
		}
	}
	return string(b[:])
}
