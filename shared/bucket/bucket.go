package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"whatisup/shared/whatisup"
)

// Bucket is one bucket of S3. It is safe for concurrent use.
type Bucket struct {
	client  *s3.Client
	presign *s3.PresignClient
	name    string
}

// Config of a [Bucket].
type Config struct {
	AWS  aws.Config // how AWS is reached
	Name string
	// Endpoint is where clients outside reach the bucket, for forms and presigned
	// URLs; empty: where we do.
	Endpoint string
}

// New returns the bucket. It calls nothing.
func New(c Config) *Bucket {
	// A stand-in at an address of its own has no host name for each bucket.
	pathStyle := func(o *s3.Options) { o.UsePathStyle = c.AWS.BaseEndpoint != nil }
	client := s3.NewFromConfig(c.AWS, pathStyle)
	outside := client
	if c.Endpoint != "" {
		outside = s3.NewFromConfig(c.AWS, func(o *s3.Options) {
			o.BaseEndpoint, o.UsePathStyle = aws.String(c.Endpoint), true
		})
	}
	return &Bucket{client: client, presign: s3.NewPresignClient(outside), name: c.Name}
}

// translate gives S3's errors the product's names.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		switch e.ErrorCode() {
		case "NoSuchKey", "NotFound", "NoSuchUpload":
			return fmt.Errorf("%w: %w", whatisup.ErrNotFound, err)
		case "PreconditionFailed", "ConditionalRequestConflict":
			return fmt.Errorf("%w: %w", whatisup.ErrConflict, err)
		case "AccessDenied", "InvalidArgument", "EntityTooLarge", "NoSuchBucket":
			return fmt.Errorf("%w: %w", whatisup.ErrRefused, err)
		}
	}
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok && e.HTTPStatusCode() == 404 {
		return fmt.Errorf("%w: %w", whatisup.ErrNotFound, err)
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", whatisup.ErrUnavailable, err)
}

// Form returns a form for one object of a type and of at most size bytes, good for a
// while. Whoever has it can write that one key, and nothing else.
func (b *Bucket) Form(ctx context.Context, key, contentType string, size int64, within time.Duration) (whatisup.UploadForm, error) {
	out, err := b.presign.PresignPostObject(ctx, &s3.PutObjectInput{Bucket: &b.name, Key: &key}, func(o *s3.PresignPostOptions) {
		o.Expires = within
		o.Conditions = []any{
			[]any{"content-length-range", 1, size},
			[]any{"eq", "$Content-Type", contentType},
		}
	})
	if err != nil {
		return whatisup.UploadForm{}, translate(err)
	}
	fields := out.Values
	fields["Content-Type"] = contentType
	return whatisup.UploadForm{URL: out.URL, Fields: fields}, nil
}

// URL is a presigned URL of an object, good for a while, that answers with the type
// and the disposition given. A URL is for one method: GET, or HEAD.
func (b *Bucket) URL(ctx context.Context, method, key, contentType, disposition string, within time.Duration) (string, error) {
	life := func(o *s3.PresignOptions) { o.Expires = within }
	if method == "HEAD" {
		out, err := b.presign.PresignHeadObject(ctx, &s3.HeadObjectInput{
			Bucket: &b.name, Key: &key, ResponseContentType: &contentType, ResponseContentDisposition: &disposition,
			ResponseCacheControl: aws.String("no-store"),
		}, life)
		if err != nil {
			return "", translate(err)
		}
		return out.URL, nil
	}
	out, err := b.presign.PresignGetObject(ctx, &s3.GetObjectInput{
		Bucket: &b.name, Key: &key, ResponseContentType: &contentType, ResponseContentDisposition: &disposition,
		ResponseCacheControl: aws.String("no-store"),
	}, life)
	if err != nil {
		return "", translate(err)
	}
	return out.URL, nil
}

// Stat says whether an object is there: whatisup.ErrNotFound.
func (b *Bucket) Stat(ctx context.Context, key string) (whatisup.StoredObject, error) {
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return whatisup.StoredObject{}, translate(err)
	}
	return whatisup.StoredObject{Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag)}, nil
}

