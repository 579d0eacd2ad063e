package dynamo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// IndexDue has the endpoints that owe deliveries, and the replays that are not done,
// by their next moment.
const IndexDue = "due"

const (
	endpointPrefix = "endpoint#"
	allDue         = "due" // one partition: an entry an endpoint, not one a delivery
)

type endpointRow struct {
	Customer    string      `dynamodbav:"customer_id"`
	Mode        string      `dynamodbav:"mode"`
	ID          string      `dynamodbav:"endpoint_id"`
	URL         string      `dynamodbav:"url"`
	Events      []string    `dynamodbav:"events"`
	Instance    string      `dynamodbav:"instance_id,omitempty"`
	ChatTypes   []string    `dynamodbav:"chat_types,omitempty"`
	Description string      `dynamodbav:"description,omitempty"`
	Disabled    string      `dynamodbav:"disabled,omitempty"`
	MaxInFlight int         `dynamodbav:"max_in_flight"`
	Places      int         `dynamodbav:"places"`
	UpdatedAt   int64       `dynamodbav:"updated_at"`
	Secrets     []secretRow `dynamodbav:"secrets"`
	DataKey     []byte      `dynamodbav:"data_key"`

	Behind       bool   `dynamodbav:"behind,omitempty"`
	Version      int    `dynamodbav:"version,omitempty"`
	Failures     int    `dynamodbav:"failures,omitempty"`
	FailingSince int64  `dynamodbav:"failing_since,omitempty"`
	ProbeAt      int64  `dynamodbav:"probe_at,omitempty"`
	ProbeWait    int64  `dynamodbav:"probe_wait,omitempty"`
	Untold       string `dynamodbav:"untold,omitempty"`
	AnswerTime   int64  `dynamodbav:"answer_time,omitempty"`
	DueAt        string `dynamodbav:"due_at,omitempty"`
}

type secretRow struct {
	Sealed []byte `dynamodbav:"sealed"`
	Until  int64  `dynamodbav:"until"`
}

func (r *endpointRow) endpoint() *whatisup.Endpoint {
	e := &whatisup.Endpoint{
		Customer: whatisup.CustomerID(r.Customer), Mode: whatisup.Mode(r.Mode), ID: whatisup.EndpointID(r.ID),
		URL: r.URL, Events: r.Events, Instance: whatisup.InstanceID(r.Instance), Description: r.Description,
		Disabled: r.Disabled, MaxInFlight: r.MaxInFlight, Places: r.Places, UpdatedAt: fromMillis(r.UpdatedAt), DataKey: r.DataKey,
		Behind: r.Behind, Version: r.Version, Failures: r.Failures,
		FailingSince: fromMillis(r.FailingSince), ProbeAt: fromMillis(r.ProbeAt), ProbeWait: time.Duration(r.ProbeWait) * time.Millisecond,
		Untold:     []byte(r.Untold),
		AnswerTime: time.Duration(r.AnswerTime) * time.Millisecond,
		Due:        dueTime(r.DueAt),
	}
	for _, t := range r.ChatTypes {
		e.ChatTypes = append(e.ChatTypes, whatisup.ChatType(t))
	}
	for _, s := range r.Secrets {
		e.Secrets = append(e.Secrets, whatisup.SealedSecret{Sealed: s.Sealed, Until: fromMillis(s.Until)})
	}
	return e
}

func chatTexts(all []whatisup.ChatType) []string {
	var out []string
	for _, t := range all {
		out = append(out, string(t))
	}
	return out
}

func secretRows(all []whatisup.SealedSecret) []secretRow {
	rows := make([]secretRow, len(all))
	for i, s := range all {
		rows[i] = secretRow{s.Sealed, millis(s.Until)}
	}
	return rows
}

func endpointKey(c whatisup.CustomerID, m whatisup.Mode, id whatisup.EndpointID) item {
	return key(partition(c, m), endpointPrefix+string(id))
}

func holdKey(c whatisup.CustomerID, m whatisup.Mode) item { return key(partition(c, m), "customer") }

func deliveryKey(c whatisup.CustomerID, m whatisup.Mode, id whatisup.DeliveryID) item {
	return key(partition(c, m)+"#deliveries", string(id))
}

func owedPartition(id whatisup.EndpointID) string { return "owed#" + string(id) }

func placesKey(c whatisup.CustomerID, m whatisup.Mode) item { return key(partition(c, m), "places") }

