package host

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"whatisup/local/aws/awstest"
	"whatisup/local/whatsapp"
	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

// program is the real session host, built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sessionhost")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "sessionhost")
	out, err := exec.Command("go", "build", "-o", path, "whatisup/sessionhost").CombinedOutput()
	if err != nil {
		return "", &exec.Error{Name: string(out), Err: err}
	}
	return path, nil
})

// process is a host in a process of its own.
type process struct {
	*exec.Cmd
	lines chan string // of its log
	done  chan error
}

// spawn starts the program on the world; as a child of nobody, or as the parent
// that watches one.
func (w *world) spawn(id string, watched bool, more ...string) *process {
	w.t.Helper()
	path, err := program()
	if err != nil {
		w.t.Fatal(err)
	}
	root := w.sim.Root()
	tables := dynamo.Local()
	cmd := exec.Command(path)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.t.TempDir(),
		"AWS_ENDPOINT_URL=" + w.aws.Endpoint, "AWS_REGION=" + awstest.Region, "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
		"INSTANCES_TABLE=" + tables.Instances, "CALLS_TABLE=" + tables.Calls, "EVENTS_TABLE=" + tables.Events,
		"FLEET_TABLE=" + tables.Fleet, "DEVICES_TABLE=" + tables.Devices, "MESSAGES_TABLE=" + tables.Messages,
		"COMMAND_QUEUE_PREFIX=" + w.urls.CommandPrefix, "EVENT_QUEUE_URLS=" + w.urls.Events, "AUTH_KEY_ID=" + w.keyID,
		"SHARD_COUNT=" + strconv.Itoa(w.shards), "WHATSAPP=sandbox", "WHATSAPP_ENDPOINT=http://" + w.sim.Address,
		"WHATSAPP_NOISE_ROOT=" + hex.EncodeToString(root[:]), "HOST_ID=" + id, "HEALTH_ADDR=127.0.0.1:0",
	}
	if !watched {
		cmd.Env = append(cmd.Env, ChildVariable+"=1")
	}
	cmd.Env = append(cmd.Env, more...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stderr = io.Discard
	if os.Getenv("HOST_TEST_LOG") != "" {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	p := &process{Cmd: cmd, lines: make(chan string, 10_000), done: make(chan error, 1)}
	go func() { // ends with the process
		in := bufio.NewScanner(out)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			if os.Getenv("HOST_TEST_LOG") != "" {
				os.Stderr.WriteString(in.Text() + "\n")
			}
			select {
			case p.lines <- in.Text():
			default:
			}
		}
		p.done <- cmd.Wait()
	}()
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		<-p.done
	})
	return p
}

// line waits for a log line with the text.
func (p *process) line(t testing.TB, text string) string {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case l := <-p.lines:
			if strings.Contains(l, text) {
				return l
			}
		case <-late:
			t.Fatalf("no line with %q", text)
		}
	}
}

// linesOf waits for a log line with each of the texts, in whatever order they come.
func (p *process) linesOf(t testing.TB, texts ...string) []string {
	t.Helper()
	found := make([]string, len(texts))
	late := time.After(patience)
	for missing := len(texts); missing > 0; {
		select {
		case l := <-p.lines:
			for i, text := range texts {
				if found[i] == "" && strings.Contains(l, text) {
					found[i] = l
					missing--
				}
			}
		case <-late:
			t.Fatalf("not all of %q", texts)
		}
	}
	return found
}

