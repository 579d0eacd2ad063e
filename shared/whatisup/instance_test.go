package whatisup

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var epochOfTests = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func instance(change func(*Instance)) *Instance {
	i := &Instance{Config: Config{Customer: NewCustomerID(), Mode: Test, ID: NewInstanceID(), Name: "x", UpdatedAt: epochOfTests}}
	i.Observed = Observed{Status: Pending, Since: epochOfTests, UpdatedAt: epochOfTests}
	if change != nil {
		change(i)
	}
	return i
}

func TestView(t *testing.T) {
	now := epochOfTests.Add(time.Hour)
	alive := now.Add(-2 * time.Second)
	dead := now.Add(-31 * time.Second)
	linked := func(status Status, reason Reason) func(*Instance) {
		return func(i *Instance) {
			i.Wanted = Wanted{Online: true, Generation: 3, ChangedAt: epochOfTests}
			i.Observed.Status, i.Observed.Reason = status, reason
			i.Observed.Link, i.Observed.Confirmed, i.Observed.PhoneNumber = 2, true, "4915112345678"
			i.Observed.ObservedGeneration, i.Observed.DoneGeneration = 3, 3
		}
	}
	and := func(f func(*Instance), more func(*Instance)) func(*Instance) {
		return func(i *Instance) { f(i); more(i) }
	}
	for name, c := range map[string]struct {
		change func(*Instance)
		owner  time.Time
		status Status
		reason Reason
		number string
		since  time.Time
	}{
		"fresh":                       {nil, alive, Pending, NoReason, "", time.Time{}},
		"fresh, never a host":         {nil, time.Time{}, Pending, NoReason, "", time.Time{}},
		"fetch not taken up":          {func(i *Instance) { i.Wanted = Wanted{Online: true, Generation: 1} }, alive, Pending, Starting, "", time.Time{}},
		"code":                        {func(i *Instance) { i.Observed.Status = QR; i.Wanted.Generation = 1; i.Observed.ObservedGeneration = 1 }, alive, QR, NoReason, "", time.Time{}},
		"code, owner silent":          {func(i *Instance) { i.Observed.Status = QR; i.Wanted.Generation = 1; i.Observed.ObservedGeneration = 1 }, dead, Pending, NoSessionHost, "", time.Time{}},
		"connected":                   {linked(Connected, NoReason), alive, Connected, NoReason, "4915112345678", time.Time{}},
		"connected, owner silent":     {linked(Connected, NoReason), dead, Connecting, NoSessionHost, "4915112345678", time.Time{}},
		"connected, never an owner":   {linked(Connected, NoReason), time.Time{}, Connecting, NoSessionHost, "4915112345678", time.Time{}},
		"connecting, owner silent":    {linked(Connecting, NoReason), dead, Connecting, NoReason, "4915112345678", time.Time{}},
		"stopped":                     {and(linked(Disconnected, Stopped), func(i *Instance) { i.Wanted.Online = false }), alive, Disconnected, Stopped, "4915112345678", time.Time{}},
		"stopped while owner is dead": {and(linked(Connected, NoReason), func(i *Instance) { i.Wanted.Online = false }), dead, Disconnected, Stopped, "4915112345678", time.Time{}},
		"connect not taken up":        {and(linked(Disconnected, Stopped), func(i *Instance) { i.Wanted.Generation = 4 }), alive, Connecting, NoReason, "4915112345678", time.Time{}},
		"connect on a ban":            {and(linked(Failed, Banned), func(i *Instance) { i.Wanted.Generation = 4 }), alive, Connecting, NoReason, "4915112345678", time.Time{}},
		"logout not done":             {and(linked(Connected, NoReason), func(i *Instance) { i.Wanted.Online = false; i.Wanted.UnlinkThrough = 3 }), alive, Pending, LoggedOut, "", time.Time{}},
		"logout, owner silent":        {and(linked(Connected, NoReason), func(i *Instance) { i.Wanted.Online = false; i.Wanted.UnlinkThrough = 3 }), dead, Pending, LoggedOut, "", time.Time{}},
		"logout and fetch, not done":  {and(linked(Connected, NoReason), func(i *Instance) { i.Wanted.UnlinkThrough = 3; i.Wanted.Generation = 4 }), alive, Pending, Starting, "", time.Time{}},
		"fetch after logout": {func(i *Instance) {
			i.Wanted = Wanted{Online: true, Generation: 4, UnlinkThrough: 3}
			i.Observed = Observed{Status: QR, ObservedGeneration: 4}
		}, alive, QR, NoReason, "", time.Time{}},
		"removed on the phone": {and(linked(Disconnected, RemovedOnPhone), func(i *Instance) { i.Observed.Link = 0 }), alive, Disconnected, RemovedOnPhone, "4915112345678", time.Time{}},
		"removed, then logout": {and(linked(Disconnected, RemovedOnPhone), func(i *Instance) { i.Observed.Link = 0; i.Wanted.UnlinkThrough = 3; i.Wanted.Online = false }), alive, Pending, LoggedOut, "", time.Time{}},
		"removed, then fetch":  {and(linked(Disconnected, RemovedOnPhone), func(i *Instance) { i.Observed.Link = 0; i.Wanted.Generation = 4 }), alive, Pending, Starting, "4915112345678", time.Time{}},
		"codes ran out": {func(i *Instance) {
			i.Wanted = Wanted{Online: true, Generation: 1}
			i.Observed.Reason = QRTimeout
			i.Observed.ObservedGeneration = 1
			i.Observed.DoneGeneration = 1
		}, alive, Pending, QRTimeout, "", time.Time{}},
		"codes ran out, fetched again": {func(i *Instance) {
			i.Wanted = Wanted{Online: true, Generation: 2}
			i.Observed.Reason = QRTimeout
			i.Observed.ObservedGeneration = 1
			i.Observed.DoneGeneration = 1
		}, alive, Pending, Starting, "", time.Time{}},
		"connected, nobody was there":             {linked(Connected, NoReason), alive, Connecting, NoReason, "4915112345678", now},
		"connected, nobody was there for a while": {linked(Connected, NoReason), alive, Connected, NoReason, "4915112345678", epochOfTests.Add(-time.Minute)},
		"logged in since":                         {and(linked(Connected, NoReason), func(i *Instance) { i.Observed.LastSeenAt = now }), alive, Connected, NoReason, "4915112345678", now.Add(-time.Second)},
		"code, nobody was there":                  {func(i *Instance) { i.Observed.Status = QR; i.Wanted.Generation = 1; i.Observed.ObservedGeneration = 1 }, alive, Pending, Starting, "", now},
		"stopped, nobody was there":               {and(linked(Disconnected, Stopped), func(i *Instance) { i.Wanted.Online = false }), alive, Disconnected, Stopped, "4915112345678", now},
		"connected, nobody was there, not wanted": {and(linked(Connected, NoReason), func(i *Instance) { i.Wanted.Online = false; i.Wanted.Generation = 4 }), alive, Disconnected, Stopped, "4915112345678", now},
	} {
		t.Run(name, func(t *testing.T) {
			i := instance(c.change)
			s := View(i, Owner{Seen: c.owner, Since: c.since}, now)
			reason := NoReason
			if s.Reason != nil {
				reason = *s.Reason
			}
			if s.Status != c.status || reason != c.reason || string(s.PhoneNumber) != c.number {
				t.Errorf("shown as %s (%s) with number %q, want %s (%s) with %q", s.Status, reason, string(s.PhoneNumber), c.status, c.reason, c.number)
			}
			if !slices.ContainsFunc(Meanings, func(m Meaning) bool { return m.Status == s.Status && m.Reason == reason }) {
				t.Errorf("%s (%s) has no meaning", s.Status, reason)
			}
		})
	}
}