// CreateEndpoint stores a new endpoint in places of its customer's, and the record of its
// request: ErrTooMany if too few places are free, ErrNotFound if its instance is gone,
// ErrClaimLost.
func (db *DB) CreateEndpoint(ctx context.Context, e *whatisup.Endpoint, record *whatisup.Record) error {
	for range 2 * whatisup.MaxEndpoints { // whoever is first takes the place
		out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
			TableName: aws.String(db.tables.Webhooks), Key: placesKey(e.Customer, e.Mode), ConsistentRead: aws.Bool(true),
		})
		if err != nil {
			return translate(err)
		}
		taken := int(intOf(out.Item["taken"]))
		if !e.TakePlaces(taken) {
			return whatisup.ErrTooMany
		}
		if again, err := db.createEndpoint(ctx, e, taken, record); !again {
			return err
		}
	}
	return fmt.Errorf("endpoint: no place was kept: %w", whatisup.ErrUnavailable)
}

// createEndpoint stores an endpoint if the taken places are still these.
func (db *DB) createEndpoint(ctx context.Context, e *whatisup.Endpoint, taken int, record *whatisup.Record) (again bool, err error) {
	row := withKey(endpointKey(e.Customer, e.Mode, e.ID), marshal(endpointRow{
		Customer: string(e.Customer), Mode: string(e.Mode), ID: string(e.ID), URL: e.URL, Events: e.Events,
		Instance: string(e.Instance), ChatTypes: chatTexts(e.ChatTypes), Description: e.Description, Disabled: e.Disabled,
		MaxInFlight: e.MaxInFlight, Places: e.Places, UpdatedAt: millis(e.UpdatedAt), Secrets: secretRows(e.Secrets), DataKey: e.DataKey,
	}))
	items := []types.TransactWriteItem{
		put(db.tables.Webhooks, row, "attribute_not_exists(pk)", nil, nil),
		update(db.tables.Webhooks, placesKey(e.Customer, e.Mode), "SET taken = :all",
			"attribute_not_exists(pk) OR taken = :taken", item{":all": number(taken | e.Places), ":taken": number(taken)}, nil),
	}
	bound, recorded := -1, -1
	if e.Instance != "" { // so that none is made behind the back of its instance's deletion
		bound = len(items)
		items = append(items, check(db.tables.Instances, configKey(e.Customer, e.Mode, e.Instance), "attribute_exists(pk)", nil, nil))
	}
	if record != nil {
		recorded = len(items)
		items = append(items, db.recordItem(record))
	}
	err = db.transact(ctx, items)
	for n, answer := range map[int]error{bound: whatisup.ErrNotFound, recorded: whatisup.ErrClaimLost} {
		if _, failed := failedAt(err, n); failed && n >= 0 {
			return false, answer
		}
	}
	_, again = failedAt(err, 1)
	return again, err
}

// Endpoints lists a customer's endpoints of one mode, newest first, consistently.
func (db *DB) Endpoints(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode) ([]*whatisup.Endpoint, error) {
	var all []*whatisup.Endpoint
	suspended := false
	for row, err := range db.query(ctx, &dynamodb.QueryInput{
		TableName: aws.String(db.tables.Webhooks), ConsistentRead: aws.Bool(true), ScanIndexForward: aws.Bool(false),
		KeyConditionExpression:    aws.String("pk = :pk"),
		ExpressionAttributeValues: item{":pk": str(partition(c, m))},
	}) {
		if err != nil {
			return nil, err
		}
		switch sk := stringOf(row[attrSK]); {
		case sk == "customer":
			suspended = boolOf(row["suspended"])
		case strings.HasPrefix(sk, endpointPrefix):
			var r endpointRow
			if err := attributevalue.UnmarshalMap(row, &r); err != nil {
				return nil, err
			}
			all = append(all, r.endpoint())
		}
	}
	for _, e := range all {
		e.Suspended = suspended
	}
	return all, nil
}

func boolOf(v types.AttributeValue) bool {
	b, ok := v.(*types.AttributeValueMemberBOOL)
	return ok && b.Value
}

// Endpoint reads one endpoint, consistently, or ErrNotFound.
func (db *DB) Endpoint(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.EndpointID) (*whatisup.Endpoint, error) {
	e, _, err := db.EndpointAndDelivery(ctx, c, m, id, "")
	if err == nil && e == nil {
		return nil, whatisup.ErrNotFound
	}
	return e, err
}

