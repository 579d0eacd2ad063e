package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The test's own binary plays the benchmark's other roles.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(context.Background(), role); err != nil {
			os.Stderr.WriteString("bench: " + err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Every step works, and nothing costs more requests than it did. Times are not
// looked at: they are `make bench`'s.
func TestShort(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	dir := t.TempDir()
	r, used, err := run(ctx, short, dir, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	for what := range most {
		u, ok := used[what]
		if !ok {
			t.Errorf("%s was not counted", what)
			continue
		}
		for _, problem := range beyond(what, u) {
			t.Error(problem)
		}
	}
	// What must come of a run, whatever its size.
	for _, prefix := range []string{
		"QR alone: GET qr", "QR at once: GET qr", "Link: scan to connected", "Link: POST pair-code", "Link: code entered",
		"Requests: idle hour", "Density, ", "Inbound, ", "Webhooks: a message", "Webhooks: a delivery", "API, 16 clients: POST", "API: token bucket", "Lambda: ", "Cost of 1,000",
		"Coming back: ", "Stream: ", "Sending, one at a time", "Sending, back to back",
	} {
		if !slices.ContainsFunc(r.rows, func(r row) bool { return strings.HasPrefix(r.Name, prefix) }) {
			t.Errorf("no figure of %q", prefix)
		}
	}
	path := filepath.Join(dir, "bench.json")
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]any
	if err := json.Unmarshal(b, &rows); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		for _, name := range []string{"name", "value", "unit", "goal", "floor", "ok"} {
			if _, ok := row[name]; !ok {
				t.Errorf("%v has no %s", row["name"], name)
			}
		}
	}
}

func TestUnknownStep(t *testing.T) {
	t.Parallel()
	if _, _, err := run(t.Context(), size{Only: []string{"density", "nonsense"}}, t.TempDir(), t.Output()); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("a step that there isn't: %v", err)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	if got := beyond("received message", usage{Writes: 3, Sends: 1, WriteUnits: 6}); len(got) != 0 {
		t.Errorf("what is allowed is refused: %q", got)
	}
	if got := beyond("received message", usage{Writes: 4, Reads: .1, Sends: 1}); len(got) != 2 {
		t.Errorf("two bounds were passed: %q", got)
	}
	if got := beyond("something new", usage{}); len(got) == 0 {
		t.Error("what has no bound passed")
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	r := &report{out: t.Output()}
	r.add("good", 59.996, "ms", goal(60), floorOf(11.23456))
	r.add("bad", 61, "ms", goal(60))
	r.add("plain", 0.00012345678, "s")
	if !*r.rows[0].OK || r.rows[0].Value != 60 || *r.rows[0].Floor != 11.23 {
		t.Errorf("a goal that was met: %+v", r.rows[0])
	}
	if *r.rows[1].OK {
		t.Error("a goal that was missed is called met")
	}
	if r.rows[2].OK != nil || r.rows[2].Goal != nil || r.rows[2].Value != 0.0001235 {
		t.Errorf("a figure without a goal: %+v", r.rows[2])
	}
	if got := (spread{4, 1, 3, 2}).at(.5); got != 3 {
		t.Errorf("the median of four is %v", got)
	}
}

// What a request is about, and what it took.
func TestMeter(t *testing.T) {
	t.Parallel()
	m := &meter{aws: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ ReturnConsumedCapacity string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		if strings.HasPrefix(r.Header.Get("X-Amz-Target"), "DynamoDB") && in.ReturnConsumedCapacity != "TOTAL" {
			t.Error("the capacity was not asked for")
		}
		w.Write([]byte(`{"ConsumedCapacity":[{"TableName":"a-devices","CapacityUnits":6},{"TableName":"a-events","CapacityUnits":2}]}`))
	})}
	m.reset(false)
	call := func(target, body string) {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.Header.Set("X-Amz-Target", target)
		m.ServeHTTP(httptest.NewRecorder(), r)
	}
	transaction := `{"TransactItems":[{"Put":{"TableName":"a-events"}},{"Update":{"TableName":"a-devices"}}]}`
	call("DynamoDB_20120810.TransactWriteItems", strings.Replace(transaction, "{", `{"ReturnConsumedCapacity":"TOTAL",`, 1)) // not counted yet
	m.reset(true)
	call("DynamoDB_20120810.TransactWriteItems", transaction)
	call("DynamoDB_20120810.Query", `{"TableName":"a-instances","IndexName":"by_shard"}`)
	call("DynamoDB_20120810.GetItem", `{"TableName":"a-fleet"}`)
	call("AmazonSQS.SendMessage", `{"QueueUrl":"http://x/0/a-commands-live-0001.fifo","MessageBody":"{\"instance_id\":\"01980000-0000-7000-8000-000000000001\"}"}`)
	call("AmazonSQS.ReceiveMessage", `{"QueueUrl":"http://x/0/a-commands-live-0001.fifo"}`)
	call("AmazonSQS.SendMessageBatch", `{"QueueUrl":"http://x/0/a-events"}`)
	call("TrentService.GenerateDataKey", `{"KeyId":"k"}`)
	got := m.reset(false)
	if u := got.usage(false); u != (usage{Writes: 1, WriteUnits: 8, Standard: 1, FIFO: 1, Sends: 1, Wakes: 1, KMS: 1}) {
		t.Errorf("without upkeep it comes to %+v", u)
	}
	if u := got.usage(true); u.Reads != 2 || u.ReadUnits != 16 || u.FIFO != 2 {
		t.Errorf("with upkeep it comes to %+v", u)
	}
	if len(got.Trace) != 1 || !slices.Equal(got.Trace[0].Instances, []string{"01980000-0000-7000-8000-000000000001"}) {
		t.Errorf("the trace is %+v", got.Trace)
	}
}

func TestPrices(t *testing.T) {
	t.Parallel()
	p, err := readPrices()
	if err != nil {
		t.Fatal(err)
	}
	if p.Region == "" || p.Date == "" {
		t.Error("prices without a region or a date")
	}
	if got, want := p.of(usage{WriteUnits: 1e6, ReadUnits: 1e6, Standard: 1e6, FIFO: 1e6, KMS: 1e4}), p.WriteUnits+p.ReadUnits+p.SQSStandard+p.SQSFIFO+p.KMS; got != want || want <= 0 {
		t.Errorf("a million of everything costs %v, not %v", got, want)
	}
}

// Rows of two builds stand beside each other by name, with the median of each
// build's rounds; a row that one lacks is shown all the same.
func TestBeside(t *testing.T) {
	two, four := 2.0, 4.0
	ours := [][]row{
		{{Name: "a", Unit: "ms", Value: 3, Floor: &two}, {Name: "new", Value: 7}},
		{{Name: "a", Unit: "ms", Value: 1, Floor: &four}, {Name: "new", Value: 7}},
		{{Name: "a", Unit: "ms", Value: 9, Floor: &two}, {Name: "new", Value: 7}},
	}
	theirs := [][]row{{{Name: "gone", Value: 5}, {Name: "a", Unit: "ms", Value: 4}}, {{Name: "a", Unit: "ms", Value: 8}}}
	var got []string
	for _, c := range beside(theirs, ours) {
		got = append(got, fmt.Sprintf("%s|%s|%s|%s|%s", c.Name, c.Theirs, c.Ours, c.ratio(), c.Floor))
	}
	want := []string{"a|6 (4 to 8)|3 (1 to 9)|0.50|2 (2 to 4)", "new||7||", "gone|5|||"}
	if !slices.Equal(got, want) {
		t.Errorf("beside: %q", got)
	}
}
