package local_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"whatisup/local"
	"whatisup/local/localtest"
	"whatisup/shared/bucket"
	"whatisup/shared/whatisup"
)

// fileReceiver is a linked instance that receives files.
type fileReceiver struct {
	t   testing.TB
	s   *local.Stack
	api *localtest.Client
	id  string
}

func newFileReceiver(t testing.TB) *fileReceiver {
	t.Helper()
	s := localtest.Start(t, nil)
	api := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	return &fileReceiver{t, s, api, api.Pair("receiver").ID}
}

// write has a person send a file, and returns the id of the message.
func (r *fileReceiver) write(fields string, file []byte) string {
	r.t.Helper()
	var sent struct {
		MessageID string `json:"message_id"`
	}
	r.api.Must(202, "POST", "/v1/sandbox/instances/"+r.id+"/messages",
		fmt.Sprintf(`{"from":"4915100000001","body":{%s,"media_base64":%q}}`, fields, base64.StdEncoding.EncodeToString(file)), &sent)
	return sent.MessageID
}

// told waits until one of some events has told of the message's file.
func (r *fileReceiver) told(events, message string) (name string, found media) {
	r.t.Helper()
	var page struct {
		Data []struct {
			Event string
			Data  struct {
				ID    string `json:"message_id"`
				Media media
			}
		}
	}
	localtest.Await(r.t, events, func() bool {
		page.Data = nil
		r.api.Must(200, "GET", "/v1/event-log?events="+events+"&instance_id="+r.id, "", &page)
		for _, e := range page.Data {
			if e.Data.ID == message {
				name, found = e.Event, e.Data.Media
			}
		}
		return name != ""
	}, func() string { return fmt.Sprintf("%+v", page) })
	return name, found
}

const done = "message.media_ready,message.media_failed"

// listed is the file of the newest received message, as the list shows it.
func (r *fileReceiver) listed() media {
	r.t.Helper()
	var list struct {
		Data []struct{ Media media }
	}
	r.api.Must(200, "GET", "/v1/instances/"+r.id+"/messages?direction=in&limit=1", "", &list)
	if len(list.Data) != 1 {
		r.t.Fatalf("%d messages are listed", len(list.Data))
	}
	return list.Data[0].Media
}

