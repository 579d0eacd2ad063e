package whatsapp

import (
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

func TestADeviceMustSignForItself(t *testing.T) {
	t.Parallel()
	address, server := serve(t, Config{})
	d := newWireDevice()
	d.forge = keys.NewKeyPair()
	var scanned error
	_ = d.link(address, "w", "i", func(qr string) error {
		_, scanned = server.ScanQR(t.Context(), "w", qr, "4915100000001")
		return scanned
	})
	if ErrorCode(scanned) != "bad_device_signature" {
		t.Errorf("want bad_device_signature, got %v", scanned)
	}
	if len(server.Devices("")) != 0 {
		t.Error("it was linked all the same")
	}
}

func TestVouched(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	d, ok := h.server.find("w", h.device.jid)
	if !ok {
		t.Fatal("no device")
	}
	stanza := func(change func(*waAdv.ADVSignedDeviceIdentity)) *Node {
		var identity waAdv.ADVSignedDeviceIdentity
		if err := proto.Unmarshal(d.SignedIdentity, &identity); err != nil {
			t.Fatal(err)
		}
		change(&identity)
		data, err := proto.Marshal(&identity)
		if err != nil {
			t.Fatal(err)
		}
		return &Node{Tag: "message", Content: []Node{{Tag: "device-identity", Content: data}}}
	}
	for name, test := range map[string]struct {
		stanza *Node
		want   bool
	}{
		"as signed":               {stanza(func(*waAdv.ADVSignedDeviceIdentity) {}), true},
		"without the account key": {stanza(func(i *waAdv.ADVSignedDeviceIdentity) { i.AccountSignatureKey = nil }), true},
		"another account":         {stanza(func(i *waAdv.ADVSignedDeviceIdentity) { i.AccountSignatureKey = keys.NewKeyPair().Pub[:] }), false},
		"account signature":       {stanza(func(i *waAdv.ADVSignedDeviceIdentity) { i.AccountSignature[5] ^= 1 }), false},
		"device signature":        {stanza(func(i *waAdv.ADVSignedDeviceIdentity) { i.DeviceSignature[5] ^= 1 }), false},
		"details":                 {stanza(func(i *waAdv.ADVSignedDeviceIdentity) { i.Details = append(i.Details, 0) }), false},
		"nothing":                 {&Node{Tag: "message"}, false},
	} {
		if got := h.server.vouched(d, test.stanza); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestLIDs(t *testing.T) {
	t.Parallel()
	var s seed
	copy(s[:], "some seed")
	seen := map[string]bool{}
	for n := range uint64(500) {
		number := strconv.FormatUint(4915100000000+n*7919, 10)
		lid := s.lidOf("w", number)
		back, ok := s.numberOf("w", lid)
		if !ok || back != number || len(lid) != 16 || seen[lid] {
			t.Fatalf("%s is %s is %s", number, lid, back)
		}
		seen[lid] = true
		if other, _ := s.numberOf("v", lid); other == number {
			t.Fatal("a LID means the same in another world")
		}
	}
	for _, lid := range []string{"", "1", "123456789012345", "2234567890123456", "1234567890abcdef"} {
		if number, ok := s.numberOf("w", lid); ok {
			t.Errorf("%q is %s", lid, number)
		}
	}
}

func TestAFullQueueDropsItsOldest(t *testing.T) {
	t.Parallel()
	address, server := serve(t, Config{QueueLimit: 3})
	d := newWireDevice()
	if err := d.link(address, "w", "i", func(qr string) error {
		_, err := server.ScanQR(t.Context(), "w", qr, "4915100000001")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := server.SendText(t.Context(), Text{World: "w", From: "4915100000002", To: "4915100000001", Text: "x", ID: "id" + strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := server.Devices("")[0].Queued; got != 3 {
		t.Errorf("%d are queued", got)
	}
	w, err := d.start(address, "w", "i")
	if err != nil {
		t.Fatal(err)
	}
	defer w.ws.CloseNow()
	if err = w.send(Node{Tag: "iq", Attrs: Attrs{"id": "a", "xmlns": "passive", "type": "set", "to": types.ServerJID}, Content: []Node{{Tag: "active"}}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"id2", "id3", "id4"} {
		n, err := w.until("message")
		if err != nil || str(n, "id") != want || str(n, "offline") == "" {
			t.Fatalf("want %s, got %v: %v", want, n, err)
		}
		if err = w.send(Node{Tag: "ack", Attrs: Attrs{"class": "message", "id": want, "to": n.Attrs["from"]}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err = w.query("ping", "w:p", "get"); err != nil {
		t.Fatal(err)
	}
	if got := server.Devices("")[0].Queued; got != 0 {
		t.Errorf("%d are queued after the acks", got)
	}
}

// A client that stays passive gets its stanzas after a grace, or at once when
// it asks for them.
func TestAPassiveLogin(t *testing.T) {
	t.Parallel()
	for _, asks := range []bool{false, true} {
		grace := wireTimeout * 10
		if !asks {
			grace = 1
		}
		address, server := serve(t, Config{PassiveGrace: grace})
		d := newWireDevice()
		if err := d.link(address, "w", "i", func(qr string) error {
			_, err := server.ScanQR(t.Context(), "w", qr, "4915100000001")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := server.SendText(t.Context(), Text{World: "w", From: "4915100000002", To: "4915100000001", Text: "x"}); err != nil {
			t.Fatal(err)
		}
		w, err := d.start(address, "w", "i")
		if err != nil {
			t.Fatal(err)
		}
		if asks {
			if err = w.send(Node{Tag: "ib", Content: []Node{{Tag: "offline_batch", Attrs: Attrs{"count": "100"}}}}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err = w.until("message"); err != nil {
			t.Errorf("asks: %v: %v", asks, err)
		}
		_ = w.ws.CloseNow()
	}
}
