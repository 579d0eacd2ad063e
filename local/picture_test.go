package local_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/local/localtest"
	"whatisup/local/whatsapp"
	"whatisup/shared/bucket"
	"whatisup/shared/dynamo"
	"whatisup/shared/operator"
	"whatisup/shared/whatisup"
)

// pictured is what answers say of a picture.
type pictured struct {
	human
	Chat    string
	Picture *struct {
		ID    string
		Media media
	}
	State string `json:"picture_state"`
}

// pictured reads a contact, a group or the profile.
func (a *asker) pictured(path, state string) (p pictured) {
	a.t.Helper()
	a.Must(200, "GET", a.path+path, "", &p)
	if p.State != state || (p.Picture != nil) != (state == "shown") {
		a.t.Fatalf("GET %s: %q, %+v, want %s", path, p.State, p.Picture, state)
	}
	if p.Picture != nil && (p.Picture.ID == "" || !strings.Contains(p.Picture.Media.URL, "/v1/media-files/") || p.Picture.Media.MimeType != "image/jpeg") {
		a.t.Fatalf("GET %s: %+v", path, p.Picture)
	}
	return p
}

// fetched reads the bytes of a picture, which are fetched now.
func (a *asker) fetched(p pictured, want []byte) {
	a.t.Helper()
	localtest.Await(a.t, "the picture", func() bool {
		resp, got := get(a.t, p.Picture.Media.URL)
		if resp.StatusCode == 503 {
			return false
		}
		if resp.StatusCode != 200 || !bytes.Equal(got, want) || resp.Header.Get("Content-Type") != "image/jpeg" {
			a.t.Fatalf("%d %s, %d bytes, want %d", resp.StatusCode, resp.Header.Get("Content-Type"), len(got), len(want))
		}
		return true
	})
}

// gone reads the URL of a picture that can't be had.
func (a *asker) gone(p pictured, why string) {
	a.t.Helper()
	localtest.Await(a.t, "no picture", func() bool {
		resp, b := get(a.t, p.Picture.Media.URL)
		if resp.StatusCode == 503 {
			return false
		}
		if resp.StatusCode != 410 || !bytes.Contains(b, []byte("media_gone")) {
			a.t.Fatalf("%d %s", resp.StatusCode, b)
		}
		return true
	})
	if m := awaitMedia(a.t, a.Client, p.Picture.Media.MediaID); m.Status != "failed" || m.Error == nil || !strings.Contains(m.Error.Message, why) {
		a.t.Errorf("%+v, want %q", m.Error, why)
	}
}

