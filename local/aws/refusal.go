package aws

import (
	"fmt"

	"whatisup/local/aws/internal/fault"
	"whatisup/local/aws/internal/wire"
)

// refusals are the faults that answer instead of the service, in its own words.
var refusals = map[fault.Kind]func(*call) *wire.Error{
	fault.Throttle:  throttled,
	fault.Missing:   gone,
	fault.Full:      full,
	fault.Forbidden: forbidden,
}

func throttled(c *call) *wire.Error {
	switch c.service {
	case serviceSQS:
		return sqsError(400, "com.amazonaws.sqs#RequestThrottled", "RequestThrottled", "Request is throttled.")
	case serviceKMS:
		return &wire.Error{Status: 400, Type: "ThrottlingException", Message: "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."}
	}
	return wire.DynamoDB("ProvisionedThroughputExceededException", "The level of configured provisioned throughput for the table was exceeded. Consider increasing your provisioning level with the UpdateTable API.")
}

// gone answers as if the table, the queue or the key did not exist.
func gone(c *call) *wire.Error {
	switch c.service {
	case serviceSQS:
		return sqsError(400, "com.amazonaws.sqs#QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
	case serviceKMS:
		return &wire.Error{Status: 400, Type: "NotFoundException", Message: "The key does not exist."}
	}
	return wire.DynamoDB("ResourceNotFoundException", "Requested resource not found")
}

// full answers as a queue with as many messages in flight as SQS allows, as a
// partition whose item collection is as large as DynamoDB allows, or as KMS when
// a limit of its is reached.
func full(c *call) *wire.Error {
	switch c.service {
	case serviceSQS:
		return sqsError(400, "com.amazonaws.sqs#OverLimit", "OverLimit", "The limit of messages in flight is reached.")
	case serviceKMS:
		return &wire.Error{Status: 400, Type: "LimitExceededException", Message: "A limit of KMS is reached."}
	}
	return wire.DynamoDB("ItemCollectionSizeLimitExceededException", "Collection size exceeded.")
}

// forbidden answers as if no policy allowed the call.
func forbidden(c *call) *wire.Error {
	message := fmt.Sprintf("User: arn:aws:iam::%s:user/local is not authorized to perform: %s:%s because no identity-based policy allows the %[2]s:%[3]s action",
		account, c.service, c.operation)
	switch c.service {
	case serviceSQS:
		return sqsError(403, "com.amazon.coral.service#AccessDeniedException", "AccessDenied", message)
	case serviceKMS:
		return &wire.Error{Status: 400, Type: "AccessDeniedException", Message: message}
	}
	return &wire.Error{Status: 400, Type: "com.amazon.coral.service#AccessDeniedException", Message: message}
}

func sqsError(status int, kind, query, message string) *wire.Error {
	return &wire.Error{Status: status, Type: kind, QueryCode: query + ";Sender", Message: message}
}

// account is whose everything is here.
const account = "000000000000"