// EndpointAndDelivery reads both at a time, consistently; nil is what there is not. An
// empty id is of no delivery.
func (db *DB) EndpointAndDelivery(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.EndpointID, of whatisup.DeliveryID) (e *whatisup.Endpoint, d *whatisup.Delivery, err error) {
	keys := []map[string]types.AttributeValue{endpointKey(c, m, id), holdKey(c, m)}
	if of != "" {
		keys = append(keys, deliveryKey(c, m, of))
	}
	out, err := db.client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
		db.tables.Webhooks: {Keys: keys, ConsistentRead: aws.Bool(true)},
	}})
	if err != nil {
		return nil, nil, translate(err)
	}
	if len(out.UnprocessedKeys) > 0 {
		return nil, nil, fmt.Errorf("endpoint: not all read: %w", whatisup.ErrUnavailable)
	}
	suspended := false
	for _, row := range out.Responses[db.tables.Webhooks] {
		switch sk := stringOf(row[attrSK]); {
		case sk == "customer":
			suspended = boolOf(row["suspended"])
		case strings.HasPrefix(sk, endpointPrefix):
			var r endpointRow
			if err := attributevalue.UnmarshalMap(row, &r); err != nil {
				return nil, nil, err
			}
			e = r.endpoint()
		default:
			if d, err = db.readDelivery(row); err != nil {
				return nil, nil, err
			}
		}
	}
	if e != nil {
		e.Suspended = suspended
	}
	return e, d, nil
}

func (db *DB) updateEndpoint(e *whatisup.Endpoint, expression, condition string, values item) *types.Update {
	return update(db.tables.Webhooks, endpointKey(e.Customer, e.Mode, e.ID), expression,
		"attribute_exists(pk)"+condition, values, nil).Update
}

// UpdateEndpoint stores what the customer configures, or ErrNotFound. Enabling it
// forgets its failures.
func (db *DB) UpdateEndpoint(ctx context.Context, e *whatisup.Endpoint, enabled bool) error {
	expression := "SET #url = :url, events = :events, chat_types = :chats, description = :description, updated_at = :at"
	change := enabled || e.Disabled == whatisup.DisabledByCustomer
	if change { // else somebody else may disable it at this moment
		expression += ", disabled = :disabled"
	}
	if enabled {
		expression += " REMOVE failures, failing_since, probe_at, probe_wait, answer_time"
	}
	values := marshal(struct {
		URL         string   `dynamodbav:":url"`
		Events      []string `dynamodbav:":events"`
		ChatTypes   []string `dynamodbav:":chats"`
		Description string   `dynamodbav:":description"`
		At          int64    `dynamodbav:":at"`
	}{e.URL, e.Events, chatTexts(e.ChatTypes), e.Description, millis(e.UpdatedAt)})
	if change {
		values[":disabled"] = str(e.Disabled)
	}
	u := db.updateEndpoint(e, expression, "", values)
	u.ExpressionAttributeNames = map[string]string{"#url": "url"}
	return goneIfFailed(db.updateOne(ctx, u))
}

// SetSecrets stores the secrets of an endpoint and the record of the request:
// ErrNotFound, ErrClaimLost.
func (db *DB) SetSecrets(ctx context.Context, e *whatisup.Endpoint, record *whatisup.Record) error {
	u := db.updateEndpoint(e, "SET secrets = :secrets, updated_at = :at", "", marshal(struct {
		Secrets []secretRow `dynamodbav:":secrets"`
		At      int64       `dynamodbav:":at"`
	}{secretRows(e.Secrets), millis(e.UpdatedAt)}))
	items := []types.TransactWriteItem{{Update: u}}
	if record != nil {
		items = append(items, db.recordItem(record))
	}
	err := db.transact(ctx, items)
	if _, failed := failedAt(err, 1); failed {
		return whatisup.ErrClaimLost
	}
	return goneIfFailed(err)
}

// DeleteEndpoint removes an endpoint, or ErrNotFound. Its deliveries stay.
func (db *DB) DeleteEndpoint(ctx context.Context, e *whatisup.Endpoint) error {
	return goneIfFailed(db.transact(ctx, []types.TransactWriteItem{
		remove(db.tables.Webhooks, endpointKey(e.Customer, e.Mode, e.ID), "attribute_exists(pk)", nil, nil),
		// Its places are taken, so to take their number away clears their bits.
		update(db.tables.Webhooks, placesKey(e.Customer, e.Mode), "SET taken = taken - :places", "attribute_exists(pk)",
			item{":places": number(e.Places)}, nil),
	}))
}

