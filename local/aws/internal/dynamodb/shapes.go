package dynamodb

import (
	"regexp"
	"slices"

	"whatisup/local/aws/internal/wire"
)

// The model of every operation served: what its input may hold and within
// which limits, in the order in which DynamoDB lists what is wrong.

const namespace = "com.amazonaws.dynamodb.v20120810."

var namePattern = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)

func str() *wire.Shape     { return &wire.Shape{Type: wire.TString} }
func boolean() *wire.Shape { return &wire.Shape{Type: wire.TBoolean} }

func required(s *wire.Shape) *wire.Shape { s.Required = true; return s }

func enum(values ...string) *wire.Shape { return &wire.Shape{Type: wire.TString, Enum: values} }

func name() *wire.Shape {
	return &wire.Shape{Type: wire.TString, Pattern: namePattern, Regexp: "[a-zA-Z0-9_.-]+", HasMin: true, Min: 3, Max: 255}
}

// newTableName is a name as the operations on tables take it.
func newTableName() *wire.Shape {
	return &wire.Shape{Type: wire.TString, First: true, Pattern: namePattern, Regexp: "[a-zA-Z0-9_.-]+", Max: 255}
}

func oldTableName() *wire.Shape {
	s := newTableName()
	s.Pattern = arnPattern
	return s
}

// tableName also takes a table's ARN.
func tableName() *wire.Shape {
	return &wire.Shape{Type: wire.TString, Required: true, Pattern: arnPattern, Regexp: "[a-zA-Z0-9_.-]+", HasMin: true, Min: 3, Max: 255}
}

var arnPattern = regexp.MustCompile(`^(arn:aws[a-z-]*:dynamodb:[a-z0-9-]+:[0-9]+:table/)?[a-zA-Z0-9_.-]+$`)

func number(t wire.Type, min, max int) *wire.Shape {
	return &wire.Shape{Type: t, HasMin: true, Min: min, Max: max}
}

func list(elem *wire.Shape) *wire.Shape { return &wire.Shape{Type: wire.TList, Elem: elem} }

func lengths(s *wire.Shape, min, max int) *wire.Shape {
	s.HasMin, s.Min, s.Max = true, min, max
	return s
}

// value is an AttributeValue inside a list or a map.
var value = func() *wire.Shape {
	v := &wire.Shape{Type: wire.TStruct, Value: true, Free: true, Class: namespace + "AttributeValue"}
	v.Members = []wire.Member{
		{Name: "S", Shape: str()},
		{Name: "B", Shape: &wire.Shape{Type: wire.TBlob}},
		{Name: "N", Shape: str()},
		{Name: "BOOL", Shape: boolean()},
		{Name: "NULL", Shape: boolean()},
		{Name: "BS", Shape: list(&wire.Shape{Type: wire.TBlob})},
		{Name: "NS", Shape: list(str())},
		{Name: "SS", Shape: list(str())},
		{Name: "L", Shape: list(v)},
		{Name: "M", Shape: &wire.Shape{Type: wire.TMap, Class: namespace + "AttributeValue", Elem: v}},
	}
	return v
}()

func item() *wire.Shape {
	return &wire.Shape{Type: wire.TMap, Class: namespace + "AttributeValue", Elem: value}
}

func names() *wire.Shape {
	return &wire.Shape{Type: wire.TMap, Class: "java.lang.String", Elem: str()}
}

func structure(class string, members ...wire.Member) *wire.Shape {
	return &wire.Shape{Type: wire.TStruct, Class: namespace + class, Members: members}
}

func element(class string, members ...wire.Member) *wire.Shape {
	s := structure(class, members...)
	s.Value = true
	return s
}

// without names what AWS knows in a struct and this model does not.
func without(s *wire.Shape, members ...string) *wire.Shape {
	s.Missing = members
	return s
}

func input(members ...wire.Member) *wire.Shape {
	return &wire.Shape{Type: wire.TStruct, Members: members}
}

