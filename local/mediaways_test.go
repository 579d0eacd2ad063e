package local_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"whatisup/local/localtest"
	"whatisup/local/whatsapp"
	"whatisup/shared/mediafile"
	"whatisup/shared/mediafile/mediafiletest"
	"whatisup/shared/whatisup"
)

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// A file of each form comes byte for byte to the phone, which shows it as what it was
// sent as. Of a voice note it is the form that every phone plays.
func TestMediaSentInEachForm(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	m := newMailbox(t, localtest.NewClient(t, s.API, s.Keys[whatisup.Test]))
	world := customerOf(t, m)
	note, _ := mediafiletest.Note(120)
	played, err := io.ReadAll(mediafile.NewVoice(bytes.NewReader(note)))
	if err != nil {
		t.Fatal(err)
	}
	film := mediafiletest.Film(64, 36, 3, false, 3000)
	round := mediafiletest.Film(64, 64, 4, false, 3000)
	large := bytes.Repeat([]byte("eleven megs "), 1<<20)
	for n, c := range []struct {
		fields string
		kind   string
		file   []byte
		gets   []byte // nil: the file
		shows  whatsapp.Body
	}{
		{`"type":"image","caption":"a picture"`, "image/jpeg", picture(t, 40, 30), nil, whatsapp.Body{Type: "image", Caption: "a picture"}},
		{`"type":"image","view_once":true`, "image/jpeg", picture(t, 30, 40), nil, whatsapp.Body{Type: "image", ViewOnce: true}},
		{`"type":"video","caption":"a film"`, "video/mp4", film, nil, whatsapp.Body{Type: "video", Caption: "a film", Seconds: 3}},
		{`"type":"video","gif":true`, "video/mp4", film, nil, whatsapp.Body{Type: "video", GIF: true, Seconds: 3}},
		{`"type":"video","note":true`, "video/mp4", round, nil, whatsapp.Body{Type: "video", Note: true, Seconds: 4}},
		{`"type":"video","view_once":true`, "video/mp4", film, nil, whatsapp.Body{Type: "video", ViewOnce: true, Seconds: 3}},
		{`"type":"audio"`, "audio/ogg", note, nil, whatsapp.Body{Type: "audio", Seconds: 3}},
		{`"type":"audio","voice":true`, "audio/ogg", note, played, whatsapp.Body{Type: "audio", Voice: true, Seconds: 3}},
		{`"type":"sticker"`, "image/webp", mediafiletest.WebP(512, 512, false), nil, whatsapp.Body{Type: "sticker"}},
		{`"type":"sticker"`, "image/webp", mediafiletest.WebP(512, 512, true), nil, whatsapp.Body{Type: "sticker", Animated: true}},
		{`"type":"document","filename":"a.txt"`, "text/plain", []byte("a document\n"), nil, whatsapp.Body{Type: "document", Filename: "a.txt"}},
		{`"type":"document","filename":"a.txt","caption":"read this"`, "text/plain", []byte("a document\n"), nil, whatsapp.Body{Type: "document", Filename: "a.txt", Caption: "read this"}},
		{`"type":"document","filename":"large.txt"`, "text/plain", large, nil, whatsapp.Body{Type: "document", Filename: "large.txt"}},
	} {
		if c.gets == nil {
			c.gets = c.file
		}
		given := give(t, m.Client, c.kind, c.file)
		if given.Status != "ready" {
			t.Fatalf("%s: %+v %+v", c.fields, given, given.Error)
		}
		number := fmt.Sprintf("49151000000%02d", n)
		sent := m.send(fmt.Sprintf(`{"to":%q,"body":{%s,"media_id":%q}}`, number, c.fields, given.MediaID))
		m.await(sent.ID, "read", "played")
		shown := shownBy(t, s.Simulator, world, number)
		if len(shown) != 1 {
			t.Fatalf("%s: %d messages are shown", c.fields, len(shown))
		}
		var got whatsapp.Body
		if err := json.Unmarshal(shown[0].Body, &got); err != nil {
			t.Fatal(err)
		}
		if got.Readable == nil || !*got.Readable || got.Size != uint64(len(c.gets)) || got.SHA256 != hashOf(c.gets) {
			t.Errorf("%s: the phone has %d bytes of %d, readable %v", c.fields, got.Size, len(c.gets), got.Readable)
		}
		as := whatsapp.Body{Type: got.Type, Caption: got.Caption, ViewOnce: got.ViewOnce, GIF: got.GIF, Note: got.Note, Voice: got.Voice, Seconds: got.Seconds, Animated: got.Animated, Filename: got.Filename}
		if fmt.Sprintf("%+v", as) != fmt.Sprintf("%+v", c.shows) {
			t.Errorf("%s is shown as %+v, want %+v", c.fields, as, c.shows)
		}
	}
}

// bodyOf is what an event says of a received message.
func (r *fileReceiver) bodyOf(message string) string {
	r.t.Helper()
	var page struct {
		Data []struct{ Data json.RawMessage }
	}
	found := ""
	localtest.Await(r.t, "the message's event", func() bool {
		r.api.Must(200, "GET", "/v1/event-log?events=message.received&instance_id="+r.id, "", &page)
		for _, e := range page.Data {
			if strings.Contains(string(e.Data), `"message_id":"`+message+`"`) {
				found = string(e.Data)
			}
		}
		return found != ""
	})
	return found
}

