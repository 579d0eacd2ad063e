package dynamo

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"

	"whatisup/shared/whatisup"
)

// messageRow is a row of the ledger. Times are unix milliseconds; what is zero is
// left out, so that a short text fits into one kilobyte, the size that one write
// unit pays for.
type messageRow struct {
	Format int `dynamodbav:"format"` // messageFormat

	To        string `dynamodbav:"to,omitempty"`
	Body      string `dynamodbav:"body"`
	ReplyTo   string `dynamodbav:"reply_to,omitempty"`
	Target    string `dynamodbav:"target,omitempty"`
	ClientRef string `dynamodbav:"client_ref,omitempty"`
	Typing    int64  `dynamodbav:"typing_ms,omitempty"`
	Hash      []byte `dynamodbav:"hash,omitempty"`
	RequestID string `dynamodbav:"request_id,omitempty"`
	CommandID string `dynamodbav:"command_id,omitempty"`
	ID        string `dynamodbav:"id,omitempty"` // of a received message; an own one's is in its key

	Chat     string `dynamodbav:"chat"`
	ChatType string `dynamodbav:"chat_type"`
	PN       string `dynamodbav:"pn,omitempty"`
	LID      string `dynamodbav:"lid,omitempty"`
	FromPN   string `dynamodbav:"from_pn,omitempty"`
	FromLID  string `dynamodbav:"from_lid,omitempty"`
	FromName string `dynamodbav:"from_name,omitempty"`

	Link      uint64 `dynamodbav:"link,omitempty"`
	Status    string `dynamodbav:"status,omitempty"`
	Rank      int    `dynamodbav:"rank,omitempty"`
	StatusAt  int64  `dynamodbav:"status_at,omitempty"`
	DueAt     int64  `dynamodbav:"due,omitempty"`
	ExpiresAt int64  `dynamodbav:"expires_at,omitempty"`

	Created   int64 `dynamodbav:"t_created,omitempty"`
	Scheduled int64 `dynamodbav:"t_scheduled,omitempty"`
	Queued    int64 `dynamodbav:"t_queued,omitempty"`
	Sent      int64 `dynamodbav:"t_sent,omitempty"`
	Delivered int64 `dynamodbav:"t_delivered,omitempty"`
	Read      int64 `dynamodbav:"t_read,omitempty"`
	Played    int64 `dynamodbav:"t_played,omitempty"`
	Failed    int64 `dynamodbav:"t_failed,omitempty"`
	Expired   int64 `dynamodbav:"t_expired,omitempty"`
	Canceled  int64 `dynamodbav:"t_canceled,omitempty"`

	WaitingFor   string `dynamodbav:"waiting_for,omitempty"`
	WaitingUntil int64  `dynamodbav:"waiting_until,omitempty"`
	Attempts     int    `dynamodbav:"attempts,omitempty"`
	MaySent      bool   `dynamodbav:"may_have_been_sent,omitempty"`
	CancelAsked  bool   `dynamodbav:"cancel_asked,omitempty"`
	Error        string `dynamodbav:"error,omitempty"`
	Counts       string `dynamodbav:"recipients,omitempty"`
	EventID      string `dynamodbav:"event_id,omitempty"`
	Media        string `dynamodbav:"media_id,omitempty"`
	UpdatedBy    string `dynamodbav:"updated_by,omitempty"`
	FromMe       bool   `dynamodbav:"from_me,omitempty"`
	Change       bool   `dynamodbav:"change,omitempty"`
	Text         string `dynamodbav:"text,omitempty"`
	Context      string `dynamodbav:"context,omitempty"`
	Truncated    string `dynamodbav:"truncated,omitempty"`
	Parts        int    `dynamodbav:"parts,omitempty"` // rows that hold body and context

	// The keys of the indexes: see doc.go.
	Line     string `dynamodbav:"line,omitempty"`
	Listed   string `dynamodbav:"listed,omitempty"`
	ShardKey string `dynamodbav:"shard_key,omitempty"`
	TTL      int64  `dynamodbav:"ttl,omitempty"`
}

// messageFormat is the version of a message's row. A row of a newer one is refused.
const messageFormat = 1

