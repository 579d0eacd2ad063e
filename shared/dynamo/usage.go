package dynamo

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/shared/whatisup"
)

// What was used has a row an hour for each customer and mode, and one for each
// instance: in the table of messages what hosts count, in that of webhooks what
// deliveries do. Programs add to them; nobody reads one to write it.
const (
	usageHour = "2006-01-02T15"
	// usageTTL leaves the day on which a row is read for the last time.
	usageTTL = whatisup.UsageKept + 24*time.Hour
)

func usagePartition(of whatisup.UsageOf) string {
	return strings.TrimSuffix(string(of.Mode)+"#usage#"+string(of.Customer)+"#"+string(of.Instance), "#")
}

var (
	messageCounts = map[string]func(*whatisup.Usage) *int{
		"received": func(u *whatisup.Usage) *int { return &u.In },
		"sent":     func(u *whatisup.Usage) *int { return &u.Out },
		"failed":   func(u *whatisup.Usage) *int { return &u.Failed },
	}
	deliveryCounts = map[string]func(*whatisup.Usage) *int{
		"delivered":   func(u *whatisup.Usage) *int { return &u.Deliveries },
		"undelivered": func(u *whatisup.Usage) *int { return &u.Lost },
	}
)

// AddUsage adds counts to an hour. A writer that has a name gives each of its additions
// to a row a higher serial, and each is added once, however often it is asked for.
// Without a name an addition whose answer is lost may be added twice.
func (db *DB) AddUsage(ctx context.Context, of whatisup.UsageOf, hour time.Time, u whatisup.Usage, writer string, serial int64) error {
	for _, t := range []struct {
		table  string
		counts map[string]func(*whatisup.Usage) *int
	}{{db.tables.Messages, messageCounts}, {db.tables.Webhooks, deliveryCounts}} {
		add := item{}
		for name, of := range t.counts {
			if n := *of(&u); n > 0 {
				add[name] = number(n)
			}
		}
		if len(add) == 0 {
			continue
		}
		set, condition := "SET #ttl = :ttl", (*string)(nil)
		names, values := map[string]string{"#ttl": attrTTL}, item{":ttl": number(hour.Add(usageTTL).Unix())}
		if writer != "" {
			set, condition = set+", #writer = :serial", aws.String("attribute_not_exists(#writer) OR #writer < :serial")
			names["#writer"], values[":serial"] = "by_"+writer, number(serial)
		}
		var adds []string
		for name, n := range add {
			names["#"+name], values[":"+name] = name, n
			adds = append(adds, "#"+name+" :"+name)
		}
		_, err := db.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: aws.String(t.table), Key: key(usagePartition(of), hour.UTC().Format(usageHour)),
			UpdateExpression:         aws.String(set + " ADD " + strings.Join(adds, ", ")),
			ConditionExpression:      condition,
			ExpressionAttributeNames: names, ExpressionAttributeValues: values,
		})
		if err = translate(err); err != nil && !isConditionFailed(err) {
			return err
		}
	}
	return nil
}

// Usage reads the hours from the one of from to the one of to, oldest first, those in
// which nothing was used among them.
func (db *DB) Usage(ctx context.Context, of whatisup.UsageOf, from, to time.Time) ([]whatisup.UsageHour, error) {
	var hours []whatisup.UsageHour
	place := map[string]int{}
	for h := from.UTC().Truncate(time.Hour); !h.After(to); h = h.Add(time.Hour) {
		place[h.Format(usageHour)] = len(hours)
		hours = append(hours, whatisup.UsageHour{Hour: whatisup.At(h)})
	}
	for table, counts := range map[string]map[string]func(*whatisup.Usage) *int{db.tables.Messages: messageCounts, db.tables.Webhooks: deliveryCounts} {
		for row, err := range db.query(ctx, &dynamodb.QueryInput{
			TableName: aws.String(table), KeyConditionExpression: aws.String("pk = :pk AND sk BETWEEN :from AND :to"),
			ExpressionAttributeValues: item{
				":pk":   str(usagePartition(of)),
				":from": str(from.UTC().Format(usageHour)), ":to": str(to.UTC().Format(usageHour)),
			},
		}) {
			if err != nil {
				return nil, err
			}
			n, ok := place[stringOf(row[attrSK])]
			if !ok {
				continue
			}
			for name, count := range counts {
				*count(&hours[n].Usage) = int(intOf(row[name]))
			}
		}
	}
	return hours, nil
}
