package aws_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	local "whatisup/local/aws"
	"whatisup/local/aws/awstest"
)

// bucketTest is a bucket "media" with the calls that tests make on it.
type bucketTest struct {
	t       *testing.T
	aws     *awstest.Instance
	objects string // the folder
	c       *s3.Client
}

var media = sdk.String("media")

// s3Client is a client as programs make it; s3.New makes other requests.
func s3Client(t *testing.T, endpoint, access, secret string) *s3.Client {
	t.Helper()
	c, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("us-east-1"), config.WithBaseEndpoint(endpoint),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(access, secret, "")), config.WithRetryMaxAttempts(1))
	if err != nil {
		t.Fatal(err)
	}
	return s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle = true })
}

func newBucketTest(t *testing.T, c local.Config) *bucketTest {
	t.Helper()
	if c.Objects == "" {
		c.Objects = filepath.Join(t.TempDir(), "objects")
	}
	a := awstest.StartWith(t, c)
	b := &bucketTest{t, a, c.Objects, s3Client(t, a.Endpoint, "local", "local")}
	if _, err := b.c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: media}); err != nil && !strings.Contains(err.Error(), "BucketAlreadyOwnedByYou") {
		t.Fatal(err)
	}
	return b
}

func (b *bucketTest) put(key string, body []byte, more ...func(*s3.PutObjectInput)) *s3.PutObjectOutput {
	b.t.Helper()
	in := &s3.PutObjectInput{Bucket: media, Key: &key, Body: bytes.NewReader(body)}
	for _, f := range more {
		f(in)
	}
	out, err := b.c.PutObject(b.t.Context(), in)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bucketTest) get(key string, more ...func(*s3.GetObjectInput)) (*s3.GetObjectOutput, []byte) {
	b.t.Helper()
	in := &s3.GetObjectInput{Bucket: media, Key: &key}
	for _, f := range more {
		f(in)
	}
	out, err := b.c.GetObject(b.t.Context(), in)
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return out, body
}

// files counts the files below the folder of objects.
func (b *bucketTest) files() (n int) {
	b.t.Helper()
	filepath.WalkDir(b.objects, func(_ string, d fs.DirEntry, err error) error { //nolint:errcheck // none yet
		if err == nil && !d.IsDir() {
			n++
		}
		return nil
	})
	return n
}

func statusOf(err error) int {
	var e *smithyhttp.ResponseError
	if errors.As(err, &e) {
		return e.HTTPStatusCode()
	}
	return 0
}

