package whatisup

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
	"time"
)

// steps has every constructor of a state, with the statuses after which a host
// takes it. A constructor that is missing here fails the test.
var steps = map[string]struct {
	after []Status
	make  func(o Observed) []Observed
}{
	"Starting":     {[]Status{Pending, QR, Disconnected, Failed}, one(func(o Observed) Observed { return o.Starting(2) })},
	"Shows":        {[]Status{Pending, QR}, one(func(o Observed) Observed { return o.Shows(later) })},
	"Linked":       {[]Status{Pending, QR}, one(func(o Observed) Observed { return o.Linked(2, "49151") })},
	"TakenUp":      {Statuses, one(func(o Observed) Observed { return o.TakenUp(2) })},
	"Up":           {[]Status{Connecting, Connected, Disconnected, Failed}, one(func(o Observed) Observed { return o.Up("49151") })},
	"Idle":         {[]Status{Pending, QR}, one(func(o Observed) Observed { return o.Idle() })},
	"Unlinked":     {Statuses, one(func(o Observed) Observed { return o.Unlinked(2) })},
	"Stopped":      {[]Status{Connecting, Connected, Disconnected, Failed}, one(func(o Observed) Observed { return o.Stopped() })},
	"Interrupted":  {[]Status{Pending, QR, Connecting, Disconnected, Failed}, one(func(o Observed) Observed { return o.Interrupted() })},
	"Unreachable":  {[]Status{Connecting}, one(func(o Observed) Observed { return o.Unreachable() })},
	"Reconnecting": {[]Status{Pending, QR, Disconnected, Failed}, one(func(o Observed) Observed { return o.Reconnecting() })},
	"Down": {[]Status{Connecting, Connected, Disconnected, Failed}, func(o Observed) []Observed {
		return []Observed{o.Down(later), o.Down(time.Time{})}
	}},
	"LinkConfirmed": {[]Status{Connecting, Connected, Disconnected, Failed}, one(func(o Observed) Observed { return o.LinkConfirmed() })},
	"Rejected": {[]Status{Connecting, Connected, Disconnected, Failed}, func(o Observed) (all []Observed) {
		for _, r := range []Reason{Banned, ClientOutdated, Internal, KickedOtherDevice} {
			all = append(all, o.Rejected(r, later))
		}
		return all
	}},
	"Lost": {[]Status{Connecting, Connected, Disconnected, Failed}, func(o Observed) (all []Observed) {
		for _, r := range []Reason{RemovedOnPhone, SessionInvalidated, Banned} {
			all = append(all, o.Lost(r))
		}
		return all
	}},
	"AttemptEnded": {[]Status{Pending, QR}, func(o Observed) []Observed {
		return []Observed{
			o.AttemptEnded(2, Pending, QRTimeout, ""), o.AttemptEnded(2, Pending, Network, CodeWhatsAppUnreachable),
			o.AttemptEnded(2, Pending, NoReason, CodeAtCapacity), o.AttemptEnded(2, Pending, PairingInterrupted, ""),
			o.AttemptEnded(2, Failed, PasskeyRequired, ""), o.AttemptEnded(2, Failed, ClientOutdated, ""),
			o.AttemptEnded(2, Failed, Internal, CodeInternal),
		}
	}},
}

var later = epochOfTests.Add(time.Hour)

func one(f func(Observed) Observed) func(Observed) []Observed {
	return func(o Observed) []Observed { return []Observed{f(o)} }
}

// Every constructor makes only states that the table of steps allows, and leaves
// nothing that belongs to another state.
func TestEveryStepIsLegal(t *testing.T) {
	for _, name := range constructors(t) {
		step, ok := steps[name]
		if !ok {
			t.Errorf("%s makes a state, and this test does not know after which", name)
			continue
		}
		for _, from := range step.after {
			was := Observed{
				Status: from, Link: 1, LastLink: 1, Confirmed: true, PhoneNumber: "49150", FailedCause: CodeAtCapacity,
				ObservedGeneration: 1, DoneGeneration: 1, NextRetryAt: later, QRExpiresAt: later,
			}
			for _, is := range step.make(was) {
				if is.Status == was.Status && is.Reason == was.Reason {
					continue // no step
				}
				if !from.MayBecome(is.Status, is.Reason) {
					t.Errorf("%s: %s may not become %s (%s)", name, from, is.Status, is.Reason)
				}
				if is.Status != QR && !is.QRExpiresAt.IsZero() {
					t.Errorf("%s: %s (%s) shows when a code expires", name, is.Status, is.Reason)
				}
				if is.Status == Pending && (is.Link != 0 || is.Confirmed) && name != "Starting" && name != "AttemptEnded" && name != "Idle" {
					t.Errorf("%s: pending with a link", name)
				}
				if is.Link == 0 && is.Confirmed {
					t.Errorf("%s: no link, and it has logged in", name)
				}
				if (is.Status == Connected || is.Status == Pending || is.Status == QR) && !is.NextRetryAt.IsZero() {
					t.Errorf("%s: %s announces a retry", name, is.Status)
				}
				if is.Status == Connected && is.FailedCause != "" {
					t.Errorf("%s: connected, and a call is told that the attempt failed", name)
				}
				if is.ObservedGeneration < was.ObservedGeneration || is.DoneGeneration < was.DoneGeneration {
					t.Errorf("%s takes a generation back", name)
				}
			}
		}
	}
}

