package whatsapp

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/cbcutil"
	"go.mau.fi/whatsmeow/util/gcmutil"
)

// The media host is on the simulator's own listener. Clients put encrypted files
// there and get them by a path that nobody can guess; the key travels in the
// message. Files are on disk, what is known of them in the database.

const maxMedia = 128 << 20

// mediaRecord is a file of the media host. A file that a phone has put there
// again has a path of its own and the bytes of the first.
type mediaRecord struct {
	File   string    `json:"file"` // on disk
	Type   string    `json:"type"`
	Size   int64     `json:"size"`
	Made   time.Time `json:"made"`
	Gone   bool      `json:"gone,omitempty"`   // 404, until a phone puts it there again
	Lost   bool      `json:"lost,omitempty"`   // and no phone has it either
	Millis int       `json:"millis,omitempty"` // how late each answer is
}

// keysOfMedia names the kinds of keys by the media's type.
var keysOfMedia = map[string]string{
	"image": "WhatsApp Image Keys", "sticker": "WhatsApp Image Keys", "video": "WhatsApp Video Keys", "audio": "WhatsApp Audio Keys",
	"document": "WhatsApp Document Keys", "md-msg-hist": "WhatsApp History Keys", "md-app-state": "WhatsApp App State Keys",
	"thumbnail-link": "WhatsApp Link Thumbnail Keys",
}

type mediaKeys struct{ iv, cipher, mac []byte }

func expandMediaKey(key []byte, kind string) (mediaKeys, error) {
	out, err := hkdf.Key(sha256.New, key, nil, keysOfMedia[kind], 112)
	if err != nil {
		return mediaKeys{}, err
	}
	return mediaKeys{out[:16], out[16:48], out[48:80]}, nil
}

// upload is what a message says of its file.
type upload struct {
	url, path         string
	key, hash, sealed []byte // the media key, and SHA-256 of the plain and of the encrypted file
	size              uint64
}

// putMedia is a phone putting a file on the media host.
func (s *Server) putMedia(world, kind string, plain []byte) (upload, error) {
	out := upload{key: make([]byte, 32), size: uint64(len(plain))}
	_, _ = rand.Read(out.key)
	keys, err := expandMediaKey(out.key, kind)
	if err != nil {
		return out, err
	}
	data, err := cbcutil.Encrypt(keys.cipher, keys.iv, plain)
	if err != nil {
		return out, fmt.Errorf("encrypt media: %w", err)
	}
	mac := hmac.New(sha256.New, keys.mac)
	mac.Write(keys.iv)
	mac.Write(data)
	data = append(data, mac.Sum(nil)[:10]...)
	hash, sealed := sha256.Sum256(plain), sha256.Sum256(data)
	out.hash, out.sealed = hash[:], sealed[:]
	if out.path, err = s.storeMedia(world, kind, sealed[:], bytes.NewReader(data)); err != nil {
		return out, err
	}
	out.url = "https://" + s.mediaHost() + out.path
	return out, nil
}

var errMediaSize = errors.New("more than the media host takes")

// storeMedia keeps an encrypted file and returns its path.
func (s *Server) storeMedia(world, kind string, hash []byte, data io.Reader) (string, error) {
	dir := filepath.Join(s.db.dir, "media")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	temporary, err := os.CreateTemp(dir, "upload-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(temporary.Name())
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(temporary, sum), io.LimitReader(data, maxMedia+1))
	if closed := temporary.Close(); err == nil {
		err = closed
	}
	switch {
	case err != nil:
		return "", err
	case size > maxMedia:
		return "", errMediaSize
	case !bytes.Equal(sum.Sum(nil), hash):
		return "", errBadMedia
	}
	name := base64.RawURLEncoding.EncodeToString(hash)
	if err := os.Rename(temporary.Name(), filepath.Join(dir, name)); err != nil {
		return "", err
	}
	return s.linkMedia(world, name, mediaRecord{File: name, Type: kind, Size: size, Made: s.now().UTC()})
}

var errBadMedia = errors.New("the file is not what its token says")

func (s *Server) linkMedia(world, name string, record mediaRecord) (string, error) {
	err := s.db.update(func(tx *tx) error {
		return putJSON(tx.Bucket(bucketMedia), keyOf(world, name), record)
	})
	return "/v/" + world + "/" + name + "?ccb=11-4&oh=" + name[:min(16, len(name))], err
}

