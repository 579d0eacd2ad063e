package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

// phone acts as the sandbox's host: it answers commands with work as do says.
func (f *fixture) phone(do func(whatisup.Command, whatisup.SandboxArgs) whatisup.Result) *sync.Map {
	done := &sync.Map{} // what was done, by command: a repetition is the same command
	f.commands.actAs(func(cmd whatisup.Command) {
		if !cmd.HasWork() {
			return
		}
		go func() {
			var args whatisup.SandboxArgs
			if err := json.Unmarshal(cmd.Args, &args); err != nil {
				f.t.Error(err)
			}
			r := do(cmd, args)
			r.Command = cmd.ID
			done.Store(cmd.ID, args)
			if err := f.db.PutResult(context.Background(), r); err != nil {
				f.t.Error(err)
			}
		}()
	})
	return done
}

func TestSandboxCalls(t *testing.T) {
	t.Parallel()
	f := start(t)
	path, id := f.create(f.a.TestKey, "x")
	sandbox := strings.Replace(path, "/v1/", "/v1/sandbox/", 1)
	type sent struct {
		kind whatisup.CommandKind
		args whatisup.SandboxArgs
	}
	commands := make(chan sent, 10)
	f.phone(func(cmd whatisup.Command, args whatisup.SandboxArgs) whatisup.Result {
		commands <- sent{cmd.Kind, args}
		if cmd.Expired(f.clock.now()) || !cmd.Expired(f.clock.now().Add(11*time.Second)) || cmd.RequestID == "" {
			t.Errorf("command %+v", cmd)
		}
		return whatisup.Result{MessageID: "3EB0"}
	})
	for _, c := range []struct {
		call, body string
		status     int
		kind       whatisup.CommandKind
		args       whatisup.SandboxArgs
	}{
		{"/scan", ``, 204, whatisup.SandboxScan, whatisup.SandboxArgs{PhoneNumber: httpapi.SandboxNumber(id)}},
		{"/scan", `{"phone_number":"+4915112345678"}`, 204, whatisup.SandboxScan, whatisup.SandboxArgs{PhoneNumber: "4915112345678"}},
		{"/enter-code", `{"code":"ABCD-2345"}`, 204, whatisup.SandboxEnterCode, whatisup.SandboxArgs{Code: "ABCD-2345", PhoneNumber: httpapi.SandboxNumber(id)}},
		{"/unlink", ``, 204, whatisup.SandboxUnlink, whatisup.SandboxArgs{}},
		{"/messages", `{"from":"4915112345678","text":"hällo"}`, 202, whatisup.SandboxMessage, whatisup.SandboxArgs{Writing: json.RawMessage(`{"from":"4915112345678","text":"hällo"}`)}},
		{"/faults", `{"kind":"banned","seconds":60}`, 204, whatisup.SandboxFault, whatisup.SandboxArgs{Fault: &whatisup.SandboxFaultOf{Kind: "banned", Seconds: 60}}},
	} {
		r := f.want(c.status, "", f.a.TestKey, "POST", sandbox+c.call, c.body)
		if got := <-commands; !reflect.DeepEqual(got, sent{c.kind, c.args}) {
			t.Errorf("%s %s: sent %+v", c.call, c.body, got)
		}
		if c.status == 202 && into[struct {
			ID string `json:"message_id"`
		}](t, r).ID != "3EB0" {
			t.Errorf("%s", r.body)
		}
	}
	if n, ok := whatisup.ParsePhoneNumber(httpapi.SandboxNumber(id)); !ok || string(n) != httpapi.SandboxNumber(id) {
		t.Errorf("the derived number %q is none", httpapi.SandboxNumber(id))
	}
	f.phone(func(whatisup.Command, whatisup.SandboxArgs) whatisup.Result {
		return whatisup.Result{Error: whatisup.CodeNothingToScan, Message: "No code is shown."}
	})
	f.want(409, "nothing_to_scan", f.a.TestKey, "POST", sandbox+"/scan", "")
}

// A repeated message is one message, also if its first call died while it
// waited.
func TestSandboxMessageHappensOnce(t *testing.T) {
	t.Parallel()
	f := start(t)
	path, _ := f.create(f.a.TestKey, "x")
	sandbox := strings.Replace(path, "/v1/", "/v1/sandbox/", 1)
	done := f.phone(func(whatisup.Command, whatisup.SandboxArgs) whatisup.Result {
		return whatisup.Result{MessageID: "3EB0"}
	})
	body := `{"from":"4915112345678","text":"x"}`
	ctx, cancel := context.WithCancel(t.Context())
	f.commands.mu.Lock()
	host := f.commands.host
	f.commands.host = func(cmd whatisup.Command) { host(cmd); cancel() }
	f.commands.mu.Unlock()
	f.send(ctx, f.a.TestKey, "POST", sandbox+"/messages", body, "Idempotency-Key", "m")
	f.commands.actAs(host)
	f.clock.advance(20 * time.Second)
	for range 2 {
		f.want(202, "", f.a.TestKey, "POST", sandbox+"/messages", body, "Idempotency-Key", "m")
	}
	n := 0
	done.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d messages", n)
	}
}

// The phones are those of the customer's world: no live key and no key of one
// instance reaches them.
func TestWhoReachesThePhones(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, id := f.create(f.a.TestKey, "x")
	var worlds []whatisup.CustomerID
	f.phone(func(cmd whatisup.Command, args whatisup.SandboxArgs) whatisup.Result {
		if cmd.Instance != "" || args.Call == nil || args.Call.Query["world"] != "" {
			t.Errorf("the command is %+v %+v", cmd, args)
		}
		worlds = append(worlds, cmd.Customer)
		return whatisup.Result{Answer: []byte(`{"data":[],"next":null}`)}
	})
	bound := into[struct{ Secret string }](t, f.want(201, "", f.a.TestKey, "POST", "/v1/api-keys", fmt.Sprintf(`{"name":"x","instance_id":%q}`, id)))
	f.want(404, "route_not_found", f.a.LiveKey, "GET", "/v1/sandbox/phones", "")
	f.want(403, "instance_scoped_key", bound.Secret, "GET", "/v1/sandbox/phones", "")
	f.want(200, "", f.a.TestKey, "GET", "/v1/sandbox/phones?world=another", "")
	f.want(200, "", f.b.TestKey, "GET", "/v1/sandbox/phones/5511987654321/messages", "")
	if len(worlds) != 2 || worlds[0] != f.a.Customer || worlds[1] != f.b.Customer {
		t.Errorf("asked in the worlds %v", worlds)
	}
}

func TestWithoutASandbox(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *httpapi.Config) { c.Sandbox = false })
	path, _ := f.create(f.a.TestKey, "x")
	sandbox := strings.Replace(path, "/v1/", "/v1/sandbox/", 1)
	f.want(503, "no_session_host", f.a.TestKey, "POST", sandbox+"/scan", "")
	f.want(503, "no_session_host", f.a.TestKey, "GET", path+"/qr", "")
	if len(f.commands.sent) != 0 {
		t.Errorf("sent %v", f.commands.sent)
	}
}

// A command that nobody carries out is answered in time.
func TestSandboxHostIsGone(t *testing.T) {
	t.Parallel()
	f := start(t, short(400*time.Millisecond))
	path, _ := f.create(f.a.TestKey, "x")
	f.want(503, "no_session_host", f.a.TestKey, "POST", strings.Replace(path, "/v1/", "/v1/sandbox/", 1)+"/scan", "")
}