func codeOf(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func TestObjects(t *testing.T) {
	t.Parallel()
	b := newBucketTest(t, local.Config{})
	body := random(300_000)
	put := b.put("c/live/a_b-1", body, func(in *s3.PutObjectInput) {
		in.ContentType, in.CacheControl, in.ContentDisposition = sdk.String("image/png"), sdk.String("no-store"), sdk.String(`attachment; filename="a.png"`)
		in.Metadata = map[string]string{"kind": "picture"}
	})
	got, read := b.get("c/live/a_b-1")
	if !bytes.Equal(read, body) || *got.ContentType != "image/png" || *got.CacheControl != "no-store" || got.Metadata["kind"] != "picture" || *got.ETag != *put.ETag || *got.ContentLength != 300_000 {
		t.Errorf("got %d bytes and %+v", len(read), got)
	}
	if got.ChecksumCRC32 == nil || *got.ChecksumCRC32 != *put.ChecksumCRC32 {
		t.Errorf("the checksums are %v and %v", got.ChecksumCRC32, put.ChecksumCRC32)
	}
	for header, want := range map[string][2]int{"bytes=0-0": {0, 1}, "bytes=10-19": {10, 20}, "bytes=299999-": {299_999, 300_000}, "bytes=-5": {299_995, 300_000}, "bytes=-999999": {0, 300_000}, "bytes=5-99999999": {5, 300_000}} {
		got, read := b.get("c/live/a_b-1", func(in *s3.GetObjectInput) { in.Range = &header })
		if !bytes.Equal(read, body[want[0]:want[1]]) || *got.ContentRange != fmt.Sprintf("bytes %d-%d/300000", want[0], want[1]-1) || got.ChecksumCRC32 != nil {
			t.Errorf("%s: %d bytes, %v", header, len(read), got.ContentRange)
		}
	}
	fails := func(what string, status int, more func(*s3.GetObjectInput)) {
		t.Helper()
		in := &s3.GetObjectInput{Bucket: media, Key: sdk.String("c/live/a_b-1")}
		more(in)
		if _, err := b.c.GetObject(t.Context(), in); statusOf(err) != status {
			t.Errorf("%s: %v, want %d", what, err, status)
		}
	}
	fails("a range behind the end", 416, func(in *s3.GetObjectInput) { in.Range = sdk.String("bytes=300000-") })
	fails("If-None-Match", 304, func(in *s3.GetObjectInput) { in.IfNoneMatch = put.ETag })
	fails("If-Modified-Since", 304, func(in *s3.GetObjectInput) { in.IfModifiedSince = sdk.Time(time.Now().Add(time.Minute)) })
	fails("If-Match", 412, func(in *s3.GetObjectInput) { in.IfMatch = sdk.String(`"other"`) })
	fails("If-Unmodified-Since", 412, func(in *s3.GetObjectInput) { in.IfUnmodifiedSince = sdk.Time(time.Now().Add(-time.Hour)) })
	fails("a key that is not there", 404, func(in *s3.GetObjectInput) { in.Key = sdk.String("other") })
	fails("a bucket that is not there", 404, func(in *s3.GetObjectInput) { in.Bucket = sdk.String("other") })

	head, err := b.c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: media, Key: sdk.String("c/live/a_b-1")})
	if err != nil || *head.ContentLength != 300_000 || *head.ETag != *put.ETag {
		t.Errorf("%+v %v", head, err)
	}
	b.put("c/live/a_b-1", nil) // nothing of the object before is left
	if got, read := b.get("c/live/a_b-1"); len(read) != 0 || len(got.Metadata) != 0 || got.CacheControl != nil || *got.ContentType != "application/octet-stream" && *got.ContentType != "binary/octet-stream" {
		t.Errorf("after a replace: %d bytes, %+v", len(read), got)
	}
	if _, err := b.c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: media, Key: sdk.String("c/live/a_b-1"), Body: strings.NewReader("x"), IfNoneMatch: sdk.String("*")}); statusOf(err) != 412 {
		t.Errorf("If-None-Match on a put: %v", err)
	}
	if _, err := b.c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: media, Key: sdk.String("c/live/a_b-1")}); err != nil {
		t.Error(err)
	}
	if _, err := b.c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: media, Key: sdk.String("c/live/a_b-1")}); err != nil {
		t.Errorf("a second delete: %v", err)
	}
	if n := b.files(); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

// TestDamagedPut has a body that is not what its headers say leave nothing.
func TestDamagedPut(t *testing.T) {
	t.Parallel()
	b := newBucketTest(t, local.Config{})
	_, err := b.c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: media, Key: sdk.String("k"), Body: strings.NewReader("hello"), ChecksumSHA256: sdk.String("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")})
	if codeOf(err) != "BadDigest" {
		t.Errorf("a wrong checksum: %v", err)
	}
	// The signed hash is of other bytes.
	presigned, err := s3.NewPresignClient(b.c).PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: media, Key: sdk.String("k"), ContentLength: sdk.Int64(5)})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"hell", "hello!"} {
		r, _ := http.NewRequest("PUT", presigned.URL, strings.NewReader(body))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 403 {
			t.Errorf("%d bytes for a signed length of 5: %d", len(body), resp.StatusCode)
		}
	}
	if n := b.files(); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

// TestCopyOnETag copies only what is still what was looked at.
func TestCopyOnETag(t *testing.T) {
	t.Parallel()
	b := newBucketTest(t, local.Config{})
	put := b.put("staging/1", []byte("first"), func(in *s3.PutObjectInput) { in.ContentType = sdk.String("text/plain") })
	copyIf := func(etag *string) error {
		_, err := b.c.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: media, Key: sdk.String("ready/1"), CopySource: sdk.String("media/staging/1"), CopySourceIfMatch: etag})
		return err
	}
	if err := copyIf(put.ETag); err != nil {
		t.Fatal(err)
	}
	b.put("staging/1", []byte("second"))
	if err := copyIf(put.ETag); statusOf(err) != 412 {
		t.Errorf("copied what was replaced: %v", err)
	}
	got, read := b.get("ready/1")
	if string(read) != "first" || *got.ContentType != "text/plain" || *got.ETag != *put.ETag {
		t.Errorf("the copy is %q, %+v", read, got)
	}
	_, err := b.c.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: media, Key: sdk.String("ready/2"), CopySource: sdk.String("media/ready/1"), MetadataDirective: types.MetadataDirectiveReplace, ContentType: sdk.String("image/png")})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := b.get("ready/2"); *got.ContentType != "image/png" {
		t.Errorf("replaced metadata: %+v", got)
	}
}

