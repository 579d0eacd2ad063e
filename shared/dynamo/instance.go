package dynamo

import (
	"context"
	"encoding/json"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// Instance reads one live instance whole, consistently, in one request under
// the customer's own partition: ErrNotFound for an id that does not exist, was
// deleted, or is another customer's, which can't be told apart here.
func (db *DB) Instance(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.InstanceID) (*whatisup.Instance, error) {
	out, err := db.client.Query(ctx, &dynamodb.QueryInput{
		TableName:                 aws.String(db.tables.Instances),
		KeyConditionExpression:    aws.String("pk = :pk AND begins_with(sk, :sk)"),
		ExpressionAttributeValues: item{":pk": str(partition(c, m)), ":sk": str(string(id))},
		ConsistentRead:            aws.Bool(true),
	})
	if err != nil {
		return nil, translate(err)
	}
	i, ok, err := assemble(c, m, id, out.Items)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, whatisup.ErrNotFound
	}
	return i, nil
}

// Deleted reads a tombstone, consistently, or ErrNotFound.
func (db *DB) Deleted(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, id whatisup.InstanceID) (*whatisup.Instance, error) {
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(db.tables.Instances),
		Key:            tombstoneKey(c, m, id),
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, translate(err)
	}
	if out.Item == nil {
		return nil, whatisup.ErrNotFound
	}
	i, _, err := assemble(c, m, id, []item{out.Item})
	return i, err
}

// Instances lists a customer's live instances, newest first, beginning below
// the id before (empty: at the newest). It reads page by page as the loop goes
// on; about says how many instances the caller expects to take, so that a short
// list is one small request. An error ends it.
func (db *DB) Instances(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, before whatisup.InstanceID, about int) iter.Seq2[*whatisup.Instance, error] {
	return func(yield func(*whatisup.Instance, error) bool) {
		in := &dynamodb.QueryInput{
			TableName:                 aws.String(db.tables.Instances),
			KeyConditionExpression:    aws.String("pk = :pk"),
			ExpressionAttributeValues: item{":pk": str(partition(c, m))},
			ScanIndexForward:          aws.Bool(false),
			ConsistentRead:            aws.Bool(true),
		}
		if before != "" {
			// An instance's other rows sort behind its config row, so this leaves
			// out all of it and nothing else.
			in.KeyConditionExpression = aws.String("pk = :pk AND sk < :before")
			in.ExpressionAttributeValues[":before"] = str(string(before))
		}
		var rows []item // of the instance that is being read; its config row comes last
		for {
			if about > 0 {
				in.Limit = aws.Int32(int32(min(2*about+8, 1000)))
			}
			out, err := db.client.Query(ctx, in)
			if err != nil {
				yield(nil, translate(err))
				return
			}
			for _, row := range out.Items {
				rows = append(rows, row)
				sk := stringOf(row[attrSK])
				if strings.Contains(sk, "#") {
					continue
				}
				i, _, err := assemble(c, m, whatisup.InstanceID(sk), rows)
				rows = rows[:0]
				if !yield(i, err) || err != nil {
					return
				}
			}
			if out.LastEvaluatedKey == nil {
				return
			}
			in.ExclusiveStartKey = out.LastEvaluatedKey
		}
	}
}

// CreateInstance writes a new instance, its event, its count, and the record of
// the request, in one transaction. It answers whatisup.ErrTooMany, ErrSuspended
// or ErrClaimLost, and nothing was written then.
func (db *DB) CreateInstance(ctx context.Context, cfg whatisup.Config, also whatisup.Created) error {
	i := &whatisup.Instance{Config: cfg, Shard: db.ShardOf(cfg.ID)}
	row := configRowOf(&i.Config, &i.Wanted, i.Shard)
	db.markUnsent(&row, whatisup.Unsent{}, also.Event)
	host := hostRowOf(&whatisup.Observed{
		Status: whatisup.Pending, Since: cfg.UpdatedAt, UpdatedAt: cfg.UpdatedAt,
	})
	observed := marshal(host, hostMeta{})
	observed[attrShardKey] = str(row.ShardKey)
	items := []types.TransactWriteItem{
		db.countInstance(cfg.Customer, cfg.Mode, +1, also.MaxInstances),
		db.notSuspended(cfg.Customer),
		put(db.tables.Instances, withKey(configKey(cfg.Customer, cfg.Mode, cfg.ID), marshal(row)), "attribute_not_exists(pk)", nil, nil),
		put(db.tables.Instances, withKey(hostKey(cfg.Customer, cfg.Mode, cfg.ID), observed), "attribute_not_exists(pk)", nil, nil),
	}
	if row.MetadataApart {
		items = append(items, put(db.tables.Instances, metadataRow(&cfg), "", nil, nil))
	}
	event, err := db.eventItem(also.Event)
	if err != nil {
		return err
	}
	items = append(items, event)
	once := len(items)
	if also.Record != nil {
		items = append(items, db.recordItem(also.Record))
	}
	err = db.transact(ctx, items)
	if _, ok := failedAt(err, 1); ok {
		return whatisup.ErrSuspended
	}
	if _, ok := failedAt(err, 0); ok {
		return whatisup.ErrTooMany
	}
	if _, ok := failedAt(err, once); ok {
		return whatisup.ErrClaimLost
	}
	return err
}

