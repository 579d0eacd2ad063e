package line

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"whatisup/shared/whatisup"
)

// notEvents are types of the library's package of events that are parts of others.
var notEvents = map[string]bool{
	"NewsletterMessageMeta": true, "MediaRetryError": true, "BlocklistChange": true, "MexNotificationData": true,
}

// Every event of the pinned library is either told to the session or ignored for a
// reason. A version of the library with a new one fails here.
func TestEveryLibraryEventIsDecidedAbout(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "go.mau.fi/whatsmeow/types/events").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	decided := casesOf(t, "line.go", "events")
	var known int
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			d, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if _, ok := d.Type.(*ast.StructType); !ok || notEvents[d.Name.Name] {
				return true
			}
			known++
			if decided[d.Name.Name] != 1 {
				t.Errorf("events.%s is decided about %d times", d.Name.Name, decided[d.Name.Name])
			}
			return true
		})
	}
	if known < 50 {
		t.Errorf("only %d events were found", known)
	}
}

// casesOf counts, in the type switches of a file, the cases of a package's types.
func casesOf(t *testing.T, file, pkg string) map[string]int {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]int)
	ast.Inspect(parsed, func(n ast.Node) bool {
		c, ok := n.(*ast.CaseClause)
		if !ok {
			return true
		}
		for _, e := range c.List {
			if star, ok := e.(*ast.StarExpr); ok {
				if sel, ok := star.X.(*ast.SelectorExpr); ok && sel.X.(*ast.Ident).Name == pkg {
					found[sel.Sel.Name]++
				}
			}
		}
		return true
	})
	return found
}

// strange is an event that no version of the library has.
type strange struct{}

// careless fails on every message.
type careless struct {
	nobody
	panics bool
}

func (c careless) Received(context.Context, Message) error {
	if c.panics {
		panic("in the handler")
	}
	return errors.New("not stored")
}

func testLine(t *testing.T, h Handler) *Line {
	l := &Line{device: &Device{}, cli: whatsmeow.NewClient(&Device{}, nil), settings: whatisup.DefaultSettings, handler: h, log: slog.New(slog.DiscardHandler), background: new(sync.WaitGroup), events: make(chan Event, eventsKept)}
	l.ctx, l.cancel = context.WithCancel(t.Context())
	return l
}

// What the library says becomes an event of ours, at most one; what is unknown
// ends nothing and is acknowledged.
func TestHandle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		told any
		is   Event
	}{
		{&events.QR{Codes: []string{"a"}}, Codes{[]string{"a"}}},
		{&events.PairSuccess{ID: types.NewADJID("49151", 0, 3)}, Linked{"49151"}},
		{&events.PairError{}, ScanFailed{}},
		{&events.PairPasskeyRequest{}, PasskeyAsked{}},
		{&events.PairPasskeyError{}, PasskeyAsked{}},
		{&events.Connected{}, Up{}},
		{&events.LoggedOut{Reason: 401}, Ended{Cause: RemovedOnPhone, Code: 401}},
		{&events.LoggedOut{Reason: 403}, Ended{Cause: LinkInvalid, Code: 403}},
		{&events.LoggedOut{Reason: 406}, Ended{Cause: BannedForGood, Code: 406}},
		{&events.StreamReplaced{}, Ended{Cause: Replaced}},
		{&events.TemporaryBan{Code: 101, Expire: time.Hour}, Ended{Cause: TempBanned, For: time.Hour}},
		{&events.ClientOutdated{}, Ended{Cause: Outdated}},
		{&events.ConnectFailure{Reason: 429}, Ended{Cause: Refused, Code: 429}},
		{&events.StreamError{Code: "418"}, Ended{Cause: StreamError}},
		{&events.ManualLoginReconnect{}, Ended{Cause: Restart}},
		{&events.KeepAliveTimeout{}, Ended{Cause: Silent}},
		{&events.StreamError{}, nil},
		{&events.Receipt{}, nil},
		{&strange{}, nil},
	} {
		l := testLine(t, nobody{})
		if !l.handle(c.told) {
			t.Errorf("%T is not acknowledged", c.told)
		}
		var got Event
		select {
		case got = <-l.Events():
		default:
		}
		if d, ok := c.is.(Codes); ok {
			if g, ok := got.(Codes); !ok || len(g.Texts) != len(d.Texts) {
				t.Errorf("%T becomes %#v", c.told, got)
			}
		} else if got != c.is {
			t.Errorf("%T becomes %#v", c.told, got)
		}
		if l.shut {
			t.Errorf("%T shuts the line", c.told)
		}
	}
}

// A message that can't be handled is not acknowledged, and the line is shut before
// it could be.
func TestFailedMessageIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	for _, panics := range []bool{false, true} {
		l := testLine(t, careless{panics: panics})
		lid := types.NewJID("12345", types.HiddenUserServer)
		m := &events.Message{
			Info:    types.MessageInfo{ID: "A1", MessageSource: types.MessageSource{Chat: lid, Sender: lid}},
			Message: &waE2E.Message{Conversation: proto.String("hi")},
		}
		if l.handle(m) {
			t.Errorf("panics %v: acknowledged", panics)
		}
		if e, ok := (<-l.Events()).(Ended); !ok || e.Cause != HandlerFailed {
			t.Errorf("panics %v: told %#v", panics, e)
		}
		if !l.shut || l.ctx.Err() == nil {
			t.Errorf("panics %v: the line is open", panics)
		}
	}
}

// A line that is shut lets no scan through, and nobody is told of one.
func TestShutLineLinksNothing(t *testing.T) {
	t.Parallel()
	h := &asked{may: true}
	l := testLine(t, h)
	if !l.mayLink() || !l.MayHaveLinked() || h.linking != 1 {
		t.Error("an open line lets no scan through")
	}
	h = &asked{may: true}
	l = testLine(t, h)
	h.during = l.Shut // while the handler decides
	if l.mayLink() || l.MayHaveLinked() || h.linking != 0 {
		t.Error("a shut line lets a scan through")
	}
}

type asked struct {
	nobody
	may     bool
	during  func()
	linking int
}

func (a *asked) MayLink(context.Context) bool {
	if a.during != nil {
		a.during()
	}
	return a.may
}
func (a *asked) Linking() { a.linking++ }
