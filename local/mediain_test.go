package local_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"testing"

	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// The file of a received message is fetched, and comes byte for byte out of its URL.
func TestMediaReceived(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	api := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	i := api.Pair("receiver")
	for _, c := range []struct {
		body string
		file []byte
	}{
		{`"type":"image"`, picture(t, 40, 30)},
		{`"type":"document","filename":"a.txt"`, []byte("a document\n")},
		{`"type":"video","gif":true`, []byte("\x00\x00\x00\x18ftypmp42 no film")},
		{`"type":"document","filename":"big.txt"`, bytes.Repeat([]byte("0123456789"), 15_000)},
	} {
		var sent struct {
			MessageID string `json:"message_id"`
		}
		api.Must(202, "POST", "/v1/sandbox/instances/"+i.ID+"/messages",
			fmt.Sprintf(`{"from":"4915100000001","body":{%s,"media_base64":%q}}`, c.body, base64.StdEncoding.EncodeToString(c.file)), &sent)
		var page struct {
			Data []struct {
				Data struct {
					ID    string `json:"message_id"`
					Media media
				}
			}
		}
		var found media
		localtest.Await(t, "message.media_ready", func() bool {
			page.Data = nil
			api.Must(200, "GET", "/v1/event-log?events=message.media_ready,message.media_failed&instance_id="+i.ID, "", &page)
			for _, e := range page.Data {
				if e.Data.ID == sent.MessageID {
					found = e.Data.Media
				}
			}
			return found.MediaID != ""
		}, func() string { return fmt.Sprintf("%+v", page) })
		if found.Status != "ready" {
			t.Fatalf("%s: %+v %+v", c.body, found, found.Error)
		}
		if resp, got := get(t, found.URL); resp.StatusCode != 200 || !bytes.Equal(got, c.file) {
			t.Errorf("%s: %d, %d bytes of %d", c.body, resp.StatusCode, len(got), len(c.file))
		}
		var list struct {
			Data []struct {
				ID    string `json:"message_id"`
				Media media
			}
		}
		api.Must(200, "GET", "/v1/instances/"+i.ID+"/messages?direction=in&limit=1", "", &list)
		if len(list.Data) != 1 || list.Data[0].ID != sent.MessageID || list.Data[0].Media != found {
			t.Errorf("%s is listed as %+v, want %+v", c.body, list.Data, found)
		}
		var m media
		api.Must(200, "GET", "/v1/media/"+found.MediaID, "", &m)
		if m.Status != "ready" || m.Size != int64(len(c.file)) {
			t.Errorf("%s is %+v", c.body, m)
		}
		api.Must(204, "DELETE", "/v1/media/"+found.MediaID, "", nil)
		list.Data = nil
		api.Must(200, "GET", "/v1/instances/"+i.ID+"/messages?direction=in&limit=1", "", &list)
		if len(list.Data) != 1 || list.Data[0].Media.MediaID != "" {
			t.Errorf("%s, deleted, is listed as %+v", c.body, list.Data)
		}
		if resp, _ := get(t, found.URL); resp.StatusCode != 404 {
			t.Errorf("%s, deleted, answers %d", c.body, resp.StatusCode)
		}
	}
}
