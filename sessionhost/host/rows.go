package host

import (
	"context"
	"time"

	"whatisup/sessionhost/shard"
	"whatisup/shared/dynamo"
	"whatisup/shared/queue"
	"whatisup/shared/whatisup"
)

// rows is the tables as sessions see them.
type rows struct{ *dynamo.DB }

func (r rows) Adopt(ctx context.Context, ref whatisup.Ref, epoch whatisup.Epoch) (*whatisup.Instance, error) {
	return lean(r.DB.Adopt(ctx, ref, epoch))
}

func (r rows) Owned(ctx context.Context, ref whatisup.Ref) (*whatisup.Instance, error) {
	return lean(r.DB.Owned(ctx, ref))
}

// lean drops what sessions don't look at, and would keep in memory as long as
// they live.
func lean(i *whatisup.Instance, err error) (*whatisup.Instance, error) {
	if i != nil {
		i.Config.Name, i.Config.Metadata, i.Wanted.Attempts = "", nil, nil
	}
	return i, err
}

// inbox is the shards' queues as sessions see them.
type inbox struct{ *queue.Commands }

func (q inbox) Poll(ctx context.Context, m whatisup.Mode, s whatisup.Shard, wait time.Duration) ([]shard.Message, error) {
	got, err := q.Commands.Poll(ctx, m, s, wait)
	if err != nil {
		return nil, err
	}
	messages := make([]shard.Message, len(got))
	for i, msg := range got {
		messages[i] = shard.Message{
			Command: msg.Command, Problem: msg.Problem, SentAt: msg.SentAt,
			Delete:  func(ctx context.Context) error { return q.Commands.Delete(ctx, m, s, msg) },
			Extend:  func(ctx context.Context) error { return q.Commands.Extend(ctx, m, s, msg) },
			Release: func(ctx context.Context) error { return q.Commands.Release(ctx, m, s, msg) },
		}
	}
	return messages, nil
}
