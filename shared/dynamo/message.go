package dynamo

import (
	"context"
	"encoding/json"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// The indexes of the messages table.
const (
	// IndexLine is local and sparse: the messages of one instance that wait, in
	// the order in which they became due, read consistently.
	IndexLine = "line"
	// IndexListed is local: all messages of one instance by time.
	IndexListed = "listed"
	// IndexWaiting is global and sparse: which instances of a shard have messages
	// that wait. It says only where to look.
	IndexWaiting = "waiting"
)

// AcceptMessage stores a message that waits, where nothing stands under its id.
// If something does, it returns that: the row is the record of the request, and a
// repetition of it has the same id.
//
// The row has no condition on its instance. One that is deleted at this moment
// leaves a row that nobody can read, and whose link no session has: its owner
// ends it with the link, or the sweep does.
func (db *DB) AcceptMessage(ctx context.Context, m *whatisup.Message) (old *whatisup.Message, err error) {
	return db.putMessage(ctx, m)
}

// KeepReceived stores a received message where nothing stands under its chat,
// sender and id. If something does, it returns that; its event id is the one that
// the message has been told under.
func (db *DB) KeepReceived(ctx context.Context, m *whatisup.Message) (old *whatisup.Message, err error) {
	row, err := db.putParts(ctx, m, db.messageRowOf(m))
	if err != nil {
		return nil, err
	}
	if old, err = db.putRow(ctx, row); err != nil || m.Change {
		return old, err
	}
	if db.now().Sub(m.Times.Created) > lateAfter {
		err = db.recountChats(ctx, m.Ref) // its place may be counted already
	}
	return old, err
}

// partSize is how many bytes of a large message stand in one row. A row may have
// 400 KB.
const partSize = 300_000

// putParts moves body and context of a message that is too large for one row into
// rows of their own, which are written first. They are named by the event, so that
// another message under the same key can't replace them.
func (db *DB) putParts(ctx context.Context, m *whatisup.Message, row item) (item, error) {
	if len(m.Raw)+len(m.Context)+len(m.Text) <= partSize {
		return row, nil
	}
	whole, err := json.Marshal(wholeMessage{m.Raw, m.Context, m.Text})
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]whatisup.BodyType{"type": m.Type()})
	if err != nil {
		return nil, err
	}
	n := 0
	for ; len(whole) > 0; n++ {
		size := min(partSize, len(whole))
		part := partKey(messagesPartition(m.Ref), string(m.EventID), n)
		part["part"], part[attrTTL] = &types.AttributeValueMemberB{Value: whole[:size]}, row[attrTTL]
		if _, err := db.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String(db.tables.Messages), Item: part}); err != nil {
			return nil, translate(err)
		}
		whole = whole[size:]
	}
	row["body"], row["parts"], row["part_of"] = str(string(body)), number(n), str(string(m.EventID))
	delete(row, "context")
	delete(row, "text")
	return row, nil
}

// wholeMessage is what the parts of a large message hold.
type wholeMessage struct {
	Body    json.RawMessage `json:"body"`
	Context json.RawMessage `json:"context,omitempty"`
	Text    string          `json:"text,omitempty"`
}

// withParts completes a message that was read with what its parts hold.
func (db *DB) withParts(ctx context.Context, row item, m *whatisup.Message) error {
	n := intOf(row["parts"])
	if n == 0 {
		return nil
	}
	var whole []byte
	for i := range int(n) {
		out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
			TableName: aws.String(db.tables.Messages), Key: partKey(messagesPartition(m.Ref), stringOf(row["part_of"]), i), ConsistentRead: aws.Bool(true),
		})
		if err != nil {
			return translate(err)
		}
		part, ok := out.Item["part"].(*types.AttributeValueMemberB)
		if !ok {
			return nil // past its time: the row goes, too
		}
		whole = append(whole, part.Value...)
	}
	var w wholeMessage
	if err := json.Unmarshal(whole, &w); err != nil {
		return err
	}
	m.Raw, m.Context, m.Text = w.Body, w.Context, w.Text
	return nil
}

