package devicestore

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	wa "go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// kindHistory is the row of a history that the owner's phone has put somewhere for this
// device, until it is read. It is read with the device.
const kindHistory = "!history"

const (
	historyLife   = 14 * 24 * time.Hour // the file is hardly there longer
	historyNotice = 128 << 10           // a notice may carry a small history itself; of a longer one only this process knows
	historiesMost = 64
)

// History is where a history is to be had.
type History struct {
	ID     string
	Notice []byte // an encoded waE2E.HistorySyncNotification
	Tries  int    // that have begun
}

// WhatsApp does not tell of a history again once it has a receipt, and the library sends
// that as soon as the notice is decrypted. So the notice is stored with the decryption, in
// the same write.
//
// noteHistory makes it a part of the transaction of a decryption, if the plaintext is such
// a notice and it is the owner's phone that has sent it: its session is what the
// decryption has changed.
func (l *link) noteHistory(t *txn, hash [hashSize]byte, plaintext []byte) {
	notice := noticeIn(plaintext)
	if notice == nil || !l.fromPhone(t) {
		return
	}
	switch notice.GetSyncType() {
	case waE2E.HistorySyncType_INITIAL_BOOTSTRAP, waE2E.HistorySyncType_RECENT, waE2E.HistorySyncType_NON_BLOCKING_DATA:
	default:
		return // names, statuses, and what is older than anybody refers to
	}
	value, err := proto.Marshal(notice)
	if err != nil || len(value) > historyNotice {
		return
	}
	l.mu.Lock()
	full := len(l.histories) >= historiesMost
	l.mu.Unlock()
	if full {
		return
	}
	id := base64.RawURLEncoding.EncodeToString(hash[:])
	t.set(kindHistory+"#"+id, &write{value: append([]byte{0}, value...), expires: time.Now().Add(historyLife)})
}

// noticeIn is the notice of a history that a padded plaintext is, nil if it is none. Of
// most messages only the names of the outermost fields are looked at.
func noticeIn(padded []byte) *waE2E.HistorySyncNotification {
	if len(padded) == 0 || int(padded[len(padded)-1]) > len(padded) {
		return nil
	}
	const protocolMessage = 12
	for b := padded[:len(padded)-int(padded[len(padded)-1])]; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return nil
		}
		if number == protocolMessage && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(b)
			var p waE2E.ProtocolMessage
			if proto.Unmarshal(value, &p) == nil && p.GetHistorySyncNotification() != nil {
				return p.GetHistorySyncNotification()
			}
		}
		b = b[n:]
	}
	return nil
}

// fromPhone says whether a decryption was one of a message of the owner's phone.
func (l *link) fromPhone(t *txn) bool {
	l.mu.Lock()
	stored := l.device
	l.mu.Unlock()
	device, err := decodeDevice(stored)
	if err != nil || device.ID == nil {
		return false
	}
	for _, own := range []wa.JID{device.ID.ToNonAD(), device.LID.ToNonAD()} {
		if own.User == "" {
			continue
		}
		if _, ok := t.rows[l.peerKey(peerSession, own.SignalAddress().String())]; ok {
			return true
		}
	}
	return false
}

// keepHistory takes what a commit does to a history's row into memory. The caller holds
// l.mu, or has the link for itself.
func (l *link) keepHistory(sk string, value []byte) {
	id := sk[len(kindHistory)+1:]
	if len(value) == 0 {
		delete(l.histories, id)
		return
	}
	if l.histories == nil {
		l.histories = make(map[string]History)
	}
	l.histories[id] = History{ID: id, Tries: int(value[0]), Notice: slices.Clone(value[1:])}
}

// Histories are those that were told of and not read yet. It costs nothing.
func (h *Handle) Histories() []History {
	l, err := h.current()
	if err != nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Values(l.histories), func(a, b History) int { return slices.Compare([]byte(a.ID), []byte(b.ID)) })
}

// HistoryTried notes that a history is about to be read, and says for which time. It is
// durable when it returns, so that one that ends the process is not tried for ever.
func (h *Handle) HistoryTried(ctx context.Context, id string) (tries int, err error) {
	l, err := h.current()
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	history, ok := l.histories[id]
	l.mu.Unlock()
	if !ok {
		return 0, errNoHistory
	}
	tries = min(history.Tries+1, 255)
	return tries, l.commitRows(ctx, map[string]*write{
		kindHistory + "#" + id: {value: append([]byte{byte(tries)}, history.Notice...), expires: time.Now().Add(historyLife)},
	})
}

// HistoryRead forgets a history. What was staged because of it is written before.
func (h *Handle) HistoryRead(ctx context.Context, id string) error {
	l, err := h.current()
	if err != nil {
		return err
	}
	if err := l.flush(ctx); err != nil {
		return err
	}
	return l.commitRows(ctx, map[string]*write{kindHistory + "#" + id: {}})
}
