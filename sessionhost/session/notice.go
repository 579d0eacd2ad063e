package session

import (
	"context"
	"errors"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// Noticed makes an event of what WhatsApp tells beside messages. While the log takes no
// rows it waits, until ctx ends; only what is seen of a person is out of date by then,
// and is tried once.
func (h handler) Noticed(ctx context.Context, n waconv.Notice) error {
	if !h.tenure.Trusted() {
		return errFenced
	}
	e, err := whatisup.NewEvent(n.Event, h.ref.Customer, h.ref.Mode, h.ref.ID, h.kit.Now(), n.Data)
	if err != nil {
		return h.passOver(n, err)
	}
	if !n.At.IsZero() { // else nothing tells a repetition from the next one
		e.ID = whatisup.NoticeEventID(h.ref.ID, n.Event, n.At, n.Key, e.Data)
	}
	if n.Event == whatisup.PresenceUpdated {
		within, cancel := context.WithTimeout(ctx, handleWithin)
		defer cancel()
		err = teller{h.kit, h.ref, h.account}.tell(within, e)
	} else {
		err = h.await(ctx, e)
	}
	if errors.Is(err, whatisup.ErrRefused) {
		return h.passOver(n, err)
	}
	return err
}

// passOver gives up a notice that waiting can't mend, so that WhatsApp does not tell
// it for ever.
func (h handler) passOver(n waconv.Notice, err error) error {
	h.log.Error("a notice can't be stored; it is passed over", "event", string(n.Event), "error", err.Error())
	h.kit.Metrics.SetAside("log", "notice")
	return nil
}
