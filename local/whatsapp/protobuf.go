package whatsapp

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"go.mau.fi/whatsmeow/proto/waE2E"
)

// wholePart is the one part that a message consists of, beside its context.
func wholePart(m *waE2E.Message) (part protoreflect.Message) {
	m.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Kind() != protoreflect.MessageKind || field.IsList() || field.Name() == "messageContextInfo" {
			return true
		}
		part = value.Message()
		return false
	})
	return part
}

func protoValue(m proto.Message) protoreflect.Value {
	return protoreflect.ValueOfMessage(m.ProtoReflect())
}