func TestLastSeenIsTheOwnersBeatWhileConnected(t *testing.T) {
	now := epochOfTests.Add(time.Hour)
	i := instance(func(i *Instance) {
		i.Observed.Status, i.Observed.Link, i.Observed.LastSeenAt = Connected, 1, epochOfTests
		i.Wanted.Online = true
	})
	if got := View(i, Owner{Seen: now.Add(-time.Second)}, now).LastSeenAt; !got.Equal(now.Add(-time.Second)) {
		t.Errorf("connected: %v", got)
	}
	i.Observed.Status = Disconnected
	if got := View(i, Owner{Seen: now.Add(-time.Second)}, now).LastSeenAt; !got.Equal(epochOfTests) {
		t.Errorf("disconnected: %v", got)
	}
}

// Every stored step and everything shown has a meaning, and no state is a dead
// end: from each, an attempt can begin and a logout leads to pending.
func TestTransitions(t *testing.T) {
	seen := map[Transition]bool{}
	for _, tr := range Transitions {
		key := Transition{From: tr.From, To: tr.To, Reason: tr.Reason}
		if seen[key] {
			t.Errorf("%v stands twice", key)
		}
		seen[key] = true
		if tr.Why == "" {
			t.Errorf("%v has no reason", key)
		}
		if tr.Reason == NoSessionHost {
			t.Errorf("%v: no_session_host is never stored", key)
		}
		if !slices.ContainsFunc(Meanings, func(m Meaning) bool { return m.Status == tr.To && m.Reason == tr.Reason }) {
			t.Errorf("%v has no meaning", key)
		}
	}
	for _, from := range Statuses {
		if !from.MayBecome(Pending, LoggedOut) {
			t.Errorf("%s: logout leads nowhere", from)
		}
		reach := map[Status]bool{from: true}
		for grew := true; grew; {
			grew = false
			for _, tr := range Transitions {
				if reach[tr.From] && !reach[tr.To] {
					reach[tr.To], grew = true, true
				}
			}
		}
		for _, to := range Statuses {
			if !reach[to] {
				t.Errorf("%s can never become %s", from, to)
			}
		}
	}
	if Connected.MayBecome(QR, NoReason) {
		t.Error("a linked instance must not be paired anew")
	}
}