// Copy copies an object, if it is still the one with this ETag (empty: whichever it
// is): whatisup.ErrConflict, or whatisup.ErrNotFound.
func (b *Bucket) Copy(ctx context.Context, from, etag, to string) error {
	in := &s3.CopyObjectInput{Bucket: &b.name, Key: &to, CopySource: aws.String(b.name + "/" + from)}
	if etag != "" {
		in.CopySourceIfMatch = &etag
	}
	_, err := b.client.CopyObject(ctx, in)
	return translate(err)
}

// Open reads an object from a byte on: whatisup.ErrNotFound. The caller closes it.
func (b *Bucket) Open(ctx context.Context, key string, from int64) (io.ReadCloser, int64, error) {
	in := &s3.GetObjectInput{Bucket: &b.name, Key: &key}
	if from > 0 {
		in.Range = aws.String("bytes=" + strconv.FormatInt(from, 10) + "-")
	}
	out, err := b.client.GetObject(ctx, in)
	if err != nil {
		return nil, 0, translate(err)
	}
	return out.Body, aws.ToInt64(out.ContentLength), nil
}

// Put stores a small object.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReadSeeker) error {
	_, err := b.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.name, Key: &key, Body: body})
	return translate(err)
}

// Delete removes an object, if it is there.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: &key})
	return translate(err)
}

// List calls each for the keys that begin with prefix, until it returns false.
func (b *Bucket) List(ctx context.Context, prefix string, each func(key string) bool) error {
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return translate(err)
		}
		for _, o := range page.Contents {
			if !each(aws.ToString(o.Key)) {
				return nil
			}
		}
	}
	return nil
}

// Unfinished calls each for the keys that begin with prefix and have an upload in parts
// that was neither completed nor removed, until it returns false.
func (b *Bucket) Unfinished(ctx context.Context, prefix string, each func(key string) bool) error {
	pages := s3.NewListMultipartUploadsPaginator(b.client, &s3.ListMultipartUploadsInput{Bucket: &b.name, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return translate(err)
		}
		for _, u := range page.Uploads {
			if !each(aws.ToString(u.Key)) {
				return nil
			}
		}
	}
	return nil
}

// DeleteAll removes every object whose key begins with prefix.
func (b *Bucket) DeleteAll(ctx context.Context, prefix string) error {
	for {
		var found []types.ObjectIdentifier
		err := b.List(ctx, prefix, func(key string) bool {
			found = append(found, types.ObjectIdentifier{Key: aws.String(key)})
			return len(found) < 1000 // as many as one request deletes
		})
		if err != nil || len(found) == 0 {
			return err
		}
		out, err := b.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b.name, Delete: &types.Delete{Objects: found, Quiet: aws.Bool(true)}})
		if err != nil {
			return translate(err)
		}
		if len(out.Errors) > 0 {
			return fmt.Errorf("%w: an object was not deleted: %s", whatisup.ErrUnavailable, aws.ToString(out.Errors[0].Code))
		}
	}
}

// Create makes the bucket if it is not there, with its lifecycle rules. On AWS the
// template does this.
func (b *Bucket) Create(ctx context.Context) error {
	_, err := b.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &b.name})
	if e, ok := errors.AsType[smithy.APIError](err); ok && (e.ErrorCode() == "BucketAlreadyOwnedByYou" || e.ErrorCode() == "BucketAlreadyExists") {
		err = nil
	}
	if err != nil {
		return translate(err)
	}
	rules := []types.LifecycleRule{{
		ID: aws.String("unfinished"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("")},
		AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(1)},
	}}
	for _, c := range whatisup.ObjectClasses {
		rules = append(rules, types.LifecycleRule{
			ID: aws.String(c.Prefix), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String(c.Prefix + "/")},
			Expiration: &types.LifecycleExpiration{Days: aws.Int32(int32(c.Days))},
		})
	}
	_, err = b.client.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{
		Bucket: &b.name, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules},
	})
	return translate(err)
}
