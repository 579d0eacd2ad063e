package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed files
var files embed.FS

// types are named here because the host's own list of them may differ.
var types = map[string]string{
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".json": "application/json",
	".svg":  "image/svg+xml",
}

type file struct {
	content     []byte
	contentType string
	etag        string
	packed      func() []byte // made when it is first asked for: a start stays quick
}

// Handler serves the page at / and its files below /dashboard/. eventsURL is where the
// API says the event stream is, and bucketURL where upload forms and the URLs of files
// lead to. One that is empty, or no address of http or https, stands for the page's own
// origin, the only one that the page may then speak to.
func Handler(eventsURL, bucketURL string) http.Handler {
	bucket := origin(bucketURL)
	h := handler{policy: policy(origin(eventsURL), bucket), files: make(map[string]file)}
	entries, err := fs.ReadDir(files, "files")
	if err != nil {
		panic(err) // they are part of this program
	}
	for _, e := range entries {
		content, err := files.ReadFile("files/" + e.Name())
		if err != nil {
			panic(err)
		}
		if e.Name() == "index.html" { // the page's code learns from it where files may go
			content = bytes.Replace(content, []byte(`name="bucket" content=""`), []byte(`name="bucket" content="`+html.EscapeString(bucket)+`"`), 1)
		}
		sum := sha256.Sum256(content)
		h.files["/dashboard/"+e.Name()] = file{
			content:     content,
			contentType: types[path.Ext(e.Name())],
			etag:        hex.EncodeToString(sum[:12]),
			packed:      sync.OnceValue(func() []byte { return pack(content) }),
		}
	}
	h.files["/"] = h.files["/dashboard/index.html"]
	delete(h.files, "/dashboard/index.html")
	return h
}

type handler struct {
	policy string
	files  map[string]file
}

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := h.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	header := w.Header()
	header.Set("Content-Type", f.contentType)
	// Kept, but asked for each time: modules of two versions don't fit together.
	header.Set("Cache-Control", "no-cache")
	header.Set("Vary", "Accept-Encoding")
	header.Set("Content-Security-Policy", h.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	content, etag := f.content, f.etag
	if takesGzip(r.Header.Values("Accept-Encoding")) {
		content, etag = f.packed(), etag+"-gzip"
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("ETag", `"`+etag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// takesGzip says whether a client that names gzip does not refuse it.
func takesGzip(accept []string) bool {
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		name, weight, _ := strings.Cut(strings.ReplaceAll(part, " ", ""), ";")
		if strings.EqualFold(name, "gzip") {
			q, err := strconv.ParseFloat(strings.TrimPrefix(weight, "q="), 64)
			return err != nil || q > 0
		}
	}
	return false
}

func pack(content []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(content) // a buffer takes everything
	w.Close()
	return out.Bytes()
}

// origin is the origin of an address of http or https, empty for anything else.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// policy is the page's Content-Security-Policy. The bucket is where an upload form goes,
// and where the URL of a picture leads to.
func policy(events, bucket string) string {
	self := func(more ...string) string {
		return strings.Join(strings.Fields("'self' "+strings.Join(more, " ")), " ")
	}
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src " + self("data:", bucket), // codes come as data URLs
		"media-src " + self(bucket),
		"connect-src " + self(events, bucket),
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
		"require-trusted-types-for 'script'",
		"trusted-types 'none'",
	}, "; ")
}
