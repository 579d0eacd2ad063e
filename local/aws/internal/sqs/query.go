package sqs

import (
	"encoding/xml"
	"maps"
	neturl "net/url"
	"slices"
	"strconv"
	"strings"

	"whatisup/local/aws/internal/wire"
)

// The query protocol is how SQS was spoken to before JSON, and how older tools
// speak to it still: a form goes in, XML comes out. A form is turned into the
// input of the JSON protocol, and the JSON answer into XML, so that both are
// served by the same operations.

const (
	queryNamespace = "http://queue.amazonaws.com/doc/2012-11-05/"
	queryVersion   = "2012-11-05"
)

// lists are the repeated parameters, <name>.<n>, by what they are called in JSON.
var lists = map[string]string{
	"AttributeName":                            "AttributeNames",
	"MessageAttributeName":                     "MessageAttributeNames",
	"MessageSystemAttributeName":               "MessageSystemAttributeNames",
	"SendMessageBatchRequestEntry":             "Entries",
	"DeleteMessageBatchRequestEntry":           "Entries",
	"ChangeMessageVisibilityBatchRequestEntry": "Entries",
}

// named are the repeated parameters that are maps: <name>.<n>.<key> names a
// member, <name>.<n>.<value> is it.
var named = map[string]struct{ json, key, value string }{
	"Attribute":              {"Attributes", "Name", "Value"},
	"MessageAttribute":       {"MessageAttributes", "Name", "Value"},
	"MessageSystemAttribute": {"MessageSystemAttributes", "Name", "Value"},
	"Tag":                    {"tags", "Key", "Value"},
}

var numbers = []string{"DelaySeconds", "MaxNumberOfMessages", "MaxResults", "VisibilityTimeout", "WaitTimeSeconds"}

// Query reads a form. The queue is named by the path where no parameter names it.
func Query(body, path string) (operation string, input wire.Node, err error) {
	form, err := neturl.ParseQuery(body)
	if err != nil {
		return "", input, &wire.Error{Status: 400, Type: "com.amazon.coral.service#MalformedQueryString", QueryCode: "MalformedQueryString;Sender", Message: "The query string contains a syntax error."}
	}
	operation = form.Get("Action")
	if v := form.Get("Version"); v != "" && v != queryVersion {
		return operation, input, wire.NotImplemented("version " + v + " of SQS")
	}
	tree := &branch{}
	for name, values := range form {
		if name != "Action" && name != "Version" {
			tree.set(strings.Split(name, "."), values[0])
		}
	}
	if path = strings.Trim(path, "/"); path != "" && operation != "CreateQueue" && operation != "ListQueues" && operation != "GetQueueUrl" && form.Get("QueueUrl") == "" {
		tree.set([]string{"QueueUrl"}, path)
	}
	input, err = tree.structure()
	return operation, input, err
}

// branch is where the parameters' names part at their dots.
type branch struct {
	value    string
	children map[string]*branch
}

func (b *branch) set(path []string, value string) {
	for _, name := range path {
		if b.children == nil {
			b.children = map[string]*branch{}
		}
		if b.children[name] == nil {
			b.children[name] = &branch{}
		}
		b = b.children[name]
	}
	b.value = value
}

// inOrder lists the children that are numbered, by number; a branch that has a
// value of its own has none.
func (b *branch) inOrder() []*branch {
	indexes := slices.Collect(maps.Keys(b.children))
	slices.SortFunc(indexes, func(x, y string) int {
		n, _ := strconv.Atoi(x)
		m, _ := strconv.Atoi(y)
		return n - m
	})
	var out []*branch
	for _, i := range indexes {
		out = append(out, b.children[i])
	}
	return out
}

func text(s string) wire.Node { return wire.Node{Kind: wire.String, Text: s} }