var (
	consumed   = enum("INDEXES", "TOTAL", "NONE")
	collection = enum("SIZE", "NONE")
	returns    = enum("ALL_NEW", "UPDATED_OLD", "ALL_OLD", "NONE", "UPDATED_NEW")
	onFailure  = enum("ALL_OLD", "NONE")
	selects    = enum("SPECIFIC_ATTRIBUTES", "COUNT", "ALL_ATTRIBUTES", "ALL_PROJECTED_ATTRIBUTES")
)

var getItemShape = input(
	wire.Member{Name: "ReturnConsumedCapacity", Shape: consumed},
	wire.Member{Name: "TableName", Shape: tableName()},
	wire.Member{Name: "Key", Shape: required(item())},
	wire.Member{Name: "ConsistentRead", Shape: boolean()},
	wire.Member{Name: "ProjectionExpression", Shape: str()},
	wire.Member{Name: "ExpressionAttributeNames", Shape: names()},
)

// conditional is what every write may have besides its own members.
func conditional(members ...wire.Member) []wire.Member {
	return append(members,
		wire.Member{Name: "ConditionExpression", Shape: str()},
		wire.Member{Name: "ExpressionAttributeValues", Shape: item()},
		wire.Member{Name: "ExpressionAttributeNames", Shape: names()},
		wire.Member{Name: "ReturnValuesOnConditionCheckFailure", Shape: onFailure},
	)
}

var putItemShape = input(conditional(
	wire.Member{Name: "ReturnConsumedCapacity", Shape: consumed},
	wire.Member{Name: "TableName", Shape: tableName()},
	wire.Member{Name: "Item", Shape: required(item())},
	wire.Member{Name: "ReturnValues", Shape: returns},
	wire.Member{Name: "ReturnItemCollectionMetrics", Shape: collection},
)...)

// keyed is what DeleteItem and UpdateItem have in common.
var keyed = conditional(
	wire.Member{Name: "ReturnConsumedCapacity", Shape: consumed},
	wire.Member{Name: "TableName", Shape: tableName()},
	wire.Member{Name: "ReturnItemCollectionMetrics", Shape: collection},
	wire.Member{Name: "ReturnValues", Shape: returns},
	wire.Member{Name: "Key", Shape: required(item())},
)

var deleteItemShape = input(keyed...)

var updateItemShape = input(append(slices.Clone(keyed), wire.Member{Name: "UpdateExpression", Shape: str()})...)

var queryShape = input(
	wire.Member{Name: "Select", Shape: selects},
	wire.Member{Name: "IndexName", Shape: name()},
	wire.Member{Name: "ReturnConsumedCapacity", Shape: consumed},
	wire.Member{Name: "TableName", Shape: tableName()},
	wire.Member{Name: "Limit", Shape: number(wire.TInteger, 1, 0)},
	wire.Member{Name: "ExclusiveStartKey", Shape: item()},
	wire.Member{Name: "ConsistentRead", Shape: boolean()},
	wire.Member{Name: "ScanIndexForward", Shape: boolean()},
	wire.Member{Name: "KeyConditionExpression", Shape: str()},
	wire.Member{Name: "FilterExpression", Shape: str()},
	wire.Member{Name: "ProjectionExpression", Shape: str()},
	wire.Member{Name: "ExpressionAttributeValues", Shape: item()},
	wire.Member{Name: "ExpressionAttributeNames", Shape: names()},
)

var scanShape = input(
	wire.Member{Name: "Select", Shape: selects},
	wire.Member{Name: "IndexName", Shape: name()},
	wire.Member{Name: "ReturnConsumedCapacity", Shape: consumed},
	wire.Member{Name: "TotalSegments", Shape: number(wire.TInteger, 1, 1000000)},
	wire.Member{Name: "TableName", Shape: tableName()},
	wire.Member{Name: "Segment", Shape: number(wire.TInteger, 0, 999999)},
	wire.Member{Name: "Limit", Shape: number(wire.TInteger, 1, 0)},
	wire.Member{Name: "ExclusiveStartKey", Shape: item()},
	wire.Member{Name: "ConsistentRead", Shape: boolean()},
	wire.Member{Name: "FilterExpression", Shape: str()},
	wire.Member{Name: "ProjectionExpression", Shape: str()},
	wire.Member{Name: "ExpressionAttributeValues", Shape: item()},
	wire.Member{Name: "ExpressionAttributeNames", Shape: names()},
)

