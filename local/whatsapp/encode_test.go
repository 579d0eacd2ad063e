package whatsapp

import (
	"encoding/json"
	"testing"
	"time"
)

// What is encoded by hand is what encoding/json makes of it, byte for byte.
func TestEncodedByHand(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 60_000_000, time.UTC)
	same := func(got []byte, value any) {
		t.Helper()
		want, err := json.Marshal(value)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s\nand not\n%s (%v)", got, want, err)
		}
	}
	for _, text := range []string{"", "plain", `"quoted" \`, "<&>", "grüße 🎈", "line\nline\x00\x7f", "\xff broken \xc3", "\u2028"} {
		same((&queued{Class: text, ID: text, Key: text, Stanza: []byte(text)}).encode(), queued{Class: text, ID: text, Key: text, Stanza: []byte(text)})
		body, err := json.Marshal(Body{Type: "text", Text: text})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []shownRecord{
			{},
			{Shown: Shown{Position: 7, ID: text, From: text, Chat: text, Type: "text", Text: text, Body: body, At: at}, Plain: []byte(text)},
			{
				Shown:  Shown{Position: 1 << 63, ID: "x", At: at, Read: at.Add(1), Played: at.Add(time.Second), Edited: at, Revoked: at.Add(time.Hour)},
				Device: text, PN: true, Plain: []byte{0, 1, 2}, Secret: []byte{3},
			},
		} {
			same(r.encode(), r)
		}
	}
	same((&queued{Stanza: []byte{}}).encode(), queued{Stanza: []byte{}})
}
