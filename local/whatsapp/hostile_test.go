package whatsapp

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/binary/token"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// hostileStanzas are encodings that a trusting decoder falls over.
func hostileStanzas() map[string][]byte {
	deep := bytes.Repeat([]byte{token.List8, 2, 1, token.List8, 1}, 100_000)
	wide := bytes.Repeat([]byte{token.List8, 2, 1, token.List16, 0xFF, 0xFF}, 1000)
	return map[string][]byte{
		"nothing":            {},
		"one byte":           {0},
		"not compressed":     {2, 1, 2, 3},
		"node without a tag": {0, token.List8, 1, token.ListEmpty},
		"list as a tag":      {0, token.List8, 1, token.List8, 0},
		"endless depth":      append([]byte{0}, deep...),
		"endless width":      append([]byte{0}, wide...),
		"JID of lists":       {0, token.List8, 1, token.JIDPair, token.List8, 0, token.List8, 0},
		"long string":        {0, token.List8, 1, token.Binary32, 0x7F, 0xFF, 0xFF, 0xFF},
		"negative string":    {0, token.List8, 1, token.Binary32, 0xFF, 0xFF, 0xFF, 0xFF},
		"unknown token":      {0, token.List8, 1, 245},
		"short hex":          {0, token.List8, 1, token.Hex8, 0x80},
	}
}

func TestHostileStanzasAreRefused(t *testing.T) {
	t.Parallel()
	for name, data := range hostileStanzas() {
		if n, err := decodeStanza(data); err == nil {
			t.Errorf("%s was decoded: %s", name, render(n))
		}
	}
}

func TestShapeAgreesWithTheLibrary(t *testing.T) {
	t.Parallel()
	jid := types.JID{User: "491511", Device: 4, Server: types.DefaultUserServer}
	for _, n := range []Node{
		{Tag: "iq", Attrs: Attrs{"id": "1", "to": types.ServerJID, "hex": "ABCDEF01", "t": "123456-1.2"}},
		{Tag: "message", Attrs: Attrs{"to": jid, "lid": types.JID{User: "12", Device: 3, Server: types.HiddenUserServer}}, Content: []Node{
			{Tag: "enc", Content: bytes.Repeat([]byte{1}, 300)}, {Tag: "x", Content: "text"}, {Tag: "y", Content: []Node{}},
		}},
		{Tag: "list", Content: make([]Node, 0)},
		{Tag: strings.Repeat("long", 100), Attrs: Attrs{"msgr": types.JID{User: "1", Device: 2, Server: types.MessengerServer}, "interop": types.JID{User: "1", Device: 2, Integrator: 3, Server: types.InteropServer}}},
	} {
		data, err := waBinary.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeStanza(data)
		if err != nil || got.Tag != n.Tag || len(got.Attrs) != len(n.Attrs) {
			t.Errorf("%s became %v: %v", render(&n), got, err)
		}
	}
}

// hostile runs a linked, innocent connection beside whatever else happens.
type hostile struct {
	address  string
	server   *Server
	innocent *wire
	device   *wireDevice
}

func newHostile(t testing.TB) *hostile {
	t.Helper()
	h := &hostile{}
	h.address, h.server = serve(t, Config{})
	linked := func(number string) *wireDevice {
		d := newWireDevice()
		err := d.link(h.address, "w", "i", func(qr string) error {
			_, err := h.server.ScanQR(t.Context(), "w", qr, number)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	h.device = linked("4915100000002")
	var err error
	if h.innocent, err = linked("4915100000001").start(h.address, "w", "i"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.innocent.ws.CloseNow() })
	return h
}

// fine fails the test if the innocent connection does not answer.
func (h *hostile) fine(t testing.TB) {
	t.Helper()
	if _, err := h.innocent.query("ping", "w:p", "get"); err != nil {
		t.Fatalf("an innocent connection suffered: %v", err)
	}
}

// closed waits for the server to close a connection.
func closed(w *wire) error {
	end := time.Now().Add(wireTimeout)
	for time.Now().Before(end) {
		ctx, cancel := wireContext()
		_, _, err := w.ws.Read(ctx)
		cancel()
		if err != nil {
			return nil
		}
	}
	return errors.New("still open")
}

func TestHostileInputClosesOneConnection(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	for name, data := range map[string][]byte{
		"wrong header":     []byte("GET / HTTP/1.1\r\n\r\n"),
		"old dictionary":   append([]byte{'W', 'A', 6, 2}, putFrame([]byte{1})...),
		"huge frame":       {'W', 'A', 6, 3, 0xFF, 0xFF, 0xFF, 0},
		"no hello":         append([]byte{'W', 'A', 6, 3}, putFrame([]byte("nonsense"))...),
		"endless routing":  {'E', 'D', 0, 1, 0xFF, 0xFF, 0xFF, 0},
		"zero ephemeral":   append([]byte{'W', 'A', 6, 3}, putFrame(append([]byte{0x12, 0x22, 0x0A, 0x20}, make([]byte, 32)...))...),
		"empty frame":      append([]byte{'W', 'A', 6, 3}, putFrame(nil)...),
		"more than a text": bytes.Repeat([]byte{'W'}, maxFrame+2048),
	} {
		w, err := dialRaw(h.address, "w", "i")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_ = w.write(data)
		if err := closed(w); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: closed after %v only", name, took)
		}
		h.fine(t)
	}
	for name, data := range hostileStanzas() {
		w, err := h.device.start(h.address, "w", "i")
		if err != nil {
			t.Fatal(err)
		}
		if err = w.write(w.seal(data)); err != nil {
			t.Fatal(err)
		}
		if err := closed(w); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		h.fine(t)
	}
	w, err := h.device.start(h.address, "w", "i")
	if err != nil {
		t.Fatal(err)
	}
	_ = w.write(putFrame(bytes.Repeat([]byte{1}, 64))) // not sealed
	if err := closed(w); err != nil {
		t.Errorf("an unsealed frame: %v", err)
	}
	h.fine(t)
}

func FuzzStanza(f *testing.F) {
	for _, data := range hostileStanzas() {
		if len(data) < 1000 {
			f.Add(data)
		}
	}
	seed, _ := waBinary.Marshal(Node{Tag: "iq", Attrs: Attrs{"id": "1", "to": types.ServerJID}, Content: []Node{{Tag: "ping"}}})
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, err := decodeStanza(data); err == nil {
			_ = render(n)
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{'W', 'A', 6, 3, 0, 0, 1, 5}, 3)
	f.Add([]byte{'E', 'D', 0, 1, 0, 0, 1, 9, 'W', 'A', 6, 3, 0, 0, 0}, 1)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		if step < 1 {
			step = 1
		}
		in, total := frames{limit: 1 << 16}, 0
		var head []byte
		for at := 0; at < len(data); at += step {
			in.add(bytes.Clone(data[at:min(at+step, len(data))]))
			if head == nil {
				var err error
				if head, err = in.header(); err != nil || head == nil {
					if err != nil {
						return
					}
					continue
				}
			}
			for {
				frame, err := in.next()
				if err != nil {
					return
				}
				if frame == nil {
					break
				}
				total += len(frame)
			}
		}
		if total > len(data) {
			t.Errorf("%d bytes of frames out of %d", total, len(data))
		}
	})
}

