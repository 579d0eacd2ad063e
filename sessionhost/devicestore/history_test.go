package devicestore

import (
	"errors"
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
)

// The notice of a history is kept by the commit of its decryption, whatever becomes of the
// handler, until it is read; in both formats. Nobody but the owner's phone makes one.
func TestHistories(t *testing.T) {
	t.Parallel()
	for name, format := range map[string]Format{"log": FormatLog, "rows": FormatRows} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.format = format
			h := b.open(1)
			device := h.pair(t, 1)
			pre, err := device.PreKeys.GetOrGenPreKeys(t.Context(), 2)
			if err != nil {
				t.Fatal(err)
			}
			phone, stranger := newPeer(t, 1, device), newPeer(t, 2, device)
			phone.address = device.LID.ToNonAD().SignalAddress()
			for i, p := range []*peer{phone, stranger} {
				p.meet(device, pre[i])
			}
			tell := func(p *peer, kind waE2E.HistorySyncType) {
				t.Helper()
				notice := &waE2E.HistorySyncNotification{SyncType: kind.Enum(), DirectPath: proto.String("/a/file"), MediaKey: make([]byte, 32)}
				m, err := proto.Marshal(&waE2E.Message{
					MessageContextInfo: &waE2E.MessageContextInfo{MessageSecret: make([]byte, 32)},
					ProtocolMessage:    &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_HISTORY_SYNC_NOTIFICATION.Enum(), HistorySyncNotification: notice},
				})
				if err != nil {
					t.Fatal(err)
				}
				h.rec.reset()
				// The host dies in the handler.
				died := errors.New("died")
				if err := receive(t.Context(), device, p.encrypt(string(m)+"\x02\x02"), func(string) error { return died }); !errors.Is(err, died) {
					t.Fatal(err)
				}
				if writes, _ := h.rec.counts(); writes != 1 {
					t.Errorf("%d writes before the handler", writes)
				}
			}
			tell(stranger, waE2E.HistorySyncType_RECENT)
			tell(phone, waE2E.HistorySyncType_PUSH_NAME)
			if got := h.Histories(); len(got) != 0 {
				t.Fatalf("kept %+v", got)
			}
			tell(phone, waE2E.HistorySyncType_RECENT)
			kept := h.Histories()
			if len(kept) != 1 || kept[0].Tries != 0 {
				t.Fatalf("kept %+v", kept)
			}
			id := kept[0].ID
			for try := range 2 {
				h = b.open(h.fence.Epoch + 1)
				h.load(t)
				if got := h.Histories(); len(got) != 1 || got[0].ID != id || got[0].Tries != try || string(got[0].Notice) != string(kept[0].Notice) {
					t.Fatalf("the next owner has %+v", got)
				}
				if n, err := h.HistoryTried(t.Context(), id); n != try+1 || err != nil {
					t.Fatalf("try %d, %v", n, err)
				}
				if try > 0 {
					h.settle(t) // into its row
				}
			}
			if err := h.HistoryRead(t.Context(), id); err != nil || len(h.Histories()) != 0 {
				t.Fatalf("%v; %+v", err, h.Histories())
			}
			if _, err := h.HistoryTried(t.Context(), id); err == nil {
				t.Error("one that is read can be tried")
			}
			h = b.open(h.fence.Epoch + 1)
			if h.load(t); len(h.Histories()) != 0 {
				t.Errorf("one that was read is back: %+v", h.Histories())
			}
		})
	}
}

// Bytes that are no padded message are no notice.
func TestNoticeIn(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "\x01", "\xff", "\x62\x05\x01", "\x62\x01\x00\x01", "\x0a\x02hi\x01", "\x07\x01"} {
		if n := noticeIn([]byte(bad)); n != nil {
			t.Errorf("%q: %v", bad, n)
		}
	}
}