// DisableEndpoint disables an endpoint for a reason, and writes the event of it to the log
// and, for the queues, to the endpoint: ErrConflict if it is disabled already or gone.
func (db *DB) DisableEndpoint(ctx context.Context, e *whatisup.Endpoint, reason string, told whatisup.Event) error {
	b, err := json.Marshal(told)
	if err != nil {
		return err
	}
	event, err := db.eventItem(told)
	if err != nil {
		return err
	}
	at := told.OccurredAt.Time
	err = db.transact(ctx, []types.TransactWriteItem{
		{Update: db.updateEndpoint(e, "SET disabled = :reason, updated_at = :at, untold = :told, due = :due, due_at = :due_at",
			" AND (attribute_not_exists(disabled) OR disabled = :none)", item{
				":reason": str(reason), ":none": str(""), ":at": number(millis(at)), ":told": str(string(b)),
				":due": str(allDue), ":due_at": str(dueText(at)),
			})},
		event,
	})
	if _, failed := failedAt(err, 0); failed {
		return whatisup.ErrConflict
	}
	return err
}

// ToldDisabled notes that the queues have the event of an endpoint's end.
func (db *DB) ToldDisabled(ctx context.Context, e *whatisup.Endpoint) error {
	return goneIfFailed(db.updateOne(ctx, &types.Update{
		TableName: aws.String(db.tables.Webhooks), Key: endpointKey(e.Customer, e.Mode, e.ID),
		UpdateExpression: aws.String("REMOVE untold"), ConditionExpression: aws.String("attribute_exists(pk)"),
	}))
}

// A delivery that is in the queue has a mark in the endpoint's partition of them, named
// after delivery and turn, or none if the mark of another one stands for it, too. So it
// makes no difference how often one is put or removed.
func queuedPartition(id whatisup.EndpointID) string { return "queued#" + string(id) }

func queuedKey(d *whatisup.Delivery) item {
	return key(queuedPartition(d.Endpoint), fmt.Sprintf("%s#%d", d.ID, d.Turn))
}

// MarkQueued notes that deliveries of these turns are in the queue.
func (db *DB) MarkQueued(ctx context.Context, all ...*whatisup.Delivery) error {
	var puts []types.WriteRequest
	for _, d := range all {
		n := d.Mark()
		if n == 0 {
			continue
		}
		row := queuedKey(d)
		row["delivery_id"], row["turn"], row["stands_for"] = str(string(d.ID)), number(d.Turn), number(n)
		row["at"], row[attrTTL] = number(millis(d.UpdatedAt)), number(db.now().Add(whatisup.DeliveriesKept).Unix())
		puts = append(puts, types.WriteRequest{PutRequest: &types.PutRequest{Item: row}})
	}
	return db.writeWebhooks(ctx, puts)
}

// UnmarkQueued notes that it no longer is.
func (db *DB) UnmarkQueued(ctx context.Context, d *whatisup.Delivery) error {
	if d.Mark() == 0 {
		return nil
	}
	_, err := db.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: aws.String(db.tables.Webhooks), Key: queuedKey(d)})
	return translate(err)
}

