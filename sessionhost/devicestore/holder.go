package devicestore

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	wa "go.mau.fi/whatsmeow/types"
)

// Who has our sender key of a group: one row a group, six bytes a device. With
// it the key goes to a device once, and not with each message.
//
// A mark is written after the ack, with the next commit, so a crash loses marks
// and never invents one; whoever is given the key twice is not harmed by it. A
// device that has the mark and not the key can't read a message and asks for it
// again, with which it gets the key.
//
// A mark carries the number of the commit it was made before. A new identity of
// a user is noted with its own commit's number, in one row for all groups, and
// voids the marks up to it, so that no group has to be looked for.
const (
	kindHolders = "h"
	kindRenewed = "j" // users with a new identity

	tagSize    = 6
	maxRenewed = 512 // of which the older half goes, and with it all marks that are as old
)

const markFormat = 1

// tag is a short pseudonym: two in one group that are equal are not met, and
// would heal like a lost key.
type tag [tagSize]byte

func (l *link) tag(kind, s string) tag {
	var t tag
	_, _ = base64.RawURLEncoding.Decode(t[:], []byte(l.key.Name(kind, s)[:8])) // a pseudonym is base64
	return t
}

func (l *link) deviceTag(device wa.JID) tag {
	return l.tag(kindHolders, device.SignalAddress().String())
}

// userTag is that of a Signal user, who has several devices.
func (l *link) userTag(user string) tag { return l.tag(kindRenewed, user) }

func (l *link) holdersRow(group wa.JID) string {
	return kindHolders + "#" + l.key.Name(kindHolders, group.String())
}

const renewedRow = kindRenewed + "#"

// numbered are tags, each with the number of a commit, in the order in which
// they came.
type numbered struct {
	floor uint64 // nothing up to here counts
	tags  []tag
	at    []uint64
}

func (n *numbered) find(t tag) (at uint64, ok bool) {
	if i := slices.Index(n.tags, t); i >= 0 {
		return n.at[i], true
	}
	return 0, false
}

func (n *numbered) remove(t tag) bool {
	i := slices.Index(n.tags, t)
	if i < 0 {
		return false
	}
	n.tags, n.at = slices.Delete(n.tags, i, i+1), slices.Delete(n.at, i, i+1)
	return true
}

func (n *numbered) add(t tag, at uint64) {
	n.remove(t)
	n.tags, n.at = append(n.tags, t), append(n.at, at)
}

// encode writes tags of one number together: a group's are mostly given at once.
func (n *numbered) encode() []byte {
	b := binary.AppendUvarint([]byte{markFormat}, n.floor)
	for i := 0; i < len(n.tags); {
		j := i
		for j < len(n.tags) && n.at[j] == n.at[i] {
			j++
		}
		b = binary.AppendUvarint(binary.AppendUvarint(b, n.at[i]), uint64(j-i))
		for ; i < j; i++ {
			b = append(b, n.tags[i][:]...)
		}
	}
	return b
}

// marks decodes a row of tags; none is an empty one.
func (l *link) marks(b []byte) (*numbered, error) {
	n := &numbered{}
	if b == nil {
		return n, nil
	}
	d := decoder{b: b}
	if format := d.byte(); format > markFormat {
		return nil, l.h.fail(fmt.Errorf("%w: marks have format %d", ErrNewerFormat, format))
	}
	n.floor = d.uvarint()
	for len(d.b) > 0 && !d.failed {
		at := d.uvarint()
		for range d.count(tagSize) {
			n.tags, n.at = append(n.tags, tag(d.take(tagSize))), append(n.at, at)
		}
	}
	if d.failed {
		return nil, l.h.fail(fmt.Errorf("%w: marks", ErrCorrupt))
	}
	return n, nil
}

// next is the number that the commit to come has at least.
func (l *link) next() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.commits + 1
}

// SenderKeyHas returns those of the devices that have our sender key of the
// group; the others must be given it with the next message.
func (h *Handle) SenderKeyHas(ctx context.Context, group wa.JID, devices []wa.JID) ([]wa.JID, error) {
	l, err := h.current()
	if err != nil {
		return nil, err
	}
	holders, renewed, err := l.holders(ctx, group)
	if err != nil {
		return nil, err
	}
	var has []wa.JID
	for _, device := range devices {
		if l.holds(holders, renewed, device.SignalAddress().String()) {
			has = append(has, device)
		}
	}
	return has, nil
}

