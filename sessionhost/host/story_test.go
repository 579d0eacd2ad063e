package host

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

func text(v types.AttributeValue) string {
	if s, ok := v.(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}

func names(events []whatisup.Event) []whatisup.EventName {
	var n []whatisup.EventName
	for _, e := range events {
		n = append(n, e.Name)
	}
	return n
}

// The main story: open an instance, scan, be connected, delete it.
func TestLinkAndDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.host("one")
	id := w.create()
	w.link(id, "49170000001")
	i := w.get(id)
	if i.Observed.PhoneNumber != "49170000001" || !i.Observed.Confirmed || i.Observed.Link != whatisup.Link(i.Wanted.Generation) {
		t.Errorf("connected with number %q, confirmed %v, link %d of generation %d",
			string(i.Observed.PhoneNumber), i.Observed.Confirmed, i.Observed.Link, i.Wanted.Generation)
	}
	want := []whatisup.EventName{
		whatisup.InstanceCreated, whatisup.InstanceUpdated, whatisup.QRUpdated, whatisup.InstanceUpdated, whatisup.InstanceConnected,
	}
	if got := names(w.events(id)); !slices.Equal(got, want) {
		t.Errorf("events %v, not %v", got, want)
	}
	w.delete(id)
	w.await("unlinked device", func() bool { return len(w.sim.Devices(string(w.customer))) == 0 })
	w.await("finished tombstone", func() bool {
		hints, err := w.db.ShardInstances(t.Context(), whatisup.Test, i.Shard)
		if err != nil {
			t.Fatal(err)
		}
		return len(hints) == 0
	})
}

// A new host resumes the link without a scan.
func TestResume(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	first := w.host("one")
	id := w.create()
	w.link(id, "49170000002")
	first.stop()
	w.host("two")
	w.await("login on the second host", func() bool {
		d := w.sim.Devices(string(w.customer))
		return len(d) == 1 && d[0].Connected
	})
	w.status(id, whatisup.Connected, "")
}

// deviceRows are the rows of an instance's auth state.
func (w *world) deviceRows(id whatisup.InstanceID) (rows []map[string]types.AttributeValue) {
	w.t.Helper()
	p := dynamodb.NewScanPaginator(dynamodb.NewFromConfig(w.aws.Config), &dynamodb.ScanInput{TableName: aws.String(dynamo.Local().Devices)})
	for p.HasMorePages() {
		out, err := p.NextPage(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, row := range out.Items {
			if strings.HasPrefix(text(row["pk"]), string(id)) {
				rows = append(rows, row)
			}
		}
	}
	return rows
}

func (w *world) putDeviceRows(rows []map[string]types.AttributeValue) {
	w.t.Helper()
	for _, row := range rows {
		in := &dynamodb.PutItemInput{TableName: aws.String(dynamo.Local().Devices), Item: row}
		if _, err := dynamodb.NewFromConfig(w.aws.Config).PutItem(w.t.Context(), in); err != nil {
			w.t.Fatal(err)
		}
	}
}

// damaged are the rows with a bit of each sealed value changed.
func damaged(rows []map[string]types.AttributeValue) (out []map[string]types.AttributeValue) {
	for _, row := range rows {
		changed := maps.Clone(row)
		for name, v := range row {
			if b, ok := v.(*types.AttributeValueMemberB); ok && len(b.Value) > 20 {
				value := slices.Clone(b.Value)
				value[len(value)/2] ^= 1
				changed[name] = &types.AttributeValueMemberB{Value: value}
			}
		}
		out = append(out, changed)
	}
	return out
}

// Auth state that does not open ends in failed (internal), counted, and not in a
// loop; connect tries again, and when the rows are back it connects. Logout leads out
// also without them.
func TestAuthStateThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	w := quick(t)
	first := w.host("one")
	const number = "49170000003"
	id, other := w.create(), w.create()
	w.link(id, number)
	w.link(other, number+"1")
	w.send(number, "14155550123", "hi")
	w.await("the message", func() bool { return len(w.received(id)) == 1 })
	first.stop()
	whole := w.deviceRows(id)
	w.putDeviceRows(damaged(whole))

	h := w.host("two")
	w.status(id, whatisup.Failed, whatisup.Internal)
	w.status(other, whatisup.Connected, "")
	if n := h.metrics.unread.Load(); n != 1 {
		t.Errorf("%d links were counted", n)
	}
	w.connect(id) // and it is seen to be as it was
	w.await("another count", func() bool { return h.metrics.unread.Load() == 2 })
	w.status(id, whatisup.Failed, whatisup.Internal)
	if w.count(id, whatisup.InstanceFailed) == 0 {
		t.Error("no event tells of it")
	}
	w.putDeviceRows(whole)
	w.connect(id)
	w.status(id, whatisup.Connected, "")

	h.stop()
	w.putDeviceRows(damaged(w.deviceRows(id)))
	w.host("three")
	w.status(id, whatisup.Failed, whatisup.Internal)
	w.logout(id)
	w.status(id, whatisup.Pending, whatisup.LoggedOut)
	w.link(id, number+"2")
}

