package s3

import (
	"net/http"
	"slices"
	"strings"

	"whatisup/local/aws/internal/signature"
)

// Request is a request as it was understood.
type Request struct {
	Operation   string
	Bucket, Key string
	// Lent says that whoever signed it gave it to somebody else, as a URL or as
	// a form.
	Lent bool
}

// subresources are the parameters by which requests with one method and one
// path are told apart.
var subresources = []string{"delete", "lifecycle", "list-type", "location", "partNumber", "uploadId", "uploads"}

// parameters are the others that are served.
var parameters = []string{
	"continuation-token", "delimiter", "encoding-type", "fetch-owner", "max-keys", "max-parts", "part-number-marker", "prefix", "start-after", "x-id",
	"response-cache-control", "response-content-disposition", "response-content-encoding", "response-content-language", "response-content-type", "response-expires",
}

// headers are those with x-amz- that are served, beside metadata and checksums.
var headers = []string{
	"content-sha256", "copy-source", "copy-source-if-match", "copy-source-if-none-match", "copy-source-if-modified-since", "copy-source-if-unmodified-since",
	"date", "decoded-content-length", "expected-bucket-owner", "metadata-directive", "sdk-checksum-algorithm", "security-token",
	"server-side-encryption", "server-side-encryption-aws-kms-key-id", "server-side-encryption-bucket-key-enabled", "source-expected-bucket-owner",
	"storage-class", "trailer", "user-agent", "object-ownership", "id-2",
}

// Parse finds out what is asked for. The path is the request's, without what a
// handler is mounted under.
func Parse(r *http.Request, path string) (*Request, error) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	q := &Request{Bucket: bucket, Key: key}
	query := r.URL.Query()
	with := map[string]bool{}
	for name := range query {
		switch {
		case slices.Contains(subresources, name):
			with[name] = true
		case slices.Contains(parameters, name), strings.HasPrefix(name, "X-Amz-"):
		default:
			return q, notImplemented("the parameter " + name + " of " + r.Method)
		}
	}
	q.Lent = query.Has("X-Amz-Signature")
	q.Operation = operationOf(r, q, with)
	if q.Operation == "" {
		return q, notImplemented(r.Method + " with " + strings.Join(slices.Sorted(keys(with)), ", "))
	}
	for name := range r.Header {
		own, ok := strings.CutPrefix(strings.ToLower(name), "x-amz-")
		if ok && !slices.Contains(headers, own) && !strings.HasPrefix(own, "meta-") && !strings.HasPrefix(own, "checksum-") {
			return q, notImplemented(q.Operation + " with the header " + name)
		}
	}
	if own := r.Header.Get("X-Amz-Storage-Class"); own != "" && own != "STANDARD" {
		return q, notImplemented("the storage class " + own)
	}
	return q, nil
}

func keys(m map[string]bool) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func operationOf(r *http.Request, q *Request, with map[string]bool) string {
	only := func(names ...string) bool {
		if len(names) != len(with) {
			return false
		}
		return !slices.ContainsFunc(names, func(n string) bool { return !with[n] })
	}
	switch {
	case q.Bucket == "":
		if r.Method == http.MethodGet && only() {
			return "ListBuckets"
		}
		return ""
	case q.Key == "":
		switch {
		case r.Method == http.MethodGet && only("list-type") && r.URL.Query().Get("list-type") == "2":
			return "ListObjectsV2"
		case r.Method == http.MethodGet && only("location"):
			return "GetBucketLocation"
		case r.Method == http.MethodGet && only("uploads"):
			return "ListMultipartUploads"
		case r.Method == http.MethodGet && only("lifecycle"):
			return "GetBucketLifecycleConfiguration"
		case r.Method == http.MethodPut && only("lifecycle"):
			return "PutBucketLifecycleConfiguration"
		case r.Method == http.MethodPut && only():
			return "CreateBucket"
		case r.Method == http.MethodHead && only():
			return "HeadBucket"
		case r.Method == http.MethodDelete && only():
			return "DeleteBucket"
		case r.Method == http.MethodPost && only("delete"):
			return "DeleteObjects"
		case r.Method == http.MethodPost && only():
			return "PostObject"
		}
		return ""
	}
	switch {
	case r.Method == http.MethodGet && only():
		return "GetObject"
	case r.Method == http.MethodHead && only():
		return "HeadObject"
	case r.Method == http.MethodPut && only() && r.Header.Get("X-Amz-Copy-Source") != "":
		return "CopyObject"
	case r.Method == http.MethodPut && only():
		return "PutObject"
	case r.Method == http.MethodDelete && only():
		return "DeleteObject"
	case r.Method == http.MethodPost && only("uploads"):
		return "CreateMultipartUpload"
	case r.Method == http.MethodPut && only("partNumber", "uploadId") && r.Header.Get("X-Amz-Copy-Source") == "":
		return "UploadPart"
	case r.Method == http.MethodPost && only("uploadId"):
		return "CompleteMultipartUpload"
	case r.Method == http.MethodDelete && only("uploadId"):
		return "AbortMultipartUpload"
	case r.Method == http.MethodGet && only("uploadId"):
		return "ListParts"
	}
	return ""
}

var operations = map[string]func(*Service, http.ResponseWriter, *http.Request, *Request) error{
	"ListBuckets":                     (*Service).listBuckets,
	"CreateBucket":                    (*Service).createBucket,
	"HeadBucket":                      (*Service).headBucket,
	"DeleteBucket":                    (*Service).deleteBucket,
	"GetBucketLocation":               (*Service).getBucketLocation,
	"GetBucketLifecycleConfiguration": (*Service).getLifecycle,
	"PutBucketLifecycleConfiguration": (*Service).putLifecycle,
	"ListObjectsV2":                   (*Service).listObjects,
	"PutObject":                       (*Service).putObject,
	"PostObject":                      (*Service).postObject,
	"GetObject":                       (*Service).getObject,
	"HeadObject":                      (*Service).getObject,
	"CopyObject":                      (*Service).copyObject,
	"DeleteObject":                    (*Service).deleteObject,
	"DeleteObjects":                   (*Service).deleteObjects,
	"CreateMultipartUpload":           (*Service).createUpload,
	"UploadPart":                      (*Service).uploadPart,
	"CompleteMultipartUpload":         (*Service).completeUpload,
	"AbortMultipartUpload":            (*Service).abortUpload,
	"ListParts":                       (*Service).listParts,
	"ListMultipartUploads":            (*Service).listUploads,
}

// Authenticate verifies a request's signature. A form carries its own.
func (s *Service) Authenticate(r *http.Request, q *Request) error {
	if q.Operation == "PostObject" {
		q.Lent = true
		return nil
	}
	sig, err := signature.Parse(r)
	if err != nil {
		return s.refusal(nil, err)
	}
	hash := r.Header.Get("X-Amz-Content-Sha256")
	switch {
	case sig.Presigned && hash == "":
		hash = unsignedPayload
	case hash == unsignedPayload, hash == unsignedChunks, len(hash) == 64:
	case strings.HasPrefix(hash, "STREAMING-"):
		return notImplemented("bodies signed as " + hash)
	default:
		return failure(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
	}
	return s.signed(sig, func() error { return sig.Verify(r, hash, s.SecretKey) })
}

// Do serves a request that was authenticated. An error was not written yet.
func (s *Service) Do(w http.ResponseWriter, r *http.Request, q *Request) error {
	if owner := r.Header.Get("X-Amz-Expected-Bucket-Owner"); owner != "" && owner != account {
		return denied("Access Denied")
	}
	return operations[q.Operation](s, w, r, q)
}

const account = "000000000000"