// mediaAt finds the file at a direct path.
func (s *Server) mediaAt(path string) (world, name string, record mediaRecord, ok bool) {
	path, _, _ = strings.Cut(path, "?")
	parts := strings.Split(strings.TrimPrefix(path, "/v/"), "/")
	if len(parts) != 2 || !strings.HasPrefix(path, "/v/") {
		return "", "", record, false
	}
	world, name = parts[0], parts[1]
	err := s.db.view(func(tx *tx) (err error) {
		ok, err = getJSON(tx.Bucket(bucketMedia), keyOf(world, name), &record)
		return err
	})
	return world, name, record, ok && err == nil
}

func (s *Server) changeMedia(world, name string, change func(*mediaRecord)) {
	err := s.db.update(func(tx *tx) error {
		var record mediaRecord
		bucket, key := tx.Bucket(bucketMedia), keyOf(world, name)
		if ok, err := getJSON(bucket, key, &record); err != nil || !ok {
			return err
		}
		change(&record)
		return putJSON(bucket, key, record)
	})
	if err != nil {
		s.log.Error("cannot change a file of the media host", "error", err)
	}
}

// mediaHost is what files' URLs name where no connection says better.
func (s *Server) mediaHost() string {
	if s.cfg.Host != "" {
		return s.cfg.Host
	}
	if host := s.address.Load(); host != nil {
		return *host
	}
	return "localhost"
}

// mediaAuth proves to the media host which device uploads.
func (s *Server) mediaAuth(d *device) string {
	name := d.name().key()
	return base64.RawURLEncoding.EncodeToString(name) + "." + base64.RawURLEncoding.EncodeToString(hmacSHA256(s.seed[:], append([]byte("media "), name...)))
}

func (s *Server) uploader(auth string) *device {
	encoded, _, _ := strings.Cut(auth, ".")
	name, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.devices {
		if bytes.Equal(d.name().key(), name) && hmac.Equal([]byte(s.mediaAuth(d)), []byte(auth)) {
			return d
		}
	}
	return nil
}

// mediaConn names the media host: this server, under the address that the
// client has reached it at.
func (s *Server) mediaConn(c *conn, d *device, q *Node) Node {
	host := c.local
	if s.cfg.Host != "" || host == "" {
		host = s.mediaHost()
	}
	return result(q, Node{Tag: "media_conn", Attrs: Attrs{
		"auth":        s.mediaAuth(d),
		"ttl":         "300",
		"auth_ttl":    "3600",
		"max_buckets": "12",
		"is_new":      "true",
	}, Content: []Node{{Tag: "host", Attrs: Attrs{"hostname": host, "type": "primary"}}}})
}

// serveUpload takes an encrypted file from a client.
func (s *Server) serveUpload(w http.ResponseWriter, r *http.Request) {
	d := s.uploader(r.URL.Query().Get("auth"))
	kind := r.PathValue("type")
	switch {
	case d == nil:
		http.Error(w, "no such auth", http.StatusUnauthorized)
		return
	case keysOfMedia[kind] == "" && kind != "ptt" && kind != "sticker-pack":
		http.Error(w, "no such type", http.StatusBadRequest)
		return
	}
	if f, ok := s.takeFor(kindUploadError, d); ok {
		http.Error(w, "fault", f.Code)
		return
	}
	if f, ok := s.takeFor(kindMediaSlow, d); ok {
		s.wait(r, time.Duration(f.Millis)*time.Millisecond)
	}
	hash, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(r.PathValue("token"), "="))
	if err != nil || len(hash) != sha256.Size {
		http.Error(w, "the token is no hash", http.StatusBadRequest)
		return
	}
	path, err := s.storeMedia(d.World, kind, hash, r.Body)
	switch {
	case errors.Is(err, errMediaSize):
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	case errors.Is(err, errBadMedia):
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	case err != nil:
		s.log.Error("cannot store media", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	host := s.mediaHost()
	if host == "localhost" {
		host = r.Host
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{
		"url": "https://" + host + path, "direct_path": path, "handle": "", "object_id": r.PathValue("token"),
	})
}

// wait holds an answer back, unless who asked goes away or the server stops.
func (s *Server) wait(r *http.Request, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	case <-s.ctx.Done():
	}
}