// A panic in a goroutine of the library kills the process, and every session
// with it. The parent starts it again at once, and keeps the instance out that
// did it three times.
func TestCrashIsBlamed(t *testing.T) {
	t.Parallel()
	var poisoned atomic.Pointer[string]
	w := newWorldWith(t, 1, whatsapp.Config{Hooks: whatsapp.Hooks{
		IQ: func(from whatsapp.Connection, query *whatsapp.Node) (*whatsapp.Node, bool) {
			id := poisoned.Load()
			if id == nil || from.Instance != *id || query.Attrs["xmlns"] != "passive" {
				return nil, false
			}
			// The library takes the id of a pair-success for granted.
			return &whatsapp.Node{Tag: "iq", Attrs: whatsapp.Attrs{"from": query.Attrs["to"], "type": "set"}, Content: []whatsapp.Node{{Tag: "pair-success"}}}, true
		},
	}})
	p := w.spawn("one", true)
	good, bad := w.create(), w.create()
	w.link(good, "491900000001")
	w.link(bad, "491900000002")
	id := string(bad)
	poisoned.Store(&id)
	w.fault(bad, whatsapp.Fault{Kind: "drop"})
	for range 3 {
		l := p.line(t, "the child crashed")
		var line struct {
			Instance whatisup.InstanceID `json:"instance_id"`
			Cause    string              `json:"cause"`
		}
		if err := json.Unmarshal([]byte(l), &line); err != nil {
			t.Fatal(err)
		}
		if line.Instance != bad || line.Cause != "panic" {
			t.Fatalf("the crash is blamed on %q: %s", line.Instance, l)
		}
	}
	w.status(bad, whatisup.Failed, whatisup.Internal)
	w.await("the other one's connection", func() bool { d, _ := w.device(good); return d.Connected })
	mid := w.send("491900000001", "491900000009", "still here?")
	w.await("a message", func() bool { return w.received(good)[mid] == 1 })
	// SIGTERM reaches the child, which drains.
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.done:
		p.done <- err
		if err != nil {
			t.Errorf("the parent ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the parent did not end")
	}
	w.await("a released shard", func() bool {
		l, err := w.db.Lease(t.Context(), whatisup.Test, 0)
		return err == nil && l.Owner == ""
	})
}

// A process that sleeps over its lease, in mid-send, and wakes up says nothing more: its
// sessions are another host's.
func TestSleepsOverItsLease(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a real lease to run out")
	}
	t.Parallel()
	w := newWorld(t, 1)
	one := w.spawn("one", false)
	id := w.create()
	const number = "491900000010"
	w.link(id, number)
	before, _ := w.device(id)
	two := w.spawn("two", false)
	two.line(t, "session host runs")
	own := w.letters(id, 10)
	w.await("a sent message", func() bool {
		m, err := w.db.Message(t.Context(), w.refOf(id), own[0].id)
		return err == nil && m.Status.Rank() >= whatisup.MessageSent.Rank()
	})
	if err := one.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.died = true
	mid := w.send(number, "491900000011", "while it sleeps")
	w.awaitFor(time.Minute, "a login of the other host", func() bool { d, _ := w.device(id); return d.Logins == before.Logins+1 && d.Connected })
	w.await("the message", func() bool { return w.received(id)[mid] == 1 })
	w.arrive(id, own)
	i := w.get(id)
	awake := uint64(0)
	if all := w.sim.Journal(whatsapp.JournalFilter{Target: whatsapp.Target{Instance: string(id)}, Limit: 10_000}); len(all) > 0 {
		awake = all[len(all)-1].Position
	}
	if err := one.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	one.line(t, "shard lost")
	// It stays with the other host: no further login, and nothing from an older
	// connection.
	second := w.send(number, "491900000011", "after it woke")
	w.await("the second message", func() bool { return w.received(id)[second] == 1 })
	entries := w.sim.Journal(whatsapp.JournalFilter{Target: whatsapp.Target{Instance: string(id)}, After: awake, Limit: 10_000})
	connections := make(map[uint64]bool)
	for _, e := range entries {
		if e.Tag != "closed" { // that the connection is gone is all that may be seen of it
			connections[e.Connection] = true
		}
	}
	if len(connections) != 1 {
		t.Errorf("%d connections spoke after the process woke", len(connections))
	}
	if d, _ := w.device(id); d.Logins != before.Logins+1 {
		t.Errorf("%d logins, not %d", d.Logins, before.Logins+1)
	}
	if after := w.get(id); after.Observed.Epoch != i.Observed.Epoch || after.Rev != i.Rev {
		t.Errorf("the row was written meanwhile: epoch %d to %d, rev %d to %d", i.Observed.Epoch, after.Observed.Epoch, i.Rev, after.Rev)
	}
	w.arrive(id, own)
	w.everyEventIsTold(id)
}