// notSuspended checks the customer within a transaction.
func (db *DB) notSuspended(c whatisup.CustomerID) types.TransactWriteItem {
	return check(db.tables.Access, customerKey(c), "attribute_not_exists(pk) OR suspended = :no", item{":no": boolean(false)}, nil)
}

func metadataRow(c *whatisup.Config) item {
	row := metadataKey(c.Customer, c.Mode, c.ID)
	row["metadata"] = str(string(c.Metadata))
	return row
}

// markUnsent marks an event of the API on the row that it tells of, until each
// queue has it or owes it.
func (db *DB) markUnsent(row *configRow, was whatisup.Unsent, e whatisup.Event) {
	if db.queues && e.Name != "" {
		was = was.With(db.now(), e)
	}
	row.UnsentFrom, row.UnsentLast, row.UnsentAt = string(was.From), string(was.Last), millis(was.At)
}

// UpdateConfig replaces name and metadata of the instance as it was read, and
// writes the event. It answers ErrConflict if they changed since the read, and
// ErrNotFound if the instance is gone.
func (db *DB) UpdateConfig(ctx context.Context, read *whatisup.Instance, cfg whatisup.Config, e whatisup.Event) error {
	was := configRowOf(&read.Config, &read.Wanted, read.Shard)
	row := configRowOf(&cfg, &read.Wanted, read.Shard)
	k := configKey(cfg.Customer, cfg.Mode, cfg.ID)
	expression := "SET #name = :name, version = :version, config_updated_at = :at, metadata_apart = :apart"
	values := item{
		":name": str(cfg.Name), ":version": number(read.Config.Version + 1), ":was": number(read.Config.Version),
		":at": number(row.UpdatedAt), ":apart": boolean(row.MetadataApart),
	}
	if row.MetadataApart {
		expression += " REMOVE metadata"
	} else {
		expression = strings.Replace(expression, "SET ", "SET metadata = :metadata, ", 1)
		values[":metadata"] = str(row.Metadata)
	}
	expression = db.addUnsent(expression, values, e)
	items := []types.TransactWriteItem{update(db.tables.Instances, k, expression,
		"attribute_exists(pk) AND version = :was", values, map[string]string{"#name": "name"})}
	switch {
	case row.MetadataApart:
		items = append(items, put(db.tables.Instances, metadataRow(&cfg), "", nil, nil))
	case was.MetadataApart:
		items = append(items, remove(db.tables.Instances, metadataKey(cfg.Customer, cfg.Mode, cfg.ID), "", nil, nil))
	}
	event, err := db.eventItem(e)
	if err != nil {
		return err
	}
	err = db.transact(ctx, append(items, event))
	return changedOrGone(err, 0)
}

// UpdateSettings replaces the settings of the instance as it was read. It answers
// ErrConflict if they changed since the read, and ErrNotFound if the instance is
// gone.
func (db *DB) UpdateSettings(ctx context.Context, read *whatisup.Instance, s whatisup.Settings) error {
	c := &read.Config
	return changedOrGone(db.updateOne(ctx, update(db.tables.Instances, configKey(c.Customer, c.Mode, c.ID),
		"SET settings = :settings, settings_version = :next",
		"attribute_exists(pk) AND (settings_version = :was OR attribute_not_exists(settings_version))",
		item{":settings": str(jsonOf(&s)), ":was": number(read.SettingsVersion), ":next": number(read.SettingsVersion + 1)}, nil).Update), 0)
}

// addUnsent marks the event in an update of the config row. What is marked already
// stays marked: the mark is where the log is to be read from.
func (db *DB) addUnsent(expression string, values item, e whatisup.Event) string {
	if !db.queues || e.Name == "" {
		return expression
	}
	values[":mark"], values[":now"] = str(string(whatisup.MarkOf(&e))), number(db.now().UnixMilli())
	return strings.Replace(expression, "SET ",
		"SET unsent_from = if_not_exists(unsent_from, :mark), unsent_last = :mark, unsent_at = if_not_exists(unsent_at, :now), ", 1)
}

