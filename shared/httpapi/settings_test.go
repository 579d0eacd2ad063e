package httpapi_test

import "testing"

func TestSettingsAreMergedAndReset(t *testing.T) {
	t.Parallel()
	f := start(t)
	path, _ := f.create(f.a.TestKey, "x")
	path += "/settings"
	steps := []struct{ patch, want string }{
		{``, `{"receive":{"groups":true,"status":false,"channels":false},"media":"fetch","reject_calls":false,"read_on_receive":false,"online":false,"min_gap_ms":0,"new_chats_per_day":null}`},
		{`{"receive":{"status":true},"min_gap_ms":500,"new_chats_per_day":0}`, `{"receive":{"groups":true,"status":true,"channels":false},"media":"fetch","reject_calls":false,"read_on_receive":false,"online":false,"min_gap_ms":500,"new_chats_per_day":0}`},
		{`{"receive":{"groups":false},"online":true,"media":"off"}`, `{"receive":{"groups":false,"status":true,"channels":false},"media":"off","reject_calls":false,"read_on_receive":false,"online":true,"min_gap_ms":500,"new_chats_per_day":0}`},
		{`{"receive":{"groups":null},"online":null,"media":null,"min_gap_ms":null}`, `{"receive":{"groups":true,"status":true,"channels":false},"media":"fetch","reject_calls":false,"read_on_receive":false,"online":false,"min_gap_ms":0,"new_chats_per_day":0}`},
		{`{"receive":null,"new_chats_per_day":null}`, `{"receive":{"groups":true,"status":false,"channels":false},"media":"fetch","reject_calls":false,"read_on_receive":false,"online":false,"min_gap_ms":0,"new_chats_per_day":null}`},
	}
	etag := ""
	for _, s := range steps {
		if s.patch != "" {
			f.want(412, "concurrent_modification", f.a.TestKey, "PATCH", path, s.patch, "If-Match", `"77"`)
			changed := f.want(200, "", f.a.TestKey, "PATCH", path, s.patch, "If-Match", etag)
			if changed.header.Get("ETag") == etag {
				t.Errorf("%s: the ETag is the same", s.patch)
			}
			again := f.want(200, "", f.a.TestKey, "PATCH", path, s.patch)
			if again.header.Get("ETag") != changed.header.Get("ETag") {
				t.Errorf("%s again: the ETag has changed", s.patch)
			}
		}
		got := f.want(200, "", f.a.TestKey, "GET", path, "")
		if etag = got.header.Get("ETag"); string(got.body) != s.want+"\n" && string(got.body) != s.want {
			t.Errorf("%s: %s", s.patch, got.body)
		}
	}
}
