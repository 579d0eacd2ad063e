package host

import (
	"context"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"whatisup/sessionhost/outbox"
	"whatisup/sessionhost/transfer"
	"whatisup/shared/bucket"
	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

// files are the files of messages, as an outbox sees them.
type files struct{ *transfer.Desk }

func (f files) Ready(ctx context.Context, conn outbox.Conn, r whatisup.Ref, id whatisup.MediaID, b *whatisup.Body) (*whatisup.StoredUpload, time.Duration, *whatisup.MessageError, error) {
	return f.Desk.Ready(ctx, conn, r, id, b)
}

// filesOf is the desk of a host, nil where there is no bucket.
func filesOf(cfg Config, a aws.Config, db *dynamo.DB, log *slog.Logger) outbox.Files {
	if cfg.Bucket == "" {
		return nil
	}
	objects := bucket.New(bucket.Config{AWS: a, Name: cfg.Bucket})
	return files{transfer.New(transfer.Config{Rows: db, Objects: objects, Log: log, Now: time.Now})}
}
