package host

import (
	"encoding/json"
	"strings"
	"testing"

	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

// The phone's history is read for the secrets of what was written before the link, and
// is nobody's event.
func TestHistoryIsReadForItsSecrets(t *testing.T) {
	t.Parallel()
	w := quick(t)
	w.host("one")
	id := w.create()
	const number, friend = "491700000004", "14155550124"
	write := func(text string, target *whatsapp.Reference) string {
		return w.writeOrEdit(friend, number, text, target)
	}
	old := &whatsapp.Reference{ID: write("before the link", nil)}
	w.link(id, number)

	// edit writes an edit, whose text only the old message's secret opens.
	edit := func(text string) (read bool) { return w.edited(id, write(text, old), text) }
	if edit("unreadable") {
		t.Error("an edit was read without the secret")
	}
	w.sync(number)
	w.await("an edit that can be read", func() bool { return edit("readable") })
	if n := w.received(id); len(n) != 0 {
		t.Errorf("the history made the events %v", n)
	}
}

// A host dies while it reads a history, of which WhatsApp does not tell again: it has the
// receipts of the notice. The next owner reads it.
func TestHistoryOutlivesItsReader(t *testing.T) {
	t.Parallel()
	w := quick(t).hasty()
	_, life := w.mortal("one")
	id := w.create()
	const number, friend = "491700000005", "14155550125"
	old := &whatsapp.Reference{ID: w.writeOrEdit(friend, number, "before the link", nil)}
	w.link(id, number)
	w.fault(id, whatsapp.Fault{Kind: "media_slow", Millis: 600_000})
	w.sync(number)
	w.await("both receipts of the notice", func() bool {
		kinds := ""
		for _, e := range w.sim.Journal(whatsapp.JournalFilter{Target: whatsapp.Target{World: string(w.customer)}, Tag: "receipt"}) {
			if e.Direction == "in" {
				kinds += e.Stanza
			}
		}
		return strings.Contains(kinds, `type="hist_sync"`) && strings.Contains(kinds, `type="peer_msg"`)
	})
	life.cut()
	w.clear(id)
	w.host("two")
	w.await("an edit that can be read", func() bool { return w.edited(id, w.writeOrEdit(friend, number, "readable", old), "readable") })
}

// sync has the phone of a number bring its devices up to date.
func (w *world) sync(number string) {
	w.t.Helper()
	if _, err := w.sim.Act(w.t.Context(), whatsapp.Action{World: string(w.customer), PhoneNumber: number, Kind: "sync"}); err != nil {
		w.t.Fatal(err)
	}
}

// writeOrEdit writes a text, or edits one in the form that its secret opens.
func (w *world) writeOrEdit(from, to, text string, target *whatsapp.Reference) string {
	w.t.Helper()
	writing := whatsapp.Writing{Text: whatsapp.Text{World: string(w.customer), From: from, To: to}}
	writing.Body = &whatsapp.Body{Type: "text", Text: text}
	if target != nil {
		writing.Body.Type, writing.Body.Target, writing.SecretEdit = "edit", target, true
	}
	mid, err := w.sim.Write(w.t.Context(), writing)
	if err != nil {
		w.t.Fatal(err)
	}
	return mid
}

// edited waits for the event of an edit, and says whether it could be read.
func (w *world) edited(id whatisup.InstanceID, mid, text string) (read bool) {
	w.t.Helper()
	w.await("the edit's event", func() bool {
		for _, e := range w.events(id) {
			var d whatisup.EditedData
			if e.Name != whatisup.MessageEdited {
				continue
			}
			if err := json.Unmarshal(e.Data, &d); err != nil {
				w.t.Fatal(err)
			}
			if string(d.MessageID) == mid {
				read = d.Text != nil && *d.Text == text
				return true
			}
		}
		return false
	})
	return read
}