// The picture of a contact is a file like any other. It is fetched when its URL is first
// used, and WhatsApp is asked for it only then.
func TestPictureOfAContact(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	const ann, bob = "4915111111111", "4915122222222"
	first, second := picture(t, 64, 64), picture(t, 48, 48)
	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "profile", Picture: first})
	a.Must(202, "POST", a.path+"/messages", text(ann, "hello"), nil) // who has exchanged nothing is told nothing

	before := a.asked("w:profile:picture")
	c := a.pictured("/contacts/"+ann, "shown")
	if m := c.Picture.Media; m.Status != "on_demand" || m.Size != 0 {
		t.Errorf("%+v", m)
	}
	a.Must(200, "GET", a.path+"/contacts", "", nil)
	if n := a.asked("w:profile:picture") - before; n != 0 {
		t.Errorf("WhatsApp was asked for pictures %d times", n)
	}
	a.fetched(c, first)
	var m media
	a.Must(200, "GET", "/v1/media/"+c.Picture.Media.MediaID, "", &m)
	if m.Status != "ready" || m.Width != 64 || m.Height != 64 || m.SHA256 != hashOf(first) || m.Size != int64(len(first)) {
		t.Errorf("%+v", m)
	}
	again := a.pictured("/contacts/"+url.PathEscape(c.Chat), "shown")
	if again.Picture.Media != m || again.Picture.ID != c.Picture.ID {
		t.Errorf("%+v, then %+v", c.Picture, again.Picture)
	}
	a.fetched(again, first)
	if n := a.asked("w:profile:picture") - before; n != 1 {
		t.Errorf("WhatsApp was asked for the picture %d times", n)
	}

	// Nobody else has the file, and nobody can tell it from one that is not there.
	theirs := localtest.NewClient(t, a.stack.API, anotherCustomer(t, a.stack).TestKey)
	live := localtest.NewClient(t, a.stack.API, a.stack.Keys[whatisup.Live])
	for name, other := range map[string]*localtest.Client{"another customer": theirs, "another mode": live} {
		_, hers := other.Do("GET", "/v1/media/"+m.MediaID, "")
		_, none := other.Do("GET", "/v1/media/019aa3d0-5b1e-7c2d-9a3b-4c5d6e7f8091", "")
		if !bytes.Contains(hers, []byte("media_not_found")) || withoutID(hers) != withoutID(none) {
			t.Errorf("%s: %s, and %s", name, hers, none)
		}
	}

	// None, hidden, changed and removed meanwhile.
	a.pictured("/contacts/"+bob, "none")
	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "profile", PictureFor: "nobody"})
	a.pictured("/contacts/"+ann, "hidden")
	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "profile", PictureFor: "everybody", Picture: second})
	changed := a.pictured("/contacts/"+ann, "shown")
	if changed.Picture.ID == c.Picture.ID || changed.Picture.Media.MediaID == m.MediaID {
		t.Errorf("another picture is %+v", changed.Picture)
	}
	a.awaitChange("contact.updated", c.Chat, "picture", 1)
	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "profile", PictureFor: "nobody"})
	a.gone(changed, "hidden")
	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "profile", PictureFor: "everybody"})
	if seen := a.pictured("/contacts/"+ann, "shown"); seen.Picture.Media.Status != "on_demand" {
		t.Errorf("a picture that can be seen again is %+v", seen.Picture.Media)
	}
	a.fetched(changed, second)

	// What is no picture, or too large, ends as failed.
	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "profile", Picture: []byte("\xff\xd8\xff\xe0 no picture")})
	a.gone(a.pictured("/contacts/"+ann, "shown"), "no picture")
	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "profile", Picture: append(bytes.Clone(first), make([]byte, 6<<20)...)})
	a.gone(a.pictured("/contacts/"+ann, "shown"), "5 MB")
	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "profile", Picture: []byte{}})
	a.pictured("/contacts/"+ann, "none")
	a.fetched(c, first) // its file lives as long as other files

	// All of it goes with the instance.
	tables := dynamo.New(dynamo.Config{Client: dynamodb.NewFromConfig(a.stack.AWSConf), Tables: dynamo.Local()})
	o := &operator.Operator{Store: tables, Objects: a.bucket()}
	a.Must(204, "DELETE", a.path, "", nil)
	if resp, _ := get(t, c.Picture.Media.URL); resp.StatusCode != 404 {
		t.Errorf("a picture of a deleted instance answers %d", resp.StatusCode)
	}
	localtest.Await(t, "the wipe", func() bool {
		left, err := o.Left(t.Context(), whatisup.CustomerID(a.world), whatisup.InstanceID(a.id))
		return err == nil && !strings.Contains(strings.Join(left, " "), "object")
	})
}

func (a *asker) bucket() *bucket.Bucket {
	return bucket.New(bucket.Config{AWS: a.stack.AWSConf, Name: a.stack.Env["MEDIA_BUCKET"]})
}

// withoutID is an answer without the id of its request.
func withoutID(b []byte) string {
	s, _, _ := strings.Cut(string(b), `"request_id"`)
	return s
}

