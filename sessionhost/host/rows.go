package host

import (
	"context"
	"time"

	"whatisup/sessionhost/session"
	"whatisup/shared/dynamo"
	"whatisup/shared/queue"
	"whatisup/shared/whatisup"
)

// rows is the tables as sessions see them.
type rows struct{ *dynamo.DB }

func (r rows) Adopt(ctx context.Context, ref session.Ref, epoch whatisup.Epoch) (*whatisup.Instance, error) {
	return lean(r.DB.Adopt(ctx, dynamo.Ref(ref), epoch))
}

func (r rows) Owned(ctx context.Context, ref session.Ref) (*whatisup.Instance, error) {
	return lean(r.DB.Owned(ctx, dynamo.Ref(ref)))
}

// lean drops what sessions don't look at, and would keep in memory as long as
// they live.
func lean(i *whatisup.Instance, err error) (*whatisup.Instance, error) {
	if i != nil {
		i.Config.Name, i.Config.Metadata, i.Wanted.Attempts = "", nil, nil
	}
	return i, err
}

func (r rows) ShardInstances(ctx context.Context, m whatisup.Mode, s whatisup.Shard) ([]session.Hint, error) {
	found, err := r.DB.ShardInstances(ctx, m, s)
	if err != nil {
		return nil, err
	}
	hints := make([]session.Hint, len(found))
	for i, h := range found {
		hints[i] = session.Hint{
			Ref: session.Ref(h.Ref), Deleted: h.Deleted, Online: h.Online,
			Generation: h.Generation, UnlinkThrough: h.UnlinkThrough, Link: h.Link, Epoch: h.Epoch,
			ObservedGeneration: h.ObservedGeneration, DoneGeneration: h.DoneGeneration,
		}
		if h.UnsentAt != 0 {
			hints[i].UnsentAt = time.UnixMilli(h.UnsentAt)
		}
	}
	return hints, nil
}

// inbox is the shards' queues as sessions see them.
type inbox struct{ *queue.Commands }

func (q inbox) Poll(ctx context.Context, m whatisup.Mode, s whatisup.Shard, wait time.Duration) ([]session.Message, error) {
	got, err := q.Commands.Poll(ctx, m, s, wait)
	if err != nil {
		return nil, err
	}
	messages := make([]session.Message, len(got))
	for i, msg := range got {
		messages[i] = session.Message{
			Command: msg.Command, Problem: msg.Problem, SentAt: msg.SentAt,
			Delete:  func(ctx context.Context) error { return q.Commands.Delete(ctx, m, s, msg) },
			Extend:  func(ctx context.Context) error { return q.Commands.Extend(ctx, m, s, msg) },
			Release: func(ctx context.Context) error { return q.Commands.Release(ctx, m, s, msg) },
		}
	}
	return messages, nil
}
