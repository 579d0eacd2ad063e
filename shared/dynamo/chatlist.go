package dynamo

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// The list of chats is derived from the messages, by whoever reads it: no message costs
// a write more. What was counted once stands in a row for each chat, through a place in
// the list of messages that is minutes old; newer messages are counted at each reading.
// A row holds what was counted and through where, so that a count that ends half way,
// or happens twice, changes nothing. A message that is stored long after it was
// received raises the generation: rows of an older one don't count any more.

const (
	// settled is how old a message is when no earlier one can turn up any more: those
	// that are stored later than lateAfter raise the generation.
	settled   = 2 * time.Minute
	lateAfter = time.Minute
	// countAfter is how many settled messages are counted at each reading before they
	// are counted for good; countMost is how many are counted at a time.
	countAfter = 100
	countMost  = 2_000
	// countTries is how often a count that met another one begins again.
	countTries = 20
	countAlike = 16 // rows that are written at the same time
	chatsKept  = whatisup.MessageKept + 2*24*time.Hour
	batchMost  = 100 // rows of one BatchGetItem

	listedChats whatisup.Direction = "chat" // chats in the index of lists
)

func chatsMarkKey(r whatisup.Ref) item { return key(messagesPartition(r), "s#chats") }

// chatsMark says which rows of chats count, and through where messages were counted.
type chatsMark struct {
	generation int64 // 0: none was begun
	through    string
}

// chatRow is a chat as it is stored, and what has come to it since.
type chatRow struct {
	whatisup.Chat
	stored   bool // in this generation
	through  string
	alias    whatisup.Address // the chat's other id; the row of that points here
	absorbed bool             // ... and has to be made to, as it was a chat itself
}

// Chats lists an instance's chats, the one with the last message first: those whose
// last message is before a place, empty for all, and at most so many. More says that
// there are others.
func (db *DB) Chats(ctx context.Context, r whatisup.Ref, before string, most int) (list []whatisup.Chat, more bool, err error) {
	mark, fresh, err := db.countChats(ctx, r)
	if err != nil {
		return nil, false, err
	}
	chats, hidden, err := db.gather(ctx, r, mark, fresh)
	if err != nil {
		return nil, false, err
	}
	var found []*chatRow
	for _, c := range chats {
		if c.Last != "" && (before == "" || c.Last < before) {
			found = append(found, c)
		}
		hidden[c.ID] = true
	}
	for c, err := range db.storedChats(ctx, r, mark, before, most+1) {
		if err != nil {
			return nil, false, err
		}
		if hidden[c.ID] {
			continue
		}
		if found = append(found, c); len(found) > most+len(chats) {
			break
		}
	}
	slices.SortFunc(found, func(a, b *chatRow) int { return strings.Compare(b.Last, a.Last) })
	if more = len(found) > most; more {
		found = found[:most]
	}
	list = make([]whatisup.Chat, len(found))
	for i, c := range found {
		list[i] = c.Chat
	}
	return list, more, db.lastMessages(ctx, r, list)
}

// lastMessages reads the last message of each chat, and the names of groups. A message
// whose time is over is nil.
func (db *DB) lastMessages(ctx context.Context, r whatisup.Ref, list []whatisup.Chat) error {
	keys := make([]item, len(list))
	for i, c := range list {
		keys[i] = keyOfPlace(r, c.Last)
	}
	for i := range list {
		if list[i].ID.IsGroup() {
			keys = append(keys, groupNameKey(r, list[i].ID))
		}
	}
	rows, err := db.messageItems(ctx, keys)
	if err != nil {
		return err
	}
	for i := range list {
		if list[i].ID.IsGroup() {
			list[i].Subject = stringOf(rows[stringOf(groupNameKey(r, list[i].ID)[attrSK])]["name"])
		}
		row := rows[stringOf(keys[i][attrSK])]
		if row == nil || db.past(row) {
			continue
		}
		m, err := message(row)
		if err == nil {
			err = db.withParts(ctx, row, m)
		}
		if err != nil {
			return err
		}
		list[i].Message = m
		if m.ChatType == whatisup.ChatDirect {
			list[i].ID = m.Chat // the LID may be known by now
		}
	}
	return nil
}