// What becomes a picture is a JPEG of the customer's, and nothing else.
func (a *asker) refusesPictures(path string) {
	t := a.t
	t.Helper()
	theirs := localtest.NewClient(t, a.stack.API, anotherCustomer(t, a.stack).TestKey)
	var waits media
	a.Must(201, "POST", "/v1/media", `{"size":1000,"mime_type":"image/jpeg"}`, &waits)
	for name, c := range map[string]struct {
		id     string
		status int
		code   string
	}{
		"another customer's": {give(t, theirs, "image/jpeg", picture(t, 64, 64)).MediaID, 400, "invalid_request"},
		"none":               {"019aa3d0-5b1e-7c2d-9a3b-4c5d6e7f8091", 400, "invalid_request"},
		"no id":              {"x", 400, "invalid_request"},
		"not come yet":       {waits.MediaID, 409, "media_not_ready"},
		"a text":             {give(t, a.Client, "text/plain", []byte("no picture")).MediaID, 422, "unsupported_media"},
		"not square":         {give(t, a.Client, "image/jpeg", picture(t, 64, 65)).MediaID, 422, "unsupported_media"},
		"too wide":           {give(t, a.Client, "image/jpeg", picture(t, 641, 641)).MediaID, 422, "unsupported_media"},
		"too large":          {give(t, a.Client, "image/jpeg", append(picture(t, 64, 64), make([]byte, 600<<10)...)).MediaID, 422, "unsupported_media"},
		"cut off":            {give(t, a.Client, "image/jpeg", picture(t, 64, 64)[:20]).MediaID, 422, "unsupported_media"},
	} {
		resp, b := a.Do("PATCH", a.path+path, fmt.Sprintf(`{"picture":%q}`, c.id))
		if resp.StatusCode != c.status || !bytes.Contains(b, []byte(`"`+c.code+`"`)) {
			t.Errorf("%s: %d %s", name, resp.StatusCode, b)
		}
	}
	for _, bad := range []string{`""`, `7`, `{}`, `true`} {
		a.refused(400, "invalid_request", "PATCH", path, `{"picture":`+bad+`}`)
	}
}

// The number's own picture is set with an uploaded file and removed with null.
func TestOwnPicture(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	file := picture(t, 640, 640)
	up := give(t, a.Client, "image/jpeg", file)
	a.pictured("/profile", "none")

	var p pictured
	a.Must(200, "PATCH", a.path+"/profile", fmt.Sprintf(`{"about":"Open","picture":%q}`, up.MediaID), &p)
	if p.State != "shown" || p.Picture == nil || !p.is(a.number) {
		t.Fatalf("%+v", p)
	}
	a.fetched(p, file)
	if again := a.pictured("/profile", "shown"); again.Picture.ID != p.Picture.ID || again.Picture.Media.MediaID == up.MediaID {
		t.Errorf("%+v, then %+v", p.Picture, again.Picture)
	}
	// The number sees its own picture whoever else may.
	a.act(whatsapp.Action{PhoneNumber: a.number, Kind: "profile", PictureFor: "nobody"})
	a.pictured("/profile", "shown")

	a.refusesPictures("/profile")
	if now := a.pictured("/profile", "shown"); now.Picture.ID != p.Picture.ID {
		t.Errorf("the picture is %+v", now.Picture)
	}
	for range 2 { // again is the same
		a.Must(200, "PATCH", a.path+"/profile", `{"picture":null}`, &p)
		if p.State != "none" {
			t.Errorf("%+v", p)
		}
	}
	a.gone(pictured{Picture: a.deleted(up, file)}, "changed or removed")
}

// deleted sets a picture, shows it, and removes it before anybody has fetched it.
func (a *asker) deleted(up media, file []byte) (shown *struct {
	ID    string
	Media media
}) {
	a.t.Helper()
	a.Must(200, "PATCH", a.path+"/profile", fmt.Sprintf(`{"picture":%q}`, up.MediaID), nil)
	shown = a.pictured("/profile", "shown").Picture
	a.Must(200, "PATCH", a.path+"/profile", `{"picture":null}`, nil)
	return shown
}

