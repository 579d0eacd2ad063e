package devicestore

import (
	"context"
	"errors"
	"slices"

	"go.mau.fi/whatsmeow/store"
	wa "go.mau.fi/whatsmeow/types"
)

// The map between phone numbers and LIDs, kept per device: whatsmeow's own is
// one for all, which would show one customer's contacts to another. A mapping
// is two rows, one for each direction; a user has at most one partner.

func (l *link) lidRow(user string) string { return kindLIDToPN + "#" + l.key.Name(kindLIDToPN, user) }
func (l *link) pnRow(user string) string  { return kindPNToLID + "#" + l.key.Name(kindPNToLID, user) }

var (
	errNotPN  = errors.New("devicestore: not a phone number's JID")
	errNotLID = errors.New("devicestore: not a LID's JID")
)

func (l *link) GetLIDForPN(ctx context.Context, pn wa.JID) (wa.JID, error) {
	if pn.Server != wa.DefaultUserServer {
		return wa.JID{}, errNotPN
	}
	if err := l.usable(); err != nil {
		return wa.JID{}, err
	}
	user, err := l.get(ctx, l.pnRow(pn.User))
	if err != nil || len(user) == 0 {
		return wa.JID{}, err
	}
	return wa.JID{User: string(user), Device: pn.Device, Server: wa.HiddenUserServer}, nil
}

func (l *link) GetPNForLID(ctx context.Context, lid wa.JID) (wa.JID, error) {
	if lid.Server != wa.HiddenUserServer {
		return wa.JID{}, errNotLID
	}
	if err := l.usable(); err != nil {
		return wa.JID{}, err
	}
	user, err := l.get(ctx, l.lidRow(lid.User))
	if err != nil || len(user) == 0 {
		return wa.JID{}, err
	}
	return wa.JID{User: string(user), Device: lid.Device, Server: wa.DefaultUserServer}, nil
}

func (l *link) GetManyLIDsForPNs(ctx context.Context, pns []wa.JID) (map[wa.JID]wa.JID, error) {
	if len(pns) == 0 {
		return nil, nil
	}
	if err := l.usable(); err != nil {
		return nil, err
	}
	var sks []string
	for _, pn := range pns {
		if pn.Server == wa.DefaultUserServer {
			sks = append(sks, l.pnRow(pn.User))
		}
	}
	rows, err := l.getMany(ctx, sks)
	if err != nil {
		return nil, err
	}
	out := make(map[wa.JID]wa.JID, len(pns))
	for _, pn := range pns {
		if pn.Server != wa.DefaultUserServer {
			continue
		}
		if user := rows[l.pnRow(pn.User)]; len(user) > 0 {
			out[pn] = wa.JID{User: string(user), Device: pn.Device, Server: wa.HiddenUserServer}
		}
	}
	return out, nil
}

func (l *link) PutLIDMapping(ctx context.Context, lid, pn wa.JID) error {
	if lid.Server != wa.HiddenUserServer {
		return errNotLID
	}
	if pn.Server != wa.DefaultUserServer {
		return errNotPN
	}
	return l.putMappings(ctx, []store.LIDMapping{{LID: lid, PN: pn}})
}

// PutManyLIDMappings leaves entries out that are no mapping, as sqlstore does.
func (l *link) PutManyLIDMappings(ctx context.Context, mappings []store.LIDMapping) error {
	valid := slices.DeleteFunc(slices.Clone(mappings), func(m store.LIDMapping) bool {
		return m.LID.Server != wa.HiddenUserServer || m.PN.Server != wa.DefaultUserServer
	})
	for batch := range slices.Chunk(valid, (maxItems-spare)/4) {
		if err := l.putMappings(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// putMappings costs nothing if everything is known already. A user who gets
// another partner loses the one before.
func (l *link) putMappings(ctx context.Context, mappings []store.LIDMapping) error {
	if err := l.usable(); err != nil {
		return err
	}
	return l.atomically(ctx, func(ctx context.Context, t *txn) error {
		var sks []string
		for _, m := range mappings {
			sks = append(sks, l.lidRow(m.LID.User), l.pnRow(m.PN.User))
		}
		if _, err := l.getMany(ctx, sks); err != nil { // one read for all
			return err
		}
		for _, m := range mappings {
			lid, pn := m.LID.User, m.PN.User
			oldPN, err := l.get(ctx, l.lidRow(lid))
			if err != nil {
				return err
			}
			oldLID, err := l.get(ctx, l.pnRow(pn))
			if err != nil {
				return err
			}
			if string(oldPN) == pn && string(oldLID) == lid {
				continue
			}
			if len(oldPN) > 0 && string(oldPN) != pn {
				t.delete(l.pnRow(string(oldPN)))
			}
			if len(oldLID) > 0 && string(oldLID) != lid {
				t.delete(l.lidRow(string(oldLID)))
			}
			t.put(l.lidRow(lid), []byte(pn))
			t.put(l.pnRow(pn), []byte(lid))
		}
		return nil
	})
}