// upload begins a multipart upload and puts parts of these sizes.
func (b *bucketTest) upload(key string, sizes ...int) (id *string, parts []types.CompletedPart, body []byte) {
	b.t.Helper()
	made, err := b.c.CreateMultipartUpload(b.t.Context(), &s3.CreateMultipartUploadInput{Bucket: media, Key: &key, ContentType: sdk.String("video/mp4")})
	if err != nil {
		b.t.Fatal(err)
	}
	for i, size := range sizes {
		data := random(size)
		out, err := b.c.UploadPart(b.t.Context(), &s3.UploadPartInput{Bucket: media, Key: &key, UploadId: made.UploadId, PartNumber: sdk.Int32(int32(i + 1)), Body: bytes.NewReader(data)})
		if err != nil {
			b.t.Fatal(err)
		}
		parts = append(parts, types.CompletedPart{PartNumber: sdk.Int32(int32(i + 1)), ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32})
		body = append(body, data...)
	}
	return made.UploadId, parts, body
}

func (b *bucketTest) complete(key string, id *string, parts []types.CompletedPart, more ...func(*s3.CompleteMultipartUploadInput)) error {
	in := &s3.CompleteMultipartUploadInput{Bucket: media, Key: &key, UploadId: id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}}
	for _, f := range more {
		f(in)
	}
	_, err := b.c.CompleteMultipartUpload(b.t.Context(), in)
	return err
}

func TestMultipart(t *testing.T) {
	t.Parallel()
	b := newBucketTest(t, local.Config{})
	b.put("k", []byte("before"))
	id, parts, body := b.upload("k", 5<<20, 5<<20, 1000)
	if _, read := b.get("k"); string(read) != "before" {
		t.Errorf("an upload under way is shown: %d bytes", len(read))
	}
	listed, err := b.c.ListParts(t.Context(), &s3.ListPartsInput{Bucket: media, Key: sdk.String("k"), UploadId: id})
	if err != nil || len(listed.Parts) != 3 {
		t.Errorf("%+v %v", listed, err)
	}
	if err := b.complete("k", id, []types.CompletedPart{parts[1], parts[0]}); codeOf(err) != "InvalidPartOrder" {
		t.Errorf("in the wrong order: %v", err)
	}
	if err := b.complete("k", id, []types.CompletedPart{{PartNumber: sdk.Int32(1), ETag: sdk.String(`"x"`)}}); codeOf(err) != "InvalidPart" {
		t.Errorf("with another ETag: %v", err)
	}
	if err := b.complete("k", id, parts, func(in *s3.CompleteMultipartUploadInput) { in.IfNoneMatch = sdk.String("*") }); statusOf(err) != 412 {
		t.Errorf("over what is there: %v", err)
	}
	if err := b.complete("k", id, parts); err != nil {
		t.Fatal(err)
	}
	got, read := b.get("k")
	if !bytes.Equal(read, body) || !strings.HasSuffix(*got.ETag, `-3"`) || *got.ContentType != "video/mp4" {
		t.Errorf("got %d bytes, %+v", len(read), got)
	}
	from := 5<<20 - 3
	rangeHeader := fmt.Sprintf("bytes=%d-%d", from, from+5<<20)
	if _, read := b.get("k", func(in *s3.GetObjectInput) { in.Range = &rangeHeader }); !bytes.Equal(read, body[from:from+5<<20+1]) {
		t.Errorf("a range over three parts: %d bytes", len(read))
	}
	if n := b.files(); n != 3 {
		t.Errorf("%d files, want the three parts", n)
	}

	small, parts, _ := b.upload("small", 10, 10)
	if err := b.complete("small", small, parts); codeOf(err) != "EntityTooSmall" {
		t.Errorf("with small parts: %v", err)
	}
	if _, err := b.c.AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{Bucket: media, Key: sdk.String("small"), UploadId: small}); err != nil {
		t.Fatal(err)
	}
	if err := b.complete("small", small, parts[:1]); codeOf(err) != "NoSuchUpload" {
		t.Errorf("after the abort: %v", err)
	}
	if n := b.files(); n != 3 {
		t.Errorf("%d files after the abort, want 3", n)
	}
}

