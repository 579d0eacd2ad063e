package sqs

import (
	"fmt"

	"whatisup/local/aws/internal/wire"
)

// SQS's errors have a type in the JSON protocol and another name in the older
// one, which SDKs go on telling their callers.

func modelled(name, query, format string, args ...any) *wire.Error {
	return &wire.Error{Status: 400, Type: "com.amazonaws.sqs#" + name, QueryCode: query + ";Sender", Message: fmt.Sprintf(format, args...)}
}

func invalidValue(format string, args ...any) *wire.Error {
	return &wire.Error{Status: 400, Type: "com.amazon.coral.service#InvalidParameterValueException", QueryCode: "InvalidParameterValue;Sender", Message: fmt.Sprintf(format, args...)}
}

func badValue(value any, parameter, reason string) *wire.Error {
	return invalidValue("Value %v for parameter %s is invalid. Reason: %s", value, parameter, reason)
}

func missing(parameter string) *wire.Error {
	return &wire.Error{Status: 400, Type: "com.amazon.coral.service#MissingRequiredParameterException", QueryCode: "MissingParameter;Sender", Message: "The request must contain the parameter " + parameter + "."}
}

func invalidAttribute(name string) *wire.Error {
	return modelled("InvalidAttributeName", "InvalidAttributeName", "Unknown Attribute %s.", name)
}

func invalidAttributeValue(name string) *wire.Error {
	return modelled("InvalidAttributeValue", "InvalidAttributeValue", "Invalid value for the parameter %s.", name)
}

var (
	errNoQueue  = modelled("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
	errContents = modelled("InvalidMessageContents", "InvalidMessageContents", "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF.")
)

const notForType = "The request include parameter that is not valid for this queue type"
