package local_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"mime/multipart"
	"net/http"
	"testing"

	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// media is a file as a customer reads it.
type media struct {
	MediaID  string  `json:"media_id"`
	Status   string  `json:"status"`
	MimeType string  `json:"mime_type"`
	Size     int64   `json:"size"`
	SHA256   string  `json:"sha256"`
	Width    int     `json:"width"`
	Height   int     `json:"height"`
	Seconds  float64 `json:"seconds"`
	Voice    bool    `json:"voice"`
	URL      string  `json:"url"`
	Error    *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
	Upload *struct {
		URL    string            `json:"url"`
		Fields map[string]string `json:"fields"`
	} `json:"upload"`
}

// picture is a JPEG of a size.
func picture(t testing.TB, w, h int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, color.RGBA{uint8(x), uint8(y), uint8(x * y), 255})
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// fill sends an upload form, as a client without a key does.
func fill(t testing.TB, m media, file []byte) int {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for name, value := range m.Upload.Fields {
		if err := w.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	part, err := w.CreateFormFile("file", "file")
	if err != nil {
		t.Fatal(err)
	}
	part.Write(file) //nolint:errcheck // into memory
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(m.Upload.URL, w.FormDataContentType(), &body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// give uploads a file and waits until it is ready, or has failed.
func give(t testing.TB, api *localtest.Client, kind string, file []byte) media {
	t.Helper()
	var m media
	api.Must(201, "POST", "/v1/media", fmt.Sprintf(`{"size":%d,"mime_type":%q}`, len(file), kind), &m)
	if m.Status != "uploading" || m.Upload == nil || m.URL != "" {
		t.Fatalf("a new file is %+v", m)
	}
	if status := fill(t, m, file); status != 204 {
		t.Fatalf("the form answered %d", status)
	}
	return awaitMedia(t, api, m.MediaID)
}

func awaitMedia(t testing.TB, api *localtest.Client, id string) media {
	t.Helper()
	var m media
	localtest.Await(t, "the file is done", func() bool {
		api.Must(200, "GET", "/v1/media/"+id, "", &m)
		return m.Status == "ready" || m.Status == "failed"
	}, func() string { return m.Status })
	return m
}

// get reads a file by its URL, without a key.
func get(t testing.TB, url string, headers ...string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

// TestMediaUpload gives a file by a form, and reads it by its URL.
func TestMediaUpload(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	api := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	file := picture(t, 320, 200)
	m := give(t, api, "image/png", file) // it is none: the bytes decide
	sum := sha256.Sum256(file)
	if m.Status != "ready" || m.MimeType != "image/jpeg" || m.Width != 320 || m.Height != 200 || m.Size != int64(len(file)) || m.SHA256 != hex.EncodeToString(sum[:]) {
		t.Fatalf("%+v", m)
	}
	resp, b := get(t, m.URL)
	if resp.StatusCode != 200 || !bytes.Equal(b, file) {
		t.Fatalf("%d, %d bytes", resp.StatusCode, len(b))
	}
	for name, want := range map[string]string{"Content-Type": "image/jpeg", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Disposition": "inline"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if resp, b = get(t, m.URL, "Range", "bytes=10-19"); resp.StatusCode != 206 || !bytes.Equal(b, file[10:20]) {
		t.Errorf("a range: %d, %q", resp.StatusCode, b)
	}
	if head, err := http.Head(m.URL); err != nil || head.StatusCode != 200 || head.ContentLength != int64(len(file)) {
		t.Errorf("HEAD: %v %v", head, err)
	}

	// More than announced is not taken, and a wrong hash ends it.
	var small media
	api.Must(201, "POST", "/v1/media", `{"size":10,"mime_type":"image/jpeg"}`, &small)
	if status := fill(t, small, file); status != 400 {
		t.Errorf("a file that is too large: %d", status)
	}
	var wrong media
	api.Must(201, "POST", "/v1/media", fmt.Sprintf(`{"size":%d,"mime_type":"image/jpeg","sha256":"%064d"}`, len(file), 0), &wrong)
	fill(t, wrong, file)
	if m := awaitMedia(t, api, wrong.MediaID); m.Status != "failed" || m.Error.Code != "media_unavailable" {
		t.Errorf("a file with another hash: %+v", m)
	}

	// What could run in a browser is bytes to be kept.
	page := give(t, api, "text/html", []byte("<script>alert(1)</script>"))
	if resp, _ := get(t, page.URL); resp.Header.Get("Content-Type") != "application/octet-stream" || resp.Header.Get("Content-Disposition") != "attachment" {
		t.Errorf("a page is served as %v", resp.Header)
	}

	api.Must(204, "DELETE", "/v1/media/"+m.MediaID, "", nil)
	api.Must(404, "GET", "/v1/media/"+m.MediaID, "", nil)
	gone, goneBody := get(t, m.URL)
	unknown, unknownBody := get(t, s.API+"/v1/media-files/unknown")
	if gone.StatusCode != 404 || unknown.StatusCode != 404 || len(goneBody) != len(unknownBody) {
		t.Errorf("a deleted file: %d %s; an unknown one: %d %s", gone.StatusCode, goneBody, unknown.StatusCode, unknownBody)
	}
	other := localtest.NewClient(t, s.API, s.Keys[whatisup.Live])
	other.Must(404, "GET", "/v1/media/"+page.MediaID, "", nil)
}

// TestMediaSent sends a picture to a simulated phone, which gets it byte for byte, by
// an upload and in the message itself; the second time nothing is uploaded again.
func TestMediaSent(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	api := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	i := api.Pair("sender")
	file := picture(t, 64, 48)
	m := give(t, api, "image/jpeg", file)
	path := "/v1/instances/" + i.ID + "/messages"
	type message struct {
		MessageID string `json:"message_id"`
		Status    string `json:"status"`
		Error     any    `json:"error"`
		Body      struct {
			MediaID     string `json:"media_id"`
			MediaBase64 string `json:"media_base64"`
		} `json:"body"`
	}
	sent := func(body string) message {
		var one message
		api.Must(202, "POST", path, `{"to":"15550100042","body":`+body+`}`, &one)
		localtest.Await(t, "the message is read", func() bool {
			api.Must(200, "GET", path+"/"+one.MessageID, "", &one)
			if one.Status == "failed" {
				t.Fatalf("failed: %v", one.Error)
			}
			return one.Status == "read"
		}, func() string { return one.Status })
		return one
	}
	sent(`{"type":"image","media_id":"` + m.MediaID + `","caption":"look"}`)
	sent(`{"type":"image","media_id":"` + m.MediaID + `"}`)
	inline := sent(`{"type":"image","media_base64":"` + base64.StdEncoding.EncodeToString(file) + `"}`)
	if inline.Body.MediaID == "" || inline.Body.MediaBase64 != "" {
		t.Errorf("the body of a message with its file in it: %+v", inline.Body)
	}

	// What can't be sent is refused with what to do.
	for body, want := range map[string]int{
		`{"type":"sticker","media_id":"` + m.MediaID + `"}`:                                                                422,
		`{"type":"audio","voice":true,"media_id":"` + m.MediaID + `"}`:                                                     422,
		`{"type":"image","media_id":"01990000-0000-7000-8000-000000000001"}`:                                               400,
		`{"type":"image","media_url":"https://169.254.169.254/latest"}`:                                                    400,
		`{"type":"image","media_base64":"!"}`:                                                                              400,
		`{"type":"text","text":"https://a.example","link_preview":{"url":"https://a.example","title":"t","media_id":"x"}}`: 400,
	} {
		if resp, b := api.Do("POST", path, `{"to":"15550100042","body":`+body+`}`); resp.StatusCode != want {
			t.Errorf("%s: %d, want %d: %s", body, resp.StatusCode, want, b)
		}
	}
}