func FuzzHandshake(f *testing.F) {
	static := keys.NewKeyPair()
	chain, err := certificateChain(keys.NewKeyPair(), keys.NewKeyPair(), static, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, []byte{})
	f.Add(append([]byte{0x12, 0x22, 0x0A, 0x20}, bytes.Repeat([]byte{9}, 32)...), []byte{0x22, 2, 0x0A, 0})
	f.Fuzz(func(t *testing.T, hello, finish []byte) {
		messages := [][]byte{hello, finish}
		_, err := handshake([]byte{'W', 'A', 6, 3}, ready(static), chain, func() ([]byte, error) {
			if len(messages) == 0 {
				return nil, errEnded
			}
			next := messages[0]
			messages = messages[1:]
			return next, nil
		}, func([]byte) error { return nil })
		if err == nil {
			t.Error("a handshake without keys succeeded")
		}
	})
}

// FuzzConnection sends sealed stanzas to a live server, as a linked device and
// as one that registers.
func FuzzConnection(f *testing.F) {
	h := newHostile(f)
	for _, n := range []Node{
		{Tag: "iq", Attrs: Attrs{"id": "1", "xmlns": "encrypt", "type": "set"}, Content: []Node{{Tag: "list"}, {Tag: "identity", Content: h.device.identity.Pub[:]}}},
		{Tag: "iq", Attrs: Attrs{"id": "1", "xmlns": "usync", "type": "get"}, Content: []Node{{Tag: "usync", Content: []Node{{Tag: "query", Content: []Node{{Tag: "devices"}}}, {Tag: "list", Content: []Node{{Tag: "user"}}}}}}},
		{Tag: "iq", Attrs: Attrs{"id": "1", "xmlns": "md", "type": "set"}, Content: []Node{{Tag: "link_code_companion_reg", Attrs: Attrs{"stage": "companion_hello"}}}},
		{Tag: "message", Attrs: Attrs{"id": "1", "to": types.NewJID("4915100000001", types.DefaultUserServer)}, Content: []Node{{Tag: "enc", Attrs: Attrs{"type": "pkmsg"}, Content: []byte{1}}}},
		{Tag: "receipt", Attrs: Attrs{"id": "1", "type": "retry", "to": types.NewJID("4915100000001", types.DefaultUserServer)}, Content: []Node{{Tag: "retry", Attrs: Attrs{"id": "1", "count": "1"}}}},
		{Tag: "ack", Attrs: Attrs{"class": "message", "id": "1"}},
	} {
		data, err := waBinary.Marshal(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, true)
		f.Add(data, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, linked bool) {
		var w *wire
		var err error
		if linked {
			w, err = h.device.start(h.address, "w", "i")
		} else {
			d := newWireDevice()
			w, err = dialWire(h.address, "w", "i", d.noise, d.registration())
		}
		if err != nil {
			t.Fatal(err)
		}
		defer w.ws.CloseNow()
		// The ping after it makes sure that it was handled, or the connection
		// closed, before the innocent one is asked.
		_ = w.write(w.seal(data))
		_, _ = w.query("after", "w:p", "get")
		h.fine(t)
	})
}

// A fault that ends a connection with a stanza meets one that has not shaken hands: it
// ends without one.
func TestFaultBeforeTheHandshake(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	for _, kind := range []string{kindRestart, kindUnavailable, kindReplaced} {
		w, err := dialRaw(h.address, "w", "early")
		if err != nil {
			t.Fatal(err)
		}
		for met, end := 0, time.Now().Add(wireTimeout); met == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
			if met, err = h.server.Inject(Fault{Kind: kind, Target: Target{World: "w", Instance: "early"}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := closed(w); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	h.fine(t)
}