var batchGetItemShape = input(
	wire.Member{Name: "ReturnConsumedCapacity", Shape: consumed},
	wire.Member{Name: "RequestItems", Shape: &wire.Shape{
		Type: wire.TMap, Class: namespace + "KeysAndAttributes", Required: true, HasMin: true, Min: 1, Max: 100,
		Keys: tableName(),
		Elem: without(element("KeysAndAttributes",
			wire.Member{Name: "Keys", Shape: required(lengths(list(&wire.Shape{Type: wire.TMap, Value: true, Class: namespace + "AttributeValue", Elem: value}), 1, 100))},
			wire.Member{Name: "ConsistentRead", Shape: boolean()},
			wire.Member{Name: "ProjectionExpression", Shape: str()},
			wire.Member{Name: "ExpressionAttributeNames", Shape: names()},
		), "AttributesToGet")}},
)

var batchWriteItemShape = input(
	wire.Member{Name: "ReturnConsumedCapacity", Shape: consumed},
	wire.Member{Name: "ReturnItemCollectionMetrics", Shape: collection},
	wire.Member{Name: "RequestItems", Shape: &wire.Shape{
		Type: wire.TMap, Class: "java.util.List<" + namespace + "WriteRequest>", Required: true, HasMin: true, Min: 1, Max: 25,
		Keys:   tableName(),
		Values: &wire.Shape{HasMin: true, Min: 1, Max: 25},
		Elem: &wire.Shape{Type: wire.TList, Value: true, Elem: element("WriteRequest",
			wire.Member{Name: "DeleteRequest", Shape: structure("DeleteRequest", wire.Member{Name: "Key", Shape: required(item())})},
			wire.Member{Name: "PutRequest", Shape: structure("PutRequest", wire.Member{Name: "Item", Shape: required(item())})},
		)}}},
)

// action is one part of a transaction. Members of its own come first, so that
// they count and not the optional ones of the same name.
func action(class, target string, own ...wire.Member) *wire.Shape {
	return structure(class, conditional(append(own,
		wire.Member{Name: target, Shape: required(item())},
		wire.Member{Name: "TableName", Shape: tableName()},
	)...)...)
}

var transactWriteItemsShape = input(
	wire.Member{Name: "ClientRequestToken", Shape: lengths(str(), 1, 36)},
	wire.Member{Name: "ReturnConsumedCapacity", Shape: consumed},
	wire.Member{Name: "ReturnItemCollectionMetrics", Shape: collection},
	wire.Member{Name: "TransactItems", Shape: required(lengths(list(element("TransactWriteItem",
		wire.Member{Name: "ConditionCheck", Shape: action("ConditionCheck", "Key", wire.Member{Name: "ConditionExpression", Shape: required(str())})},
		wire.Member{Name: "Put", Shape: action("Put", "Item")},
		wire.Member{Name: "Delete", Shape: action("Delete", "Key")},
		wire.Member{Name: "Update", Shape: action("Update", "Key", wire.Member{Name: "UpdateExpression", Shape: required(str())})},
	)), 1, maxTransactItems))},
)

var transactGetItemsShape = input(
	wire.Member{Name: "ReturnConsumedCapacity", Shape: consumed},
	wire.Member{Name: "TransactItems", Shape: required(lengths(list(element("TransactGetItem",
		wire.Member{Name: "Get", Shape: required(structure("Get",
			wire.Member{Name: "Key", Shape: required(item())},
			wire.Member{Name: "TableName", Shape: tableName()},
			wire.Member{Name: "ProjectionExpression", Shape: str()},
			wire.Member{Name: "ExpressionAttributeNames", Shape: names()},
		))},
	)), 1, maxTransactItems))},
)

const maxTransactItems = 100

func keySchema() *wire.Shape {
	return required(lengths(list(element("KeySchemaElement",
		wire.Member{Name: "AttributeName", Shape: required(lengths(str(), 1, 255))},
		wire.Member{Name: "KeyType", Shape: required(enum("HASH", "RANGE"))},
	)), 1, 2))
}

