package host

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

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
