package host

import (
	"encoding/json"
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
		writing := whatsapp.Writing{Text: whatsapp.Text{World: string(w.customer), From: friend, To: number}}
		writing.Body = &whatsapp.Body{Type: "text", Text: text}
		if target != nil {
			writing.Body.Type, writing.Body.Target, writing.SecretEdit = "edit", target, true
		}
		mid, err := w.sim.Write(t.Context(), writing)
		if err != nil {
			t.Fatal(err)
		}
		return mid
	}
	old := &whatsapp.Reference{ID: write("before the link", nil)}
	w.link(id, number)

	// edit writes an edit, whose text only the old message's secret opens, and waits
	// for its event.
	edit := func(text string) (read bool) {
		mid := write(text, old)
		w.await("the edit's event", func() bool {
			for _, e := range w.events(id) {
				var d whatisup.EditedData
				if e.Name != whatisup.MessageEdited {
					continue
				}
				if err := json.Unmarshal(e.Data, &d); err != nil {
					t.Fatal(err)
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
	if edit("unreadable") {
		t.Error("an edit was read without the secret")
	}
	if _, err := w.sim.Act(t.Context(), whatsapp.Action{World: string(w.customer), PhoneNumber: number, Kind: "sync"}); err != nil {
		t.Fatal(err)
	}
	w.await("an edit that can be read", func() bool { return edit("readable") })
	if n := w.received(id); len(n) != 0 {
		t.Errorf("the history made the events %v", n)
	}
}
