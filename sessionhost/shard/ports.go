package shard

import (
	"context"
	"time"

	"whatisup/shared/whatisup"
)

// Shards lists what belongs to a shard.
type Shards interface {
	ShardInstances(ctx context.Context, m whatisup.Mode, s whatisup.Shard) ([]whatisup.Hint, error)
	// WaitingInstances lists the instances with messages that wait, as a hint.
	WaitingInstances(ctx context.Context, m whatisup.Mode, s whatisup.Shard) ([]whatisup.Ref, error)
	// FetchingMedia lists the received files that something is left to do for, as a hint.
	FetchingMedia(ctx context.Context, m whatisup.Mode, s whatisup.Shard) ([]whatisup.MediaWork, error)
}

// Results keeps the outcomes of commands with work.
type Results interface {
	PutResult(ctx context.Context, r whatisup.Result) error
}

// Rows reads instances for commands that act for a phone.
type Rows interface {
	// Owned reads the instance, or its tombstone; ErrNotFound if there is neither.
	Owned(ctx context.Context, r whatisup.Ref) (*whatisup.Instance, error)
}

// Inbox is the shards' command queues.
type Inbox interface {
	// Poll waits for messages; nothing is no error.
	Poll(ctx context.Context, m whatisup.Mode, s whatisup.Shard, wait time.Duration) ([]Message, error)
}

// Message is a received command. Exactly one of its functions is called, unless
// it is left for the dead-letter queue.
type Message struct {
	Command whatisup.Command
	Problem error // the body is no command
	SentAt  time.Time
	Delete  func(ctx context.Context) error
	Extend  func(ctx context.Context) error
	Release func(ctx context.Context) error
}

// Phones drives the simulated phones. What a phone refuses is a
// [whatisup.Error]; anything else may be tried again.
type Phones interface {
	// Do makes one control call and decodes its answer into out, if that is not
	// nil.
	Do(ctx context.Context, c whatisup.PhoneCall, out any) error
}
