package dynamo

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/whatisup"
)

// configRow is what the API writes of an instance. Times are unix
// milliseconds, 0 for none.
type configRow struct {
	Shard         int    `dynamodbav:"shard"`
	ShardKey      string `dynamodbav:"shard_key,omitempty"`
	Name          string `dynamodbav:"name"`
	Metadata      string `dynamodbav:"metadata,omitempty"` // left out of the tombstone, and where it is apart
	MetadataApart bool   `dynamodbav:"metadata_apart,omitempty"`
	Version       uint64 `dynamodbav:"version"`
	UpdatedAt     int64  `dynamodbav:"config_updated_at"`

	Wanted        bool         `dynamodbav:"wanted"`
	WantedVersion uint64       `dynamodbav:"wanted_version"`
	Generation    uint64       `dynamodbav:"generation"`
	UnlinkThrough uint64       `dynamodbav:"unlink_through"`
	PairPhone     string       `dynamodbav:"pair_phone"`
	PairSerial    uint64       `dynamodbav:"pair_serial"`
	Attempts      []attemptRow `dynamodbav:"attempts"`
	Asked         []askedRow   `dynamodbav:"asked,omitempty"`
	ChangedAt     int64        `dynamodbav:"changed_at"`
	RequestID     string       `dynamodbav:"request_id"`
	Suspended     bool         `dynamodbav:"suspended,omitempty"`
	BoundKeys     uint64       `dynamodbav:"bound_keys"`

	Settings        string `dynamodbav:"settings,omitempty"` // whatisup.Settings as JSON; missing: the defaults
	SettingsVersion uint64 `dynamodbav:"settings_version,omitempty"`

	UnsentFrom string `dynamodbav:"unsent_from,omitempty"` // whatisup.Unsent of the API
	UnsentLast string `dynamodbav:"unsent_last,omitempty"`
	UnsentAt   int64  `dynamodbav:"unsent_at,omitempty"`

	DeletedAt int64  `dynamodbav:"deleted_at,omitempty"`
	Farewell  string `dynamodbav:"farewell,omitempty"` // whatisup.Instance's, as JSON
}

type attemptRow struct {
	Generation uint64 `dynamodbav:"g"`
	At         int64  `dynamodbav:"at"`
}

type askedRow struct {
	Phone string `dynamodbav:"phone"`
	At    int64  `dynamodbav:"at"`
}

// hostRow is what the host writes of an instance. Every attribute is always
// written, so that one update replaces the whole.
type hostRow struct {
	Status             string `dynamodbav:"status"`
	Reason             string `dynamodbav:"reason"`
	Since              int64  `dynamodbav:"since"`
	NextRetryAt        int64  `dynamodbav:"next_retry_at"`
	QRExpiresAt        int64  `dynamodbav:"qr_expires_at"`
	PhoneNumber        string `dynamodbav:"phone_number"`
	Link               uint64 `dynamodbav:"link"`
	LastLink           uint64 `dynamodbav:"last_link"`
	Confirmed          bool   `dynamodbav:"confirmed"`
	ObservedGeneration uint64 `dynamodbav:"observed_generation"`
	DoneGeneration     uint64 `dynamodbav:"done_generation"`
	UpdatedAt          int64  `dynamodbav:"host_updated_at"`
	LastSeenAt         int64  `dynamodbav:"last_seen_at"`
	FailedCause        string `dynamodbav:"failed_cause"`
	UnsentFrom         string `dynamodbav:"host_unsent_from"`
	UnsentLast         string `dynamodbav:"host_unsent_last"`
	UnsentAt           int64  `dynamodbav:"host_unsent_at"`
}

// hostMeta are the attributes of an observed row that conditions look at. They
// are written by expression only.
type hostMeta struct {
	Epoch uint64 `dynamodbav:"epoch"`
	Rev   uint64 `dynamodbav:"rev"` // counts writes, for delete's copy
}

// hostOwed is what the queues lack of the instance's events. It is written by
// [DB.Owe] alone, beside whatever else the host observes.
type hostOwed struct {
	Owed   map[string]string `dynamodbav:"host_owed,omitempty"` // queue → position
	OwedAt int64             `dynamodbav:"host_owed_at,omitempty"`
}

