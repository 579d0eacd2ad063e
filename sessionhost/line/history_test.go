package line

import (
	"bytes"
	"testing"

	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// A history is read part by part: what is not kept, and what is too long, is passed
// over, and bytes that are no history are an error.
func TestPartsOfAHistory(t *testing.T) {
	t.Parallel()
	h := &waHistorySync.HistorySync{
		SyncType: waHistorySync.HistorySync_RECENT.Enum(), Progress: proto.Uint32(100), NctSalt: []byte("salt"),
		Conversations: []*waHistorySync.Conversation{
			{ID: proto.String("1@lid"), TcToken: []byte("token")},
			{ID: proto.String("2@lid"), Name: proto.String(string(make([]byte, partMost)))},
			{ID: proto.String("3@lid")},
		},
		Pushnames:                []*waHistorySync.Pushname{{ID: proto.String("1@lid"), Pushname: proto.String("Ann")}},
		PhoneNumberToLidMappings: []*waHistorySync.PhoneNumberToLIDMapping{{PnJID: proto.String("49@s.whatsapp.net"), LidJID: proto.String("1@lid")}},
	}
	raw, err := proto.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	read := func(raw []byte) (*waHistorySync.HistorySync, error) {
		got := new(waHistorySync.HistorySync)
		err := parts(bytes.NewReader(raw), func(p *waHistorySync.HistorySync) error {
			proto.Merge(got, p)
			return nil
		})
		return got, err
	}
	want := &waHistorySync.HistorySync{
		NctSalt:       h.NctSalt,
		Conversations: []*waHistorySync.Conversation{h.Conversations[0], h.Conversations[2]}, PhoneNumberToLidMappings: h.PhoneNumberToLidMappings,
	}
	if got, err := read(raw); err != nil || !proto.Equal(got, want) {
		t.Errorf("%v: %v", got, err)
	}
	for name, bad := range map[string][]byte{
		"cut":      raw[:len(raw)-1],
		"too long": protowire.AppendVarint(protowire.AppendTag(nil, 3, protowire.BytesType), 1<<60),
		"a group":  protowire.AppendTag(nil, 2, protowire.StartGroupType),
		"no field": {0xff},
	} {
		if got, err := read(bad); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// The file in memory behaves as one on a disk, up to its size.
func TestMemory(t *testing.T) {
	t.Parallel()
	m := &memory{most: 8}
	if n, err := m.Write([]byte("abcdef")); n != 6 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := m.Write([]byte("ghi")); err == nil {
		t.Error("it is larger than it may be")
	}
	if err := m.Truncate(4); err != nil {
		t.Fatal(err)
	}
	if at, err := m.Seek(-3, 2); at != 1 || err != nil {
		t.Fatal(at, err)
	}
	b := make([]byte, 8)
	if n, _ := m.Read(b); string(b[:n]) != "bcd" {
		t.Errorf("read %q", b[:n])
	}
}