// writeWebhooks puts and removes rows that have no conditions, each by itself.
func (db *DB) writeWebhooks(ctx context.Context, all []types.WriteRequest) error {
	if len(all) == 1 && all[0].PutRequest != nil { // the most frequent case costs the least
		_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(db.tables.Webhooks), Item: all[0].PutRequest.Item})
		return translate(err)
	}
	for some := range slices.Chunk(all, 25) {
		err := retry(ctx, func() error {
			out, err := db.client.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{
				RequestItems: map[string][]types.WriteRequest{db.tables.Webhooks: some},
			})
			if err != nil {
				return translate(err)
			}
			if some = out.UnprocessedItems[db.tables.Webhooks]; len(some) > 0 {
				return errMet
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// CountQueued counts the deliveries of an endpoint in the queue, as their marks say:
// about, where a mark stands for several.
func (db *DB) CountQueued(ctx context.Context, id whatisup.EndpointID) (int, error) {
	out, err := db.client.Query(ctx, &dynamodb.QueryInput{
		TableName:                 aws.String(db.tables.Webhooks),
		KeyConditionExpression:    aws.String("pk = :pk"),
		ProjectionExpression:      aws.String("stands_for"),
		ExpressionAttributeValues: item{":pk": str(queuedPartition(id))},
	})
	if err != nil {
		return 0, translate(err)
	}
	n := 0
	for _, row := range out.Items { // a page of them is far more than there may be
		n += standsFor(row)
	}
	return n, nil
}

func standsFor(mark item) int { return max(int(intOf(mark["stands_for"])), 1) }

// Queued lists the deliveries of an endpoint that were marked before a time, with
// their turns.
func (db *DB) Queued(ctx context.Context, id whatisup.EndpointID, before time.Time) ([]whatisup.Owed, error) {
	var all []whatisup.Owed
	for row, err := range db.query(ctx, &dynamodb.QueryInput{
		TableName: aws.String(db.tables.Webhooks), ConsistentRead: aws.Bool(true),
		KeyConditionExpression:    aws.String("pk = :pk"),
		ExpressionAttributeValues: item{":pk": str(queuedPartition(id))},
	}) {
		if err != nil {
			return nil, err
		}
		if fromMillis(intOf(row["at"])).Before(before) {
			all = append(all, whatisup.Owed{
				Key: stringOf(row[attrSK]), Delivery: whatisup.DeliveryID(stringOf(row["delivery_id"])), Turn: int(intOf(row["turn"])),
				StandsFor: standsFor(row),
			})
		}
	}
	return all, nil
}

// SetAnswerTime stores how long the endpoint's answers take on average.
func (db *DB) SetAnswerTime(ctx context.Context, e *whatisup.Endpoint, d time.Duration) error {
	return goneIfFailed(db.updateOne(ctx, db.updateEndpoint(e, "SET answer_time = :d", "", item{":d": number(d.Milliseconds())})))
}

// Fail notes that a delivery failed: first says that it was its first attempt. It
// returns the endpoint as it is then, but for its customer's being suspended, which is e's.
func (db *DB) Fail(ctx context.Context, e *whatisup.Endpoint, first bool, now time.Time) (*whatisup.Endpoint, error) {
	n := 0
	if first {
		n = 1
	}
	u := db.updateEndpoint(e, "SET failing_since = if_not_exists(failing_since, :now) ADD failures :n", "",
		item{":now": number(millis(now)), ":n": number(n)})
	var out *dynamodb.UpdateItemOutput
	err := retry(ctx, func() (err error) {
		out, err = db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: u.TableName, Key: u.Key, UpdateExpression: u.UpdateExpression, ConditionExpression: u.ConditionExpression,
			ExpressionAttributeValues: u.ExpressionAttributeValues, ReturnValues: types.ReturnValueAllNew,
		})
		return translate(err)
	})
	if err != nil {
		return nil, goneIfFailed(err)
	}
	var row endpointRow
	if err := attributevalue.UnmarshalMap(out.Attributes, &row); err != nil {
		return nil, err
	}
	is := row.endpoint()
	is.Suspended = e.Suspended
	return is, nil
}

// Degrade makes the endpoint behind, to be tried at a time.
func (db *DB) Degrade(ctx context.Context, e *whatisup.Endpoint, at time.Time, wait time.Duration) error {
	return goneIfFailed(db.updateOne(ctx, db.updateEndpoint(e, "SET behind = :yes, probe_at = :at, probe_wait = :wait", "",
		item{":yes": boolean(true), ":at": number(millis(at)), ":wait": number(wait.Milliseconds())})))
}

// TakeProbe moves the next probe of a degraded endpoint: ErrConflict if somebody
// else has taken this one.
func (db *DB) TakeProbe(ctx context.Context, e *whatisup.Endpoint, next time.Time, wait time.Duration) error {
	err := db.updateOne(ctx, db.updateEndpoint(e, "SET probe_at = :at, probe_wait = :wait", " AND probe_at = :old",
		item{":at": number(millis(next)), ":wait": number(wait.Milliseconds()), ":old": number(millis(e.ProbeAt))}))
	if isConditionFailed(err) {
		return whatisup.ErrConflict
	}
	return err
}

// Recover forgets the failures of an endpoint.
func (db *DB) Recover(ctx context.Context, e *whatisup.Endpoint) error {
	return goneIfFailed(db.updateOne(ctx, &types.Update{
		TableName: aws.String(db.tables.Webhooks), Key: endpointKey(e.Customer, e.Mode, e.ID),
		UpdateExpression:    aws.String("REMOVE failures, failing_since, probe_at, probe_wait"),
		ConditionExpression: aws.String("attribute_exists(pk)"),
	}))
}

// SetBehind makes an endpoint's further deliveries rows.
func (db *DB) SetBehind(ctx context.Context, e *whatisup.Endpoint) error {
	return goneIfFailed(db.updateOne(ctx, db.updateEndpoint(e, "SET behind = :yes", "", item{":yes": boolean(true)})))
}

// CaughtUp ends an endpoint's being behind and sets its next moment, or none, if nothing
// was owed since the version was read: ErrConflict.
func (db *DB) CaughtUp(ctx context.Context, e *whatisup.Endpoint, next time.Time) error {
	expression, values := "SET behind = :no REMOVE due, due_at", item{":no": boolean(false), ":version": number(e.Version)}
	if !next.IsZero() {
		expression = "SET behind = :no, due = :due, due_at = :at"
		values[":due"], values[":at"] = str(allDue), str(dueText(next))
	}
	err := db.updateOne(ctx, db.updateEndpoint(e, expression, " AND (version = :version OR attribute_not_exists(version))", values))
	if isConditionFailed(err) {
		return whatisup.ErrConflict
	}
	return err
}

// SetDue sets an endpoint's next moment, if nothing was owed since the version was read:
// ErrConflict.
func (db *DB) SetDue(ctx context.Context, e *whatisup.Endpoint, at time.Time) error {
	err := db.updateOne(ctx, db.updateEndpoint(e, "SET due = :due, due_at = :at", " AND (version = :version OR attribute_not_exists(version))",
		item{":due": str(allDue), ":at": str(dueText(at)), ":version": number(e.Version)}))
	if isConditionFailed(err) {
		return whatisup.ErrConflict
	}
	return err
}

func dueText(t time.Time) string { return fmt.Sprintf("%015d", max(t.UnixMilli(), 0)) }

func dueTime(s string) time.Time {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// Due lists what is due: endpoints, as customer, mode and id, and replays.
func (db *DB) Due(ctx context.Context, now time.Time, most int) ([]whatisup.DueRow, error) {
	var all []whatisup.DueRow
	for row, err := range db.query(ctx, &dynamodb.QueryInput{
		TableName: aws.String(db.tables.Webhooks), IndexName: aws.String(IndexDue),
		KeyConditionExpression:    aws.String("due = :due AND due_at <= :now"),
		ExpressionAttributeValues: item{":due": str(allDue), ":now": str(dueText(now))},
		Limit:                     aws.Int32(int32(most)),
	}) {
		if err != nil {
			return nil, err
		}
		parts := strings.Split(stringOf(row[attrPK]), "#")
		if len(parts) < 2 {
			continue
		}
		d := whatisup.DueRow{Customer: whatisup.CustomerID(parts[0]), Mode: whatisup.Mode(parts[1])}
		sk := stringOf(row[attrSK])
		if id, ok := strings.CutPrefix(sk, endpointPrefix); ok {
			d.Endpoint = whatisup.EndpointID(id)
		} else {
			d.Replay = whatisup.ReplayID(sk)
		}
		if all = append(all, d); len(all) == most {
			break
		}
	}
	return all, nil
}

type deliveryRow struct {
	Customer  string `dynamodbav:"customer_id"`
	Mode      string `dynamodbav:"mode"`
	ID        string `dynamodbav:"delivery_id"`
	Endpoint  string `dynamodbav:"endpoint_id"`
	Instance  string `dynamodbav:"instance_id,omitempty"`
	Event     string `dynamodbav:"event"`
	EventID   string `dynamodbav:"event_id"`
	Status    string `dynamodbav:"status"`
	Turn      int    `dynamodbav:"turn"`
	Tried     string `dynamodbav:"attempts,omitempty"` // JSON
	Error     string `dynamodbav:"error,omitempty"`
	NextAt    int64  `dynamodbav:"next_at,omitempty"`
	Delivered int64  `dynamodbav:"delivered_at,omitempty"`
	ReplayOf  string `dynamodbav:"replay_of,omitempty"`
	Replay    string `dynamodbav:"replay,omitempty"`
	UpdatedAt int64  `dynamodbav:"updated_at"`
	Payload   string `dynamodbav:"payload"`
	Group     string `dynamodbav:"group"`
	Order     string `dynamodbav:"order"`
	TTL       int64  `dynamodbav:"ttl"`
}

func (db *DB) deliveryItem(d *whatisup.Delivery) item {
	return withKey(deliveryKey(d.Customer, d.Mode, d.ID), marshal(deliveryRow{
		Customer: string(d.Customer), Mode: string(d.Mode), ID: string(d.ID), Endpoint: string(d.Endpoint),
		Instance: string(d.Instance), Event: string(d.Event), EventID: string(d.EventID), Status: string(d.Status),
		Turn: d.Turn, Tried: attemptsText(d.Attempts), Error: d.Error, NextAt: millis(d.NextAt), Delivered: millis(d.Delivered),
		ReplayOf: string(d.ReplayOf), Replay: string(d.Replay), UpdatedAt: millis(d.UpdatedAt), Payload: string(d.Payload),
		Group: d.Group, Order: d.Order, TTL: db.now().Add(whatisup.DeliveriesKept).Unix(),
	}))
}

func (r *deliveryRow) delivery() (*whatisup.Delivery, error) {
	d := &whatisup.Delivery{
		Customer: whatisup.CustomerID(r.Customer), Mode: whatisup.Mode(r.Mode), ID: whatisup.DeliveryID(r.ID),
		Endpoint: whatisup.EndpointID(r.Endpoint), Instance: whatisup.InstanceID(r.Instance), Event: whatisup.EventName(r.Event),
		EventID: whatisup.EventID(r.EventID), Status: whatisup.DeliveryStatus(r.Status), Turn: r.Turn, Error: r.Error,
		NextAt: fromMillis(r.NextAt), Delivered: fromMillis(r.Delivered), ReplayOf: whatisup.DeliveryID(r.ReplayOf),
		Replay: whatisup.ReplayID(r.Replay), UpdatedAt: fromMillis(r.UpdatedAt), Payload: []byte(r.Payload), Group: r.Group, Order: r.Order,
	}
	if r.Tried == "" {
		return d, nil
	}
	return d, json.Unmarshal([]byte(r.Tried), &d.Attempts)
}

// notLater holds that a row has no later turn, and no end.
const notLater = "attribute_not_exists(pk) OR (turn <= :turn AND #status <> :success AND #status <> :failed)"

func notLaterValues(turn int) (item, map[string]string) {
	return item{":turn": number(turn), ":success": str(string(whatisup.DeliverySuccess)), ":failed": str(string(whatisup.DeliveryFailed))},
		map[string]string{"#status": "status"}
}

// PutDelivery stores a delivery, unless its row has a later turn or an end:
// ErrConflict.
func (db *DB) PutDelivery(ctx context.Context, d *whatisup.Delivery) error {
	values, names := notLaterValues(d.Turn)
	_, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(db.tables.Webhooks), Item: db.deliveryItem(d), ConditionExpression: aws.String(notLater),
		ExpressionAttributeValues: values, ExpressionAttributeNames: names,
	})
	if err = translate(err); isConditionFailed(err) {
		return whatisup.ErrConflict
	}
	return err
}