// UpdateReceived replaces a received message that could not be read by what it
// turned out to be. ErrConflict: somebody has done so, or there is no such row.
func (db *DB) UpdateReceived(ctx context.Context, m *whatisup.Message) error {
	row, err := db.putParts(ctx, m, db.messageRowOf(m))
	if err != nil {
		return err
	}
	_, err = db.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: aws.String(db.tables.Messages), Item: row,
		ConditionExpression:       aws.String("begins_with(body, :undecryptable) AND attribute_not_exists(updated_by)"),
		ExpressionAttributeValues: item{":undecryptable": str(undecryptableBody)},
	})
	err = translate(err)
	if _, failed := failedAt(err, 0); failed {
		return whatisup.ErrConflict
	}
	return err
}

// undecryptableBody is how the body of a message begins that could not be read.
const undecryptableBody = `{"type":"` + string(whatisup.BodyUndecryptable) + `"`

func (db *DB) putMessage(ctx context.Context, m *whatisup.Message) (old *whatisup.Message, err error) {
	return db.putRow(ctx, db.messageRowOf(m))
}

func (db *DB) putRow(ctx context.Context, row item) (old *whatisup.Message, err error) {
	_, err = db.insert(ctx, &dynamodb.PutItemInput{
		TableName:                           aws.String(db.tables.Messages),
		Item:                                row,
		ConditionExpression:                 aws.String("attribute_not_exists(pk)"),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	err = translate(err)
	if found, failed := failedAt(err, 0); failed {
		return message(found)
	}
	return nil, err
}

// Message reads one of the instance's own messages, consistently, or ErrNotFound.
func (db *DB) Message(ctx context.Context, r whatisup.Ref, id whatisup.MessageID) (*whatisup.Message, error) {
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(db.tables.Messages), Key: messageKey(r, id), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, translate(err)
	}
	if out.Item == nil || db.past(out.Item) {
		return nil, whatisup.ErrNotFound
	}
	return message(out.Item)
}

// Received reads a message that the instance has received, by its chat, sender and
// id, or ErrNotFound. The addresses are those of the row: by LID where it was known.
func (db *DB) Received(ctx context.Context, r whatisup.Ref, chat, from whatisup.Address, id whatisup.MessageID) (*whatisup.Message, error) {
	m := &whatisup.Message{Ref: r, ID: id, Chat: chat}
	if n, ok := from.Number(); ok {
		m.From.PhoneNumber = n
	} else {
		m.From.LID, _ = from.LID()
	}
	out, err := db.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(db.tables.Messages), Key: receivedKey(m), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, translate(err)
	}
	if out.Item == nil || db.past(out.Item) {
		return nil, whatisup.ErrNotFound
	}
	return message(out.Item)
}

// past says whether a row is past its time and only not removed yet.
func (db *DB) past(row item) bool {
	ttl := intOf(row[attrTTL])
	return ttl != 0 && ttl <= db.now().Unix()
}

// Line reads the instance's messages that wait and became due at since or later
// (zero: all), in their order, consistently. At most so many are returned.
func (db *DB) Line(ctx context.Context, r whatisup.Ref, since time.Time, most int) ([]*whatisup.Message, error) {
	in := &dynamodb.QueryInput{
		TableName: aws.String(db.tables.Messages), IndexName: aws.String(IndexLine),
		KeyConditionExpression:    aws.String("pk = :pk AND line >= :since"),
		ExpressionAttributeValues: item{":pk": str(messagesPartition(r)), ":since": str(orderedMillis(since))},
		ConsistentRead:            aws.Bool(true),
		Limit:                     aws.Int32(int32(most)),
	}
	var line []*whatisup.Message
	for row, err := range db.query(ctx, in) {
		if err != nil {
			return nil, err
		}
		m, err := message(row)
		if err != nil {
			return nil, err
		}
		if line = append(line, m); len(line) >= most {
			break
		}
	}
	return line, nil
}

// CountWaiting counts the messages of an instance that wait, up to most.
func (db *DB) CountWaiting(ctx context.Context, r whatisup.Ref, most int) (int, error) {
	out, err := db.client.Query(ctx, &dynamodb.QueryInput{
		TableName: aws.String(db.tables.Messages), IndexName: aws.String(IndexLine),
		KeyConditionExpression:    aws.String("pk = :pk"),
		ExpressionAttributeValues: item{":pk": str(messagesPartition(r))},
		Select:                    types.SelectCount,
		ConsistentRead:            aws.Bool(true),
		Limit:                     aws.Int32(int32(most)),
	})
	if err != nil {
		return 0, translate(err)
	}
	return int(out.Count), nil
}