// changedOrGone tells what a failed condition of the i-th item means to the
// API: the row is missing, or it has changed.
func changedOrGone(err error, i int) error {
	old, failed := failedAt(err, i)
	switch {
	case !failed:
		return err
	case len(old) == 0:
		return whatisup.ErrNotFound
	default:
		return whatisup.ErrConflict
	}
}

// Want stores w as what the API wants of the instance as it was read, together
// with the record of the request if there is one. It answers ErrConflict if
// somebody wanted something else since the read, ErrNotFound if the instance is
// gone, ErrSuspended if the customer is suspended, and ErrClaimLost.
func (db *DB) Want(ctx context.Context, read *whatisup.Instance, w whatisup.Wanted, record *whatisup.Record) error {
	item := db.wantItem(read, w, "", " AND attribute_not_exists(suspended)")
	var err error
	if record == nil { // alone it needs no transaction, which would cost twice
		err = db.updateOne(ctx, item.Update)
	} else {
		err = db.transact(ctx, []types.TransactWriteItem{item, db.recordItem(record)})
		if _, ok := failedAt(err, 1); ok {
			return whatisup.ErrClaimLost
		}
	}
	if old, failed := failedAt(err, 0); failed && old["suspended"] != nil {
		return whatisup.ErrSuspended
	}
	return changedOrGone(err, 0)
}

// Suspend stops the instance as it was read, and keeps every later Want from
// starting it. It answers ErrConflict and ErrNotFound.
func (db *DB) Suspend(ctx context.Context, read *whatisup.Instance, w whatisup.Wanted) error {
	return changedOrGone(db.updateOne(ctx, db.wantItem(read, w, ", suspended = :yes", "").Update), 0)
}

// Unsuspend lets the instance be started again. It answers ErrNotFound.
func (db *DB) Unsuspend(ctx context.Context, read *whatisup.Instance) error {
	c := &read.Config
	return changedOrGone(db.updateOne(ctx, update(db.tables.Instances, configKey(c.Customer, c.Mode, c.ID),
		"REMOVE suspended", "attribute_exists(pk)", nil, nil).Update), 0)
}

// list is a list of rows as an attribute.
func list[T any](rows []T) types.AttributeValue {
	l := &types.AttributeValueMemberL{}
	for _, r := range rows {
		l.Value = append(l.Value, &types.AttributeValueMemberM{Value: marshal(r)})
	}
	return l
}

// wantItem writes what is wanted of the instance as it was read.
func (db *DB) wantItem(read *whatisup.Instance, w whatisup.Wanted, set, condition string) types.TransactWriteItem {
	c := &read.Config
	values := item{
		":wanted": boolean(w.Online), ":was": number(read.Wanted.Version), ":next": number(read.Wanted.Version + 1),
		":generation": number(uint64(w.Generation)), ":unlink": number(uint64(w.UnlinkThrough)),
		":phone": str(string(w.PairPhone)), ":serial": number(w.PairSerial), ":attempts": list(attemptRows(w.Attempts)),
		":asked": list(askedRows(w.Asked)),
		":at":    number(millis(w.ChangedAt)), ":request": str(string(w.RequestID)),
	}
	if strings.Contains(set, ":yes") {
		values[":yes"] = boolean(true)
	}
	return update(db.tables.Instances, configKey(c.Customer, c.Mode, c.ID),
		"SET wanted = :wanted, wanted_version = :next, generation = :generation, unlink_through = :unlink, "+
			"pair_phone = :phone, pair_serial = :serial, attempts = :attempts, asked = :asked, changed_at = :at, request_id = :request"+set,
		"attribute_exists(pk) AND wanted_version = :was"+condition, values, nil)
}