func (b *branch) structure() (wire.Node, error) {
	n := wire.Node{Kind: wire.Object}
	for _, name := range slices.Sorted(maps.Keys(b.children)) {
		c := b.children[name]
		field := wire.Field{Name: name, Value: text(c.value)}
		list, isList := lists[name]
		m, isNamed := named[name]
		var err error
		switch {
		case isList:
			field.Name, field.Value = list, wire.Node{Kind: wire.Array}
			for _, e := range c.inOrder() {
				item := text(e.value)
				if e.children != nil {
					if item, err = e.structure(); err != nil {
						return n, err
					}
				}
				field.Value.List = append(field.Value.List, item)
			}
		case isNamed:
			field.Name, field.Value = m.json, wire.Node{Kind: wire.Object}
			for _, e := range c.inOrder() {
				key, value := e.children[m.key], e.children[m.value]
				if key == nil || value == nil {
					return n, missing(name + "." + m.key)
				}
				member := text(value.value)
				if value.children != nil {
					if member, err = value.structure(); err != nil {
						return n, err
					}
				}
				field.Value.Fields = append(field.Value.Fields, wire.Field{Name: key.value, Value: member})
			}
		case slices.Contains(numbers, name):
			if _, err := strconv.Atoi(c.value); err != nil {
				return n, badValue(c.value, name, "Must be an integer.")
			}
			field.Value.Kind = wire.Number
		case c.children != nil:
			return n, wire.NotImplemented("the parameter " + name + " with parts")
		}
		n.Fields = append(n.Fields, field)
	}
	return n, nil
}

// AppendXML appends an operation's answer in the query protocol. answer is its
// JSON, nil for none.
func AppendXML(dst []byte, operation string, answer []byte, requestID string) []byte {
	dst = append(dst, `<?xml version="1.0"?><`+operation+`Response xmlns="`+queryNamespace+`">`...)
	if len(answer) > 0 {
		n, err := wire.Parse(string(answer))
		if err != nil {
			panic(err) // it was just written
		}
		dst = append(dst, "<"+operation+"Result>"...)
		dst = appendMembers(dst, operation, &n)
		dst = append(dst, "</"+operation+"Result>"...)
	}
	dst = append(dst, "<ResponseMetadata>"...)
	dst = appendElement(dst, "RequestId", requestID)
	return append(dst, "</ResponseMetadata></"+operation+"Response>"...)
}

func appendMembers(dst []byte, operation string, n *wire.Node) []byte {
	elements := map[string]string{
		"Messages": "Message", "QueueUrls": "QueueUrl", "Failed": "BatchResultErrorEntry", "Successful": operation + "ResultEntry",
	}
	maps := map[string]string{"Attributes": "Attribute", "MessageAttributes": "MessageAttribute"}
	for i := range n.Fields {
		f := &n.Fields[i]
		switch element, entry := elements[f.Name], maps[f.Name]; {
		case f.Value.Kind == wire.Null:
		case element != "":
			for j := range f.Value.List {
				dst = appendValue(dst, operation, element, &f.Value.List[j])
			}
		case entry != "":
			for j := range f.Value.Fields {
				member := &f.Value.Fields[j]
				dst = append(dst, "<"+entry+">"...)
				dst = appendElement(dst, "Name", member.Name)
				dst = appendValue(dst, operation, "Value", &member.Value)
				dst = append(dst, "</"+entry+">"...)
			}
		default:
			dst = appendValue(dst, operation, f.Name, &f.Value)
		}
	}
	return dst
}

func appendValue(dst []byte, operation, name string, n *wire.Node) []byte {
	if n.Kind != wire.Object {
		return appendElement(dst, name, wire.Text(n))
	}
	dst = append(dst, "<"+name+">"...)
	dst = appendMembers(dst, operation, n)
	return append(dst, "</"+name+">"...)
}

func appendElement(dst []byte, name, value string) []byte {
	var b strings.Builder
	xml.EscapeText(&b, []byte(value)) //nolint:errcheck // a builder
	return append(dst, "<"+name+">"+b.String()+"</"+name+">"...)
}

// AppendErrorXML appends an error's answer in the query protocol.
func AppendErrorXML(dst []byte, e *wire.Error, requestID string) []byte {
	code, fault, _ := strings.Cut(e.QueryCode, ";")
	switch {
	case strings.HasSuffix(e.Type, "UnknownOperationException"):
		code = "InvalidAction"
	case code == "":
		code = strings.TrimSuffix(e.Type[strings.LastIndexByte(e.Type, '#')+1:], "Exception")
	}
	if fault == "" {
		fault = "Sender"
	}
	dst = append(dst, `<?xml version="1.0"?><ErrorResponse xmlns="`+queryNamespace+`"><Error>`...)
	dst = appendElement(dst, "Type", fault)
	dst = appendElement(dst, "Code", code)
	dst = appendElement(dst, "Message", e.Message)
	dst = append(dst, "<Detail/></Error>"...)
	dst = appendElement(dst, "RequestId", requestID)
	return append(dst, "</ErrorResponse>"...)
}
