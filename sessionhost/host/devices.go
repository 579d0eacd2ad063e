package host

import (
	"context"
	"errors"
	"fmt"

	"whatisup/sessionhost/devicestore"
	"whatisup/sessionhost/line"
	"whatisup/sessionhost/outbox"
	"whatisup/sessionhost/session"
	"whatisup/sessionhost/waconv"
	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

// devices is the device store as sessions see it.
type devices struct {
	store *devicestore.Store
	db    *dynamo.DB
}

func (d devices) Open(r whatisup.Ref, f session.Fence) session.Auth {
	h := d.store.Open(
		devicestore.Instance{ID: r.ID, CustomerID: r.Customer, Mode: r.Mode},
		devicestore.Fence{Epoch: f.Epoch, Context: f.Context, Fail: f.Fail},
	)
	return auth{h, d.db}
}

type auth struct {
	*devicestore.Handle
	db *dynamo.DB
}

// translateDevice turns the device store's errors into the product's.
func translateDevice(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, devicestore.ErrNoDevice):
		return whatisup.ErrNotFound
	case errors.Is(err, devicestore.ErrFenced):
		return fmt.Errorf("%w: %w", whatisup.ErrFenced, err)
	case errors.Is(err, devicestore.ErrWiped), errors.Is(err, devicestore.ErrUnfinished):
		return fmt.Errorf("%w: %w", whatisup.ErrConflict, err)
	case errors.Is(err, devicestore.ErrUnavailable) && !errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %w", whatisup.ErrUnavailable, err)
	}
	return err
}

func (a auth) New(l whatisup.Link) *line.Device { return a.Handle.New(l) }

func (a auth) Load(ctx context.Context) (session.Device, error) {
	d, err := a.Handle.Load(ctx)
	switch {
	case errors.Is(err, whatisup.ErrCorrupt) && d != nil:
		return session.Device{Link: d.Link}, err
	case err != nil:
		return session.Device{}, translateDevice(err)
	}
	return session.Device{Store: d.Store, Link: d.Link, Confirmed: d.Confirmed}, nil
}

func (a auth) Confirm(ctx context.Context) error { return translateDevice(a.Handle.Confirm(ctx)) }

func (a auth) Wipe(ctx context.Context, l whatisup.Link) error {
	return translateDevice(a.Handle.Wipe(ctx, l))
}

// Remove sweeps first: the device row lists what is not swept yet.
func (a auth) Remove(ctx context.Context) error {
	err := a.Handle.Remove(ctx)
	if errors.Is(err, devicestore.ErrUnfinished) {
		if err = a.Handle.Sweep(ctx); err == nil {
			err = a.Handle.Remove(ctx)
		}
	}
	return translateDevice(err)
}

func (a auth) Copy(ctx context.Context, id whatisup.MessageID) (*outbox.Copy, error) {
	kept, found, err := a.Handle.Copy(ctx, string(id))
	if err != nil || !found {
		return nil, translateDevice(err)
	}
	m, err := waconv.Parse(kept.Bytes)
	if err != nil {
		return nil, err
	}
	return &outbox.Copy{Chat: kept.Chat, Message: m, Kept: kept}, nil
}

func (a auth) Sending(ctx context.Context, id whatisup.MessageID, again *outbox.Copy) (context.Context, error) {
	var kept *devicestore.Copy
	if again != nil {
		kept = again.Kept.(*devicestore.Copy)
	}
	attempt, err := a.Handle.Send(ctx, string(id), kept)
	if err != nil {
		return nil, translateDevice(err)
	}
	return attempt, nil
}

func (a auth) Acked(ctx context.Context, attempt context.Context) error {
	return translateDevice(attempt.(*devicestore.Sending).Acked(ctx))
}

func (a auth) RenewKey(ctx context.Context, group, own waconv.JID) error {
	return translateDevice(a.Handle.SenderKeyRenew(ctx, group, own))
}

func (a auth) ForgetKey(ctx context.Context, group, device waconv.JID) error {
	return translateDevice(a.Handle.SenderKeyForget(ctx, group, device))
}

func (a auth) Histories() []line.History {
	var all []line.History
	for _, h := range a.Handle.Histories() {
		all = append(all, line.History{ID: h.ID, Notice: h.Notice})
	}
	return all
}

func (a auth) HistoryTried(ctx context.Context, id string) (int, error) {
	tries, err := a.Handle.HistoryTried(ctx, id)
	return tries, translateDevice(err)
}

func (a auth) HistoryRead(ctx context.Context, id string) error {
	return translateDevice(a.Handle.HistoryRead(ctx, id))
}

func (a auth) Inbound(part string) (session.Inbound, bool) {
	m, ok := a.Handle.Handling()
	if !ok {
		return session.Inbound{}, false
	}
	if part != "" {
		m = m.Part(part)
	}
	return session.Inbound{EventID: m.EventID, Keep: func(ctx context.Context, e whatisup.Event, send func(context.Context) error) error {
		rows, err := a.db.EventRows(e)
		if err != nil {
			return err
		}
		return translateDevice(a.Handle.Handled(ctx, m, rows, send))
	}}, true
}
