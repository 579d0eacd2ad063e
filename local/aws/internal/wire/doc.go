// Package wire is AWS's JSON protocol as the services of local/aws see it: a
// parsed request body (Node), the shape an operation's input must have (Shape),
// and the error that goes back instead of a result (Error).
//
// Requests are not decoded into structs. AWS answers a wrong type, a missing
// member and a broken constraint each in words of its own, and those words come
// from the operation's model; so the model is data here, checked in AWS's two
// passes: types first, the first fault alone (SerializationException), then
// constraints, up to ten of them in one message (ValidationException).
package wire
