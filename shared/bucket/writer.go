package bucket

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// PartSize is the size of a part of a multipart upload, the smallest that S3 takes;
// an object up to it is put in one request.
const PartSize = 5 << 20

// Writer writes one object as a stream. Nothing can be read of it before Commit.
type Writer struct {
	b      *Bucket
	ctx    context.Context
	key    string
	buffer []byte // of the caller, PartSize long
	n      int    // filled
	upload *string
	parts  []types.CompletedPart
}

// Writer begins an object. The buffer must have a capacity of PartSize; it is the
// writer's until Commit or Abort, and all the memory that the writer needs.
func (b *Bucket) Writer(ctx context.Context, key string, buffer []byte) *Writer {
	return &Writer{b: b, ctx: ctx, key: key, buffer: buffer[:PartSize]}
}

// Write gathers a part and uploads it when it is full: one part at a time is on its
// way.
func (w *Writer) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		if w.n == len(w.buffer) {
			if err := w.flush(w.ctx); err != nil {
				return written, err
			}
		}
		n := copy(w.buffer[w.n:], p)
		w.n, p, written = w.n+n, p[n:], written+n
	}
	return written, nil
}

func (w *Writer) flush(ctx context.Context) error {
	if w.upload == nil {
		out, err := w.b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &w.b.name, Key: &w.key})
		if err != nil {
			return translate(err)
		}
		w.upload = out.UploadId
	}
	number := int32(len(w.parts) + 1)
	out, err := w.b.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &w.b.name, Key: &w.key, UploadId: w.upload, PartNumber: &number, Body: bytes.NewReader(w.buffer[:w.n]),
	})
	if err != nil {
		return translate(err)
	}
	w.parts = append(w.parts, types.CompletedPart{
		PartNumber: aws.Int32(number), ETag: out.ETag,
		ChecksumCRC32: out.ChecksumCRC32, ChecksumCRC32C: out.ChecksumCRC32C, ChecksumCRC64NVME: out.ChecksumCRC64NVME,
	})
	w.n = 0
	return nil
}

// commitWithin bounds the request that makes an object readable.
const commitWithin = time.Minute

// Commit makes the object readable. The end of the writer's context cuts off nothing
// that has begun: a request that is given up may still take effect, and later than
// whatever the caller does next. After an error the object may be there.
func (w *Writer) Commit() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), commitWithin)
	defer cancel()
	if w.upload == nil {
		return w.b.Put(ctx, w.key, bytes.NewReader(w.buffer[:w.n]))
	}
	if w.n > 0 {
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	_, err := w.b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &w.b.name, Key: &w.key, UploadId: w.upload, MultipartUpload: &types.CompletedMultipartUpload{Parts: w.parts},
	})
	if err == nil {
		w.upload = nil
	}
	return translate(err)
}

// abortWithin bounds the request that removes an unfinished upload; the bucket
// removes it after a day otherwise.
const abortWithin = 10 * time.Second

// Abort removes what was uploaded, unless it was committed. It may be called after
// either.
func (w *Writer) Abort() error {
	if w.upload == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), abortWithin)
	defer cancel()
	_, err := w.b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &w.b.name, Key: &w.key, UploadId: w.upload})
	w.upload = nil
	if err = translate(err); errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