// TestReplacedWhileRead reads an object to its end although it is replaced and
// deleted meanwhile.
func TestReplacedWhileRead(t *testing.T) {
	t.Parallel()
	b := newBucketTest(t, local.Config{})
	body := random(8 << 20)
	b.put("k", body)
	out, err := b.c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: media, Key: sdk.String("k")})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	head := make([]byte, 100)
	if _, err := io.ReadFull(out.Body, head); err != nil {
		t.Fatal(err)
	}
	b.put("k", []byte("other"))
	if _, err := b.c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: media, Key: sdk.String("k")}); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out.Body)
	if err != nil || sha256.Sum256(append(head, rest...)) != sha256.Sum256(body) {
		t.Errorf("read %d bytes: %v", 100+len(rest), err)
	}
}

// TestConcurrentPuts has many write one key: it is always one of them, whole.
func TestConcurrentPuts(t *testing.T) {
	t.Parallel()
	b := newBucketTest(t, local.Config{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				if _, err := b.c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: media, Key: sdk.String("k"), Body: bytes.NewReader(bytes.Repeat([]byte{byte(i)}, 10_000))}); err != nil {
					t.Error(err)
				}
				out, err := b.c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: media, Key: sdk.String("k")})
				if err != nil {
					t.Error(err)
					continue
				}
				read, err := io.ReadAll(out.Body)
				out.Body.Close()
				if err != nil || len(read) != 10_000 || !bytes.Equal(read, bytes.Repeat(read[:1], 10_000)) {
					t.Errorf("read %d bytes that are no object: %v", len(read), err)
				}
			}
		})
	}
	wg.Wait()
	if n := b.files(); n != 1 {
		t.Errorf("%d files are left, want 1", n)
	}
}

