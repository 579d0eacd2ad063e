package aws

import (
	"context"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"whatisup/local/aws/internal/dynamodb"
	"whatisup/local/aws/internal/fault"
	"whatisup/local/aws/internal/kms"
	"whatisup/local/aws/internal/s3"
	"whatisup/local/aws/internal/signature"
	"whatisup/local/aws/internal/sqs"
	"whatisup/local/aws/internal/wire"
)

// The services by the names that AWS signs requests with.
const (
	serviceDynamoDB = "dynamodb"
	serviceSQS      = "sqs"
	serviceKMS      = "kms"
	serviceS3       = s3.Name
)

// call is one request on its way through.
type call struct {
	service   string
	operation string
	resources []string // tables or queues
	region    string
	baseURL   string
	input     wire.Node
	form      bool // in SQS's query protocol
}

// ServeHTTP answers a request to any of the services, told apart by
// X-Amz-Target, and the control calls under /control/.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", requestID())
	w.Header().Set("Date", s.Now().UTC().Format(http.TimeFormat))
	refuse := func(text string) { http.Error(w, text, http.StatusForbidden) }
	control := strings.HasPrefix(r.URL.Path, "/control/")
	switch {
	case r.Header.Get("Origin") != "":
		// No SDK sends it and every browser does: a web page must not reach
		// what is open to the whole machine.
		refuse("requests from web pages are refused")
	case control && !namesThisMachine(r.Host):
		refuse("control calls name this machine by an address or as localhost")
	case s.config.SecretKey == "" && !onLoopback(r):
		refuse("without a secret key only requests over loopback are served")
	case control && !onLoopback(r):
		refuse("control calls are served over loopback only") // nothing signs them
	case control:
		s.control(w, r)
	case isS3(r):
		s.serveS3(w, r, r.URL.Path)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "healthy: dynamodb, sqs, kms and s3\n")
	default:
		s.serve(w, r)
	}
}

