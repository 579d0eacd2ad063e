package host

import (
	"context"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"whatisup/sessionhost/outbox"
	"whatisup/sessionhost/session"
	"whatisup/sessionhost/transfer"
	"whatisup/shared/bucket"
	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

// files are the files of messages, as sessions see them.
type files struct{ *transfer.Desk }

func (f files) Ready(ctx context.Context, conn outbox.Conn, r whatisup.Ref, id whatisup.MediaID, b *whatisup.Body) (*whatisup.StoredUpload, time.Duration, *whatisup.MessageError, error) {
	return f.Desk.Ready(ctx, conn, r, id, b)
}

func (f files) Fetch(up context.Context, l session.Line, tell session.Tell, r whatisup.Ref, ids ...whatisup.MediaID) {
	f.Desk.Fetch(up, l, tell, r, ids...)
}

// objects is the bucket as transfers see it.
type objects struct{ *bucket.Bucket }

func (o objects) Writer(ctx context.Context, key string, buffer []byte) transfer.Stream {
	return o.Bucket.Writer(ctx, key, buffer)
}

// deskOf carries a host's files, nil where there is no bucket.
func deskOf(cfg Config, a aws.Config, db *dynamo.DB, clock *dynamo.Clock, m *metrics, log *slog.Logger) (*transfer.Desk, error) {
	if cfg.Bucket == "" {
		return nil, nil
	}
	links, err := whatisup.NewMediaLinks(cfg.PublicURL, cfg.MediaSecret)
	if err != nil {
		return nil, err
	}
	return transfer.New(transfer.Config{
		Rows: db, Objects: objects{bucket.New(bucket.Config{AWS: a, Name: cfg.Bucket})}, PartSize: bucket.PartSize,
		Links: links, Kept: cfg.MediaKept, Metrics: m, Log: log, Now: clock.Now,
	}), nil
}