func fetch(t *testing.T, method, url string, header ...string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func TestPresigned(t *testing.T) {
	t.Parallel()
	b := newBucketTest(t, local.Config{})
	b.put("a key/with +&ü", []byte("0123456789"))
	presign := func(c *s3.Client) string {
		out, err := s3.NewPresignClient(c, s3.WithPresignExpires(5*time.Minute)).PresignGetObject(t.Context(), &s3.GetObjectInput{
			Bucket: media, Key: sdk.String("a key/with +&ü"), ResponseContentType: sdk.String("image/png"), ResponseContentDisposition: sdk.String(`attachment; filename="a b.png"`)})
		if err != nil {
			t.Fatal(err)
		}
		return out.URL
	}
	url := presign(b.c)
	resp, body := fetch(t, "GET", url, "Range", "bytes=2-4")
	if resp.StatusCode != 206 || string(body) != "234" || resp.Header.Get("Content-Type") != "image/png" || resp.Header.Get("Content-Disposition") != `attachment; filename="a b.png"` {
		t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
	}
	for what, url := range map[string]string{
		"an added parameter":   url + "&response-cache-control=x",
		"another disposition":  strings.Replace(url, "attachment", "inline", 1),
		"another life":         strings.Replace(url, "X-Amz-Expires=300", "X-Amz-Expires=301", 1),
		"another key":          strings.Replace(url, "with", "without", 1),
		"another secret":       presign(s3Client(t, b.aws.Endpoint, "local", "other")),
		"another access key":   presign(s3Client(t, b.aws.Endpoint, "other", "local")),
		"no signature at all":  b.aws.Endpoint + "/media/a",
		"half of a signature":  url[:len(url)-3],
		"more than seven days": strings.Replace(url, "X-Amz-Expires=300", "X-Amz-Expires=604801", 1),
	} {
		if resp, body := fetch(t, "GET", url); resp.StatusCode != 403 && resp.StatusCode != 400 {
			t.Errorf("%s: %d %s", what, resp.StatusCode, body)
		}
	}
	if resp, _ := fetch(t, "PUT", url); resp.StatusCode != 403 {
		t.Errorf("a put with a get's URL: %d", resp.StatusCode)
	}
	b.aws.Step(299 * time.Second)
	if resp, body := fetch(t, "GET", url); resp.StatusCode != 200 {
		t.Errorf("just before its end: %d %s", resp.StatusCode, body)
	}
	b.aws.Step(10 * time.Second)
	if resp, body := fetch(t, "GET", url); resp.StatusCode != 403 || !strings.Contains(string(body), "Request has expired") {
		t.Errorf("after its end: %d %s", resp.StatusCode, body)
	}
}

// form posts an upload form.
func form(t *testing.T, url string, fields map[string]string, file []byte, cut int) (int, string) {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for name, v := range fields {
		w.WriteField(name, v) //nolint:errcheck // a buffer
	}
	f, _ := w.CreateFormFile("file", "a.png")
	f.Write(file) //nolint:errcheck // a buffer
	w.Close()
	text := body.Bytes()[:body.Len()-cut]
	r, err := http.NewRequest("POST", url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", w.FormDataContentType())
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer)
}

func (b *bucketTest) presignForm(c *s3.Client, key string) *s3.PresignedPostRequest {
	b.t.Helper()
	out, err := s3.NewPresignClient(c).PresignPostObject(b.t.Context(), &s3.PutObjectInput{Bucket: media, Key: &key}, func(o *s3.PresignPostOptions) {
		o.Expires = 5 * time.Minute
		o.Conditions = []any{[]any{"content-length-range", 5, 10}, []any{"eq", "$Content-Type", "image/png"}}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	out.Values["Content-Type"] = "image/png"
	return out
}

func TestUploadForm(t *testing.T) {
	t.Parallel()
	b := newBucketTest(t, local.Config{})
	signed := b.presignForm(b.c, "staging/1")
	with := func(change func(map[string]string)) map[string]string {
		fields := map[string]string{}
		for name, v := range signed.Values {
			fields[name] = v
		}
		change(fields)
		return fields
	}
	unchanged := with(func(map[string]string) {})
	for what, c := range map[string]struct {
		fields map[string]string
		file   string
		cut    int
		status int
		says   string
	}{
		"too short":         {unchanged, "1234", 0, 400, "EntityTooSmall"},
		"too long":          {unchanged, "12345678901", 0, 400, "EntityTooLarge"},
		"cut off":           {unchanged, "1234567", 30, 400, "IncompleteBody"},
		"another type":      {with(func(f map[string]string) { f["Content-Type"] = "text/html" }), "123456", 0, 403, "Policy Condition failed"},
		"no type":           {with(func(f map[string]string) { delete(f, "Content-Type") }), "123456", 0, 403, "Policy Condition failed"},
		"another key":       {with(func(f map[string]string) { f["key"] = "staging/2" }), "123456", 0, 403, "Policy Condition failed"},
		"one field more":    {with(func(f map[string]string) { f["x-amz-meta-a"] = "b" }), "123456", 0, 403, "Extra input fields: x-amz-meta-a"},
		"another signature": {with(func(f map[string]string) { f["X-Amz-Signature"] = strings.Repeat("0", 64) }), "123456", 0, 403, "SignatureDoesNotMatch"},
		"another policy":    {with(func(f map[string]string) { f["policy"] = "e30=" }), "123456", 0, 403, "SignatureDoesNotMatch"},
		"no signature":      {with(func(f map[string]string) { delete(f, "X-Amz-Signature") }), "123456", 0, 403, "AccessDenied"},
	} {
		if status, answer := form(t, signed.URL, c.fields, []byte(c.file), c.cut); status != c.status || !strings.Contains(answer, c.says) {
			t.Errorf("%s: %d %s, want %d %s", what, status, answer, c.status, c.says)
		}
	}
	if n := b.files(); n != 0 {
		t.Errorf("what was refused left %d files", n)
	}
	if status, answer := form(t, signed.URL, unchanged, []byte("1234567"), 0); status != 204 {
		t.Errorf("as it was signed: %d %s", status, answer)
	}
	if got, read := b.get("staging/1"); string(read) != "1234567" || *got.ContentType != "image/png" {
		t.Errorf("got %q, %+v", read, got)
	}
	b.aws.Step(6 * time.Minute)
	if status, answer := form(t, signed.URL, unchanged, []byte("1234567"), 0); status != 403 || !strings.Contains(answer, "Policy expired") {
		t.Errorf("after its end: %d %s", status, answer)
	}
}

// TestLent mounts what may be lent under a path: presigned reads and forms of the
// one bucket pass, nothing else does, however well it is signed.
func TestLent(t *testing.T) {
	t.Parallel()
	b := newBucketTest(t, local.Config{})
	b.put("ready/1", []byte("hello"))
	if _, err := b.c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: sdk.String("other")}); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/objects/", b.aws.Lent("/objects", "media"))
	front := httptest.NewServer(mux)
	defer front.Close()
	c := s3Client(t, front.URL+"/objects", "local", "local")

	presigned, err := s3.NewPresignClient(c).PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: media, Key: sdk.String("ready/1")})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(presigned.URL, front.URL+"/objects/media/ready/1?") {
		t.Fatalf("the URL is %s", presigned.URL)
	}
	if resp, body := fetch(t, "GET", presigned.URL); resp.StatusCode != 200 || string(body) != "hello" {
		t.Errorf("a presigned read: %d %s", resp.StatusCode, body)
	}
	signed := b.presignForm(c, "staging/1")
	if status, answer := form(t, front.URL+"/objects/media", signed.Values, []byte("1234567"), 0); status != 204 {
		t.Errorf("a form: %d %s", status, answer)
	}
	if _, read := b.get("staging/1"); string(read) != "1234567" {
		t.Errorf("the form put %q", read)
	}

	put, err := s3.NewPresignClient(c).PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: media, Key: sdk.String("x")})
	if err != nil {
		t.Fatal(err)
	}
	list, err := s3.NewPresignClient(c).PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: sdk.String("other"), Key: sdk.String("x")})
	if err != nil {
		t.Fatal(err)
	}
	for what, status := range map[string]func() int{
		"a presigned put":         func() int { r, _ := fetch(t, "PUT", put.URL); return r.StatusCode },
		"another bucket":          func() int { r, _ := fetch(t, "GET", list.URL); return r.StatusCode },
		"no signature":            func() int { r, _ := fetch(t, "GET", front.URL+"/objects/media/ready/1"); return r.StatusCode },
		"a control call":          func() int { r, _ := fetch(t, "GET", front.URL+"/objects/control/faults"); return r.StatusCode },
		"a post without a form":   func() int { r, _ := fetch(t, "POST", front.URL+"/objects/"); return r.StatusCode },
		"what is not implemented": func() int { r, _ := fetch(t, "GET", front.URL+"/objects/media?policy"); return r.StatusCode },
		"a read, signed in a header": func() int {
			_, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: media, Key: sdk.String("ready/1")})
			return statusOf(err)
		},
		"a put, signed in a header": func() int {
			_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: media, Key: sdk.String("x"), Body: strings.NewReader("x")})
			return statusOf(err)
		},
	} {
		if code := status(); code != http.StatusForbidden {
			t.Errorf("%s: %d", what, code)
		}
	}
}