func keyOfPlace(r whatisup.Ref, place string) item {
	_, sk, _ := strings.Cut(place, "#")
	return key(messagesPartition(r), sk)
}

// messageItems reads rows of the messages table, by their sort keys.
func (db *DB) messageItems(ctx context.Context, keys []item) (map[string]item, error) {
	return db.items(ctx, db.tables.Messages, keys)
}

// items reads rows of one partition of a table, by their sort keys.
func (db *DB) items(ctx context.Context, table string, keys []item) (map[string]item, error) {
	rows := make(map[string]item, len(keys))
	for some := range slices.Chunk(keys, batchMost) {
		for len(some) > 0 {
			out, err := db.client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
				table: {Keys: some, ConsistentRead: aws.Bool(true)},
			}})
			if err != nil {
				return nil, translate(err)
			}
			for _, row := range out.Responses[table] {
				rows[stringOf(row[attrSK])] = row
			}
			next := out.UnprocessedKeys[table].Keys
			if len(next) == len(some) {
				return nil, whatisup.ErrUnavailable // throttled: nothing of it was read
			}
			some = next
		}
	}
	return rows, nil
}

// countChats counts what is settled, if it is much, and returns what is to be counted
// at this reading.
func (db *DB) countChats(ctx context.Context, r whatisup.Ref) (chatsMark, []whatisup.Listed, error) {
	for range countTries {
		mark, err := db.chatsMark(ctx, r)
		if err != nil {
			return mark, nil, err
		}
		end := orderedMillis(db.now().Add(-settled))
		var fresh []whatisup.Listed
		old, whole := 0, true
		for l, err := range db.messagesAfter(ctx, r, mark.through) {
			if err != nil {
				return mark, nil, err
			}
			if fresh = append(fresh, l); l.Place < end {
				old++
			}
			if old >= countMost {
				whole = false
				break
			}
		}
		if whole && old < countAfter {
			return mark, fresh, nil
		}
		if err := db.settleChats(ctx, r, mark, fresh[:old]); err != nil && !errors.Is(err, whatisup.ErrConflict) {
			return mark, nil, err
		}
	}
	// Half done is not lost: the next reading goes on.
	return chatsMark{}, nil, whatisup.ErrUnavailable
}

// chatsMark reads the mark; it is zero if there is none.
func (db *DB) chatsMark(ctx context.Context, r whatisup.Ref) (m chatsMark, err error) {
	row, err := db.remembered(ctx, chatsMarkKey(r))
	if err == nil && row == nil {
		return m, nil
	}
	m.generation, m.through = intOf(row["generation"]), stringOf(row["through"])
	return m, err
}

// recountChats has the chats of an instance counted from the beginning.
func (db *DB) recountChats(ctx context.Context, r whatisup.Ref) error {
	_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(db.tables.Messages), Key: chatsMarkKey(r),
		UpdateExpression:          aws.String("ADD generation :one REMOVE through"),
		ConditionExpression:       aws.String("attribute_exists(through)"), // else nothing is counted
		ExpressionAttributeValues: item{":one": number(1)},
	})
	err = translate(err)
	if _, never := failedAt(err, 0); never {
		return nil
	}
	return err
}