// An album comes as a message that announces it and pictures that name it; a sticker
// says that it moves. Each file comes byte for byte.
func TestAlbumAndStickerReceived(t *testing.T) {
	t.Parallel()
	r := newFileReceiver(t)
	m := mailbox{r.api, t, "/v1/instances/" + r.id + "/messages"}
	var own struct {
		PhoneNumber string `json:"phone_number"`
	}
	r.api.Must(200, "GET", "/v1/instances/"+r.id, "", &own)
	writes := func(b whatsapp.Body) string {
		t.Helper()
		id, err := r.s.Simulator.Write(t.Context(), whatsapp.Writing{Text: whatsapp.Text{World: customerOf(t, m), From: "4915100000001", To: own.PhoneNumber}, Body: &b})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	album := writes(whatsapp.Body{Type: "album", Images: 2, Videos: 1})
	in := &whatsapp.Reference{ID: album}
	if got := r.bodyOf(album); !strings.Contains(got, `"album":{"images":2,"videos":1}`) {
		t.Errorf("an album is told as %s", got)
	}
	for _, c := range []struct {
		body whatsapp.Body
		told string
	}{
		{whatsapp.Body{Type: "image", Caption: "one", Target: in, Media: picture(t, 40, 30)}, `"album":"` + album + `"`},
		{whatsapp.Body{Type: "image", Target: in, Media: picture(t, 30, 40)}, `"album":"` + album + `"`},
		{whatsapp.Body{Type: "video", Target: in, Media: mediafiletest.Film(64, 36, 3, false, 100)}, `"album":"` + album + `"`},
		{whatsapp.Body{Type: "sticker", Animated: true, Media: mediafiletest.WebP(512, 512, true)}, `"animated":true`},
	} {
		id := writes(c.body)
		name, found := r.told(done, id)
		if name != "message.media_ready" {
			t.Fatalf("%s: %s %+v", c.body.Type, name, found.Error)
		}
		if got := r.bodyOf(id); !strings.Contains(got, c.told) {
			t.Errorf("%s is told as %s", c.body.Type, got)
		}
		if resp, got := get(t, found.URL); resp.StatusCode != 200 || !bytes.Equal(got, c.body.Media) {
			t.Errorf("%s: %d, %d bytes of %d", c.body.Type, resp.StatusCode, len(got), len(c.body.Media))
		}
	}
}

// A slow media host holds up the file alone: what is written and sent meanwhile passes
// it, and the file comes whole, in and out.
func TestSlowMediaHost(t *testing.T) {
	t.Parallel()
	r := newFileReceiver(t)
	const pause = 3 * time.Second
	slow := func() (since time.Time) {
		t.Helper()
		since = time.Now()
		if _, err := r.s.Simulator.Inject(whatsapp.Fault{Target: whatsapp.Target{Instance: r.id}, Kind: "media_slow", Millis: int(pause.Milliseconds())}); err != nil {
			t.Fatal(err)
		}
		return since
	}
	file := picture(t, 40, 30)
	since := slow()
	id := r.write(`"type":"image"`, file)
	r.bodyOf(id)
	var text struct {
		MessageID string `json:"message_id"`
	}
	r.api.Must(202, "POST", "/v1/sandbox/instances/"+r.id+"/messages", `{"from":"4915100000001","text":"after it"}`, &text)
	r.bodyOf(text.MessageID)
	early := time.Since(since) < pause // otherwise the machine was slower than the media host
	var log struct {
		Data []struct {
			Event string
			Data  struct {
				ID string `json:"message_id"`
			}
		}
	}
	name, found := r.told(done, id)
	if name != "message.media_ready" {
		t.Fatalf("%s %+v", name, found.Error)
	}
	r.api.Must(200, "GET", "/v1/event-log?events=message.received,message.media_ready&instance_id="+r.id, "", &log)
	if early && (len(log.Data) != 3 || log.Data[0].Event != "message.media_ready" || log.Data[1].Data.ID != text.MessageID) {
		t.Errorf("told, newest first: %+v", log.Data)
	}
	if resp, got := get(t, found.URL); resp.StatusCode != 200 || !bytes.Equal(got, file) {
		t.Errorf("%d, %d bytes", resp.StatusCode, len(got))
	}

	m := mailbox{r.api, t, "/v1/instances/" + r.id + "/messages"}
	given := give(t, r.api, "image/jpeg", file)
	since = slow()
	image := m.send(`{"to":"4915100000002","body":{"type":"image","media_id":"` + given.MediaID + `"}}`)
	m.await(m.send(`{"to":"4915100000003","body":{"type":"text","text":"another chat"}}`).ID, "read")
	if now := m.await(image.ID, "queued", "sending", "sent", "delivered", "read"); time.Since(since) < pause && now.Status != "queued" && now.Status != "sending" {
		t.Errorf("the picture was %s before the text was read", now.Status)
	}
	m.await(image.ID, "read")
	var got whatsapp.Body
	shown := shownBy(t, r.s.Simulator, customerOf(t, m), "4915100000002")
	if err := json.Unmarshal(shown[0].Body, &got); err != nil || got.SHA256 != hashOf(file) {
		t.Errorf("the phone shows %s, %v", shown[0].Body, err)
	}
}