// A Signal session that does not open is met when a message needs it: it is the
// same.
func TestSessionThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	w := quick(t)
	first := w.host("one")
	const number = "49170000004"
	id := w.create()
	w.link(id, number)
	const before = 70 // more than stay in the log of the link
	for range before {
		w.send(number, "14155550123", "hi")
	}
	w.await("the messages", func() bool { return len(w.received(id)) == before })
	first.stop()
	var sessions []map[string]types.AttributeValue
	for _, row := range w.deviceRows(id) {
		if strings.HasPrefix(text(row["sk"]), "u") {
			sessions = append(sessions, row)
		}
	}
	if len(sessions) == 0 {
		t.Fatal("no session has a row")
	}
	w.putDeviceRows(damaged(sessions))
	h := w.host("two")
	w.await("a login", func() bool { d, ok := w.device(id); return ok && d.Connected })
	w.send(number, "14155550123", "hi again")
	w.status(id, whatisup.Failed, whatisup.Internal)
	if n := h.metrics.unread.Load(); n != 1 {
		t.Errorf("%d links were counted", n)
	}
	w.putDeviceRows(sessions)
	w.connect(id)
	w.await("the message", func() bool { return len(w.received(id)) == before+1 })
}

// observedKey is the key of what hosts have observed of an instance.
func (w *world) observedKey(id whatisup.InstanceID) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{
		"pk": &types.AttributeValueMemberS{Value: string(w.customer) + "#test"}, "sk": &types.AttributeValueMemberS{Value: string(id) + "#host"},
	}
}

// A link that no state tells of yet, and that does not open, is wiped: there is room
// for another.
func TestUnfinishedLinkThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	w := quick(t)
	first := w.host("one")
	const number = "49170000005"
	id := w.create()
	w.link(id, number)
	first.stop()
	w.putDeviceRows(damaged(w.deviceRows(id)))
	// As the instance's row is when the host dies between the two writes of a scan.
	_, err := dynamodb.NewFromConfig(w.aws.Config).UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName:        aws.String(dynamo.Local().Instances),
		Key:              w.observedKey(id),
		UpdateExpression: aws.String("SET #s = :qr, link = :zero, confirmed = :no"), ConditionExpression: aws.String("attribute_exists(pk) AND link > :zero"),
		ExpressionAttributeNames: map[string]string{"#s": "status"},
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":qr": &types.AttributeValueMemberS{Value: "qr"}, ":zero": &types.AttributeValueMemberN{Value: "0"}, ":no": &types.AttributeValueMemberBOOL{},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.host("two")
	w.status(id, whatisup.Failed, whatisup.Internal)
	w.link(id, number)
}
