package dynamo

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Tables are the names of the deployment's tables. A program that has no
// business with a table leaves its name empty.
type Tables struct {
	Access    string
	Instances string
	Calls     string
	Events    string
	Fleet     string
	Devices   string
	Messages  string
	Media     string
	Webhooks  string

	// SandboxDevices is where a deployment keeps the auth state of test links
	// apart. Only the operator, who looks at both modes, names it.
	SandboxDevices string
}

// TablesFromEnv reads the names as template.yaml gives them to functions and
// hosts.
func TablesFromEnv(getenv func(string) string) Tables {
	return Tables{
		Access:    getenv("ACCESS_TABLE"),
		Instances: getenv("INSTANCES_TABLE"),
		Calls:     getenv("CALLS_TABLE"),
		Events:    getenv("EVENTS_TABLE"),
		Fleet:     getenv("FLEET_TABLE"),
		Devices:   getenv("DEVICES_TABLE"),
		Media:     getenv("MEDIA_TABLE"),
		Messages:  getenv("MESSAGES_TABLE"),
		Webhooks:  getenv("WEBHOOKS_TABLE"),
	}
}

// Local are the names used where nobody else's tables are about.
func Local() Tables {
	return Tables{
		Access:    "whatisup-access",
		Instances: "whatisup-instances",
		Calls:     "whatisup-calls",
		Events:    "whatisup-events",
		Fleet:     "whatisup-fleet",
		Media:     "whatisup-media",
		Devices:   "whatisup-devices",
		Messages:  "whatisup-messages",
		Webhooks:  "whatisup-webhooks",
	}
}

// Attribute names that more than one place must agree on.
const (
	attrPK       = "pk"
	attrSK       = "sk"
	attrTTL      = "ttl" // unix seconds; only the broom, every reader checks the time itself
	attrShardKey = "shard_key"
	attrEpoch    = "epoch"
	attrLink     = "link"

	// IndexByShard is the index over instances that hosts reconcile from.
	IndexByShard = "by_shard"
)

// IndexedAttributes are what by_shard carries beside the keys.
var IndexedAttributes = []string{
	"wanted", "generation", "unlink_through", "link", "epoch",
	"observed_generation", "done_generation", "unsent_at", "host_unsent_at", "host_owed_at", "deleted_at",
}

// Definition is a table as it must be made. template.yaml declares the same; a
// test holds the two together.
type Definition struct {
	Name    string
	SortKey bool
	TTL     bool
	Indexes []types.GlobalSecondaryIndex
	// LocalIndexes have the table's partitions in another order. They can only
	// be made together with the table.
	LocalIndexes []types.LocalSecondaryIndex
}

// attributes are those that the keys of the table and its indexes name. All are
// strings.
func (d Definition) attributes() []types.AttributeDefinition {
	names := []string{attrPK}
	if d.SortKey {
		names = append(names, attrSK)
	}
	add := func(key []types.KeySchemaElement) {
		for _, k := range key {
			if !slices.Contains(names, *k.AttributeName) {
				names = append(names, *k.AttributeName)
			}
		}
	}
	for _, i := range d.Indexes {
		add(i.KeySchema)
	}
	for _, i := range d.LocalIndexes {
		add(i.KeySchema)
	}

	var out []types.AttributeDefinition
	for _, name := range names {
		out = append(out, types.AttributeDefinition{AttributeName: aws.String(name), AttributeType: types.ScalarAttributeTypeS})
	}
	return out
}