func TestListAndDelete(t *testing.T) {
	t.Parallel()
	b := newBucketTest(t, local.Config{})
	for _, key := range []string{"a/1", "a/2", "a/b/1", "a/b/2", "c", "d&<é"} {
		b.put(key, []byte(key))
	}
	list := func(prefix, delimiter string, page int32) (keys []string) {
		p := s3.NewListObjectsV2Paginator(b.c, &s3.ListObjectsV2Input{Bucket: media, Prefix: &prefix, Delimiter: &delimiter, MaxKeys: &page})
		for p.HasMorePages() {
			out, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range out.Contents {
				keys = append(keys, *o.Key)
			}
			for _, c := range out.CommonPrefixes {
				keys = append(keys, *c.Prefix)
			}
		}
		return keys
	}
	for _, page := range []int32{1, 2, 1000} {
		if got := list("", "", page); !slices.Equal(got, []string{"a/1", "a/2", "a/b/1", "a/b/2", "c", "d&<é"}) {
			t.Errorf("by %d: %q", page, got)
		}
		got := list("", "/", page)
		slices.Sort(got)
		if !slices.Equal(got, []string{"a/", "c", "d&<é"}) {
			t.Errorf("the top by %d: %q", page, got)
		}
		got = list("a/", "/", page)
		slices.Sort(got)
		if !slices.Equal(got, []string{"a/1", "a/2", "a/b/"}) {
			t.Errorf("below a/ by %d: %q", page, got)
		}
	}
	out, err := b.c.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: media, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: sdk.String("a/1")}, {Key: sdk.String("d&<é")}, {Key: sdk.String("never")}}}})
	if err != nil || len(out.Deleted) != 3 || len(out.Errors) != 0 {
		t.Errorf("%+v %v", out, err)
	}
	if got := list("", "", 1000); len(got) != 4 {
		t.Errorf("left are %q", got)
	}
	if _, err := b.c.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: media}); codeOf(err) != "BucketNotEmpty" {
		t.Errorf("%v", err)
	}
}