// onLoopback says whether a request came to a loopback address of this machine.
// What did not come over a network at all is a test's.
func onLoopback(r *http.Request) bool {
	switch a := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case net.Addr:
		return a.Network() == "unix"
	}
	return true
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	contentType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	c := &call{baseURL: "http://" + r.Host}
	var out []byte
	release, err := s.read(w, r, contentType, c)
	defer release()
	if err == nil {
		out, err = s.answer(r.Context(), c)
	}
	if err == errTooSlow {
		w.Header().Set("Connection", "close") // in the middle of a body
	} else if err != nil && r.Context().Err() != nil {
		return // nobody listens
	}
	switch {
	case c.form:
		contentType = "text/xml"
	case contentType != "application/x-amz-json-1.1":
		contentType = "application/x-amz-json-1.0"
	}
	w.Header().Set("Content-Type", contentType)
	id := w.Header().Get("X-Amzn-Requestid")
	if err == nil {
		if c.form {
			out = sqs.AppendXML(nil, c.operation, out, id)
		}
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
	if c.form {
		s.write(w, c.service, e.Status, sqs.AppendErrorXML(nil, e, id))
		return
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
func (s *Server) read(w http.ResponseWriter, r *http.Request, contentType string, c *call) (release func(), err error) {
	release = func() {}
	target := r.Header.Get("X-Amz-Target")
	prefix, operation, _ := strings.Cut(target, ".")
	service, known := targets[prefix]
	if target == "" && r.Method == http.MethodPost && contentType == "application/x-www-form-urlencoded" {
		service, known, c.form = serviceSQS, true, true
	}
	c.service, c.operation = service, operation
	if r.Method != http.MethodPost || !known || !c.form && contentType != "application/x-amz-json-1.0" && contentType != "application/x-amz-json-1.1" && contentType != "application/json" {
		what := target
		switch {
		case r.Method != http.MethodPost:
			what = "the method " + r.Method
		case target == "":
			what = "requests without X-Amz-Target (the JSON protocols are served, and for SQS the query protocol)"
		case known:
			what = target + " with content type " + contentType
		}
		return release, wire.UnknownOperation(what)
	}
	// Whoever signs nothing, or with another key, is refused before a body is read.
	authorization := r.Header.Get("Authorization")
	if !strings.HasPrefix(authorization, "AWS4-") {
		return release, unsigned(service, signature.ErrMissing)
	}
	signed, err := s.signature(r, service)
	if err != nil {
		return release, err
	}
	body, release, err := s.readBody(w, r)
	if err != nil {
		return release, err
	}
	if signed != nil {
		if err := signed.Verify(r, signature.BodyHash(body), s.config.SecretKey); err != nil {
			return release, unsigned(service, err)
		}
	}
	if c.form {
		operation, c.input, err = sqs.Query(body, r.URL.Path)
		if c.operation, target = operation, "the action "+operation; err != nil {
			return release, err
		}
	} else if c.input, err = wire.Parse(body); err != nil {
		return release, wire.Serialization("")
	}
	if !serves(service, operation) {
		return release, wire.UnknownOperation(target)
	}
	c.region = region(authorization)
	switch service {
	case serviceDynamoDB:
		c.resources = dynamodb.TablesOf(&c.input)
	case serviceSQS:
		c.resources = []string{sqs.QueueOf(&c.input)}
	}
	return release, nil
}

// signature reads a request's signature, where it counts: nil if any will do.
func (s *Server) signature(r *http.Request, service string) (*signature.Signature, error) {
	if s.config.SecretKey == "" {
		return nil, nil
	}
	signed, err := signature.Parse(r)
	if err == nil {
		// The clock that the signer has, without what Step added to ours.
		err = signed.Check(s.config.AccessKey, service, s.config.Clock(), s.Now())
	}
	if err != nil {
		return nil, unsigned(service, err)
	}
	return signed, nil
}

// unsigned is each service's answer to what is wrong with a signature.
func unsigned(service string, err error) *wire.Error {
	name, query, message := "InvalidSignatureException", "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
	switch err {
	case signature.ErrMissing:
		name, query, message = "MissingAuthenticationTokenException", "MissingAuthenticationToken", "Request is missing Authentication Token"
	case signature.ErrIncomplete:
		name, query, message = "IncompleteSignatureException", "IncompleteSignature", "The Authorization header lacks a part, or is for another service."
	case signature.ErrUnknownKey:
		name, query, message = "UnrecognizedClientException", "InvalidClientTokenId", "The security token included in the request is invalid."
	case signature.ErrExpired:
		message = "Signature expired: its time is more than 15 minutes from the service's."
	}
	e := &wire.Error{Status: 400, Type: "com.amazon.coral.service#" + name, Message: message}
	if service == serviceSQS {
		e.Status, e.QueryCode = 403, query+";Sender"
	}
	return e
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
	s.count(c.service, c.operation)
	if err := s.before(ctx, c); err != nil {
		return nil, err
	}
	out, err = s.do(ctx, c)
	if _, hit := s.faults.Take(fault.Lost, c.service, c.faulted(), c.resources...); hit && err == nil {
		return nil, internalError(c.service)
	}
	return out, err
}

// faulted is the operation whose faults the call meets: to insert rows is to put them.
func (c *call) faulted() string {
	if c.operation == "BatchExecuteStatement" {
		return "PutItem"
	}
	return c.operation
}

func (s *Server) before(ctx context.Context, c *call) error {
	take := func(k fault.Kind) (fault.Fault, bool) {
		return s.faults.Take(k, c.service, c.faulted(), c.resources...)
	}
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
	for kind, answer := range refusals {
		if _, hit := take(kind); hit {
			return answer(c)
		}
	}
	if c.service == serviceDynamoDB && writes[c.operation] {
		if _, hit := take(fault.Conflict); hit {
			return conflict(c)
		}
	}
	return nil
}

var writes = map[string]bool{"PutItem": true, "UpdateItem": true, "DeleteItem": true, "TransactWriteItems": true, "TransactGetItems": true}

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