// Definitions lists the tables in the order of [Tables].
func (t Tables) Definitions() []Definition {
	byShard := types.GlobalSecondaryIndex{
		IndexName: aws.String(IndexByShard),
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String(attrShardKey), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String(attrSK), KeyType: types.KeyTypeRange},
		},
		Projection: &types.Projection{ProjectionType: types.ProjectionTypeInclude, NonKeyAttributes: IndexedAttributes},
	}
	// Which instances of a shard have messages that wait, and nothing of them.
	waiting := types.GlobalSecondaryIndex{
		IndexName: aws.String(IndexWaiting),
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String(attrShardKey), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String(attrPK), KeyType: types.KeyTypeRange},
		},
		Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
	}
	due := types.GlobalSecondaryIndex{
		IndexName: aws.String(IndexDue),
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("due"), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String("due_at"), KeyType: types.KeyTypeRange},
		},
		Projection: &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly},
	}
	// Which received files of a shard are to be fetched.
	fetching := waiting
	fetching.IndexName = aws.String(IndexFetching)
	fetching.KeySchema = byShard.KeySchema
	fetching.Projection = &types.Projection{ProjectionType: types.ProjectionTypeInclude, NonKeyAttributes: []string{"instance_id"}}
	// What waits is read whole, and leaves the index when it has ended; the list of
	// everything must cost a status change nothing.
	local := func(name, sort string, projection types.ProjectionType) types.LocalSecondaryIndex {
		return types.LocalSecondaryIndex{
			IndexName: aws.String(name),
			KeySchema: []types.KeySchemaElement{
				{AttributeName: aws.String(attrPK), KeyType: types.KeyTypeHash},
				{AttributeName: aws.String(sort), KeyType: types.KeyTypeRange},
			},
			Projection: &types.Projection{ProjectionType: projection},
		}
	}
	return []Definition{
		{Name: t.Access, SortKey: true},
		{Name: t.Instances, SortKey: true, Indexes: []types.GlobalSecondaryIndex{byShard}},
		{Name: t.Calls, TTL: true},
		{Name: t.Events, SortKey: true, TTL: true},
		{Name: t.Fleet, SortKey: true, TTL: true},
		{Name: t.Devices, SortKey: true, TTL: true},
		{Name: t.Messages, SortKey: true, TTL: true, Indexes: []types.GlobalSecondaryIndex{waiting}, LocalIndexes: []types.LocalSecondaryIndex{
			local(IndexLine, "line", types.ProjectionTypeAll), local(IndexListed, "listed", types.ProjectionTypeKeysOnly),
		}},
		{Name: t.Media, SortKey: true, TTL: true, Indexes: []types.GlobalSecondaryIndex{fetching}},
		{Name: t.Webhooks, SortKey: true, TTL: true, Indexes: []types.GlobalSecondaryIndex{due}},
	}
}

// Create makes every table that is not there yet, and waits until all are
// active. On AWS the template does this.
func (t Tables) Create(ctx context.Context, client *dynamodb.Client) error {
	for _, d := range t.Definitions() {
		in := &dynamodb.CreateTableInput{
			TableName:              aws.String(d.Name),
			BillingMode:            types.BillingModePayPerRequest,
			AttributeDefinitions:   d.attributes(),
			KeySchema:              []types.KeySchemaElement{{AttributeName: aws.String(attrPK), KeyType: types.KeyTypeHash}},
			GlobalSecondaryIndexes: d.Indexes,
			LocalSecondaryIndexes:  d.LocalIndexes,
		}
		if d.SortKey {
			in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: aws.String(attrSK), KeyType: types.KeyTypeRange})
		}
		_, err := client.CreateTable(ctx, in)
		if _, exists := errors.AsType[*types.ResourceInUseException](err); err != nil && !exists {
			return err
		} else if exists {
			continue
		}
		if err := dynamodb.NewTableExistsWaiter(client, func(o *dynamodb.TableExistsWaiterOptions) {
			o.MinDelay = 10 * time.Millisecond
		}).Wait(ctx, &dynamodb.DescribeTableInput{TableName: aws.String(d.Name)}, time.Minute); err != nil {
			return err
		}
		if d.TTL {
			if _, err := client.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
				TableName:               aws.String(d.Name),
				TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String(attrTTL), Enabled: aws.Bool(true)},
			}); err != nil {
				return err
			}
		}
	}
	return nil
}