// WaitingInstances lists the instances of a shard that have messages that wait,
// each once. The index may be late: a hit is a hint.
func (db *DB) WaitingInstances(ctx context.Context, m whatisup.Mode, s whatisup.Shard) ([]whatisup.Ref, error) {
	in := &dynamodb.QueryInput{
		TableName: aws.String(db.tables.Messages), IndexName: aws.String(IndexWaiting),
		KeyConditionExpression:    aws.String("shard_key = :shard"),
		ExpressionAttributeValues: item{":shard": str(shardKey(m, s))},
		ProjectionExpression:      aws.String("pk"),
	}
	var refs []whatisup.Ref
	last := ""
	for row, err := range db.query(ctx, in) {
		if err != nil {
			return nil, err
		}
		pk := stringOf(row[attrPK])
		if pk == last {
			continue // the index is in the order of instances
		}
		last = pk
		if r, ok := refOfPartition(pk); ok {
			refs = append(refs, r)
		}
	}
	return refs, nil
}

// StepMessage moves an own message to a higher rank, and returns it as it is then,
// with the status that it had. A message that is at that rank or above already is returned unchanged,
// with the first time of the step if that was missing; ErrNotFound if there is
// none. It has no fence: sent and receipts are true whoever writes them.
func (db *DB) StepMessage(ctx context.Context, r whatisup.Ref, id whatisup.MessageID, s whatisup.Step) (m *whatisup.Message, previous whatisup.MessageStatus, err error) {
	u := db.stepUpdate(r, id, s)
	out, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: u.TableName, Key: u.Key, UpdateExpression: u.UpdateExpression,
		ConditionExpression: u.ConditionExpression, ExpressionAttributeNames: u.ExpressionAttributeNames,
		ExpressionAttributeValues:           u.ExpressionAttributeValues,
		ReturnValues:                        types.ReturnValueAllOld,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	err = translate(err)
	row, failed := failedAt(err, 0)
	switch {
	case err == nil:
		if m, err = message(out.Attributes); err == nil {
			previous = m.Status
			m.Take(s)
		}
		return m, previous, err
	case !failed:
		return nil, "", err
	case len(row) == 0:
		return nil, "", whatisup.ErrNotFound
	}

	if m, err = message(row); err != nil {
		return nil, "", err
	}
	if previous = m.Status; !m.Take(s) {
		return m, previous, nil
	}
	// Only the time was missing: a receipt may come before the acknowledgement.
	expression, values := "SET #time = if_not_exists(#time, :at)", item{":at": number(millis(s.At))}
	if s.Recipient != (whatisup.Person{}) {
		expression += ", pn = :pn, lid = :lid, chat = :chat"
		values[":pn"], values[":lid"], values[":chat"] = str(string(s.Recipient.PhoneNumber)), str(s.Recipient.LID), str(string(s.Chat))
	}
	_, err = db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: u.TableName, Key: u.Key,
		UpdateExpression:          aws.String(expression),
		ConditionExpression:       aws.String("attribute_exists(pk)"),
		ExpressionAttributeNames:  map[string]string{"#time": timeOf(s.Status)},
		ExpressionAttributeValues: values,
	})
	return m, previous, translate(err)
}

// EndMessages moves own messages that wait to a step that only the instance's
// owner may write (queued, failed, expired, canceled), all or none, under its
// epoch. It answers ErrFenced if another host has adopted the instance, and
// ErrConflict if one of the messages does not wait any more. At most 50.
func (db *DB) EndMessages(ctx context.Context, r whatisup.Ref, epoch whatisup.Epoch, steps map[whatisup.MessageID]whatisup.Step) error {
	return db.endMessages(ctx, r, steps, check(db.tables.Instances, hostKey(r.Customer, r.Mode, r.ID),
		"attribute_exists(pk) AND epoch = :mine", item{":mine": number(epoch)}, nil))
}