func owedRow(owed map[string]whatisup.Position, at time.Time) hostOwed {
	if len(owed) == 0 {
		return hostOwed{}
	}
	r := hostOwed{Owed: make(map[string]string, len(owed)), OwedAt: at.UnixMilli()}
	for q, p := range owed {
		r.Owed[q] = string(p)
	}
	return r
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func configRowOf(c *whatisup.Config, w *whatisup.Wanted, shard whatisup.Shard) configRow {
	r := configRow{
		Shard:         int(shard),
		ShardKey:      shardKey(c.Mode, shard),
		Name:          c.Name,
		Metadata:      string(c.Metadata),
		Version:       c.Version,
		UpdatedAt:     millis(c.UpdatedAt),
		Wanted:        w.Online,
		Generation:    uint64(w.Generation),
		UnlinkThrough: uint64(w.UnlinkThrough),
		PairPhone:     string(w.PairPhone),
		PairSerial:    w.PairSerial,
		ChangedAt:     millis(w.ChangedAt),
		RequestID:     string(w.RequestID),
		Attempts:      attemptRows(w.Attempts),
		Asked:         askedRows(w.Asked),
		Suspended:     w.Suspended,
	}
	if len(r.Metadata) > metadataInline {
		r.Metadata, r.MetadataApart = "", true
	}
	return r
}

func attemptRows(attempts []whatisup.Attempt) []attemptRow {
	rows := make([]attemptRow, 0, len(attempts))
	for _, a := range attempts {
		rows = append(rows, attemptRow{uint64(a.Generation), millis(a.At)})
	}
	return rows
}

func askedRows(asked []whatisup.Asked) []askedRow {
	rows := make([]askedRow, 0, len(asked))
	for _, a := range asked {
		rows = append(rows, askedRow{string(a.Phone), millis(a.At)})
	}
	return rows
}

// metadataInline is the most bytes of metadata that stand in the config row.
const metadataInline = 1024

func (r *configRow) into(i *whatisup.Instance) (err error) {
	i.Settings, err = whatisup.SettingsOf(r.Settings)
	i.SettingsVersion = r.SettingsVersion
	i.Shard = whatisup.Shard(r.Shard)
	i.DeletedAt = fromMillis(r.DeletedAt)
	if r.Farewell != "" && err == nil {
		err = json.Unmarshal([]byte(r.Farewell), &i.Farewell)
	}
	i.BoundKeys = r.BoundKeys
	i.Config.Name = r.Name
	i.Config.Version = r.Version
	i.Config.UpdatedAt = fromMillis(r.UpdatedAt)
	if r.Metadata != "" {
		i.Config.Metadata = json.RawMessage(r.Metadata)
	}
	i.Wanted = whatisup.Wanted{
		Online:        r.Wanted,
		Version:       r.WantedVersion,
		Generation:    whatisup.Generation(r.Generation),
		UnlinkThrough: whatisup.Link(r.UnlinkThrough),
		PairPhone:     whatisup.PhoneNumber(r.PairPhone),
		PairSerial:    r.PairSerial,
		ChangedAt:     fromMillis(r.ChangedAt),
		RequestID:     whatisup.RequestID(r.RequestID),
		Suspended:     r.Suspended,
	}
	for _, a := range r.Attempts {
		i.Wanted.Attempts = append(i.Wanted.Attempts, whatisup.Attempt{Generation: whatisup.Generation(a.Generation), At: fromMillis(a.At)})
	}
	for _, a := range r.Asked {
		i.Wanted.Asked = append(i.Wanted.Asked, whatisup.Asked{Phone: whatisup.PhoneNumber(a.Phone), At: fromMillis(a.At)})
	}
	i.Unsent = whatisup.Unsent{
		From: whatisup.Position(r.UnsentFrom), Last: whatisup.Position(r.UnsentLast), At: fromMillis(r.UnsentAt),
	}
	return err
}

func hostRowOf(o *whatisup.Observed) hostRow {
	return hostRow{
		Status:             string(o.Status),
		Reason:             string(o.Reason),
		Since:              millis(o.Since),
		NextRetryAt:        millis(o.NextRetryAt),
		QRExpiresAt:        millis(o.QRExpiresAt),
		PhoneNumber:        string(o.PhoneNumber),
		Link:               uint64(o.Link),
		LastLink:           uint64(o.LastLink),
		Confirmed:          o.Confirmed,
		ObservedGeneration: uint64(o.ObservedGeneration),
		DoneGeneration:     uint64(o.DoneGeneration),
		UpdatedAt:          millis(o.UpdatedAt),
		LastSeenAt:         millis(o.LastSeenAt),
		FailedCause:        string(o.FailedCause),
		UnsentFrom:         string(o.Unsent.From),
		UnsentLast:         string(o.Unsent.Last),
		UnsentAt:           millis(o.Unsent.At),
	}
}

func (r *hostRow) observed(m hostMeta, owed hostOwed) whatisup.Observed {
	o := whatisup.Observed{
		Status:             whatisup.Status(r.Status),
		Reason:             whatisup.Reason(r.Reason),
		Since:              fromMillis(r.Since),
		NextRetryAt:        fromMillis(r.NextRetryAt),
		QRExpiresAt:        fromMillis(r.QRExpiresAt),
		PhoneNumber:        whatisup.PhoneNumber(r.PhoneNumber),
		Link:               whatisup.Link(r.Link),
		LastLink:           whatisup.Link(r.LastLink),
		Confirmed:          r.Confirmed,
		ObservedGeneration: whatisup.Generation(r.ObservedGeneration),
		DoneGeneration:     whatisup.Generation(r.DoneGeneration),
		Epoch:              whatisup.Epoch(m.Epoch),
		UpdatedAt:          fromMillis(r.UpdatedAt),
		LastSeenAt:         fromMillis(r.LastSeenAt),
		FailedCause:        whatisup.Code(r.FailedCause),
		Unsent: whatisup.Unsent{
			From: whatisup.Position(r.UnsentFrom), Last: whatisup.Position(r.UnsentLast), At: fromMillis(r.UnsentAt),
		},
	}
	for q, p := range owed.Owed {
		if o.Owed == nil {
			o.Owed = make(map[string]whatisup.Position)
		}
		o.Owed[q] = whatisup.Position(p)
	}
	return o
}

// marshal is attributevalue.MarshalMap over several structs at once; later ones
// win. It fails only for types that this package doesn't have.
func marshal(rows ...any) item {
	out := item{}
	for _, r := range rows {
		m, err := attributevalue.MarshalMap(r)
		if err != nil {
			panic(err)
		}
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

func withKey(key, row item) item {
	for k, v := range key {
		row[k] = v
	}
	return row
}

// setAll is an update expression that sets every attribute of row, with its
// names and values, in a fixed order.
func setAll(row item) (expression string, names map[string]string, values item) {
	names, values = map[string]string{}, item{}
	var parts []string
	for k, v := range row {
		names["#"+k], values[":"+k] = k, v
		parts = append(parts, "#"+k+" = :"+k)
	}
	slices.Sort(parts)
	return "SET " + strings.Join(parts, ", "), names, values
}

// assemble builds one instance from its rows: config, host and metadata, or a
// tombstone. ok is false while the config row is missing.
func assemble(c whatisup.CustomerID, m whatisup.Mode, id whatisup.InstanceID, rows []item) (_ *whatisup.Instance, ok bool, err error) {
	i := &whatisup.Instance{Config: whatisup.Config{Customer: c, Mode: m, ID: id}}
	for _, row := range rows {
		sk := stringOf(row[attrSK])
		switch {
		case strings.HasSuffix(sk, suffixMetadata):
			i.Config.Metadata = json.RawMessage(stringOf(row["metadata"]))
		case strings.HasSuffix(sk, suffixHost):
			err = observedInto(i, row)
		default:
			ok = true
			var r configRow
			if err = attributevalue.UnmarshalMap(row, &r); err == nil {
				err = r.into(i)
			}
			if r.DeletedAt != 0 && err == nil {
				err = observedInto(i, row)
			}
		}
		if err != nil {
			return nil, false, err
		}
	}
	return i, ok, nil
}

func observedInto(i *whatisup.Instance, row item) error {
	var r struct {
		hostRow
		hostMeta
		hostOwed
	}
	if err := attributevalue.UnmarshalMap(row, &r); err != nil {
		return err
	}
	i.Observed, i.Rev = r.observed(r.hostMeta, r.hostOwed), r.Rev
	return nil
}

func stringOf(v types.AttributeValue) string {
	if s, ok := v.(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}