// A group's picture is set by whoever may edit the group, here and on the phones.
func TestPictureOfAGroup(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	const ann = "4915111111111"
	mine, hers := picture(t, 64, 64), picture(t, 32, 32)
	var g groupView
	a.Must(201, "POST", a.path+"/groups", fmt.Sprintf(`{"subject":"Orders","participants":[%q]}`, ann), &g)
	path := "/groups/" + url.PathEscape(g.Chat)
	a.pictured(path, "none")

	var p pictured
	up := give(t, a.Client, "image/jpeg", mine)
	a.Must(200, "PATCH", a.path+path, fmt.Sprintf(`{"subject":"Sales","picture":%q}`, up.MediaID), &p)
	if p.State != "shown" || p.Picture == nil || p.Chat != g.Chat {
		t.Fatalf("%+v", p)
	}
	a.fetched(p, mine)

	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "settings", Group: g.Chat, Picture: hers})
	changed := a.pictured(path, "shown")
	if changed.Picture.ID == p.Picture.ID {
		t.Errorf("%+v", changed.Picture)
	}
	a.fetched(changed, hers)
	a.awaitChange("group.updated", g.Chat, "picture", 2)

	var list struct{ Data []map[string]any }
	a.Must(200, "GET", a.path+"/groups", "", &list)
	if _, has := list.Data[0]["picture"]; has {
		t.Errorf("a list has pictures: %+v", list.Data[0])
	}
	a.refusesPictures(path)
	a.Must(200, "PATCH", a.path+path, `{"picture":null}`, &p)
	if p.State != "none" {
		t.Errorf("%+v", p)
	}

	// Where only admins may edit, a member may not; who has left sees nothing.
	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "profile", Picture: hers})
	made := a.act(whatsapp.Action{PhoneNumber: ann, Kind: "create_group", Subject: "Theirs", Members: []string{a.number}, Locked: new(true)})
	path = "/groups/" + url.PathEscape(made.Group.ID)
	a.refused(409, "not_allowed_in_group", "PATCH", path, fmt.Sprintf(`{"picture":%q}`, up.MediaID))
	a.act(whatsapp.Action{PhoneNumber: ann, Kind: "settings", Group: made.Group.ID, Picture: hers})
	last := a.pictured(path, "shown")
	a.Must(204, "POST", a.path+path+"/leave", "", nil)
	a.gone(last, "hidden")
}

// awaitChange waits for so many events that tell of a change in a chat.
func (a *asker) awaitChange(event, chat, changed string, times int) {
	a.t.Helper()
	var page struct {
		Data []struct {
			Data struct {
				Chat    string
				Changed []string
			}
		}
	}
	localtest.Await(a.t, event, func() bool {
		page.Data = nil
		a.Must(200, "GET", "/v1/event-log?events="+event+"&instance_id="+a.id, "", &page)
		n := 0
		for _, e := range page.Data {
			if e.Data.Chat == chat && len(e.Data.Changed) == 1 && e.Data.Changed[0] == changed {
				n++
			}
		}
		return n == times
	}, func() string { return fmt.Sprintf("%+v", page) })
}

// A phone of the sandbox sets its picture and a group's, by the API alone.
func TestSandboxPictures(t *testing.T) {
	t.Parallel()
	a := newAsker(t)
	const ann = "4915111111111"
	file := picture(t, 16, 16)
	act := func(body string) {
		t.Helper()
		a.Must(http.StatusOK, "POST", "/v1/sandbox/phones/"+ann+"/actions", body, nil)
	}
	act(fmt.Sprintf(`{"kind":"profile","picture_base64":%q}`, base64.StdEncoding.EncodeToString(file)))
	a.fetched(a.pictured("/contacts/"+ann, "shown"), file)
	act(`{"kind":"profile","picture_for":"nobody"}`)
	a.pictured("/contacts/"+ann, "hidden")
	act(`{"kind":"profile","picture_for":"everybody","picture_base64":""}`)
	a.pictured("/contacts/"+ann, "none")

	var g groupView
	a.Must(201, "POST", a.path+"/groups", fmt.Sprintf(`{"subject":"Orders","participants":[%q]}`, ann), &g)
	path := "/groups/" + url.PathEscape(g.Chat)
	act(fmt.Sprintf(`{"kind":"settings","group":%q,"picture_base64":%q}`, g.Chat, base64.StdEncoding.EncodeToString(file)))
	a.fetched(a.pictured(path, "shown"), file)
	act(fmt.Sprintf(`{"kind":"settings","group":%q,"picture_base64":""}`, g.Chat))
	a.pictured(path, "none")
}