// TestLifecycle has objects and uploads go when the bucket's rules say so.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	b := newBucketTest(t, local.Config{})
	_, err := b.c.PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{Bucket: media, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{
		{ID: sdk.String("week"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: sdk.String("d7/")}, Expiration: &types.LifecycleExpiration{Days: sdk.Int32(7)}},
		{ID: sdk.String("uploads"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: sdk.String("")}, AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: sdk.Int32(1)}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := b.c.GetBucketLifecycleConfiguration(t.Context(), &s3.GetBucketLifecycleConfigurationInput{Bucket: media})
	if err != nil || len(rules.Rules) != 2 || *rules.Rules[0].Expiration.Days != 7 {
		t.Errorf("%+v %v", rules, err)
	}
	b.put("d7/1", []byte("x"))
	b.put("d30/1", []byte("x"))
	b.upload("d30/2", 100)
	sweep := func(step time.Duration, files int) {
		t.Helper()
		b.aws.Step(step)
		if _, err := b.aws.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := b.files(); n != files {
			t.Errorf("%d files, want %d", n, files)
		}
	}
	sweep(23*time.Hour, 3)
	sweep(2*time.Hour, 2)
	sweep(5*24*time.Hour, 2)
	sweep(2*24*time.Hour, 1)
}

func TestS3Faults(t *testing.T) {
	t.Parallel()
	b := newBucketTest(t, local.Config{})
	put := func(bucket string) error {
		_, err := b.c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: sdk.String("k"), Body: strings.NewReader("x")})
		return err
	}
	for kind, code := range map[local.FaultKind]string{local.Internal: "InternalError", local.Throttle: "SlowDown", local.Missing: "NoSuchBucket", local.Forbidden: "AccessDenied", local.Full: "ServiceUnavailable"} {
		if err := b.aws.Inject(local.Fault{Kind: kind, Service: "s3", Operation: "PutObject", Resource: "media", Times: 1}); err != nil {
			t.Fatal(err)
		}
		if err := put("media"); codeOf(err) != code {
			t.Errorf("%s: %v, want %s", kind, err, code)
		}
		if n := b.files(); n != 0 {
			t.Errorf("%s put an object", kind)
		}
	}
	if err := b.aws.Inject(local.Fault{Kind: local.Lost, Service: "s3", Times: 1}); err != nil {
		t.Fatal(err)
	}
	if err := put("media"); codeOf(err) != "InternalError" {
		t.Errorf("a lost answer: %v", err)
	}
	if _, read := b.get("k"); string(read) != "x" {
		t.Errorf("its object is %q", read)
	}
	if n := b.aws.Requests()["s3.PutObject"]; n != 6 {
		t.Errorf("%d PutObject were counted, want 6", n)
	}
}

// TestS3Unknown has what is not served refused by name and counted.
func TestS3Unknown(t *testing.T) {
	t.Parallel()
	server, err := local.Open(local.Config{Path: filepath.Join(t.TempDir(), "aws.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	front := httptest.NewServer(server)
	defer front.Close()
	c := s3Client(t, front.URL, "local", "local")
	if _, err := c.GetBucketPolicy(t.Context(), &s3.GetBucketPolicyInput{Bucket: media}); codeOf(err) != "NotImplemented" {
		t.Errorf("%v", err)
	}
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: media, Key: sdk.String("k"), Body: strings.NewReader("x"), ACL: types.ObjectCannedACLPublicRead}); codeOf(err) != "NotImplemented" {
		t.Errorf("%v", err)
	}
	if got := fmt.Sprint(server.Unknown()); !strings.Contains(got, "policy") || !strings.Contains(got, "X-Amz-Acl") {
		t.Errorf("counted %s", got)
	}
}

// TestChunkedPut sends a body as SDKs send it over TLS: in chunks, with its
// checksum behind it.
func TestChunkedPut(t *testing.T) {
	t.Parallel()
	b := newBucketTest(t, local.Config{})
	server, err := local.Open(local.Config{Path: filepath.Join(t.TempDir(), "aws.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	front := httptest.NewTLSServer(server)
	defer front.Close()
	c, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("us-east-1"), config.WithBaseEndpoint(front.URL),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("local", "local", "")), config.WithRetryMaxAttempts(1))
	if err != nil {
		t.Fatal(err)
	}
	b.c = s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle, o.HTTPClient = true, front.Client() })
	if _, err := b.c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: media}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 100_000, 3 << 20} {
		body := random(n)
		b.put("k", body)
		if got, read := b.get("k"); !bytes.Equal(read, body) || got.ContentEncoding != nil {
			t.Errorf("%d bytes came back as %d, encoded as %v", n, len(read), got.ContentEncoding)
		}
	}
}

