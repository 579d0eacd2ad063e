package sqs

import "whatisup/local/aws/internal/wire"

// The model of every operation served. SQS words its constraints itself, so
// these hold types only.

func str() *wire.Shape     { return &wire.Shape{Type: wire.TString} }
func integer() *wire.Shape { return &wire.Shape{Type: wire.TInteger} }

func list(elem *wire.Shape) *wire.Shape { return &wire.Shape{Type: wire.TList, Elem: elem} }

func stringList() *wire.Shape { return list(str()) }

func texts() *wire.Shape {
	return &wire.Shape{Type: wire.TMap, Class: "java.lang.String", Elem: str()}
}

func input(members ...wire.Member) *wire.Shape {
	return &wire.Shape{Type: wire.TStruct, Members: members}
}

func element(class string, members ...wire.Member) *wire.Shape {
	return &wire.Shape{Type: wire.TStruct, Value: true, Class: "com.amazonaws.sqs." + class, Members: members}
}

func attributes() *wire.Shape {
	return &wire.Shape{Type: wire.TMap, Class: "com.amazonaws.sqs.MessageAttributeValue", Elem: element("MessageAttributeValue",
		wire.Member{Name: "DataType", Shape: str()},
		wire.Member{Name: "StringValue", Shape: str()},
		wire.Member{Name: "BinaryValue", Shape: &wire.Shape{Type: wire.TBlob}},
		wire.Member{Name: "StringListValues", Shape: stringList()},
		wire.Member{Name: "BinaryListValues", Shape: list(&wire.Shape{Type: wire.TBlob})},
	)}
}

var url = wire.Member{Name: "QueueUrl", Shape: str()}

var message = []wire.Member{
	{Name: "MessageBody", Shape: str()},
	{Name: "DelaySeconds", Shape: integer()},
	{Name: "MessageAttributes", Shape: attributes()},
	{Name: "MessageSystemAttributes", Shape: attributes()},
	{Name: "MessageDeduplicationId", Shape: str()},
	{Name: "MessageGroupId", Shape: str()},
}

var id = wire.Member{Name: "Id", Shape: str()}

func entries(class string, members ...wire.Member) wire.Member {
	return wire.Member{Name: "Entries", Shape: list(element(class, append([]wire.Member{id}, members...)...))}
}

var (
	receipt = wire.Member{Name: "ReceiptHandle", Shape: str()}
	timeout = wire.Member{Name: "VisibilityTimeout", Shape: integer()}
)

var (
	createQueueShape = input(
		wire.Member{Name: "QueueName", Shape: str()},
		wire.Member{Name: "Attributes", Shape: texts()},
		wire.Member{Name: "tags", Shape: texts()},
	)
	queueShape       = input(url)
	getQueueURLShape = input(
		wire.Member{Name: "QueueName", Shape: str()},
		wire.Member{Name: "QueueOwnerAWSAccountId", Shape: str()},
	)
	getQueueAttributesShape = input(url, wire.Member{Name: "AttributeNames", Shape: stringList()})
	setQueueAttributesShape = input(url, wire.Member{Name: "Attributes", Shape: texts()})
	listQueuesShape         = input(
		wire.Member{Name: "QueueNamePrefix", Shape: str()},
		wire.Member{Name: "MaxResults", Shape: integer()},
		wire.Member{Name: "NextToken", Shape: str()},
	)
	sendMessageShape      = input(append([]wire.Member{url}, message...)...)
	sendMessageBatchShape = input(url, entries("SendMessageBatchRequestEntry", message...))
	receiveMessageShape   = input(url,
		wire.Member{Name: "AttributeNames", Shape: stringList()},
		wire.Member{Name: "MessageSystemAttributeNames", Shape: stringList()},
		wire.Member{Name: "MessageAttributeNames", Shape: stringList()},
		wire.Member{Name: "MaxNumberOfMessages", Shape: integer()},
		timeout,
		wire.Member{Name: "WaitTimeSeconds", Shape: integer()},
	)
	deleteMessageShape                = input(url, receipt)
	deleteMessageBatchShape           = input(url, entries("DeleteMessageBatchRequestEntry", receipt))
	changeMessageVisibilityShape      = input(url, receipt, timeout)
	changeMessageVisibilityBatchShape = input(url, entries("ChangeMessageVisibilityBatchRequestEntry", receipt, timeout))
)
