package host

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"whatisup/local/whatsapp"
	"whatisup/shared/bucket"
	"whatisup/shared/whatisup"
)

const bucketName = "files"

// filing gives the hosts a bucket.
func (w *world) filing() *world {
	w.t.Helper()
	w.bucket = bucket.New(bucket.Config{AWS: w.aws.Config, Name: bucketName})
	if err := w.bucket.Create(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return w
}

// objectPoint names what a request writes to the bucket, empty for reads.
func objectPoint(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodPut && q.Has("partNumber"):
		return "UploadPart"
	case r.Method == http.MethodPut:
		return "PutObject"
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "CreateMultipartUpload"
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return "CompleteMultipartUpload"
	case r.Method == http.MethodPost && q.Has("delete"):
		return "DeleteObjects"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "AbortMultipartUpload"
	case r.Method == http.MethodDelete:
		return "DeleteObject"
	}
	return ""
}

// ofFiles says whether a write is one of a file's row or of its object.
func ofFiles(write string) bool {
	return strings.Contains(write, "media") || strings.Contains(write, "Object") || strings.Contains(write, "Upload")
}

// carry receives a small file and one of two parts, and sends one. However often the
// host dies meanwhile, no row says ready without the whole object, and what comes at
// last is what was sent, byte for byte. It returns the ids of what was received.
func (w *world) carry(id whatisup.InstanceID, number string) []string {
	w.t.Helper()
	const friend = "491800000043"
	files := make(map[string][]byte)
	for _, size := range []int{1000, bucket.PartSize + 1000} {
		file := bytes.Repeat([]byte("a received file. "), size/17+1)[:size]
		mid, err := w.sim.Write(w.t.Context(), whatsapp.Writing{
			Text: whatsapp.Text{World: string(w.customer), From: friend, To: number},
			Body: &whatsapp.Body{Type: "document", Media: file},
		})
		if err != nil {
			w.t.Fatal(err)
		}
		files[mid] = file
	}
	sent := bytes.Repeat([]byte("a sent file. "), 50_000)
	own := w.sendFile(id, sent, friend)

	// Who takes over fetches anew what was on its way.
	w.awaitFor(3*patience, "the files that were received", func() bool {
		ready := 0
		for _, e := range w.events(id) {
			var d struct {
				MessageID string `json:"message_id"`
				Media     *whatisup.MediaWire
			}
			if err := json.Unmarshal(e.Data, &d); err != nil {
				w.t.Fatal(err)
			}
			switch {
			case d.Media == nil:
			case e.Name == whatisup.MessageReceived:
				w.wholeOrNot(d.Media.MediaID, files[d.MessageID])
			case e.Name == whatisup.MessageMediaReady:
				if m := w.wholeOrNot(d.Media.MediaID, files[d.MessageID]); m.Status != whatisup.MediaReady {
					w.t.Fatalf("a file is told as ready and is %s", m.Status)
				}
				ready++
			case e.Name == whatisup.MessageMediaFailed:
				w.t.Fatalf("a file has failed: %s", e.Data)
			}
		}
		return ready == len(files)
	})
	w.awaitFor(3*patience, "the file that was sent", func() bool {
		m, err := w.db.Message(w.t.Context(), w.refOf(id), own)
		if err != nil {
			w.t.Fatal(err)
		}
		if m.Error != nil {
			w.t.Fatalf("a message with a file has failed: %+v", m.Error)
		}
		return m.Status == whatisup.MessageRead
	})
	shown, _, err := w.sim.PhoneMessages(string(w.customer), friend, whatsapp.ShownFilter{Limit: 1000, ID: string(own)})
	if err != nil || len(shown) != 1 {
		w.t.Fatalf("the phone shows %d messages, %v", len(shown), err)
	}
	var b whatsapp.Body
	if err := json.Unmarshal(shown[0].Body, &b); err != nil {
		w.t.Fatal(err)
	}
	if sum := sha256.Sum256(sent); b.SHA256 != hex.EncodeToString(sum[:]) {
		w.t.Errorf("the phone shows %s", shown[0].Body)
	}
	return slices.Collect(maps.Keys(files))
}

// wholeOrNot reads a file's row, and its object if the row says that it is there.
func (w *world) wholeOrNot(id whatisup.MediaID, want []byte) *whatisup.Media {
	w.t.Helper()
	m, err := w.db.Media(w.t.Context(), w.customer, whatisup.Test, id)
	if err != nil {
		w.t.Fatal(err)
	}
	if m.Status != whatisup.MediaReady {
		return m
	}
	body, _, err := w.bucket.Open(w.t.Context(), m.Key, 0)
	if err != nil {
		w.t.Fatalf("a row says ready, and its object can't be read: %v", err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, want) {
		w.t.Fatalf("an object has %d bytes of %d, %v", len(got), len(want), err)
	}
	return m
}

// sendFile accepts a message with a file, as the API does.
func (w *world) sendFile(id whatisup.InstanceID, file []byte, to string) whatisup.MessageID {
	w.t.Helper()
	now := time.Now()
	sum := sha256.Sum256(file)
	m := &whatisup.Media{
		Customer: w.customer, Mode: whatisup.Test, ID: whatisup.NewMediaID(), Status: whatisup.MediaReady, MimeType: "text/plain",
		Size: int64(len(file)), SHA256: sum[:], CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}
	m.Key = whatisup.ClassWeek.ObjectKey(m, "")
	_, err := w.db.PutMedia(w.t.Context(), m)
	if err := errors.Join(err, w.bucket.Put(w.t.Context(), m.Key, bytes.NewReader(file))); err != nil {
		w.t.Fatal(err)
	}
	own := w.accept(id, to, fmt.Sprintf(`{"type":"document","media_id":%q}`, m.ID), m.ID)
	w.wakeMessages(id)
	return own
}

// noFilesLeft holds that a deleted instance has no object. An upload in parts whose host
// has died is left to the bucket's rule.
func (w *world) noFilesLeft(id whatisup.InstanceID) {
	w.t.Helper()
	objects, unfinished := 0, 0
	prefix := whatisup.ClassWeek.ObjectPrefix(whatisup.Test, w.customer, id)
	err := errors.Join(
		w.bucket.List(w.t.Context(), prefix, func(string) bool { objects++; return true }),
		w.bucket.Unfinished(w.t.Context(), prefix, func(string) bool { unfinished++; return true }),
	)
	if err != nil {
		w.t.Fatal(err)
	}
	if objects > 0 || unfinished > 0 && !w.died || unfinished > 1 {
		w.t.Errorf("a deleted instance has %d objects and %d unfinished uploads", objects, unfinished)
	}
}