// objects counts what is in the bucket.
func (r *fileReceiver) objects() (n int) {
	r.t.Helper()
	b := bucket.New(bucket.Config{AWS: r.s.AWSConf, Name: r.s.Env["MEDIA_BUCKET"]})
	if err := b.List(r.t.Context(), "", func(string) bool { n++; return true }); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// fault has something go wrong with the next message to the instance.
func (r *fileReceiver) fault(kind string) {
	r.t.Helper()
	r.api.Must(204, "POST", "/v1/sandbox/instances/"+r.id+"/faults", fmt.Sprintf(`{"kind":%q}`, kind), nil)
}

// The file of a received message of each type is fetched, and comes byte for byte out of
// its URL. It can be deleted, and goes with its instance.
func TestMediaReceived(t *testing.T) {
	t.Parallel()
	r := newFileReceiver(t)
	movie, webp, opus := []byte("\x00\x00\x00\x18ftypmp42 no film"), []byte("RIFF\x10\x00\x00\x00WEBPVP8X no sticker"), []byte("OggS no sound")
	var last media
	for _, c := range []struct {
		body string
		file []byte
	}{
		{`"type":"image"`, picture(t, 40, 30)},
		{`"type":"image","caption":"seen once","view_once":true`, picture(t, 30, 30)},
		{`"type":"video","caption":"a film"`, movie},
		{`"type":"video","gif":true`, movie},
		{`"type":"video","note":true`, movie},
		{`"type":"video","view_once":true`, movie},
		{`"type":"audio"`, []byte("ID3 no music")},
		{`"type":"audio","voice":true`, opus},
		{`"type":"sticker"`, webp},
		{`"type":"document","filename":"a.txt"`, []byte("a document\n")},
		{`"type":"document","filename":"a.txt","caption":"read this"`, []byte("a document\n")},
		{`"type":"document","filename":"big.txt"`, bytes.Repeat([]byte("0123456789"), 15_000)},
	} {
		name, found := r.told(done, r.write(c.body, c.file))
		if name != "message.media_ready" || found.Status != "ready" || found.Size != int64(len(c.file)) {
			t.Fatalf("%s: %s %+v %+v", c.body, name, found, found.Error)
		}
		if resp, got := get(t, found.URL); resp.StatusCode != 200 || !bytes.Equal(got, c.file) {
			t.Errorf("%s: %d, %d bytes of %d", c.body, resp.StatusCode, len(got), len(c.file))
		}
		if got := r.listed(); got != found {
			t.Errorf("%s is listed as %+v, want %+v", c.body, got, found)
		}
		var m media
		if r.api.Must(200, "GET", "/v1/media/"+found.MediaID, "", &m); m != found {
			t.Errorf("%s is %+v, want %+v", c.body, m, found)
		}
		last = found
	}

	deleted := r.listed()
	r.api.Must(204, "DELETE", "/v1/media/"+deleted.MediaID, "", nil)
	if got := r.listed(); got.MediaID != "" {
		t.Errorf("a deleted file is listed as %+v", got)
	}
	if resp, _ := get(t, deleted.URL); resp.StatusCode != 404 {
		t.Errorf("a deleted file answers %d", resp.StatusCode)
	}
	_, last = r.told(done, r.write(`"type":"image"`, picture(t, 20, 20)))
	if n := r.objects(); n != 12 {
		t.Errorf("%d objects are in the bucket", n)
	}
	r.api.Must(204, "DELETE", "/v1/instances/"+r.id, "", nil)
	if resp, _ := get(t, last.URL); resp.StatusCode != 404 {
		t.Errorf("a file of a deleted instance answers %d", resp.StatusCode)
	}
	localtest.Await(t, "the objects are gone", func() bool { return r.objects() == 0 })
}

// A file that WhatsApp has no more is asked for from the phone, and comes.
func TestMediaGone(t *testing.T) {
	t.Parallel()
	r := newFileReceiver(t)
	file := picture(t, 40, 30)
	r.fault("media_gone")
	name, found := r.told(done, r.write(`"type":"image"`, file))
	if name != "message.media_ready" {
		t.Fatalf("%s %+v %+v", name, found, found.Error)
	}
	if resp, got := get(t, found.URL); resp.StatusCode != 200 || !bytes.Equal(got, file) {
		t.Errorf("%d, %d bytes", resp.StatusCode, len(got))
	}
}

// With on_demand a file is fetched when its URL is first used, with off never.
func TestMediaOnDemand(t *testing.T) {
	t.Parallel()
	r := newFileReceiver(t)
	file := []byte("a document")
	set := func(to string) {
		r.api.Must(200, "PATCH", "/v1/instances/"+r.id+"/settings", fmt.Sprintf(`{"media":%q}`, to), nil)
	}
	// A host learns of a setting a little later.
	until := func(what string, holds func(media) bool) (found media) {
		localtest.Await(t, what, func() bool {
			_, found = r.told("message.received", r.write(`"type":"document"`, file))
			return holds(found)
		})
		return found
	}
	set("on_demand")
	found := until("on_demand", func(m media) bool { return m.Status == "on_demand" })
	if !strings.Contains(found.URL, "/v1/media-files/") {
		t.Fatalf("%+v", found)
	}
	if got := r.listed(); got.Status != "on_demand" {
		t.Errorf("it is listed as %+v", got)
	}
	localtest.Await(t, "the file", func() bool {
		resp, got := get(t, found.URL)
		if resp.StatusCode == 503 && resp.Header.Get("Retry-After") != "" {
			return false
		}
		if resp.StatusCode != 200 || !bytes.Equal(got, file) {
			t.Fatalf("%d, %q", resp.StatusCode, got)
		}
		return true
	})
	if m := awaitMedia(t, r.api, found.MediaID); m.Status != "ready" {
		t.Errorf("%+v", m)
	}
	set("off")
	until("off", func(m media) bool { return m.MediaID == "" })
	if got := r.listed(); got.MediaID != "" {
		t.Errorf("it is listed as %+v", got)
	}
}
