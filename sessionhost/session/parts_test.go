package session

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	waBinary "go.mau.fi/whatsmeow/binary"
)

// A connection whose process may not act any more says nothing and hands
// nothing on, also when the right ended while a read was waiting.
func TestConnIsFenced(t *testing.T) {
	t.Parallel()
	var trusted atomic.Bool
	trusted.Store(true)
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := newConn(ours, trusted.Load)
	var ended atomic.Int32
	c.onEnd = func(error) { ended.Add(1) }
	go func() { _, _ = theirs.Write([]byte("hello")) }()
	b := make([]byte, 8)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "hello" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	read := make(chan error, 1)
	go func() {
		n, err := c.Read(b)
		read <- errors.Join(err, map[bool]error{true: errors.New("bytes came through")}[n > 0])
	}()
	trusted.Store(false)
	go func() { _, _ = theirs.Write([]byte("secret")) }()
	if err := <-read; !errors.Is(err, errFenced) || strings.Contains(err.Error(), "bytes") {
		t.Errorf("the read ended with %v", err)
	}
	if _, err := c.Write([]byte("ack")); !errors.Is(err, errFenced) {
		t.Errorf("the write ended with %v", err)
	}
	if _, err := theirs.Read(b); err != io.EOF {
		t.Errorf("the other side saw %v", err)
	}
	if ended.Load() != 1 {
		t.Errorf("the end was told %d times", ended.Load())
	}
}

// The library formats stanzas, numbers and errors into its log lines; none of
// them gets into ours.
func TestLibraryLogKeepsNothingOfAnybody(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := libraryLog{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	const secret = "4915112345678"
	jid := types.NewJID(secret, types.DefaultUserServer)
	node := &waBinary.Node{Tag: "message", Attrs: waBinary.Attrs{"from": jid}}
	for _, l := range []interface {
		Errorf(string, ...any)
		Warnf(string, ...any)
		Infof(string, ...any)
		Debugf(string, ...any)
	}{log, log.Sub("Recv").(libraryLog)} {
		l.Errorf("Unknown stream error: %s", node)
		l.Warnf("Error decrypting message %s from %s: %v", "id", jid, errors.New("for "+secret))
		l.Infof("Successfully paired %s after %d tries in %v", &jid, 3, time.Second)
		l.Debugf("%s", node)
		l.Warnf("text %s", secret)
	}
	if strings.Contains(out.String(), secret) {
		t.Errorf("the log names somebody: %s", out.String())
	}
	if !strings.Contains(out.String(), "Unknown stream error") || !strings.Contains(out.String(), "3") {
		t.Errorf("the log says too little: %s", out.String())
	}
}

func TestMessageData(t *testing.T) {
	t.Parallel()
	pn, lid := types.NewJID("4915112345678", types.DefaultUserServer), types.NewJID("12345", types.HiddenUserServer)
	info := types.MessageInfo{ID: "A1", Timestamp: time.Unix(1_800_000_000, 0), MessageSource: types.MessageSource{Chat: lid, Sender: lid, SenderAlt: pn}}
	for _, c := range []struct {
		name string
		m    *waE2E.Message
		edit func(*types.MessageInfo)
		kind string
		text string
	}{
		{name: "text", m: &waE2E.Message{Conversation: proto.String("hi")}, kind: "text", text: "hi"},
		{name: "long text", m: &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("hello")}}, kind: "text", text: "hello"},
		{name: "image", m: &waE2E.Message{ImageMessage: &waE2E.ImageMessage{}}, kind: "image"},
		{name: "location", m: &waE2E.Message{LocationMessage: &waE2E.LocationMessage{}}, kind: "location"},
		{name: "unknown", m: &waE2E.Message{}, kind: "other"},
		{name: "housekeeping", m: &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{}}},
		{name: "our own", m: &waE2E.Message{Conversation: proto.String("hi")}, edit: func(i *types.MessageInfo) { i.IsFromMe = true }},
		{name: "a status", m: &waE2E.Message{Conversation: proto.String("hi")}, edit: func(i *types.MessageInfo) { i.Chat = types.StatusBroadcastJID }},
		{name: "nothing"},
	} {
		i := info
		if c.edit != nil {
			c.edit(&i)
		}
		d, ok := messageData(&events.Message{Info: i, Message: c.m})
		if ok != (c.kind != "") {
			t.Errorf("%s: is an event: %v", c.name, ok)
			continue
		}
		if !ok {
			continue
		}
		if d.Type != c.kind || (d.Text != nil) != (c.kind == "text") || d.Text != nil && *d.Text != c.text {
			t.Errorf("%s: %+v", c.name, d)
		}
		if d.From.PhoneNumber == nil || *d.From.PhoneNumber != "4915112345678" || d.From.LID == nil || *d.From.LID != "12345" || d.Chat != "12345@lid" {
			t.Errorf("%s: from %+v in %s", c.name, d.From, d.Chat)
		}
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	low, high := func() float64 { return 0 }, func() float64 { return 0.999 }
	if backoff(1, low) != 0 || backoff(1, high) > time.Second {
		t.Error("the first try waits")
	}
	last := time.Duration(0)
	for n := 2; n < 200; n++ {
		l, h := backoff(n, low), backoff(n, high)
		if l < last || h > 5*time.Minute || l > h || h == l {
			t.Fatalf("try %d waits %v to %v, the one before at least %v", n, l, h, last)
		}
		last = l
	}
	if last != 150*time.Second {
		t.Errorf("in the end at least %v", last)
	}
}

func TestBudgets(t *testing.T) {
	t.Parallel()
	b := NewBudgets(100, 10, 20)
	for n := range 4 {
		if !b.beginPairing() {
			t.Fatalf("pairing %d of a fifth of 20 was refused", n)
		}
	}
	if b.beginPairing() {
		t.Error("a fifth pairing was let in")
	}
	b.endPairing()
	b.sessions.Store(21)
	if b.beginPairing() {
		t.Error("a pairing was let into a full host")
	}
	b.sessions.Store(3)
	if !b.beginPairing() {
		t.Error("no pairing in spite of room")
	}
	// The budgets don't wait for each other, and each holds its rate.
	for k, least := range map[kind]time.Duration{resuming: 700 * time.Millisecond, returning: 9 * time.Second} {
		var delay time.Duration
		for range 100 {
			delay, _ = b.reserve(k)
		}
		if delay < least {
			t.Errorf("the hundredth %s waits %v", k, delay)
		}
	}
	if d, _ := b.reserve(interactive); d != 0 || cap(b.place(interactive)) != Interactive || b.place(resuming) != nil {
		t.Error("interactive connects have a rate")
	}
}
