package dynamo

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// KeptNumbers reads what is kept of WhatsApp's answers about numbers, by number. It
// may miss what was kept within the last second. There are at most
// [whatisup.CheckedMost] numbers, each once.
func (db *DB) KeptNumbers(ctx context.Context, i whatisup.InstanceID, numbers []whatisup.PhoneNumber) (map[whatisup.PhoneNumber]whatisup.Checked, error) {
	found := make(map[whatisup.PhoneNumber]whatisup.Checked, len(numbers))
	keys := make([]item, len(numbers))
	for n, number := range numbers {
		keys[n] = numberKey(i, number)
	}
	for len(keys) > 0 {
		out, err := db.client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{
			RequestItems: map[string]types.KeysAndAttributes{db.tables.Calls: {Keys: keys}},
		})
		if err != nil {
			return nil, translate(err)
		}
		for _, row := range out.Responses[db.tables.Calls] {
			// A row outlives its time by up to days.
			if time.Unix(intOf(row[attrTTL]), 0).Before(db.now()) {
				continue
			}
			c := whatisup.Checked{Asked: whatisup.PhoneNumber(stringOf(row["asked"]))}
			c.Person.PhoneNumber, c.Person.LID = whatisup.PhoneNumber(stringOf(row["phone_number"])), stringOf(row["lid"])
			c.Exists = c.Person.PhoneNumber != "" || c.Person.LID != ""
			found[c.Asked] = c
		}
		next := out.UnprocessedKeys[db.tables.Calls].Keys
		if len(next) == len(keys) {
			return nil, whatisup.ErrUnavailable // throttled: nothing of it was read
		}
		keys = next
	}
	return found, nil
}

// writesMost is how many rows one BatchWriteItem may have.
const writesMost = 25

// KeepNumbers keeps WhatsApp's answers: what is known for a month, what is not for
// an hour. What could not be kept is asked for again the next time.
func (db *DB) KeepNumbers(ctx context.Context, i whatisup.InstanceID, answers []whatisup.Checked) error {
	for some := range slices.Chunk(answers, writesMost) {
		writes := make([]types.WriteRequest, len(some))
		for n, c := range some {
			row, kept := numberKey(i, c.Asked), whatisup.UnknownKept
			row["asked"] = str(string(c.Asked))
			if c.Exists {
				kept = whatisup.KnownKept
				row["phone_number"], row["lid"] = str(string(c.Person.PhoneNumber)), str(c.Person.LID)
			}
			row[attrTTL] = number(db.now().Add(kept).Unix())
			writes[n].PutRequest = &types.PutRequest{Item: row}
		}
		_, err := db.client.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{db.tables.Calls: writes},
		})
		if err != nil {
			return translate(err)
		}
	}
	return nil
}
