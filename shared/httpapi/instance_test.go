package httpapi_test

import (
	"testing"

	"whatisup/shared/whatisup"
)

func TestInstanceLife(t *testing.T) {
	t.Parallel()
	f := start(t)
	key := f.a.TestKey
	r := f.want(201, "", key, "POST", "/v1/instances", `{"name":" support-line ","metadata":{"n": 12345678901234567890.10,"s":"<&>"}}`)
	w := into[whatisup.Wire](t, r)
	if w.Name != "support-line" || w.Status != whatisup.Pending || w.PhoneNumber != nil ||
		string(w.Metadata) != `{"n":12345678901234567890.10,"s":"<&>"}` || !w.CreatedAt.Equal(w.ID.CreatedAt()) {
		t.Errorf("made %s", r.body)
	}
	path := "/v1/instances/" + string(w.ID)
	if r.header.Get("Location") != path || r.header.Get("ETag") != `"1"` {
		t.Errorf("headers %v", r.header)
	}
	got := f.want(200, "", key, "GET", path, "")
	if string(got.body) != string(r.body) {
		t.Errorf("got %s, made %s", got.body, r.body)
	}
	list := into[struct{ Data []whatisup.Wire }](t, f.want(200, "", key, "GET", "/v1/instances", ""))
	if len(list.Data) != 1 || list.Data[0].ID != w.ID {
		t.Errorf("listed %v", list)
	}
	f.want(412, "concurrent_modification", key, "PATCH", path, `{"name":"x"}`, "If-Match", `"7"`)
	r = f.want(200, "", key, "PATCH", path, `{"name":"other"}`, "If-Match", `"7", "1"`)
	if r.header.Get("ETag") != `"2"` {
		t.Errorf("ETag %s", r.header.Get("ETag"))
	}
	r = f.want(200, "", key, "PATCH", path, `{"name":"other"}`)
	if r.header.Get("ETag") != `"2"` {
		t.Errorf("an unchanged value made version %s", r.header.Get("ETag"))
	}
	f.want(200, "", key, "GET", path+"/status", "")
	f.want(202, "", key, "POST", path+"/connect", "")
	f.want(202, "", key, "POST", path+"/disconnect", "")
	f.want(202, "", key, "POST", path+"/logout", "{}")
	f.want(204, "", key, "DELETE", path, "")
	f.want(404, "instance_not_found", key, "DELETE", path, "")
	f.want(404, "instance_not_found", key, "GET", path, "")
	log := into[struct{ Data []whatisup.Event }](t, f.want(200, "", key, "GET", "/v1/events", "", "Accept", "application/json"))
	var names []whatisup.EventName
	for _, e := range log.Data {
		names = append(names, e.Name)
	}
	if len(names) != 3 || names[0] != whatisup.InstanceDeleted || names[1] != whatisup.InstanceUpdated || names[2] != whatisup.InstanceCreated {
		t.Errorf("logged %v", names)
	}
	if len(f.queued.events) != 3 {
		t.Errorf("queued %v", f.queued.events)
	}
}