// constructors are the exported methods of step.go that return a state.
func constructors(t *testing.T) (names []string) {
	file, err := parser.ParseFile(token.NewFileSet(), "step.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv == nil || !f.Name.IsExported() || f.Type.Results == nil {
			continue
		}
		of, _ := f.Recv.List[0].Type.(*ast.Ident)
		is, _ := f.Type.Results.List[0].Type.(*ast.Ident)
		if of != nil && of.Name == "Observed" && is != nil && is.Name == "Observed" {
			names = append(names, f.Name.Name)
		}
	}
	if len(names) < 10 {
		t.Fatalf("step.go has only %v", names)
	}
	return names
}

// An instance at rest has a state that needs nothing more, from wherever it comes.
func TestAtRest(t *testing.T) {
	for _, from := range Meanings {
		for _, link := range []Link{0, 2} {
			for _, online := range []bool{false, true} {
				for _, through := range []Link{0, 2, Everything} {
					i := instance(func(i *Instance) {
						i.Wanted = Wanted{Online: online, Generation: 2, UnlinkThrough: through}
						i.Observed.Status, i.Observed.Reason, i.Observed.Link = from.Status, from.Reason, link
						i.Observed.ObservedGeneration, i.Observed.DoneGeneration = 2, 1
					})
					if d := i.Duty(0); d != Rest && d != Settle || i.AttemptOpen() {
						continue
					}
					i.Observed = i.AtRest()
					o := i.Observed
					if d := i.Duty(0); d != Rest {
						t.Errorf("%v of %+v is not at rest: duty %d", from, i.Wanted, d)
					}
					if again := i.AtRest(); !again.Same(&o) {
						t.Errorf("%v of %+v: at rest twice differs: %+v, %+v", from, i.Wanted, o, again)
					}
					if !slices.ContainsFunc(Meanings, func(m Meaning) bool { return m.Status == o.Status && m.Reason == o.Reason }) {
						t.Errorf("%v of %+v rests as %s (%s), which means nothing", from, i.Wanted, o.Status, o.Reason)
					}
				}
			}
		}
	}
}

// What the index says of an instance leads to the same duty as the instance.
func TestHintHasTheInstancesDuty(t *testing.T) {
	for bits := range 1 << 4 {
		for g := range Generation(4) {
			for link := range Link(4) {
				for through := range Link(4) {
					i := instance(func(i *Instance) {
						i.Wanted = Wanted{Online: bits&1 != 0, Generation: g, UnlinkThrough: through}
						i.Observed.Link, i.Observed.Epoch = link, Epoch(bits>>1&1)
						i.Observed.ObservedGeneration, i.Observed.DoneGeneration = Generation(bits>>2&1), Generation(bits>>3&1)
					})
					h := Hint{
						Online: i.Wanted.Online, Generation: g, UnlinkThrough: through, Link: link, Epoch: i.Observed.Epoch,
						ObservedGeneration: i.Observed.ObservedGeneration, DoneGeneration: i.Observed.DoneGeneration,
					}
					if a, b := i.Duty(1), h.Duty(1); a != b {
						t.Fatalf("%+v: the instance has duty %d, its hint %d", h, a, b)
					}
					// What is wanted is either kept or given up.
					if link > 0 && i.HasLink() == i.Unlinking() {
						t.Errorf("%+v: has a link %v, unlinking %v", h, i.HasLink(), i.Unlinking())
					}
				}
			}
		}
	}
}

func TestCommandKindsListsAll(t *testing.T) {
	var declared []string
	for _, name := range []string{"command.go", "ask.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "CommandKind" {
				declared = append(declared, strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`))
			}
			return true
		})
	}
	if len(declared) != len(CommandKinds) {
		t.Errorf("declared are %v, listed %v", declared, CommandKinds)
	}
	for _, d := range declared {
		if !slices.Contains(CommandKinds, CommandKind(d)) {
			t.Errorf("%s is not listed", d)
		}
	}
}
