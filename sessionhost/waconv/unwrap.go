package waconv

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	"go.mau.fi/whatsmeow/proto/waE2E"
)

// wrappersMost bounds how deep wrappers are opened: official clients nest three.
const wrappersMost = 8

// Wrappers are the names of the wrappers that a message came in, outermost first.
type Wrappers []protoreflect.Name

// Has says whether the message came in one of these wrappers.
func (w Wrappers) Has(names ...protoreflect.Name) bool {
	for _, have := range w {
		for _, name := range names {
			if have == name {
				return true
			}
		}
	}
	return false
}

// ViewOnce says whether the content can be opened once only.
func (w Wrappers) ViewOnce() bool {
	return w.Has("viewOnceMessage", "viewOnceMessageV2", "viewOnceMessageV2Extension")
}

// Unwrap takes a message out of its wrappers: the copy of what another device of
// the number has sent, and every field that is a FutureProofMessage. The
// MessageContextInfo of an outer message is kept where the inner one has none: it
// holds the message's secret.
func Unwrap(m *waE2E.Message) (*waE2E.Message, Wrappers) {
	var wrappers Wrappers
	for range wrappersMost {
		inner, name := content(m)
		if inner == nil {
			break
		}
		if inner.MessageContextInfo == nil {
			inner.MessageContextInfo = m.GetMessageContextInfo()
		}
		m, wrappers = inner, append(wrappers, name)
	}
	return m, wrappers
}

// content is what a wrapper holds, nil if m is none.
func content(m *waE2E.Message) (*waE2E.Message, protoreflect.Name) {
	if m == nil {
		return nil, ""
	}
	if sent := m.GetDeviceSentMessage().GetMessage(); sent != nil {
		return sent, "deviceSentMessage"
	}
	var inner *waE2E.Message
	var name protoreflect.Name
	m.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if field.Kind() != protoreflect.MessageKind || field.IsList() {
			return true
		}
		wrapper, ok := v.Message().Interface().(*waE2E.FutureProofMessage)
		if !ok || wrapper.GetMessage() == nil {
			return true
		}
		inner, name = wrapper.GetMessage(), field.Name()
		return false
	})
	return inner, name
}

// nameOf is WhatsApp's name of the content: of the fields that are set and are not
// mere company of others, the one with the lowest number. Empty: there is none.
func nameOf(m *waE2E.Message) string {
	var name string
	var lowest protoreflect.FieldNumber
	m.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		switch field.Name() {
		case "messageContextInfo", "senderKeyDistributionMessage", "fastRatchetKeySenderKeyDistributionMessage":
			return true
		}
		if name == "" || field.Number() < lowest {
			name, lowest = string(field.Name()), field.Number()
		}
		return true
	})
	if name == "" && len(m.ProtoReflect().GetUnknown()) > 0 {
		return "unknown" // a field that this version of the schema does not have
	}
	return name
}
