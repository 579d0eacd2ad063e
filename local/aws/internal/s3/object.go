package s3

import (
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"whatisup/local/aws/internal/store"
)

// kept are the headers of a put that every get answers.
var kept = []string{"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Expires",
	"X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", "X-Amz-Server-Side-Encryption-Bucket-Key-Enabled"}

const metaPrefix = "X-Amz-Meta-"

// describe reads what a request says of the object that it makes.
func describe(h http.Header) (headers, meta map[string]string, err error) {
	headers, meta = map[string]string{}, map[string]string{}
	for _, name := range kept {
		v := h.Get(name)
		if name == "Content-Encoding" {
			v = strings.Trim(strings.ReplaceAll(strings.ReplaceAll(v, "aws-chunked", ""), " ", ""), ",")
		}
		if v != "" {
			headers[name] = v
		}
	}
	if headers["Content-Type"] == "" {
		headers["Content-Type"] = "binary/octet-stream"
	}
	size := 0
	for name, values := range h {
		if own, ok := strings.CutPrefix(name, metaPrefix); ok {
			meta[strings.ToLower(own)] = strings.Join(values, ",")
			size += len(own) + len(meta[strings.ToLower(own)])
		}
	}
	if size > 2048 {
		return nil, nil, failure(400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
	}
	return headers, meta, nil
}

func checkKey(key string) error {
	if len(key) > 1024 {
		return failure(400, "KeyTooLongError", "Your key is too long")
	}
	return nil
}

// publish gives an object its name, if the conditions hold, and removes what had
// the name before. The object's files are gone if it fails.
func (s *Service) publish(bucketName, key string, o *object, h http.Header, also func(tx *bbolt.Tx) error) error {
	var old *object
	err := s.Store.Update(func(tx *bbolt.Tx) error {
		objects := tx.Bucket(objectsBucket).Bucket([]byte(bucketName))
		if objects == nil {
			return errNoBucket
		}
		old = get[object](objects, []byte(key))
		switch match, none := h.Get("If-Match"), h.Get("If-None-Match"); {
		case none != "" && none != "*":
			return notImplemented("If-None-Match with an ETag, on a write")
		case none == "*" && old != nil:
			return errPrecondition
		case match != "" && old == nil:
			return errNoKey
		case match != "" && !sameETag(match, old.ETag):
			return errPrecondition
		}
		if also != nil {
			if err := also(tx); err != nil {
				return err
			}
		}
		put(objects, []byte(key), o)
		return nil
	})
	if err != nil {
		return err
	}
	if old != nil {
		s.discard(old.files()...)
	}
	if s.Created != nil {
		s.Created(bucketName, key)
	}
	return nil
}

func sameETag(want, have string) bool {
	if want == "*" {
		return true
	}
	for part := range strings.SplitSeq(want, ",") {
		if strings.Trim(strings.TrimPrefix(strings.TrimSpace(part), "W/"), `"`) == strings.Trim(have, `"`) {
			return true
		}
	}
	return false
}

func (s *Service) putObject(w http.ResponseWriter, r *http.Request, q *Request) error {
	headers, meta, err := describe(r.Header)
	if err == nil {
		err = checkKey(q.Key)
	}
	if err == nil {
		err = s.has(q.Bucket)
	}
	if err != nil {
		return err
	}
	f, err := s.receive(w, r)
	if err != nil {
		return err
	}
	o := s.newObject(f, headers, meta)
	if err := s.publish(q.Bucket, q.Key, o, r.Header, nil); err != nil {
		s.discard(f.File)
		return err
	}
	o.written(w.Header())
	return nil
}

func (s *Service) newObject(f *written, headers, meta map[string]string) *object {
	return &object{Size: f.Size, ETag: f.etag(), Modified: s.Clock().UnixMilli(), Headers: headers, Meta: meta, Checksum: f.Checksum,
		Segments: []segment{{f.File, f.Size}}}
}

// written sets the headers that answer a write.
func (o *object) written(h http.Header) {
	h.Set("ETag", o.ETag)
	o.Checksum.show(h)
	for name, v := range o.Headers {
		if strings.HasPrefix(name, "X-Amz-Server-Side-") {
			h.Set(name, v)
		}
	}
}

// lookup finds an object.
func (s *Service) lookup(bucketName, key string) (o *object, err error) {
	err = s.Store.View(func(tx *bbolt.Tx) error {
		objects := tx.Bucket(objectsBucket).Bucket([]byte(bucketName))
		if objects == nil {
			return errNoBucket
		}
		if o = get[object](objects, []byte(key)); o == nil {
			return errNoKey
		}
		return nil
	})
	return o, err
}

// open finds an object and opens its files: one that is replaced meanwhile can
// still be read to its end.
func (s *Service) open(bucketName, key string) (*object, []*os.File, error) {
	for try := 0; ; try++ {
		o, err := s.lookup(bucketName, key)
		if err != nil {
			return nil, nil, err
		}
		files := make([]*os.File, 0, len(o.Segments))
		for _, seg := range o.Segments {
			f, openErr := os.Open(s.path(seg.File))
			if openErr != nil {
				err = openErr
				break
			}
			files = append(files, f)
		}
		if err == nil {
			return o, files, nil
		}
		closeAll(files)
		if !errors.Is(err, fs.ErrNotExist) || try == 5 {
			return nil, nil, err
		}
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// reader reads a stretch of an object.
func (o *object) reader(files []*os.File, from, size int64) io.Reader {
	var parts []io.Reader
	for i, seg := range o.Segments {
		if from < seg.Size && size > 0 {
			n := min(seg.Size-from, size)
			parts = append(parts, io.NewSectionReader(files[i], from, n))
			from, size = 0, size-n
			continue
		}
		from = max(0, from-seg.Size)
	}
	return io.MultiReader(parts...)
}

// conditions are those of a read, in HTTP's order.
func (o *object) conditions(h http.Header, prefix string) error {
	modified := time.UnixMilli(o.Modified).Truncate(time.Second)
	at := func(name string) (time.Time, bool) {
		t, err := http.ParseTime(h.Get(prefix + name))
		return t, err == nil
	}
	if match := h.Get(prefix + "If-Match"); match != "" {
		if !sameETag(match, o.ETag) {
			return errPrecondition
		}
	} else if t, ok := at("If-Unmodified-Since"); ok && modified.After(t) {
		return errPrecondition
	}
	if none := h.Get(prefix + "If-None-Match"); none != "" {
		if sameETag(none, o.ETag) {
			return errNotModified
		}
	} else if t, ok := at("If-Modified-Since"); ok && !modified.After(t) {
		return errNotModified
	}
	return nil
}

// stretch reads a Range header; whole is true if there is none that counts.
func stretch(header string, size int64) (from, n int64, whole bool, err error) {
	text, ok := strings.CutPrefix(header, "bytes=")
	first, last, dash := strings.Cut(strings.TrimSpace(text), "-")
	if !ok || !dash || strings.Contains(text, ",") {
		return 0, size, true, nil
	}
	a, aErr := strconv.ParseInt(first, 10, 64)
	b, bErr := strconv.ParseInt(last, 10, 64)
	switch {
	case first == "" && bErr == nil && b >= 0: // the last b bytes
		if b == 0 || size == 0 {
			return 0, 0, false, errRange
		}
		n = min(b, size)
		return size - n, n, false, nil
	case aErr != nil || last != "" && (bErr != nil || b < a):
		return 0, size, true, nil
	case a >= size:
		return 0, 0, false, errRange
	case last == "":
		return a, size - a, false, nil
	}
	return a, min(b, size-1) - a + 1, false, nil
}

// getObject is GetObject and HeadObject.
func (s *Service) getObject(w http.ResponseWriter, r *http.Request, q *Request) error {
	o, files, err := s.open(q.Bucket, q.Key)
	if err != nil {
		return err
	}
	defer closeAll(files)
	h := w.Header()
	err = o.conditions(r.Header, "")
	h.Set("ETag", o.ETag)
	h.Set("Last-Modified", time.UnixMilli(o.Modified).UTC().Format(http.TimeFormat))
	if cache := o.Headers["Cache-Control"]; cache != "" {
		h.Set("Cache-Control", cache)
	}
	if err != nil {
		return err
	}
	from, n, whole, err := stretch(r.Header.Get("Range"), o.Size)
	if err != nil {
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(o.Size, 10))
		return err
	}

	for name, v := range o.Headers {
		h.Set(name, v)
	}
	for name, v := range o.Meta {
		h.Set(metaPrefix+name, v)
	}
	for _, name := range []string{"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Expires"} {
		if v := r.URL.Query().Get("response-" + strings.ToLower(name)); v != "" {
			h.Set(name, v)
		}
	}
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Length", strconv.FormatInt(n, 10))
	status := http.StatusOK
	if !whole {
		status = http.StatusPartialContent
		h.Set("Content-Range", "bytes "+strconv.FormatInt(from, 10)+"-"+strconv.FormatInt(from+n-1, 10)+"/"+strconv.FormatInt(o.Size, 10))
	} else if strings.EqualFold(r.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") {
		o.Checksum.show(h)
	}
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	out := &patient{w, http.NewResponseController(w)}
	defer out.control.SetWriteDeadline(time.Time{})                            //nolint:errcheck // the connection may be used again
	io.CopyBuffer(out, struct{ io.Reader }{o.reader(files, from, n)}, *buffer) //nolint:errcheck // the client is gone
	return nil
}

// patient is an answer whose reader may take as long as it goes on reading.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (p *patient) Write(b []byte) (int, error) {
	p.control.SetWriteDeadline(time.Now().Add(stall)) //nolint:errcheck // not every writer has one
	return p.ResponseWriter.Write(b)
}

func (s *Service) copyObject(w http.ResponseWriter, r *http.Request, q *Request) error {
	source, err := url.PathUnescape(strings.TrimPrefix(r.Header.Get("X-Amz-Copy-Source"), "/"))
	if err != nil {
		return invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	}
	from, key, ok := strings.Cut(source, "/")
	switch {
	case !ok || key == "":
		return invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	case strings.Contains(key, "?"):
		return notImplemented("CopyObject of a version")
	}
	if err := errors.Join(checkKey(q.Key), s.has(q.Bucket)); err != nil {
		return first(err)
	}
	o, files, err := s.open(from, key)
	if err != nil {
		return err
	}
	defer closeAll(files)
	if err := o.conditions(r.Header, "X-Amz-Copy-Source-"); err != nil {
		return errPrecondition
	}
	headers, meta := o.Headers, o.Meta
	switch directive := r.Header.Get("X-Amz-Metadata-Directive"); {
	case directive == "REPLACE":
		if headers, meta, err = describe(r.Header); err != nil {
			return err
		}
	case directive != "" && directive != "COPY":
		return invalid("Unknown metadata directive.")
	case from == q.Bucket && key == q.Key:
		return failure(400, "InvalidRequest", "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
	}
	f, err := s.store(o.reader(files, 0, o.Size), o.Size, o.Checksum.Algorithm, nil)
	if err != nil {
		return err
	}
	made := s.newObject(f, headers, meta)
	if err := s.publish(q.Bucket, q.Key, made, r.Header, nil); err != nil {
		s.discard(f.File)
		return err
	}
	made.written(w.Header())
	answerXML(w, 200, struct {
		XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyObjectResult"`
		LastModified string
		ETag         string
		checksumFields
	}{LastModified: moment(made.Modified), ETag: made.ETag, checksumFields: made.Checksum.fields()})
	return nil
}

// first is the first of joined errors.
func first(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()[0]
	}
	return err
}

func moment(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

// remove takes an object out of its bucket; with an ETag only that one. One that
// is not there is no error.
func (s *Service) remove(bucketName, key, etag string) error {
	var old *object
	err := s.Store.Update(func(tx *bbolt.Tx) error {
		objects := tx.Bucket(objectsBucket).Bucket([]byte(bucketName))
		if objects == nil {
			return errNoBucket
		}
		if old = get[object](objects, []byte(key)); old == nil {
			return nil
		}
		if etag != "" && !sameETag(etag, old.ETag) {
			old = nil
			return errPrecondition
		}
		store.Must(objects.Delete([]byte(key)))
		return nil
	})
	if err == nil && old != nil {
		s.discard(old.files()...)
	}
	return err
}

func (s *Service) deleteObject(w http.ResponseWriter, r *http.Request, q *Request) error {
	if err := s.remove(q.Bucket, q.Key, r.Header.Get("If-Match")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// readXML reads a request's body of at most 2 MB.
func (s *Service) readXML(w http.ResponseWriter, r *http.Request, v any) error {
	f, err := s.receiveSmall(w, r, 2<<20)
	if err != nil {
		return err
	}
	if xml.Unmarshal(f, v) != nil {
		return errMalformed
	}
	return nil
}

func (s *Service) deleteObjects(w http.ResponseWriter, r *http.Request, q *Request) error {
	var in struct {
		Quiet  bool
		Object []struct{ Key, VersionId, ETag string }
	}
	if err := s.readXML(w, r, &in); err != nil {
		return err
	}
	if len(in.Object) == 0 || len(in.Object) > 1000 {
		return errMalformed
	}
	if err := s.has(q.Bucket); err != nil {
		return err
	}
	type deleted struct{ Key string }
	type refused struct{ Key, Code, Message string }
	var out struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
		Deleted []deleted
		Error   []refused
	}
	for _, o := range in.Object {
		err := s.remove(q.Bucket, o.Key, o.ETag)
		var own *Error
		switch {
		case o.VersionId != "":
			return notImplemented("DeleteObjects of a version")
		case errors.As(err, &own):
			out.Error = append(out.Error, refused{o.Key, own.Code, own.Message})
		case err != nil:
			return err
		case !in.Quiet:
			out.Deleted = append(out.Deleted, deleted{o.Key})
		}
	}
	answerXML(w, 200, out)
	return nil
}