func TestAttemptOpen(t *testing.T) {
	for name, c := range map[string]struct {
		w    Wanted
		o    Observed
		open bool
	}{
		"nothing asked":      {Wanted{}, Observed{}, false},
		"asked":              {Wanted{Online: true, Generation: 1}, Observed{}, true},
		"running":            {Wanted{Online: true, Generation: 1}, Observed{ObservedGeneration: 1}, true},
		"ran out":            {Wanted{Online: true, Generation: 1}, Observed{ObservedGeneration: 1, DoneGeneration: 1}, false},
		"asked again":        {Wanted{Online: true, Generation: 2}, Observed{ObservedGeneration: 1, DoneGeneration: 1}, true},
		"linked":             {Wanted{Online: true, Generation: 2}, Observed{Link: 1}, false},
		"stopped":            {Wanted{Generation: 2}, Observed{}, false},
		"given up":           {Wanted{Online: true, Generation: 2, UnlinkThrough: 2}, Observed{}, false},
		"given up, new one":  {Wanted{Online: true, Generation: 3, UnlinkThrough: 2}, Observed{Link: 1}, true},
		"deleted everything": {Wanted{Online: true, Generation: 3, UnlinkThrough: Everything}, Observed{}, false},
	} {
		if got := (&Instance{Wanted: c.w, Observed: c.o}).AttemptOpen(); got != c.open {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestWireHasNineFields(t *testing.T) {
	i := instance(nil)
	b, err := json.Marshal(WireOf(i, View(i, Owner{}, epochOfTests)))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	if len(fields) != 9 {
		t.Errorf("%d fields: %s", len(fields), b)
	}
	if fields["phone_number"] != nil || fields["last_seen_at"] != nil {
		t.Errorf("want null for what is not known: %s", b)
	}
	if m, ok := fields["metadata"].(map[string]any); !ok || len(m) != 0 {
		t.Errorf("metadata must be {}: %s", b)
	}
	if fields["created_at"] != At(i.Config.ID.CreatedAt()).String() {
		t.Errorf("created_at is not the id's own millisecond: %s", b)
	}
}

func TestIDs(t *testing.T) {
	id := NewInstanceID()
	if _, ok := ParseInstanceID(string(id)); !ok {
		t.Errorf("%q is not accepted", id)
	}
	if d := time.Since(id.CreatedAt()); d < 0 || d > time.Minute {
		t.Errorf("created %v ago", d)
	}
	for _, bad := range []string{"", "x", strings.ToUpper(string(id)), "{" + string(id) + "}", "urn:uuid:" + string(id), strings.ReplaceAll(string(id), "-", ""), string(id) + " "} {
		if _, ok := ParseInstanceID(bad); ok {
			t.Errorf("%q is accepted", bad)
		}
	}
	if r := NewRequestID(); len(r) != 36 || !strings.HasPrefix(string(r), "req_") {
		t.Errorf("request id %q", r)
	}
}

func TestPositionsSortByTime(t *testing.T) {
	before := PositionAt(time.Now().Add(-time.Millisecond))
	a, b := NewPosition(), NewPosition()
	after := PositionAt(time.Now().Add(time.Second))
	if !(before < a && a < b && b < after) {
		t.Errorf("%s %s %s %s", before, a, b, after)
	}
}

func TestAPIKeyText(t *testing.T) {
	for range 200 {
		id := NewKeyID()
		text, prefix := NewAPIKeyText(Test, id)
		if !strings.HasPrefix(string(text), prefix+"_") || len(text) != len("wiu_test_")+32+1+49 {
			t.Fatalf("a key of %d characters", len(text))
		}
		m, got, ok := ParseAPIKeyText(string(text))
		if !ok || m != Test || got != id {
			t.Fatal("a fresh key is not accepted")
		}
		for i := range text {
			c := text[i] ^ 1
			if _, _, ok := ParseAPIKeyText(string(text[:i]) + string(c) + string(text[i+1:])); ok {
				t.Fatalf("accepted with character %d changed", i)
			}
		}
	}
}

func TestRedaction(t *testing.T) {
	var buf strings.Builder
	for _, v := range []any{Secret("geheim"), PhoneNumber("4915112345678"), Text("hallo")} {
		for _, f := range []string{"%v", "%s", "%#v", "%+v"} {
			buf.WriteString(fmt.Sprintf(f, v))
		}
	}
	for _, leak := range []string{"geheim", "49151", "hallo"} {
		if strings.Contains(buf.String(), leak) {
			t.Errorf("%q is printed: %s", leak, buf.String())
		}
	}
}

func TestParsePhoneNumber(t *testing.T) {
	for in, want := range map[string]string{
		"4915112345678": "4915112345678", "+4915112345678": "4915112345678",
		"+49 (1511) 234-5678": "4915112345678", "49.1511.2345678": "4915112345678",
		"": "", "+": "", "0151123456": "", "49 151": "", "123456": "", "49/1511/2345678": "", "1234567890123456": "", "49151١23456": "",
	} {
		got, ok := ParsePhoneNumber(in)
		if string(got) != want || ok != (want != "") {
			t.Errorf("%q: %q %v", in, string(got), ok)
		}
	}
}

func TestShardsAreSpread(t *testing.T) {
	var n [DefaultShardCount]int
	for range 16000 {
		n[ShardOf(NewInstanceID(), DefaultShardCount)]++
	}
	for s, c := range n {
		if c < 800 || c > 1200 {
			t.Errorf("shard %d has %d of 16000", s, c)
		}
	}
}

func TestEveryCodeHasAStatus(t *testing.T) {
	for _, c := range Codes() {
		if s := c.Status(); s < 400 || s > 599 {
			t.Errorf("%s: %d", c, s)
		}
	}
	if ErrorCode(ErrNotFound) != CodeInternal || ErrorCode(nil) != "" ||
		ErrorCode(NewError(CodeNoQR, "x").Because(ErrNotFound)) != CodeNoQR {
		t.Error("codes are not found in errors")
	}
}