// OweDeliveries stores deliveries that are to be sent from their rows, each not before its
// time, and has the endpoint's next moment be no later than next: sooner says that it was
// later, or none. It is all or nothing: ErrConflict if a row has its turn or a later one
// already, ErrNotFound if the endpoint is gone, and ErrCaughtUp if the endpoint is not
// behind and behind asks for it. At most [whatisup.MaxOweTogether].
func (db *DB) OweDeliveries(ctx context.Context, e *whatisup.Endpoint, all []whatisup.Owing, next time.Time, behind bool) (sooner bool, err error) {
	items := make([]types.TransactWriteItem, 0, 2*len(all)+1)
	for _, o := range all {
		condition := notLater
		values, names := notLaterValues(o.Turn - 1)
		if o.Turn == 0 {
			condition, values, names = "attribute_not_exists(pk)", nil, nil
		}
		order := dueText(o.Due) + "#" + o.Order + "#" + string(o.ID)
		items = append(items,
			put(db.tables.Webhooks, db.deliveryItem(o.Delivery), condition, values, names),
			put(db.tables.Webhooks, withKey(key(owedPartition(e.ID), order), item{
				"delivery_id": str(string(o.ID)), "turn": number(o.Turn), "group": str(o.Group),
				attrTTL: number(db.now().Add(whatisup.DeliveriesKept).Unix()),
			}), "", nil, nil))
	}
	due := e.Due
	for range oweTries {
		sooner = due.IsZero() || due.After(next)
		err = db.transact(ctx, append(items[:2*len(all):2*len(all)], types.TransactWriteItem{Update: db.owing(e, next, sooner, behind)}))
		for i := range all {
			if _, failed := failedAt(err, 2*i); failed {
				return false, whatisup.ErrConflict
			}
		}
		old, failed := failedAt(err, 2*len(all))
		switch {
		case !failed:
			return sooner, err
		case old == nil:
			return false, whatisup.ErrNotFound
		case behind && !boolOf(old["behind"]):
			return false, whatisup.ErrCaughtUp
		}
		due = dueTime(stringOf(old["due_at"]))
	}
	return false, fmt.Errorf("endpoint %s: its next moment moves too often: %w", e.ID, whatisup.ErrUnavailable)
}