// settleChats stores what messages change in their chats, then that they are counted. Through
// is part of each chat's row: what another count, or this one before it died, has
// counted is not counted again.
func (db *DB) settleChats(ctx context.Context, r whatisup.Ref, mark chatsMark, old []whatisup.Listed) error {
	if mark.through == "" {
		// Rows of a generation are only written once its mark is there.
		if err := db.moveChatsMark(ctx, r, mark, chatsMark{mark.generation + 1, "0"}); err != nil {
			return err
		}
		mark = chatsMark{mark.generation + 1, "0"}
	}
	chats, _, err := db.gather(ctx, r, mark, old)
	if err != nil {
		return err
	}
	through := old[len(old)-1].Place
	var writers sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan struct{}, countAlike)
	for _, c := range chats {
		slots <- struct{}{}
		writers.Go(func() {
			defer func() { <-slots }()
			if e := db.putChat(ctx, r, mark.generation, through, c); e != nil {
				mu.Lock()
				err = e
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	if err != nil {
		return err
	}
	return db.moveChatsMark(ctx, r, mark, chatsMark{mark.generation, through})
}

func (db *DB) moveChatsMark(ctx context.Context, r whatisup.Ref, was, is chatsMark) error {
	condition, values := "generation = :was AND through = :from", item{":was": number(was.generation), ":from": str(was.through)}
	switch {
	case was.generation == 0:
		condition, values = "attribute_not_exists(pk)", item{}
	case was.through == "":
		condition, values = "generation = :was AND attribute_not_exists(through)", item{":was": number(was.generation)}
	}
	values[":is"], values[":through"], values[":ttl"] = number(is.generation), str(is.through), number(db.now().Add(2*chatsKept).Unix())
	return db.chatWrite(ctx, update(db.tables.Messages, chatsMarkKey(r),
		"SET generation = :is, through = :through, #ttl = :ttl", condition, values, map[string]string{"#ttl": attrTTL}).Update)
}

func (db *DB) chatWrite(ctx context.Context, u *types.Update) error {
	err := db.updateOne(ctx, u)
	if _, failed := failedAt(err, 0); failed {
		return whatisup.ErrConflict
	}
	return err
}

// putChat stores a chat. Its other id gets a row that points here: first, unless that
// is a chat itself, which must become it in the same moment.
func (db *DB) putChat(ctx context.Context, r whatisup.Ref, generation int64, through string, c *chatRow) error {
	k := chatKey(r, c.ID)
	condition, values := "attribute_not_exists(generation) OR generation < :generation", item{}
	if c.stored {
		condition = "generation = :generation AND through = :was"
		values[":was"] = str(c.through)
	}
	ttl := number(db.now().Add(chatsKept).Unix())
	for name, v := range map[string]string{
		":chat": string(c.ID), ":type": string(c.Type), ":pn": string(c.Person.PhoneNumber), ":lid": c.Person.LID, ":name": c.Person.Name,
		":last": c.Last, ":heard": c.Heard, ":through": through, ":listed": string(listedChats) + "#" + c.Last + "#" + stringOf(k[attrSK]),
	} {
		values[name] = str(v)
	}
	values[":unread"], values[":generation"], values[":ttl"] = number(c.Unread), number(generation), ttl
	put := update(db.tables.Messages, k,
		"SET chat = :chat, chat_type = :type, pn = :pn, lid = :lid, #name = :name, #last = :last, heard = :heard, through = :through, "+
			"listed = :listed, unread = :unread, generation = :generation, #ttl = :ttl REMOVE alias",
		condition, values, map[string]string{"#name": "name", "#last": "last", "#ttl": attrTTL})
	if c.alias == "" {
		return db.chatWrite(ctx, put.Update)
	}
	point := update(db.tables.Messages, chatKey(r, c.alias),
		"SET alias = :chat, generation = :generation, #ttl = :ttl REMOVE listed, through",
		"attribute_not_exists(generation) OR generation <= :generation",
		item{":chat": str(string(c.ID)), ":generation": number(generation), ":ttl": ttl}, map[string]string{"#ttl": attrTTL})
	if !c.absorbed {
		if err := db.chatWrite(ctx, point.Update); err != nil {
			return err
		}
		return db.chatWrite(ctx, put.Update)
	}
	err := db.transact(ctx, []types.TransactWriteItem{put, point})
	for i := range 2 {
		if _, failed := failedAt(err, i); failed {
			return whatisup.ErrConflict
		}
	}
	return err
}

// gather counts messages in their chats, as far as they are not counted there. Hidden
// are chats that are another one by now.
func (db *DB) gather(ctx context.Context, r whatisup.Ref, mark chatsMark, messages []whatisup.Listed) (chats map[whatisup.Address]*chatRow, hidden map[whatisup.Address]bool, err error) {
	chats, hidden = make(map[whatisup.Address]*chatRow), make(map[whatisup.Address]bool)
	names := make(map[whatisup.Address]bool)                // that messages have
	same := make(map[whatisup.Address]whatisup.PhoneNumber) // by LID
	lids := make(map[whatisup.Address]whatisup.Address)     // by number
	for _, l := range messages {
		if l.ChatType == whatisup.ChatStatus {
			continue
		}
		names[l.Chat] = true
		p := peer(l.Message)
		if p.PhoneNumber != "" {
			names[whatisup.NumberAddress(p.PhoneNumber)] = true
		}
		if p.LID != "" {
			names[whatisup.LIDAddress(p.LID)] = true
		}
		if p.PhoneNumber != "" && p.LID != "" {
			lid := whatisup.LIDAddress(p.LID)
			same[lid], lids[whatisup.NumberAddress(p.PhoneNumber)] = p.PhoneNumber, lid
		}
	}
	rows, err := db.chatRows(ctx, r, mark, names)
	if err != nil {
		return nil, nil, err
	}
	further := make(map[whatisup.Address]bool)
	for name, row := range rows {
		if row.alias != "" {
			if lids[name] == "" {
				lids[name] = row.alias
			}
			if rows[row.alias] == nil {
				further[row.alias] = true
			}
		}
	}
	pointed, err := db.chatRows(ctx, r, mark, further)
	if err != nil {
		return nil, nil, err
	}
	for name, row := range pointed {
		rows[name] = row
	}

	for _, l := range messages {
		if l.ChatType == whatisup.ChatStatus {
			continue
		}
		id := l.Chat
		if p := peer(l.Message); p.LID != "" {
			id = whatisup.LIDAddress(p.LID)
		} else if lid := lids[id]; lid != "" {
			id = lid
		}
		c := chats[id]
		if c == nil {
			c = rows[id]
			if c == nil || c.alias != "" {
				c = &chatRow{Chat: whatisup.Chat{ID: id}}
			}
			if n := same[id]; n != "" {
				number := whatisup.NumberAddress(n)
				other := rows[number]
				if other == nil || other.alias == "" {
					c.alias = number
				}
				if other != nil {
					c.ReadThrough = max(c.ReadThrough, other.ReadThrough)
				}
				if other != nil && other.stored {
					c.Absorb(&other.Chat)
					c.absorbed = true
				}
				if c.ReadThrough >= c.Heard {
					c.Unread = 0
				}
				hidden[number] = true
			}
			chats[id] = c
		}
		counted := c.through
		if row := rows[l.Chat]; row != nil {
			counted = max(counted, row.through)
		}
		if l.Place > counted {
			c.Take(l)
		}
	}
	return chats, hidden, nil
}

// peer is the person of a direct chat.
func peer(m *whatisup.Message) whatisup.Person {
	switch {
	case m.ChatType == whatisup.ChatBroadcast && !m.FromMe:
		return m.From
	case m.ChatType == whatisup.ChatDirect:
		return m.Recipient
	}
	return whatisup.Person{}
}

// chatRows reads the rows of chats, those that count and those that point to another.
// All of them have through where they were marked as read.
func (db *DB) chatRows(ctx context.Context, r whatisup.Ref, mark chatsMark, names map[whatisup.Address]bool) (map[whatisup.Address]*chatRow, error) {
	keys := make([]item, 0, len(names))
	byKey := make(map[string]whatisup.Address, len(names))
	for name := range names {
		k := chatKey(r, name)
		keys, byKey[stringOf(k[attrSK])] = append(keys, k), name
	}
	found, err := db.messageItems(ctx, keys)
	if err != nil {
		return nil, err
	}
	rows := make(map[whatisup.Address]*chatRow, len(found))
	for sk, row := range found {
		rows[byKey[sk]] = db.chatOf(row, mark, byKey[sk])
	}
	return rows, nil
}

// chatOf reads the row of a chat. Of one that does not count in this generation it
// takes only through where it was marked as read.
func (db *DB) chatOf(row item, mark chatsMark, id whatisup.Address) *chatRow {
	c := &chatRow{Chat: whatisup.Chat{ID: id, ReadThrough: stringOf(row["read_through"])}}
	if mark.through == "" || intOf(row["generation"]) != mark.generation || db.past(row) {
		return c
	}
	if c.alias = whatisup.Address(stringOf(row["alias"])); c.alias != "" {
		return c
	}
	c.stored, c.through = true, stringOf(row["through"])
	c.Type, c.Last, c.Heard = whatisup.ChatType(stringOf(row["chat_type"])), stringOf(row["last"]), stringOf(row["heard"])
	c.Person = whatisup.Person{PhoneNumber: whatisup.PhoneNumber(stringOf(row["pn"])), LID: stringOf(row["lid"]), Name: stringOf(row["name"])}
	if c.ReadThrough < c.Heard {
		c.Unread = int(intOf(row["unread"]))
	}
	return c
}

// storedChats lists the chats that are counted, the one with the last message first.
func (db *DB) storedChats(ctx context.Context, r whatisup.Ref, mark chatsMark, before string, about int) iter.Seq2[*chatRow, error] {
	prefix := string(listedChats) + "#"
	end := string(listedChats) + "$" // what follows "#"
	if before != "" {
		end = prefix + before
	}
	in := &dynamodb.QueryInput{
		TableName: aws.String(db.tables.Messages), IndexName: aws.String(IndexListed),
		KeyConditionExpression:    aws.String("pk = :pk AND listed BETWEEN :from AND :before"),
		ExpressionAttributeValues: item{":pk": str(messagesPartition(r)), ":from": str(prefix), ":before": str(end)},
		Select:                    types.SelectAllAttributes,
		ConsistentRead:            aws.Bool(true), ScanIndexForward: aws.Bool(false),
		Limit: aws.Int32(int32(min(about, 1000))),
	}
	return func(yield func(*chatRow, error) bool) {
		if mark.through == "" {
			return
		}
		for row, err := range db.query(ctx, in) {
			if err != nil {
				yield(nil, err)
				return
			}
			c := db.chatOf(row, mark, whatisup.Address(stringOf(row["chat"])))
			if c.stored && !yield(c, nil) {
				return
			}
		}
	}
}

// messagesAfter lists the messages of both directions after a place, oldest first.
func (db *DB) messagesAfter(ctx context.Context, r whatisup.Ref, place string) iter.Seq2[whatisup.Listed, error] {
	return merged(db.listedAfter(ctx, r, whatisup.Outgoing, place), db.listedAfter(ctx, r, whatisup.Incoming, place),
		func(a, b whatisup.Listed) bool { return a.Place < b.Place })
}

// listedAfter lists the messages of one direction after a place, oldest first.
func (db *DB) listedAfter(ctx context.Context, r whatisup.Ref, d whatisup.Direction, place string) iter.Seq2[whatisup.Listed, error] {
	in := &dynamodb.QueryInput{
		TableName: aws.String(db.tables.Messages), IndexName: aws.String(IndexListed),
		KeyConditionExpression: aws.String("pk = :pk AND listed BETWEEN :after AND :end"),
		ExpressionAttributeValues: item{
			":pk": str(messagesPartition(r)), ":after": str(string(d) + "#" + place), ":end": str(string(d) + "$"),
		},
		Select:         types.SelectAllAttributes,
		ConsistentRead: aws.Bool(true),
	}
	return func(yield func(whatisup.Listed, error) bool) {
		for row, err := range db.query(ctx, in) {
			var l whatisup.Listed
			if err == nil {
				if l.Place = strings.TrimPrefix(stringOf(row["listed"]), string(d)+"#"); l.Place == place || db.past(row) {
					continue
				}
				l.Message, err = message(row)
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

// merged is two lists as one, in the order that first says.
func merged(one, other iter.Seq2[whatisup.Listed, error], first func(a, b whatisup.Listed) bool) iter.Seq2[whatisup.Listed, error] {
	return func(yield func(whatisup.Listed, error) bool) {
		nextA, stopA := iter.Pull2(one)
		defer stopA()
		nextB, stopB := iter.Pull2(other)
		defer stopB()
		a, errA, moreA := nextA()
		b, errB, moreB := nextB()
		for moreA || moreB {
			var l whatisup.Listed
			var err error
			if moreA && (!moreB || errA != nil || errB == nil && first(a, b)) {
				l, err = a, errA
				a, errA, moreA = nextA()
			} else {
				l, err = b, errB
				b, errB, moreB = nextB()
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}
