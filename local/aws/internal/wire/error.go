package wire

import "fmt"

// Error is an answer that a service gives instead of a result: AWS's type name
// and text, plus what some errors carry besides.
type Error struct {
	Status  int    // HTTP status
	Type    string // __type, with its namespace where AWS sends one
	Message string
	// QueryCode is what SQS tells clients of its older protocol
	// (x-amzn-query-error), if it differs from the type.
	QueryCode string
	// Fields is raw JSON to add to the body: `"Item":{…}`.
	Fields string
	// Unknown marks a request for something that is not implemented here at
	// all; the server counts those.
	Unknown bool
}

func (e *Error) Error() string { return e.Type + ": " + e.Message }

// The namespaces that prefix the types of DynamoDB's errors.
const (
	coralService  = "com.amazon.coral.service#"
	coralValidate = "com.amazon.coral.validate#"
	dynamoDB      = "com.amazonaws.dynamodb.v20120810#"
)

// Serialization is the answer to a body that does not have the operation's shape.
func Serialization(format string, args ...any) *Error {
	return &Error{Status: 400, Type: coralService + "SerializationException", Message: fmt.Sprintf(format, args...)}
}

// Validation is the answer to well-formed input that breaks a rule.
func Validation(format string, args ...any) *Error {
	return &Error{Status: 400, Type: coralValidate + "ValidationException", Message: fmt.Sprintf(format, args...)}
}

// DynamoDB is one of DynamoDB's modelled errors.
func DynamoDB(name, format string, args ...any) *Error {
	e := &Error{Status: 400, Type: dynamoDB + name, Message: fmt.Sprintf(format, args...)}
	if name == "InternalServerError" {
		e.Status = 500
	}
	return e
}

// UnknownOperation is the answer to an operation that is not served.
func UnknownOperation(target string) *Error {
	return &Error{Status: 400, Type: coralService + "UnknownOperationException", Unknown: true,
		Message: fmt.Sprintf("the embedded AWS does not implement %s", target)}
}

// NotImplemented is the answer to a member or a value of a served operation
// that AWS knows and this package does not.
func NotImplemented(what string) *Error {
	return &Error{Status: 400, Type: coralValidate + "ValidationException", Unknown: true,
		Message: fmt.Sprintf("the embedded AWS does not implement %s", what)}
}
