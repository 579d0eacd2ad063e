package local

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/shared/bucket"
	"whatisup/shared/control"
	"whatisup/shared/whatisup"
)

const (
	mediaBucket = "whatisup-media"
	// lentPath is where the API's listener serves what was lent of the bucket:
	// presigned reads, and upload forms.
	lentPath = "/media-bucket"
)

// mediaSecret seals the URLs of files. It follows from the pepper, so that one file
// less has to be kept.
func mediaSecret(p whatisup.Peppers) string {
	h := hmac.New(sha256.New, []byte(p.Oldest()))
	h.Write([]byte("urls of files"))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// created hears of the bucket's objects.
type created struct{ keys chan string }

// queued is how many uploads may wait to be told of; what is told of too late is
// found when the file is looked at.
const queued = 1024

func (c *created) hear(bucket, key string) {
	if bucket != mediaBucket || !strings.HasPrefix(key, whatisup.ClassStaging.Prefix+"/") {
		return
	}
	select {
	case c.keys <- key:
	default:
	}
}

// files is the bucket of a stack, as the API's listener serves it.
type files struct{ lent http.Handler }

// startFiles makes the bucket and tells the media queue of uploads, as S3 does.
func (c Config) startFiles(ctx context.Context, s *Stack, queueURL string, start starter) (*files, error) {
	if err := s.bucket().Create(ctx); err != nil {
		return nil, err
	}
	queues, log := sqs.NewFromConfig(s.AWSConf), c.Log.With("part", "bucket")
	start("bucket", func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case key := <-s.created.keys:
				tellUpload(ctx, queues, queueURL, key, log)
			}
		}
	})
	return &files{lent: s.Server.Lent(lentPath, mediaBucket)}, nil
}

func tellUpload(ctx context.Context, queues *sqs.Client, queueURL, key string, log *slog.Logger) {
	type object struct {
		Key string `json:"key"`
	}
	type record struct {
		S3 struct {
			Object object `json:"object"`
		} `json:"s3"`
	}
	var one record
	one.S3.Object = object{url.QueryEscape(key)}
	body, err := json.Marshal(map[string][]record{"Records": {one}})
	if err == nil {
		_, err = queues.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &queueURL, MessageBody: aws.String(string(body))})
	}
	if err != nil && ctx.Err() == nil {
		log.Warn("an upload was not told of; it is found when it is looked at", "error", err)
	}
}

// bucket is the stack's bucket.
func (s *Stack) bucket() *bucket.Bucket {
	return bucket.New(bucket.Config{AWS: s.AWSConf, Name: mediaBucket, Endpoint: s.Env["MEDIA_ENDPOINT"]})
}

// before serves what was lent of the bucket, and leaves everything else to the API.
func (f *files) before(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, lentPath+"/") {
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.Header().Set("Referrer-Policy", "no-referrer")
			f.lent.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

func streamTo(b *bucket.Bucket) func(context.Context, string) control.Stream {
	return func(ctx context.Context, key string) control.Stream {
		return b.Writer(ctx, key, make([]byte, bucket.PartSize))
	}
}