// EndUnowned does the same where no host acts for the instance's shard: only as long as
// the shard's epoch and the last beat of its owner are those of the silence as it was
// read. It answers ErrFenced if they are not, and ErrConflict as EndMessages does.
func (db *DB) EndUnowned(ctx context.Context, r whatisup.Ref, seen whatisup.Silence, steps map[whatisup.MessageID]whatisup.Step) error {
	fence := []types.TransactWriteItem{check(db.tables.Fleet, epochKey(r.Mode, seen.Lease.Shard),
		"epoch = :seen", item{":seen": number(seen.Lease.Epoch)}, nil)}
	if seen.Lease.Owner != "" {
		fence = append(fence, db.stillBeats(r.Mode, seen.Lease.Owner, seen.Owner))
	}
	return db.endMessages(ctx, r, steps, fence...)
}

// endMessages moves messages to their steps where all of the fence holds.
func (db *DB) endMessages(ctx context.Context, r whatisup.Ref, steps map[whatisup.MessageID]whatisup.Step, fence ...types.TransactWriteItem) error {
	items := fence
	for id, s := range steps {
		u := db.stepUpdate(r, id, s)
		items = append(items, types.TransactWriteItem{Update: &u})
	}
	err := db.transact(ctx, items)
	for i := range items {
		if _, failed := failedAt(err, i); failed && i < len(fence) {
			return whatisup.ErrFenced
		} else if failed {
			return whatisup.ErrConflict
		}
	}
	return err
}

// TryMessage writes, before the frame leaves, that the message is sent once more:
// a process that dies over it leaves the count behind.
func (db *DB) TryMessage(ctx context.Context, r whatisup.Ref, id whatisup.MessageID, attempts int) error {
	return db.updateMessage(ctx, r, id, "SET attempts = :attempts", "#rank < :sent",
		item{":attempts": number(attempts), ":sent": number(whatisup.MessageFailed.Rank())})
}

// WaitMessage writes what a message that waits is waiting for, and until when;
// empty and zero: its turn.
func (db *DB) WaitMessage(ctx context.Context, r whatisup.Ref, id whatisup.MessageID, why whatisup.WaitingFor, until time.Time) error {
	expression, values := "REMOVE waiting_for, waiting_until", item{":sent": number(whatisup.MessageFailed.Rank())}
	if why != "" {
		expression = "SET waiting_for = :why, waiting_until = :until"
		values[":why"], values[":until"] = str(string(why)), number(millis(until))
	}
	return db.updateMessage(ctx, r, id, expression, "#rank < :sent", values)
}

// AskCancel writes that the message is to be cancelled, if it still waits, and
// returns it as it is then. Its owner decides.
func (db *DB) AskCancel(ctx context.Context, r whatisup.Ref, id whatisup.MessageID) (*whatisup.Message, error) {
	err := db.updateMessage(ctx, r, id, "SET cancel_asked = :yes", "#rank < :sent",
		item{":yes": boolean(true), ":sent": number(whatisup.MessageFailed.Rank())})
	if err != nil && err != whatisup.ErrConflict {
		return nil, err
	}
	return db.Message(ctx, r, id)
}

// CancelScheduled cancels a message that is scheduled for later than after: its
// session writes queued first, so nothing can have left. ErrConflict: it is not
// scheduled any more.
func (db *DB) CancelScheduled(ctx context.Context, r whatisup.Ref, id whatisup.MessageID, after, now time.Time) error {
	u := db.stepUpdate(r, id, whatisup.Step{Status: whatisup.MessageCanceled, At: now})
	values := u.ExpressionAttributeValues
	values[":scheduled"], values[":after"] = str(string(whatisup.MessageScheduled)), number(millis(after))
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: u.TableName, Key: u.Key, UpdateExpression: u.UpdateExpression,
		ConditionExpression:                 aws.String(*u.ConditionExpression + " AND #status = :scheduled AND due > :after"),
		ExpressionAttributeNames:            u.ExpressionAttributeNames,
		ExpressionAttributeValues:           values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	return changedOrGone(translate(err), 0)
}

// updateMessage changes a row under a condition on its rank: ErrNotFound if there
// is none, ErrConflict if the condition fails.
func (db *DB) updateMessage(ctx context.Context, r whatisup.Ref, id whatisup.MessageID, expression, condition string, values item) error {
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Messages), Key: messageKey(r, id),
		UpdateExpression:                    aws.String(expression),
		ConditionExpression:                 aws.String("attribute_exists(pk) AND " + condition),
		ExpressionAttributeNames:            map[string]string{"#rank": "rank"},
		ExpressionAttributeValues:           values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	return changedOrGone(translate(err), 0)
}