// serveDownload hands an encrypted file out, in ranges if asked.
func (s *Server) serveDownload(w http.ResponseWriter, r *http.Request) {
	_, _, record, ok := s.mediaAt(r.URL.Path)
	if !ok {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	if record.Millis > 0 {
		s.wait(r, time.Duration(record.Millis)*time.Millisecond)
	}
	switch {
	case record.Gone:
		http.Error(w, "gone", http.StatusNotFound)
		return
	case s.now().Sub(record.Made) > s.cfg.MediaLife:
		http.Error(w, "expired", http.StatusGone)
		return
	}
	file, err := os.Open(filepath.Join(s.db.dir, "media", record.File))
	if err != nil {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", record.Made, file)
}

// serveMediaDelete takes what a client has read and no longer needs away, as
// clients do with parts of the history.
func (s *Server) serveMediaDelete(w http.ResponseWriter, r *http.Request) {
	d := s.uploader(r.URL.Query().Get("auth"))
	path, err := base64.RawURLEncoding.DecodeString(r.URL.Query().Get("d_md"))
	world, name, _, ok := s.mediaAt(string(path))
	if d == nil || err != nil || !ok || world != d.World {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	s.changeMedia(world, name, func(m *mediaRecord) { m.Gone, m.Lost = true, true })
	w.WriteHeader(http.StatusOK)
}

// sweepMedia forgets files that have been expired for as long as they were there.
func (s *Server) sweepMedia() {
	var gone []string
	kept := map[string]bool{}
	err := s.db.update(func(tx *tx) error {
		bucket := tx.Bucket(bucketMedia)
		var keys [][]byte
		err := bucket.ForEach(func(key, value []byte) error {
			var record mediaRecord
			if err := json.Unmarshal(value, &record); err != nil {
				return err
			}
			if s.now().Sub(record.Made) > 2*s.cfg.MediaLife {
				keys, gone = append(keys, bytes.Clone(key)), append(gone, record.File)
			} else {
				kept[record.File] = true
			}
			return nil
		})
		for _, key := range keys {
			err = errors.Join(err, bucket.Delete(key))
		}
		return err
	})
	if err != nil {
		s.log.Error("cannot forget expired media", "error", err)
		return
	}
	for _, name := range gone {
		if !kept[name] {
			_ = os.Remove(filepath.Join(s.db.dir, "media", name))
		}
	}
}

// mediaPart is the part of a message that has a file.
type mediaPart interface {
	GetDirectPath() string
	GetMediaKey() []byte
	GetFileSHA256() []byte
}

// mediaOf finds the file of a message, whatever it is wrapped in.
func mediaOf(m *waE2E.Message) (mediaPart, string) {
	m = unwrap(m)
	switch {
	case m.GetImageMessage() != nil:
		return m.GetImageMessage(), "image"
	case m.GetVideoMessage() != nil:
		return m.GetVideoMessage(), "video"
	case m.GetPtvMessage() != nil:
		return m.GetPtvMessage(), "video"
	case m.GetAudioMessage() != nil:
		return m.GetAudioMessage(), "audio"
	case m.GetDocumentMessage() != nil:
		return m.GetDocumentMessage(), "document"
	case m.GetStickerMessage() != nil:
		return m.GetStickerMessage(), "sticker"
	}
	return nil, ""
}

// fetchMedia is a phone getting a message's file and reading it.
func (s *Server) fetchMedia(part mediaPart, kind string) ([]byte, error) {
	_, _, record, ok := s.mediaAt(part.GetDirectPath())
	if !ok || record.Gone || s.now().Sub(record.Made) > s.cfg.MediaLife {
		return nil, errors.New("the file is not on the media host")
	}
	return s.readMedia(record, part, kind)
}

func (s *Server) readMedia(record mediaRecord, part mediaPart, kind string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(s.db.dir, "media", record.File))
	if err != nil {
		return nil, err
	}
	keys, err := expandMediaKey(part.GetMediaKey(), kind)
	if err != nil {
		return nil, err
	}
	if len(data) < 10 {
		return nil, errors.New("the file is too short")
	}
	sealed, sent := data[:len(data)-10], data[len(data)-10:]
	mac := hmac.New(sha256.New, keys.mac)
	mac.Write(keys.iv)
	mac.Write(sealed)
	if !hmac.Equal(mac.Sum(nil)[:10], sent) {
		return nil, errors.New("the file's authentication code does not fit")
	}
	plain, err := cbcutil.Decrypt(keys.cipher, keys.iv, sealed)
	if err != nil {
		return nil, err
	}
	if hash := sha256.Sum256(plain); !bytes.Equal(hash[:], part.GetFileSHA256()) {
		return nil, errors.New("the file's hash does not fit")
	}
	return plain, nil
}

// spoilMedia lets a fault meet the file of a message on its way to a device.
func (s *Server) spoilMedia(d *device, m *waE2E.Message) {
	part, _ := mediaOf(m)
	if part == nil {
		return
	}
	world, name, _, ok := s.mediaAt(part.GetDirectPath())
	if !ok {
		return
	}
	if f, ok := s.takeFor(kindMediaGone, d); ok {
		s.changeMedia(world, name, func(r *mediaRecord) { r.Gone, r.Lost = true, f.Code == 2 })
	}
	if f, ok := s.takeFor(kindMediaSlow, d); ok {
		s.changeMedia(world, name, func(r *mediaRecord) { r.Millis = f.Millis })
	}
}

// retryMedia is a device that asks its phone to put a file on the media host
// again, because it could not get it.
func (s *Server) retryMedia(d *device, n *Node) {
	id := str(n, "id")
	rmr, ok := child(n, "rmr")
	if !ok || s.behaviourOf(d.person()).Offline {
		return // an absent phone does not answer
	}
	answer := Node{Tag: "notification", Attrs: Attrs{"type": "mediaretry", "from": s.jidOf(d.person(), 0)}}
	question := Node{Tag: "rmr", Attrs: Attrs{"jid": rmr.Attrs["jid"], "from_me": str(rmr, "from_me")}}
	if participant, ok := rmr.Attrs["participant"]; ok {
		question.Attrs["participant"] = participant
	}
	path, key, err := s.reupload(d, rmr, id)
	if err != nil {
		answer.Content = []Node{question, {Tag: "error", Attrs: Attrs{"code": "2"}}}
		s.notifyAs(d, id, answer)
		return
	}
	plain, err := proto.Marshal(&waMmsRetry.MediaRetryNotification{
		StanzaID: &id, DirectPath: &path, Result: waMmsRetry.MediaRetryNotification_SUCCESS.Enum(),
	})
	if err != nil {
		return
	}
	retryKey, err := hkdf.Key(sha256.New, key, nil, "WhatsApp Media Retry Notification", 32)
	if err != nil {
		return
	}
	iv := make([]byte, 12)
	_, _ = rand.Read(iv)
	sealed, err := gcmutil.Encrypt(retryKey, iv, plain, []byte(id))
	if err != nil {
		return
	}
	answer.Content = []Node{question, {Tag: "encrypt", Content: []Node{{Tag: "enc_p", Content: sealed}, {Tag: "enc_iv", Content: iv}}}}
	s.notifyAs(d, id, answer)
}

// reupload puts the file of a message that a device's phone shows at a new path.
func (s *Server) reupload(d *device, rmr *Node, id string) (path string, key []byte, err error) {
	r, ok := s.shownTo(d.person(), jidAttr(rmr, "jid"), id)
	if !ok {
		return "", nil, errors.New("no such message")
	}
	var m waE2E.Message
	if err := proto.Unmarshal(r.Plain, &m); err != nil {
		return "", nil, err
	}
	part, _ := mediaOf(&m)
	if part == nil {
		return "", nil, errors.New("the message has no file")
	}
	world, name, record, ok := s.mediaAt(part.GetDirectPath())
	if !ok || record.Lost {
		return "", nil, errors.New("the phone has no such file")
	}
	again := record
	again.Gone, again.Millis, again.Made = false, 0, s.now().UTC()
	var suffix [6]byte
	_, _ = rand.Read(suffix[:])
	path, err = s.linkMedia(world, name[:16]+"-"+base64.RawURLEncoding.EncodeToString(suffix[:]), again)
	return path, part.GetMediaKey(), err
}

// shownTo finds a message by id on a phone's screen, in the chat that a JID names.
func (s *Server) shownTo(at person, chat types.JID, id string) (shownRecord, bool) {
	name := chat.String()
	if p, ok := s.personOf(at.world, chat); ok {
		name = p.number
	}
	rows, _, err := s.screen(at, ShownFilter{Chat: name, ID: id, Limit: 1})
	if err != nil || len(rows) == 0 {
		return shownRecord{}, false
	}
	return rows[0], true
}

// notifyAs is notify under an id that means something.
func (s *Server) notifyAs(d *device, id string, n Node) {
	n.Attrs["id"], n.Attrs["t"] = id, strconv.FormatInt(s.now().Unix(), 10)
	if err := s.push(d, n); err != nil {
		s.log.Error("cannot notify a device", "error", err)
	}
}