// messagesPartition is where all messages of one instance stand. It begins with
// the mode, so that a role can be held to one mode's rows.
func messagesPartition(r whatisup.Ref) string {
	return string(r.Mode) + "#" + string(r.Customer) + "#" + string(r.ID)
}

// refOfPartition is the instance of a partition of messages.
func refOfPartition(pk string) (whatisup.Ref, bool) {
	mode, rest, _ := strings.Cut(pk, "#")
	customer, id, ok := strings.Cut(rest, "#")
	return whatisup.Ref{Customer: whatisup.CustomerID(customer), Mode: whatisup.Mode(mode), ID: whatisup.InstanceID(id)}, ok
}

// Keys of own and of received messages never meet: strangers choose the ids of
// what they send.
const (
	ownMessage      = "m#"
	receivedMessage = "r#"
	messagePart     = "p#"
)

// partKey is the key of a part of a large received message.
func partKey(partition, sk string, n int) item {
	return key(partition, messagePart+strings.TrimPrefix(sk, receivedMessage)+"#"+fmt.Sprint(n))
}

func messageKey(r whatisup.Ref, id whatisup.MessageID) item {
	return key(messagesPartition(r), ownMessage+string(id))
}

// receivedKey identifies a received message by chat, sender and id, in a key of
// one length whatever the sender chose.
func receivedKey(m *whatisup.Message) item {
	h := sha256.New()
	for _, part := range []string{string(m.Chat), string(m.From.Chat()), string(m.ID)} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return key(messagesPartition(m.Ref), receivedMessage+base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18]))
}

// listKey orders messages of one direction by time; the last part makes it unique.
func listKey(d whatisup.Direction, at time.Time, sk string) string {
	return string(d) + "#" + orderedMillis(at) + "#" + sk
}

// lineKey orders the messages that wait by the moment at which they became due.
func lineKey(due time.Time, id whatisup.MessageID) string {
	return orderedMillis(due) + "#" + string(id)
}

// orderedMillis is a time as text that sorts by time, until the year 2286.
func orderedMillis(t time.Time) string { return fmt.Sprintf("%013d", max(t.UnixMilli(), 0)) }

func (db *DB) messageRowOf(m *whatisup.Message) item {
	t := &m.Times
	r := messageRow{
		Format: messageFormat,
		To:     string(m.To), Body: string(m.Raw), ClientRef: m.ClientRef, Typing: m.Typing.Milliseconds(), Hash: m.BodyHash,
		RequestID: string(m.RequestID), CommandID: string(m.CommandID),
		Chat: string(m.Chat), ChatType: string(m.ChatType),
		PN: string(m.Recipient.PhoneNumber), LID: m.Recipient.LID,
		FromPN: string(m.From.PhoneNumber), FromLID: m.From.LID, FromName: m.From.Name,
		Link: uint64(m.Link), Status: string(m.Status), Rank: m.Status.Rank(), StatusAt: millis(m.StatusAt),
		DueAt: millis(m.DueAt), ExpiresAt: millis(m.ExpiresAt),
		Created: millis(t.Created), Scheduled: millis(t.Scheduled), Queued: millis(t.Queued), Sent: millis(t.Sent),
		Delivered: millis(t.Delivered), Read: millis(t.Read), Played: millis(t.Played),
		Failed: millis(t.Failed), Expired: millis(t.Expired), Canceled: millis(t.Canceled),
		WaitingFor: string(m.WaitingFor), WaitingUntil: millis(m.WaitingUntil), Attempts: m.Attempts,
		MaySent: m.MayHaveBeenSent, CancelAsked: m.CancelAsked,
		Error: jsonOf(m.Error), Counts: jsonOf(m.Recipients), ReplyTo: jsonOf(m.ReplyTo), Target: jsonOf(m.Target), EventID: string(m.EventID), Media: string(m.Media),
		UpdatedBy: string(m.UpdatedBy), FromMe: m.FromMe, Change: m.Change, Text: m.Text, Context: string(m.Context), Truncated: jsonOf(listOf(m.Truncated)),
	}
	k := messageKey(m.Ref, m.ID)
	if m.Direction == whatisup.Incoming {
		k = receivedKey(m)
		r.ID = string(m.ID)
	}
	if !m.Change {
		r.Listed = listKey(m.Direction, t.Created, stringOf(k[attrSK]))
	}
	kept := t.Created
	if m.Status.Waiting() {
		r.Line, r.ShardKey = lineKey(m.DueAt, m.ID), shardKey(m.Ref.Mode, db.ShardOf(m.Ref.ID))
		kept = m.ExpiresAt
	}
	r.TTL = kept.Add(whatisup.MessageKept).Unix()
	return withKey(k, marshal(r))
}