// TestOrphans has files that no record names go at the next opening.
func TestOrphans(t *testing.T) {
	t.Parallel()
	c := local.Config{Path: filepath.Join(t.TempDir(), "aws.db"), Objects: filepath.Join(t.TempDir(), "objects")}
	t.Run("before", func(t *testing.T) {
		b := newBucketTest(t, c)
		b.put("k", []byte("kept"))
		b.upload("other", 10)
		if err := errors.Join(os.MkdirAll(filepath.Join(c.Objects, "00"), 0o700), os.WriteFile(filepath.Join(c.Objects, "00", "00-orphan"), []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("after", func(t *testing.T) {
		b := newBucketTest(t, c)
		if _, read := b.get("k"); string(read) != "kept" || b.files() != 2 {
			t.Errorf("%q, %d files", read, b.files())
		}
	})
}

// TestKillUpload kills the server while objects are put and uploads completed:
// what was answered is there, nothing is there in half, and no file is left that
// belongs to nothing.
func TestKillUpload(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "aws.db")
	objects := filepath.Join(filepath.Dir(path), "objects")
	const size, parts = 5 << 20, 2
	hashes := map[string][sha256.Size]byte{} // of what was acknowledged
	for round := range 4 {
		p := startProcess(t, path)
		c := s3Client(t, p.endpoint, "local", "local")
		if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: media}); err != nil && round == 0 {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		began := make(chan struct{}, 100)
		for w := range 3 {
			wg.Go(func() {
				for i := 0; ; i++ {
					key := fmt.Sprintf("%d/%d/%d", round, w, i)
					body := random(parts * size)
					began <- struct{}{}
					if putKilled(t, c, key, body, w == 0, size) != nil {
						return
					}
					mu.Lock()
					hashes[key] = sha256.Sum256(body)
					mu.Unlock()
				}
			})
		}
		for range 3 + 2*round { // in the middle of the first, or a little later
			<-began
		}
		time.Sleep(time.Duration(20*round) * time.Millisecond)
		p.kill()
		wg.Wait()
	}

	p := startProcess(t, path)
	c := s3Client(t, p.endpoint, "local", "local")
	named := 0
	list := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: media})
	seen := map[string]bool{}
	for list.HasMorePages() {
		page, err := list.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: media, Key: o.Key})
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(out.Body)
			out.Body.Close()
			if err != nil || len(body) != parts*size {
				t.Errorf("%s has %d bytes: %v", *o.Key, len(body), err)
			}
			if want, ok := hashes[*o.Key]; ok && sha256.Sum256(body) != want {
				t.Errorf("%s has other bytes", *o.Key)
			}
			seen[*o.Key] = true
			if named++; strings.Contains(*o.ETag, "-") {
				named++ // two parts
			}
		}
	}
	for key := range hashes {
		if !seen[key] {
			t.Errorf("%s was acknowledged and is gone", key)
		}
	}
	uploads, err := c.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: media})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range uploads.Uploads {
		listed, err := c.ListParts(t.Context(), &s3.ListPartsInput{Bucket: media, Key: u.Key, UploadId: u.UploadId})
		if err != nil {
			t.Fatal(err)
		}
		named += len(listed.Parts)
	}
	if n := (&bucketTest{t: t, objects: objects}).files(); n != named {
		t.Errorf("%d files lie there, %d are named", n, named)
	}
	t.Logf("%d objects were acknowledged, %d are there, %d uploads were left", len(hashes), len(seen), len(uploads.Uploads))
}

// putKilled puts an object, at once or in parts.
func putKilled(t *testing.T, c *s3.Client, key string, body []byte, whole bool, size int) error {
	if whole {
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: media, Key: &key, Body: bytes.NewReader(body)})
		return err
	}
	made, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: media, Key: &key})
	if err != nil {
		return err
	}
	var parts []types.CompletedPart
	for i := 0; i*size < len(body); i++ {
		out, err := c.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: media, Key: &key, UploadId: made.UploadId, PartNumber: sdk.Int32(int32(i + 1)), Body: bytes.NewReader(body[i*size : (i+1)*size])})
		if err != nil {
			return err
		}
		parts = append(parts, types.CompletedPart{PartNumber: sdk.Int32(int32(i + 1)), ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32})
	}
	_, err = c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: media, Key: &key, UploadId: made.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	return err
}
