package session

import (
	"context"
	"time"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// Noticed makes an event of what WhatsApp tells beside messages.
func (h handler) Noticed(ctx context.Context, n waconv.Notice) error {
	if !h.tenure.Trusted() {
		return errFenced
	}
	ctx, cancel := context.WithTimeout(ctx, handleWithin)
	defer cancel()
	e, err := whatisup.NewEvent(n.Event, h.ref.Customer, h.ref.Mode, h.ref.ID, time.Now(), n.Data)
	if err != nil {
		return err
	}
	if !n.At.IsZero() { // else nothing tells a repetition from the next one
		e.ID = whatisup.NoticeEventID(h.ref.ID, n.Event, n.At, n.Key, e.Data)
	}
	return teller{h.kit, h.ref, h.account}.tell(ctx, e)
}