// DeleteInstance moves the instance as it was read to its tombstone, counts it
// out, and writes what else belongs to it. From then on it is gone from every read;
// its host finds the tombstone in the shard, unlinks and wipes. The event is the
// instance's last one: where a host may have more to tell, it goes into the
// tombstone, for TellDeleted, else into the log.
// It answers ErrConflict if any part changed since the read or a key was bound to
// the instance, ErrNotFound if it is gone already, and ErrClaimLost.
func (db *DB) DeleteInstance(ctx context.Context, read *whatisup.Instance, e whatisup.Event, also *whatisup.Deleted) error {
	c := &read.Config
	now := db.now()
	row := configRowOf(c, &read.Wanted, read.Shard)
	apart := row.MetadataApart
	row.Name, row.Metadata, row.MetadataApart = "", "", false // of no use to anybody any more
	row.Wanted, row.UnlinkThrough, row.DeletedAt, row.ChangedAt = false, uint64(whatisup.Everything), now.UnixMilli(), now.UnixMilli()
	row.WantedVersion = read.Wanted.Version + 1
	logged, marked := []types.TransactWriteItem(nil), whatisup.Event{}
	if read.HostTells() {
		farewell, err := json.Marshal(e)
		if err != nil {
			return err
		}
		row.Farewell = string(farewell)
	} else {
		item, err := db.eventItem(e)
		if err != nil {
			return err
		}
		logged, marked = append(logged, item), e
	}
	db.markUnsent(&row, read.Unsent, marked)
	tombstone := withKey(tombstoneKey(c.Customer, c.Mode, c.ID),
		marshal(row, hostRowOf(&read.Observed), hostMeta{Epoch: uint64(read.Observed.Epoch), Rev: read.Rev}, owedRow(read.Observed.Owed, now)))
	items := []types.TransactWriteItem{
		remove(db.tables.Instances, configKey(c.Customer, c.Mode, c.ID),
			"attribute_exists(pk) AND wanted_version = :wanted AND version = :version AND (bound_keys = :bound OR attribute_not_exists(bound_keys))",
			item{":wanted": number(read.Wanted.Version), ":version": number(c.Version), ":bound": number(read.BoundKeys)}, nil),
		remove(db.tables.Instances, hostKey(c.Customer, c.Mode, c.ID),
			"attribute_exists(pk) AND rev = :rev", item{":rev": number(read.Rev)}, nil),
		put(db.tables.Instances, tombstone, "attribute_not_exists(pk)", nil, nil),
		db.countInstance(c.Customer, c.Mode, -1, 0),
	}
	items = append(items, logged...)
	if apart {
		items = append(items, remove(db.tables.Instances, metadataKey(c.Customer, c.Mode, c.ID), "", nil, nil))
	}
	record := -1
	if also != nil {
		for _, k := range also.Bound {
			items = append(items, db.revokeItems(k, now)...)
		}
		if also.Record != nil {
			record = len(items)
			items = append(items, db.recordItem(also.Record))
		}
	}
	err := db.transact(ctx, items)
	if _, ok := failedAt(err, record); ok {
		return whatisup.ErrClaimLost
	}
	if _, ok := failedAt(err, 0); ok {
		return changedOrGone(err, 0)
	}
	if _, ok := failedAt(err, 1); ok {
		return whatisup.ErrConflict // the host wrote, or the config row would be gone too
	}
	return err
}

// Sent removes the mark of the API's unsent events as it was read, now that each
// queue has them or owes them. If another was added meanwhile the mark stays, and
// the host sends from there.
func (db *DB) Sent(ctx context.Context, read *whatisup.Instance) error {
	if read.Unsent.From == "" {
		return nil
	}
	c := &read.Config
	k := configKey(c.Customer, c.Mode, c.ID)
	if !read.DeletedAt.IsZero() {
		k = tombstoneKey(c.Customer, c.Mode, c.ID)
	}
	err := db.updateOne(ctx, update(db.tables.Instances, k, "REMOVE unsent_from, unsent_last, unsent_at",
		"attribute_exists(pk) AND unsent_from = :from AND unsent_last = :last",
		item{":from": str(string(read.Unsent.From)), ":last": str(string(read.Unsent.Last))}, nil).Update)
	if _, failed := failedAt(err, 0); failed {
		return nil
	}
	return err
}

// countInstance changes a customer's count of instances of one mode; with a
// limit it fails when the count has reached it.
func (db *DB) countInstance(c whatisup.CustomerID, m whatisup.Mode, by, limit int) types.TransactWriteItem {
	u := &types.Update{
		TableName:                 aws.String(db.tables.Access),
		Key:                       key("customer#"+string(c), "count#"+string(m)),
		UpdateExpression:          aws.String("ADD instances :by"),
		ExpressionAttributeValues: item{":by": &types.AttributeValueMemberN{Value: map[bool]string{true: "1", false: "-1"}[by > 0]}},
	}
	if limit > 0 {
		u.ConditionExpression = aws.String("attribute_not_exists(instances) OR instances < :limit")
		u.ExpressionAttributeValues[":limit"] = number(limit)
	}
	return types.TransactWriteItem{Update: u}
}
