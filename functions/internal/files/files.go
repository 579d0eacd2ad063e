// Package files opens what a function needs that has to do with files: the bucket,
// the queue of work on them, and the secret of their URLs.
package files

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/functions/internal/environment"
	"whatisup/functions/internal/links"
	"whatisup/shared/bucket"
	"whatisup/shared/control"
	"whatisup/shared/fetch"
	"whatisup/shared/foreign"
	"whatisup/shared/httpapi"
	"whatisup/shared/queue"
)

// Add returns what environment.Function.With adds to a function, from its settings.
func Add(getenv func(string) string) func(aws.Config, *httpapi.Config) error {
	return func(a aws.Config, c *httpapi.Config) error {
		b, err := Bucket(a, getenv)
		if err != nil {
			return err
		}
		c.Objects = b
		if err := links.Add(getenv)(a, c); err != nil {
			return err
		}
		if url := getenv("MEDIA_QUEUE_URL"); url != "" {
			c.Work = queue.NewMedia(sqs.NewFromConfig(a), url)
		}
		fetcher, err := Fetcher(getenv)
		if err != nil {
			return err
		}
		c.Foreign = fetcher.Check
		return nil
	}
}

// Bucket is the deployment's bucket.
func Bucket(a aws.Config, getenv func(string) string) (*bucket.Bucket, error) {
	name := getenv("MEDIA_BUCKET")
	if name == "" {
		return nil, errors.New("MEDIA_BUCKET must be set")
	}
	return bucket.New(bucket.Config{AWS: a, Name: name, Endpoint: getenv("MEDIA_ENDPOINT")}), nil
}

// Fetcher gets foreign files, under the guard.
func Fetcher(getenv func(string) string) (fetch.Fetcher, error) {
	allow, err := foreign.ParseAllow(getenv("FOREIGN_ALLOW"))
	if err != nil {
		return fetch.Fetcher{}, fmt.Errorf("FOREIGN_ALLOW: %w", err)
	}
	var own []string
	if url := getenv("PUBLIC_URL"); url != "" {
		own = append(own, url)
	}
	guard, err := foreign.New(foreign.Config{Allow: allow, Own: own})
	return fetch.Fetcher{Guard: guard}, err
}

// Stream begins objects for a function that works on one file at a time.
func Stream(b *bucket.Bucket) func(context.Context, string) control.Stream {
	return func(ctx context.Context, key string) control.Stream {
		return b.Writer(ctx, key, make([]byte, bucket.PartSize))
	}
}

// Worker is what works on files that have come, or are to be fetched.
func Worker(f *environment.Function, getenv func(string) string) (*control.Control, error) {
	var problem error
	c := f.Control(func(c *control.Config) {
		b, err := Bucket(f.AWS(), getenv)
		fetcher, fetchErr := Fetcher(getenv)
		problem, c.Stream, c.Fetcher = errors.Join(err, fetchErr), Stream(b), fetcher
	})
	return c, problem
}