// keyHolders returns those of the Signal addresses whose devices have our key of the
// group that ctx sends a message to; none if it sends none, or not to a group.
func (l *link) keyHolders(ctx context.Context, addresses ...string) (map[string]bool, error) {
	s := l.sendingOf(ctx)
	if s == nil {
		return nil, nil
	}
	group, ok := s.group()
	if !ok {
		return nil, nil
	}
	holders, renewed, err := l.holders(ctx, group)
	if err != nil {
		return nil, err
	}
	has := make(map[string]bool)
	for _, address := range addresses {
		if l.holds(holders, renewed, address) {
			has[address] = true
		}
	}
	return has, nil
}

// holders are the marks of a group, and those of the users with a new identity.
func (l *link) holders(ctx context.Context, group wa.JID) (holders, renewed *numbered, err error) {
	sk := l.holdersRow(group)
	rows, err := l.getMany(ctx, []string{sk, renewedRow})
	if err != nil {
		return nil, nil, err
	}
	if holders, err = l.marks(rows[sk]); err != nil {
		return nil, nil, err
	}
	renewed, err = l.marks(rows[renewedRow])
	return holders, renewed, err
}

// holds says whether the device of a Signal address has the key.
func (l *link) holds(holders, renewed *numbered, address string) bool {
	given, ok := holders.find(l.tag(kindHolders, address))
	user, _, _ := strings.Cut(address, ":")
	changed, _ := renewed.find(l.userTag(user))
	return ok && given > max(changed, renewed.floor)
}

// SenderKeyGiven notes that the devices have our sender key of the group. It is
// to be called after the server's ack of the message that carried it; of a
// message whose outcome is unknown nothing is noted.
func (h *Handle) SenderKeyGiven(ctx context.Context, group wa.JID, devices []wa.JID) error {
	return h.remark(ctx, group, func(l *link, holders *numbered) bool {
		for _, device := range devices {
			holders.add(l.deviceTag(device), l.next())
		}
		return len(devices) > 0
	})
}

// SenderKeyForget notes that the devices don't have the key of the group any
// more: they asked for a message again, or are no members. Without devices
// nobody has it.
func (h *Handle) SenderKeyForget(ctx context.Context, group wa.JID, devices ...wa.JID) error {
	return h.remark(ctx, group, func(l *link, holders *numbered) bool {
		if len(devices) == 0 {
			some := len(holders.tags) > 0
			*holders = numbered{}
			return some
		}
		changed := false
		for _, device := range devices {
			changed = holders.remove(l.deviceTag(device)) || changed
		}
		return changed
	})
}

// remark changes a group's marks: visible at once, and in the table with the
// next commit.
func (h *Handle) remark(ctx context.Context, group wa.JID, change func(*link, *numbered) bool) error {
	l, err := h.current()
	if err != nil {
		return err
	}
	l.markMu.Lock()
	defer l.markMu.Unlock()
	sk := l.holdersRow(group)
	row, err := l.get(ctx, sk)
	if err != nil {
		return err
	}
	holders, err := l.marks(row)
	if err != nil || !change(l, holders) {
		return err
	}
	return l.stage(ctx, map[string]*write{sk: {value: holders.encode()}})
}

// SenderKeyRenew throws our sender key of the group away, so that the next
// message makes a new one, and with it every mark, in one commit: a member who
// has left can't read on. own is our device's LID, which whatsmeow keeps the key
// under.
func (h *Handle) SenderKeyRenew(ctx context.Context, group, own wa.JID) error {
	l, err := h.current()
	if err != nil {
		return err
	}
	l.markMu.Lock()
	defer l.markMu.Unlock()
	key, holders := l.senderKey(group.String(), own.SignalAddress().String()), l.holdersRow(group)
	return l.atomically(ctx, func(ctx context.Context, t *txn) error {
		rows, err := l.getMany(ctx, []string{key, holders})
		if err != nil {
			return err
		}
		for _, sk := range []string{key, holders} {
			if rows[sk] != nil {
				t.delete(sk)
			}
		}
		return nil
	})
}

// renewed notes, as a part of the transaction, that a user has a new identity.
func (l *link) renewed(ctx context.Context, t *txn, address string) error {
	row, err := l.get(ctx, renewedRow)
	if err != nil {
		return err
	}
	n, err := l.marks(row)
	if err != nil {
		return err
	}
	user, _, _ := strings.Cut(address, ":")
	n.add(l.userTag(user), l.next())
	if len(n.tags) > maxRenewed {
		half := len(n.tags) / 2
		n.floor = max(n.floor, slices.Max(n.at[:half]))
		n.tags, n.at = n.tags[half:], n.at[half:]
	}
	t.put(renewedRow, n.encode())
	return nil
}