// A live host runs without an answer to its question for the newest client
// version, and refuses every part of a redirect at its start.
func TestLiveProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	nowhere := []string{"WHATSAPP=live", "WHATSAPP_ENDPOINT=", "WHATSAPP_NOISE_ROOT=", "HTTPS_PROXY=http://127.0.0.1:1"}
	live := w.spawn("live", false, nowhere...)
	live.line(t, "the newest client version is unknown")
	live.line(t, "session host runs")
	live.line(t, "shard claimed")
	// What a host before it had learned is used, and doesn't wait for WhatsApp.
	if err := w.db.KeepClientVersion(t.Context(), whatisup.Live, "2.9999.1"); err != nil {
		t.Fatal(err)
	}
	next := w.spawn("next", false, nowhere...)
	if l := next.line(t, "client version"); !strings.Contains(l, `"client_version":"2.9999.1"`) {
		t.Errorf("the kept version is not used: %s", l)
	}
	// It asks beside everything else, so the answer may come before or after.
	found := next.linesOf(t, "session host runs", "the newest client version is unknown")
	if l := found[1]; !strings.Contains(l, "2.9999.1") {
		t.Errorf("another version is in use: %s", l)
	}
	for _, redirect := range []string{"WHATSAPP_ENDPOINT=http://" + w.sim.Address, "WHATSAPP_NOISE_ROOT=" + strings.Repeat("00", 32)} {
		refused := w.spawn("refused", false, append(nowhere, redirect)...)
		select {
		case err := <-refused.done:
			refused.done <- err
			if err == nil {
				t.Errorf("a live host with %s ended well", redirect)
			}
		case <-time.After(patience):
			t.Errorf("a live host runs with %s", redirect)
		}
	}
}

