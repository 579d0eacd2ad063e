package httpapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"whatisup/shared/whatisup"
)

func (f *fixture) command(id, name, more string) string {
	return fmt.Sprintf(`{"command_id":%q,"command":%q,"customer_id":%q,"mode":"test"%s}`, id, name, f.a.Customer, more)
}

func (f *fixture) carry(message string) error {
	return f.integration.Carry(f.t.Context(), []byte(message), f.clock.now())
}

func (f *fixture) events() []whatisup.Event {
	f.queued.mu.Lock()
	defer f.queued.mu.Unlock()
	return append([]whatisup.Event(nil), f.queued.events...)
}

func TestIntegrationCommands(t *testing.T) {
	t.Parallel()
	f := start(t)
	create := f.command("c-1", "create", `,"name":"from a queue","metadata":{"n":1.50}`)
	for range 3 { // delivered at least once
		if err := f.carry(create); err != nil {
			t.Fatal(err)
		}
	}
	list := f.list("")
	if len(list.Data) != 1 || list.Data[0].Name != "from a queue" || string(list.Data[0].Metadata) != `{"n":1.50}` {
		t.Fatalf("%+v", list)
	}
	id := list.Data[0].ID
	at := `,"instance_id":"` + string(id) + `"`
	for n, name := range []string{"connect", "disconnect", "logout", "delete", "delete"} {
		for range 2 {
			if err := f.carry(f.command(fmt.Sprint("c-", name, n), name, at)); err != nil {
				t.Fatal(err)
			}
		}
		if name == "connect" {
			i, err := f.db.Instance(t.Context(), f.a.Customer, whatisup.Test, id)
			if err != nil || i.Wanted.Generation != 1 || i.Wanted.Command(f.clock.now()) != "c-connect0" || i.Wanted.Command(f.clock.now().Add(time.Hour)) != "" {
				t.Errorf("%v %+v", err, i.Wanted)
			}
		}
	}
	var told []string
	seen := map[whatisup.EventID]bool{}
	for _, e := range f.events() {
		if !seen[e.ID] {
			told = append(told, string(e.Name)+" "+string(e.Command))
		}
		seen[e.ID] = true
	}
	if got := strings.Join(told, ", "); got != "instance.created c-1, instance.deleted c-delete3, command.refused c-delete4" {
		t.Errorf("told %s", got)
	}
}