// stepUpdate is the update that moves a message to a higher rank.
func (db *DB) stepUpdate(r whatisup.Ref, id whatisup.MessageID, s whatisup.Step) types.Update {
	set := []string{
		"#status = :status", "#rank = :rank", "status_at = :at", "#time = if_not_exists(#time, :at)",
		"may_have_been_sent = :may",
	}
	remove := []string{"waiting_for", "waiting_until"}
	values := item{
		":status": str(string(s.Status)), ":rank": number(s.Status.Rank()), ":at": number(millis(s.At)),
		":may": boolean(s.MayHaveBeenSent),
	}
	if s.Error != nil {
		set = append(set, "#error = :error")
		values[":error"] = str(jsonOf(s.Error))
	} else {
		remove = append(remove, "#error")
	}
	if s.Recipient != (whatisup.Person{}) {
		set = append(set, "pn = :pn", "lid = :lid")
		values[":pn"], values[":lid"] = str(string(s.Recipient.PhoneNumber)), str(s.Recipient.LID)
	}
	if s.Chat != "" {
		set = append(set, "chat = :chat")
		values[":chat"] = str(string(s.Chat))
	}
	if s.Recipients != nil {
		set = append(set, "recipients = :counts")
		values[":counts"] = str(jsonOf(s.Recipients))
	}
	if !s.Status.Waiting() {
		remove = append(remove, "line", attrShardKey)
		set = append(set, "#ttl = :ttl")
		values[":ttl"] = number(s.At.Add(whatisup.MessageKept).Unix())
	}
	u := update(db.tables.Messages, messageKey(r, id),
		"SET "+strings.Join(set, ", ")+" REMOVE "+strings.Join(remove, ", "),
		"attribute_exists(pk) AND #rank < :rank", values,
		map[string]string{"#status": "status", "#rank": "rank", "#time": timeOf(s.Status), "#error": "error"})
	if values[":ttl"] != nil {
		u.Update.ExpressionAttributeNames["#ttl"] = attrTTL
	}
	return *u.Update
}

// timeOf is the attribute that has the first time of a status.
func timeOf(s whatisup.MessageStatus) string { return "t_" + string(s) }

// Messages lists an instance's messages, newest first, as the loop goes on. About
// says how many the caller expects to take.
func (db *DB) Messages(ctx context.Context, r whatisup.Ref, l whatisup.Listing, about int) iter.Seq2[whatisup.Listed, error] {
	if l.Direction != "" {
		return db.listed(ctx, r, l.Direction, l.Before, about)
	}
	return merged(db.listed(ctx, r, whatisup.Outgoing, l.Before, about), db.listed(ctx, r, whatisup.Incoming, l.Before, about),
		func(a, b whatisup.Listed) bool { return a.Place >= b.Place })
}

// listed lists the messages of one direction. A place is the index key without
// the direction, so that both directions have one order.
func (db *DB) listed(ctx context.Context, r whatisup.Ref, d whatisup.Direction, before string, about int) iter.Seq2[whatisup.Listed, error] {
	prefix := string(d) + "#"
	end := prefix + before
	if before == "" {
		end = string(d) + "$" // what follows "#"
	}
	in := &dynamodb.QueryInput{
		TableName: aws.String(db.tables.Messages), IndexName: aws.String(IndexListed),
		KeyConditionExpression: aws.String("pk = :pk AND listed BETWEEN :from AND :before"),
		ExpressionAttributeValues: item{
			":pk": str(messagesPartition(r)), ":from": str(prefix), ":before": str(end),
		},
		Select:           types.SelectAllAttributes,
		ConsistentRead:   aws.Bool(true),
		ScanIndexForward: aws.Bool(false),
	}
	if about > 0 {
		in.Limit = aws.Int32(int32(min(about+1, 1000)))
	}
	return func(yield func(whatisup.Listed, error) bool) {
		for row, err := range db.query(ctx, in) {
			if err != nil {
				yield(whatisup.Listed{}, err)
				return
			}
			place := strings.TrimPrefix(stringOf(row["listed"]), prefix)
			if place == before || db.past(row) {
				continue
			}
			m, err := message(row)
			if err == nil {
				err = db.withParts(ctx, row, m)
			}
			if !yield(whatisup.Listed{Message: m, Place: place}, err) || err != nil {
				return
			}
		}
	}
}