// oweTries is how often the endpoint's next moment may be another one than was read.
const oweTries = 5

// owing is what to owe something changes of an endpoint: sooner says that its next moment
// is after next, and must come to be that.
func (db *DB) owing(e *whatisup.Endpoint, next time.Time, sooner, behind bool) *types.Update {
	expression, condition := "ADD version :one", " AND due_at <= :at"
	values := item{":one": number(1), ":at": str(dueText(next))}
	if sooner {
		expression, condition = "SET due = :due, due_at = :at ADD version :one", " AND (attribute_not_exists(due_at) OR due_at > :at)"
		values[":due"] = str(allDue)
	}
	if behind {
		condition += " AND behind = :yes"
		values[":yes"] = boolean(true)
	}
	return db.updateEndpoint(e, expression, condition, values)
}

// Owed lists what an endpoint owes, in order, as far as it is due, at most so many;
// and when the next is due, zero if there is no further one.
func (db *DB) Owed(ctx context.Context, id whatisup.EndpointID, now time.Time, most int) (due []whatisup.Owed, next time.Time, err error) {
	for row, err := range db.query(ctx, &dynamodb.QueryInput{
		TableName: aws.String(db.tables.Webhooks), ConsistentRead: aws.Bool(true),
		KeyConditionExpression:    aws.String("pk = :pk"),
		ExpressionAttributeValues: item{":pk": str(owedPartition(id))},
		Limit:                     aws.Int32(int32(most + 1)),
	}) {
		if err != nil {
			return nil, next, err
		}
		o := whatisup.Owed{Key: stringOf(row[attrSK]), Delivery: whatisup.DeliveryID(stringOf(row["delivery_id"])), Turn: int(intOf(row["turn"])), Group: stringOf(row["group"])}
		var ms int64
		if _, err := fmt.Sscanf(o.Key, "%015d#", &ms); err != nil {
			return nil, next, fmt.Errorf("owed at %s: %w", o.Key, err)
		}
		if at := time.UnixMilli(ms).UTC(); len(due) == most || at.After(now) {
			return due, at, nil
		}
		due = append(due, o)
	}
	return due, next, nil
}

