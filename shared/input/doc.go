// Package input reads the JSON objects that customers send, through HTTP or a
// queue, and is strict: unknown fields, keys that occur twice and text that is
// no Unicode are refused, in nested objects too. Problems are gathered, so that
// one answer names them all, each with the path to its field ("body.text").
package input
