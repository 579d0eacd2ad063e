package dashboardtest

import (
	"bytes"
	"context"
	"image"
	gopng "image/png"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"whatisup/local"
	"whatisup/shared/dashboard"
)

// ofBucket: on AWS upload forms go to the bucket's own origin, and the URL of a file
// leads there. Here that is the same stack behind another address, which allows what the
// template's bucket allows; the page's policy must let it, and nothing else.
func ofBucket(t *testing.T, b context.Context, s *local.Stack) {
	target, err := url.Parse(s.API)
	if err != nil {
		t.Fatal(err)
	}
	behind := func(change func(*http.Response) error) *httputil.ReverseProxy {
		return &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Header.Del("Accept-Encoding") // answers are changed
				r.Out.Header.Del("Origin")
			},
			ModifyResponse: change,
		}
	}
	var uploads, pictures atomic.Int64
	stored := behind(func(r *http.Response) error {
		r.Header.Set("Access-Control-Allow-Origin", "*")
		return nil
	})
	bucket := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			uploads.Add(1)
		} else {
			pictures.Add(1)
		}
		stored.ServeHTTP(w, r)
	}))
	defer bucket.Close()

	var front *httptest.Server
	served := behind(func(r *http.Response) error {
		if to, ok := strings.CutPrefix(r.Header.Get("Location"), s.API+"/media-bucket"); ok {
			r.Header.Set("Location", bucket.URL+"/media-bucket"+to)
		}
		if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		body = bytes.ReplaceAll(body, []byte(s.API+"/media-bucket"), []byte(bucket.URL+"/media-bucket"))
		body = bytes.ReplaceAll(body, []byte(s.API), []byte(front.URL))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		return nil
	})
	page := dashboard.Handler("", bucket.URL)
	front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/" && strings.Contains(r.Header.Get("Accept"), "text/html"), strings.HasPrefix(r.URL.Path, "/dashboard/"):
			page.ServeHTTP(w, r)
		default:
			served.ServeHTTP(w, r)
		}
	}))
	defer front.Close()
	defer front.CloseClientConnections()

	key := customer(t, s)
	a := api{t, s.API, key}
	id := a.create("Desk")
	a.link(id, "15550102038")
	p := enter(t, b, front.URL+"/#/instances/"+id+"/chats/34612345679", key)
	p.awaitText(".thread .note", "No messages with this person yet")
	noise := image.NewGray(image.Rect(0, 0, 600, 500)) // more than goes into a message itself
	for n := range noise.Pix {
		noise.Pix[n] = byte(rand.Uint32())
	}
	var png bytes.Buffer
	if err := gopng.Encode(&png, noise); err != nil {
		t.Fatal(err)
	}
	picture := filepath.Join(t.TempDir(), "noise.png")
	if err := os.WriteFile(picture, png.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	p.choose(".thread input[type=file]", picture)
	p.awaitText(".quote", "Picture: noise.png")
	p.enter("Write a message", "Snow"+kb.Enter)
	p.own("Snow", "Read")
	p.await("the picture itself", `(() => { const i = document.querySelector(".thread [data-mine] img"); i?.scrollIntoView(); return i?.complete && i.naturalWidth === 600; })()`)
	if uploads.Load() != 1 || pictures.Load() == 0 {
		t.Errorf("%d uploads and %d pictures went to the bucket", uploads.Load(), pictures.Load())
	}
}