// message reads a row of the ledger.
func message(row item) (*whatisup.Message, error) {
	var r messageRow
	if err := attributevalue.UnmarshalMap(row, &r); err != nil {
		return nil, err
	}
	if r.Format > messageFormat {
		return nil, fmt.Errorf("a message of format %d: this program knows %d", r.Format, messageFormat)
	}
	ref, ok := refOfPartition(stringOf(row[attrPK]))
	if !ok {
		return nil, fmt.Errorf("a message in the partition of no instance")
	}
	m := &whatisup.Message{
		Ref: ref, ID: whatisup.MessageID(r.ID), Direction: whatisup.Incoming,
		To: whatisup.Address(r.To), Raw: json.RawMessage(r.Body), ClientRef: r.ClientRef,
		Typing: time.Duration(r.Typing) * time.Millisecond, BodyHash: r.Hash,
		RequestID: whatisup.RequestID(r.RequestID), CommandID: whatisup.CommandID(r.CommandID),
		Chat: whatisup.Address(r.Chat), ChatType: whatisup.ChatType(r.ChatType),
		Recipient: whatisup.Person{PhoneNumber: whatisup.PhoneNumber(r.PN), LID: r.LID},
		From:      whatisup.Person{PhoneNumber: whatisup.PhoneNumber(r.FromPN), LID: r.FromLID, Name: r.FromName},
		Link:      whatisup.Link(r.Link), Status: whatisup.MessageStatus(r.Status), StatusAt: fromMillis(r.StatusAt),
		DueAt: fromMillis(r.DueAt), ExpiresAt: fromMillis(r.ExpiresAt),
		Times: whatisup.MessageTimes{
			Created: fromMillis(r.Created), Scheduled: fromMillis(r.Scheduled), Queued: fromMillis(r.Queued),
			Sent: fromMillis(r.Sent), Delivered: fromMillis(r.Delivered), Read: fromMillis(r.Read), Played: fromMillis(r.Played),
			Failed: fromMillis(r.Failed), Expired: fromMillis(r.Expired), Canceled: fromMillis(r.Canceled),
		},
		WaitingFor: whatisup.WaitingFor(r.WaitingFor), WaitingUntil: fromMillis(r.WaitingUntil), Attempts: r.Attempts,
		MayHaveBeenSent: r.MaySent, CancelAsked: r.CancelAsked, EventID: whatisup.EventID(r.EventID), Media: whatisup.MediaID(r.Media),
		UpdatedBy: whatisup.EventID(r.UpdatedBy), FromMe: r.FromMe, Change: r.Change, Text: r.Text,
	}
	if r.Context != "" {
		m.Context = json.RawMessage(r.Context)
	}
	if id, own := strings.CutPrefix(stringOf(row[attrSK]), ownMessage); own {
		m.ID, m.Direction = whatisup.MessageID(id), whatisup.Outgoing
	}
	return m, errors.Join(intoJSON(r.Error, &m.Error), intoJSON(r.Counts, &m.Recipients), intoJSON(r.ReplyTo, &m.ReplyTo), intoJSON(r.Target, &m.Target), intoJSON(r.Truncated, &m.Truncated))
}

func listOf(s []string) *[]string {
	if len(s) == 0 {
		return nil
	}
	return &s
}

// intoJSON reads what jsonOf has written.
func intoJSON(text string, into any) error {
	if text == "" {
		return nil
	}
	return json.Unmarshal([]byte(text), into)
}

// jsonOf is a value as JSON, empty for nil.
func jsonOf[T any](v *T) string {
	if v == nil {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of this product always marshal
	}
	return string(b)
}