// Paid removes what is no longer owed.
func (db *DB) Paid(ctx context.Context, id whatisup.EndpointID, all []whatisup.Owed) error {
	var removes []types.WriteRequest
	for _, o := range all {
		removes = append(removes, types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: key(owedPartition(id), o.Key)}})
	}
	return db.writeWebhooks(ctx, removes)
}

// Delivery reads a delivery, consistently, or ErrNotFound.
func (db *DB) Delivery(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.DeliveryID) (*whatisup.Delivery, error) {
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(db.tables.Webhooks), Key: deliveryKey(c, m, id), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, translate(err)
	}
	d, err := db.readDelivery(out.Item)
	if err == nil && d == nil {
		return nil, whatisup.ErrNotFound
	}
	return d, err
}

// readDelivery reads a row; nil if there is none, or it is over its time.
func (db *DB) readDelivery(row item) (*whatisup.Delivery, error) {
	if row == nil || intOf(row[attrTTL]) <= db.now().Unix() {
		return nil, nil
	}
	var r deliveryRow
	if err := attributevalue.UnmarshalMap(row, &r); err != nil {
		return nil, err
	}
	return r.delivery()
}

// Deliveries lists a customer's deliveries below an id (empty: all), newest first.
func (db *DB) Deliveries(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, before whatisup.DeliveryID, about int) iter.Seq2[*whatisup.Delivery, error] {
	in := &dynamodb.QueryInput{
		TableName: aws.String(db.tables.Webhooks), ConsistentRead: aws.Bool(true), ScanIndexForward: aws.Bool(false),
		KeyConditionExpression:    aws.String("pk = :pk"),
		ExpressionAttributeValues: item{":pk": str(partition(c, m) + "#deliveries")},
	}
	if before != "" {
		in.KeyConditionExpression = aws.String("pk = :pk AND sk < :sk")
		in.ExpressionAttributeValues[":sk"] = str(string(before))
	}
	if about > 0 {
		in.Limit = aws.Int32(int32(min(about, 1000)))
	}
	return func(yield func(*whatisup.Delivery, error) bool) {
		for row, err := range db.query(ctx, in) {
			var r deliveryRow
			if err == nil {
				err = attributevalue.UnmarshalMap(row, &r)
			}
			if err == nil && r.TTL <= db.now().Unix() {
				continue
			}
			d, readErr := r.delivery()
			if !yield(d, errors.Join(err, readErr)) || err != nil {
				return
			}
		}
	}
}

func attemptsText(all []whatisup.DeliveryAttempt) string {
	if len(all) == 0 {
		return ""
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err) // numbers and texts
	}
	return string(b)
}

// holdWebhooks notes in the table of webhooks, which is all that deliveries read, that a
// customer is suspended or is no longer.
func (db *DB) holdWebhooks(ctx context.Context, c whatisup.CustomerID, suspended bool) error {
	if db.tables.Webhooks == "" {
		return nil
	}
	for _, m := range []whatisup.Mode{whatisup.Live, whatisup.Test} {
		row := holdKey(c, m)
		row["suspended"] = boolean(suspended)
		if _, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(db.tables.Webhooks), Item: row}); err != nil {
			return translate(err)
		}
	}
	return nil
}