func throughput() *wire.Shape {
	return structure("ProvisionedThroughput",
		wire.Member{Name: "WriteCapacityUnits", Shape: required(number(wire.TLong, 1, 0))},
		wire.Member{Name: "ReadCapacityUnits", Shape: required(number(wire.TLong, 1, 0))},
	)
}

func onDemand() *wire.Shape {
	return structure("OnDemandThroughput",
		wire.Member{Name: "MaxReadRequestUnits", Shape: &wire.Shape{Type: wire.TLong}},
		wire.Member{Name: "MaxWriteRequestUnits", Shape: &wire.Shape{Type: wire.TLong}},
	)
}

func indexProjection() *wire.Shape {
	return structure("Projection",
		wire.Member{Name: "ProjectionType", Shape: enum("ALL", "INCLUDE", "KEYS_ONLY")},
		wire.Member{Name: "NonKeyAttributes", Shape: lengths(list(lengths(str(), 1, 255)), 1, 20)},
	)
}

var createTableShape = input(
	wire.Member{Name: "AttributeDefinitions", Shape: required(list(element("AttributeDefinition",
		wire.Member{Name: "AttributeName", Shape: required(lengths(str(), 1, 255))},
		wire.Member{Name: "AttributeType", Shape: required(enum("B", "N", "S"))},
	)))},
	wire.Member{Name: "TableName", Shape: newTableName()},
	wire.Member{Name: "BillingMode", Shape: enum("PROVISIONED", "PAY_PER_REQUEST")},
	wire.Member{Name: "ProvisionedThroughput", Shape: throughput()},
	wire.Member{Name: "KeySchema", Shape: keySchema()},
	wire.Member{Name: "LocalSecondaryIndexes", Shape: list(element("LocalSecondaryIndex",
		wire.Member{Name: "IndexName", Shape: required(name())},
		wire.Member{Name: "KeySchema", Shape: keySchema()},
		wire.Member{Name: "Projection", Shape: required(indexProjection())},
	))},
	wire.Member{Name: "GlobalSecondaryIndexes", Shape: list(without(element("GlobalSecondaryIndex",
		wire.Member{Name: "IndexName", Shape: required(name())},
		wire.Member{Name: "KeySchema", Shape: keySchema()},
		wire.Member{Name: "Projection", Shape: required(indexProjection())},
		wire.Member{Name: "ProvisionedThroughput", Shape: throughput()},
		wire.Member{Name: "OnDemandThroughput", Shape: onDemand()},
	), "WarmThroughput"))},
	wire.Member{Name: "DeletionProtectionEnabled", Shape: boolean()},
	wire.Member{Name: "TableClass", Shape: enum("STANDARD", "STANDARD_INFREQUENT_ACCESS")},
	wire.Member{Name: "OnDemandThroughput", Shape: onDemand()},
	wire.Member{Name: "SSESpecification", Shape: structure("SSESpecification",
		wire.Member{Name: "Enabled", Shape: boolean()},
		wire.Member{Name: "SSEType", Shape: enum("AES256", "KMS")},
		wire.Member{Name: "KMSMasterKeyId", Shape: str()},
	)},
	wire.Member{Name: "Tags", Shape: list(element("Tag",
		wire.Member{Name: "Key", Shape: required(lengths(str(), 1, 128))},
		wire.Member{Name: "Value", Shape: required(lengths(str(), 0, 256))},
	))},
)

var describeTableShape = input(wire.Member{Name: "TableName", Shape: oldTableName()})

var listTablesShape = input(
	wire.Member{Name: "Limit", Shape: number(wire.TInteger, 1, 100)},
	wire.Member{Name: "ExclusiveStartTableName", Shape: name()},
)

var updateTimeToLiveShape = input(
	wire.Member{Name: "TableName", Shape: oldTableName()},
	wire.Member{Name: "TimeToLiveSpecification", Shape: required(structure("TimeToLiveSpecification",
		wire.Member{Name: "Enabled", Shape: required(boolean())},
		wire.Member{Name: "AttributeName", Shape: required(lengths(str(), 1, 255))},
	))},
)