// The health page tells how it is, and -healthcheck reads it.
func TestHealth(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	h := w.host("one")
	id := w.create()
	w.link(id, "491900000020")
	if err := Check(t.Context(), h.Address()); err != nil {
		t.Error(err)
	}
	get := func(path string) (int, string) {
		r, err := http.Get("http://" + h.Address() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
	w.await("readiness", func() bool { code, _ := get("/readyz"); return code == http.StatusOK })
	var s state
	w.await("a connected session", func() bool {
		_, body := get("/readyz")
		return strings.Contains(body, `"connected":1`)
	})
	_, body := get("/readyz")
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatal(err)
	}
	if s.Sessions[whatisup.Connected] != 1 || len(s.Shards) != 2 || s.Host != "one" {
		t.Errorf("%s", body)
	}
	_, page := get("/metrics")
	for _, line := range []string{
		`whatisup_sessions{status="connected"} 1`, "whatisup_shards 2", `whatisup_connects_total{budget="interactive",outcome="ok"}`,
		"whatisup_first_code_seconds_count 1", "whatisup_event_lag_seconds_count", "whatisup_wake_up_age_seconds_count", "whatisup_lease_age_seconds",
		`whatisup_store_call_seconds_count{operation="DynamoDB.TransactWriteItems",outcome="2xx"}`,
		`whatisup_store_call_seconds_count{operation="AmazonSQS.SendMessageBatch",outcome="2xx"}`,
		`whatisup_store_call_seconds_count{operation="TrentService.GenerateDataKey",outcome="2xx"}`,
	} {
		if !strings.Contains(page, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	if strings.Contains(page, string(id)) || strings.Contains(page, string(w.customer)) {
		t.Error("the metrics name an instance or a customer")
	}
	line, err := h.emf(time.Now())
	if err != nil || !strings.Contains(string(line), `"ConnectedSessions":1`) {
		t.Errorf("%s, %v", line, err)
	}
	h.stop()
	if err := Check(context.Background(), h.Address()); err == nil {
		t.Error("a host that has ended is healthy")
	}
}

func TestCrashReader(t *testing.T) {
	t.Parallel()
	id := "0197f0a0-1234-7abc-8def-0123456789ab"
	trace := "some line\npanic: runtime error: index out of range [recovered]\n\ngoroutine 77 gp=0xc000 m=5 mp=0xc1 [running] {instance: " + id + "}:\nmain.f()\n\n" +
		"goroutine 1 [running] {instance: 0197f0a0-0000-7abc-8def-0123456789ab}:\n"
	var r crashReader
	var copied strings.Builder
	r.copy(&copied, strings.NewReader(trace))
	if string(r.crash.instance) != id || r.crash.cause != "panic" || copied.String() != trace {
		t.Errorf("%+v, %q", r.crash, copied.String())
	}
	var none crashReader
	none.copy(io.Discard, strings.NewReader("panic: x\n\ngoroutine 7 [running]:\n\ngoroutine 9 [running] {instance: "+id+"}:\n"))
	if none.crash.instance != "" {
		t.Errorf("blamed %s", none.crash.instance)
	}
}

func TestCrashLog(t *testing.T) {
	t.Parallel()
	var c crashLog
	now := time.Now()
	c.add(now, "a")
	c.add(now, "")
	c.add(now.Add(time.Minute), "a")
	if b := c.blamed(now.Add(time.Minute)); len(b) != 0 {
		t.Errorf("blamed %v after two crashes", b)
	}
	c.add(now.Add(2*time.Minute), "a")
	if b := c.blamed(now.Add(2 * time.Minute)); len(b) != 1 || b[0] != "a" {
		t.Errorf("blamed %v after three", b)
	}
	if b := c.blamed(now.Add(11 * time.Minute)); len(b) != 0 {
		t.Errorf("blamed %v when the first is forgotten", b)
	}
}

// An idle linked session costs at most six goroutines, the library's four
// included, and a stopped one none. They are found by the label that a session's
// goroutines inherit; what keeps connections to AWS warm is nobody's.
func TestIdleGoroutines(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.host("one")
	id := w.create()
	w.link(id, "491900000101")
	goroutines := func() int {
		var profile strings.Builder
		if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
			t.Fatal(err)
		}
		sum := 0
		for stack := range strings.SplitSeq(profile.String(), "\n\n") {
			if !strings.Contains(stack, string(id)) || strings.Contains(stack, "net/http.(*persistConn)") {
				continue
			}
			count, _, _ := strings.Cut(strings.TrimSpace(stack), " ")
			n, err := strconv.Atoi(count)
			if err != nil {
				t.Fatalf("%q", stack)
			}
			sum += n
		}
		return sum
	}
	least := goroutines()
	w.await("an idle session", func() bool { least = min(least, goroutines()); return least <= 6 })
	t.Logf("%d goroutines", least)
	if least < 4 {
		t.Errorf("only %d goroutines are found, fewer than the library has", least)
	}
	w.disconnect(id)
	w.status(id, whatisup.Disconnected, whatisup.Stopped)
	w.await("no goroutine of a stopped session", func() bool { return goroutines() == 0 })
}

// The child runs with what ships, but where the operator has said otherwise.
func TestRuntimeSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ gogc, godebug, want string }{
		{"", "", "GODEBUG=tracebacklabels=1 GOGC=50"},
		{"off", "x=1", "GODEBUG=x=1,tracebacklabels=1 GOGC=off"},
	} {
		env := map[string]string{"GOGC": c.gogc, "GODEBUG": c.godebug}
		if got := strings.Join(runtimeSettings(func(name string) string { return env[name] }), " "); got != c.want {
			t.Errorf("%q, %q make %s", c.gogc, c.godebug, got)
		}
	}
}