// Bad messages are answered by an event and never come back; where nobody can be
// told they stay in the queue.
func TestBadIntegrationMessages(t *testing.T) {
	t.Parallel()
	f := start(t)
	for message, code := range map[string]whatisup.Code{
		`{`:                                 "",
		`{}`:                                "",
		`{"customer_id":"x","mode":"test"}`: "",
		strings.Replace(f.command("1", "create", ""), "test", "play", 1):                  "",
		f.command("2", "create", ""):                                                      whatisup.CodeInvalidRequest,
		f.command("3", "create", `,"name":""`):                                            whatisup.CodeInvalidRequest,
		f.command("4", "create", `,"name":"x","zzz":1`):                                   whatisup.CodeInvalidRequest,
		f.command("5", "explode", ""):                                                     whatisup.CodeInvalidRequest,
		f.command("6", "connect", ""):                                                     whatisup.CodeInvalidRequest,
		f.command("7", "connect", `,"instance_id":"x"`):                                   whatisup.CodeInstanceNotFound,
		f.command("8", "delete", `,"instance_id":"`+string(whatisup.NewInstanceID())+`"`): whatisup.CodeInstanceNotFound,
		f.command("", "create", `,"name":"x"`):                                            whatisup.CodeInvalidRequest,
		f.command(strings.Repeat("x", 129), "create", `,"name":"x"`):                      whatisup.CodeInvalidRequest,
		strings.Replace(f.command("9", "create", `,"name":"x"`), string(f.a.Customer), string(whatisup.NewCustomerID()), 1): "",
	} {
		f.queued.mu.Lock()
		f.queued.events = nil
		f.queued.mu.Unlock()
		err := f.carry(message)
		events := f.events()
		if code == "" { // nobody can be told: it goes to the dead-letter queue
			if err == nil || len(events) != 0 {
				t.Errorf("%s: %v, told %v", message, err, events)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s comes back: %v", message, err)
		}
		if len(events) != 1 || events[0].Name != whatisup.CommandRefused || events[0].Customer != f.a.Customer {
			t.Errorf("%s: told %+v", message, events)
			continue
		}
		var d struct{ Error struct{ Code whatisup.Code } }
		if err := json.Unmarshal(events[0].Data, &d); err != nil || d.Error.Code != code {
			t.Errorf("%s: %s, want %s", message, events[0].Data, code)
		}
		f.carry(message)
		if again := f.events(); again[len(again)-1].ID != events[0].ID {
			t.Errorf("%s: a repetition is another event", message)
		}
	}
	// The refusals stand in the log, and the log is as documented.
	log := into[struct{ Data []whatisup.Event }](t, f.want(200, "", f.a.TestKey, "GET", "/v1/events?events=command.refused", "", "Accept", "application/json"))
	if len(log.Data) == 0 {
		t.Error("nothing logged")
	}
	if n := f.list(""); len(n.Data) != 0 {
		t.Errorf("made %v", n.Data)
	}
}

// What can't be done now comes back, and is done once.
func TestIntegrationCommandComesBack(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.queued.fail = errors.New("down")
	refused := f.command("r", "connect", `,"instance_id":"x"`)
	if err := f.carry(refused); err == nil {
		t.Error("a refusal that nobody heard is lost")
	}
	create := f.command("c", "create", `,"name":"x"`)
	if err := f.carry(create); err != nil { // the event is kept beside the instance
		t.Error(err)
	}
	f.queued.fail = nil
	for _, m := range []string{refused, create} {
		if err := f.carry(m); err != nil {
			t.Error(err)
		}
	}
	if n := f.list(""); len(n.Data) != 1 {
		t.Errorf("made %v", n.Data)
	}
	// The same command_id for something else is refused.
	if err := f.carry(f.command("c", "create", `,"name":"y"`)); err != nil {
		t.Error(err)
	}
	events := f.events()
	if e := events[len(events)-1]; e.Name != whatisup.CommandRefused || !strings.Contains(string(e.Data), "idempotency_conflict") {
		t.Errorf("%+v", e)
	}
}

// A command is the same command however it is written and wrapped.
func TestIntegrationCommandInOtherForms(t *testing.T) {
	t.Parallel()
	f := start(t)
	plain := f.command("c", "create", `,"name":"x\u00e9","metadata":{"a":1,"b":2}`)
	customer := string(f.a.Customer)
	envelope, _ := json.Marshal(map[string]string{
		"Type": "Notification", "TopicArn": "arn:aws:sns:us-east-1:000000000000:t", "MessageId": "m", "Message": plain,
	})
	for n, message := range []string{
		plain,
		"\ufeff" + plain,
		string(envelope),
		strings.Replace(plain, customer, strings.ToUpper(customer), 1),
		`{ "metadata":{"b":2 , "a":1}, "mode":"test","name":"xé","customer_id":"` + customer + `","command":"create","command_id":"c"}`,
	} {
		if err := f.carry(message); err != nil {
			t.Errorf("%d: %v", n, err)
		}
	}
	if n := len(f.list("").Data); n != 1 {
		t.Errorf("made %d instances", n)
	}
	for _, e := range f.events() {
		if e.Name != whatisup.InstanceCreated {
			t.Errorf("told %s: %s", e.Name, e.Data)
		}
	}

	// A refusal names the command as it was given.
	if err := f.carry(f.command("d", "explode", "")); err != nil {
		t.Fatal(err)
	}
	events := f.events()
	if last := events[len(events)-1]; last.Name != whatisup.CommandRefused || !strings.Contains(string(last.Data), `"command":"explode"`) {
		t.Errorf("%s: %s", last.Name, last.Data)
	}
}

// A send that waited in the queue for too long surprises nobody.
func TestASendThatIsLateIsRefused(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, id := f.create(f.a.TestKey, "late")
	message := f.command("late", "send", `,"instance_id":"`+string(id)+`","to":"4915111111111","body":{"type":"text","text":"Hi"}`)
	if err := f.integration.Carry(t.Context(), []byte(message), f.clock.now().Add(-time.Hour-time.Second)); err != nil {
		t.Fatal(err)
	}
	events := f.events()
	if e := events[len(events)-1]; e.Name != whatisup.CommandRefused || !strings.Contains(string(e.Data), "more than an hour") {
		t.Errorf("told %s %s", e.Name, e.Data)
	}
	f.carry(message) // in time, and the instance has no link
	events = f.events()
	if e := events[len(events)-1]; e.Name != whatisup.CommandRefused || !strings.Contains(string(e.Data), "not_connected") {
		t.Errorf("told %s %s", e.Name, e.Data)
	}
}
