package whatisup

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

type quotedText struct {
	Text string `json:"text"`
}

type longData struct {
	Text   string      `json:"text"`
	Quoted *quotedText `json:"quoted,omitempty"`
	ID     string      `json:"id"`
	Size   int64       `json:"size"`
}

func eventOf(t *testing.T, data any) ([]byte, map[string]any) {
	t.Helper()
	e, err := NewEvent(MessageReceived, NewCustomerID(), Test, NewInstanceID(), epochOfTests, data)
	if err != nil {
		t.Fatal(err)
	}
	e.Command = NewCommandID()
	whole, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(e.Data, &back); err != nil {
		t.Fatal(err)
	}
	return whole, back
}

// An event has at most 200 KB, whatever a stranger wrote: own texts are cut first,
// then quoted ones, at a character, and the event says which.
func TestLongEventsAreCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		data longData
		cut  []string
	}{
		{"short", longData{Text: "hi", ID: "A1", Size: 1 << 62}, nil},
		{"own", longData{Text: strings.Repeat("a", 420<<10), ID: "A1"}, []string{"text"}},
		{"huge", longData{Text: strings.Repeat("🙂", 1<<20), ID: "A1"}, []string{"text"}},
		{"escaped", longData{Text: strings.Repeat("\x01<", 100<<10), ID: "A1"}, []string{"text"}},
		{"quoted", longData{Text: "hi", Quoted: &quotedText{strings.Repeat("ü", 200<<10)}, ID: "A1"}, []string{"quoted.text"}},
		{"both", longData{Text: strings.Repeat("a", 300<<10), Quoted: &quotedText{strings.Repeat("b", 300<<10)}}, []string{"text", "quoted.text"}},
		{"own is enough", longData{Text: strings.Repeat("a", 300<<10), Quoted: &quotedText{strings.Repeat("b", 100<<10)}}, []string{"text"}},
	} {
		whole, back := eventOf(t, c.data)
		if len(whole) > EventSize {
			t.Errorf("%s: %d bytes", c.name, len(whole))
		}
		if len(c.cut) > 0 && len(whole) < EventSize-2<<10 && c.name != "own is enough" && c.name != "both" {
			t.Errorf("%s: only %d bytes are left", c.name, len(whole))
		}
		var cut []string
		for _, p := range asList(back["truncated"]) {
			cut = append(cut, p.(string))
		}
		if !slices.Equal(cut, c.cut) {
			t.Errorf("%s: %v were cut, not %v", c.name, cut, c.cut)
		}
		text := back["text"].(string)
		if !utf8.ValidString(text) || strings.ContainsRune(text, utf8.RuneError) || !strings.HasPrefix(c.data.Text, text) {
			t.Errorf("%s: the text is not the beginning of what was written", c.name)
		}
		if n, ok := back["id"].(string); !ok || n != c.data.ID {
			t.Errorf("%s: the id is %v", c.name, back["id"])
		}
	}
}

func asList(v any) []any {
	l, _ := v.([]any)
	return l
}

// An unpaired surrogate becomes U+FFFD; everything else stays as it is.
func TestSurrogatesArePaired(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"a":"x"}`:                  `{"a":"x"}`,
		`{"a":"\ud83d\ude42"}`:       `{"a":"\ud83d\ude42"}`,
		`{"a":"\ud83d"}`:             `{"a":"\ufffd"}`,
		`{"a":"\ude42\ud83d"}`:       `{"a":"\ufffd\ufffd"}`,
		`{"a":"\ud83d\ud83d\ude42"}`: `{"a":"\ufffd\ud83d\ude42"}`,
		`{"a":"\\ud83d"}`:            `{"a":"\\ud83d"}`,
		`{"a":"\\\ud83d\n"}`:         `{"a":"\\\ufffd\n"}`,
		`{"a":"\uD83Dx\u0041"}`:      `{"a":"\ufffdx\u0041"}`,
	} {
		if got := string(pairSurrogates([]byte(in))); got != want {
			t.Errorf("%s becomes %s, not %s", in, got, want)
		}
	}
	_, back := eventOf(t, json.RawMessage(`{"name":"x\ud800"}`))
	if back["name"] != "x\ufffd" {
		t.Errorf("the name is %q", back["name"])
	}
}

func FuzzPairSurrogates(f *testing.F) {
	f.Add(`"\ud83d\ude42"`)
	f.Add(`"\\\ud800\\"`)
	f.Fuzz(func(t *testing.T, text string) {
		if !json.Valid([]byte(text)) {
			return
		}
		got := pairSurrogates([]byte(text))
		if !json.Valid(got) {
			t.Fatalf("%q becomes %q", text, got)
		}
		var a, b any
		if json.Unmarshal([]byte(text), &a) != nil || json.Unmarshal(got, &b) != nil {
			t.Fatalf("%q becomes %q", text, got)
		}
		// Go reads an unpaired surrogate as U+FFFD, so nothing else may differ.
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		if string(x) != string(y) {
			t.Fatalf("%s, %s", x, y)
		}
	})
}

// A text that stands twice, as that of a message and that of its body, is cut alike.
func TestTheSameTextIsCutAlike(t *testing.T) {
	long := strings.Repeat("é", 100_000)
	data, err := json.Marshal(map[string]any{"text": long, "body": map[string]any{"type": "text", "text": long}})
	if err != nil {
		t.Fatal(err)
	}
	short, err := shorten(data, MaxEventBytes)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Text      string
		Body      struct{ Text string }
		Truncated []string
	}
	if err := json.Unmarshal(short, &got); err != nil {
		t.Fatal(err)
	}
	if got.Text != got.Body.Text || len(got.Text) < 90_000 || len(short) > MaxEventBytes || strings.Join(got.Truncated, " ") != "text body.text" {
		t.Errorf("%d and %d bytes are left, %v", len(got.Text), len(got.Body.Text), got.Truncated)
	}
}
