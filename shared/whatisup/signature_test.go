package whatisup

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// TestSignatureVectors holds both signatures to the published vectors, which another
// program has made.
func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/webhook-signatures.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Secret    string `json:"secret"`
		EventID   string `json:"event_id"`
		Timestamp int64  `json:"timestamp"`
		Body      string `json:"body"`
		Own       string `json:"x-whatisup-signature"`
		Standard  string `json:"webhook-signature"`
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) < 3 {
		t.Fatalf("%d vectors: %v", len(vectors), err)
	}
	for _, v := range vectors {
		if !ValidSigningSecret(v.Secret) {
			t.Errorf("%s is no secret", v.Secret)
		}
		one := []Secret{Secret(v.Secret)}
		if got := Sign(one, v.Timestamp, []byte(v.Body)); got != v.Own {
			t.Errorf("%s, want %s", got, v.Own)
		}
		if got := SignStandard(one, v.EventID, v.Timestamp, []byte(v.Body)); got != v.Standard {
			t.Errorf("%s, want %s", got, v.Standard)
		}
	}
	// Two secrets are two signatures, in one header each.
	both := []Secret{Secret(vectors[0].Secret), Secret(vectors[1].Secret)}
	if got := Sign(both, 1, nil); strings.Count(got, ",v1=") != 2 || !strings.HasPrefix(got, "t=1,v1=") {
		t.Errorf("two secrets: %s", got)
	}
	if got := SignStandard(both, "id", 1, nil); strings.Count(got, "v1,") != 2 || strings.Count(got, " ") != 1 {
		t.Errorf("two secrets: %s", got)
	}
}

// TestStandardWebhooks has the library of Standard Webhooks verify our signatures, also
// in a rotation, by either secret.
func TestStandardWebhooks(t *testing.T) {
	t.Parallel()
	old, fresh, other := NewSigningSecret(), NewSigningSecret(), NewSigningSecret()
	body := []byte(`{"event":"message.received"}`)
	id, unix := string(NewEventID()), time.Now().Unix()
	for _, c := range []struct {
		by    Secret
		signs []Secret
		want  bool
	}{{old, []Secret{old}, true}, {old, []Secret{fresh, old}, true}, {fresh, []Secret{fresh, old}, true}, {other, []Secret{fresh, old}, false}} {
		judge, err := standardwebhooks.NewWebhook(string(c.by))
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		h.Set("webhook-id", id)
		h.Set("webhook-timestamp", strconv.FormatInt(unix, 10))
		h.Set("webhook-signature", SignStandard(c.signs, id, unix, body))
		if err := judge.Verify(body, h); (err == nil) != c.want {
			t.Errorf("%d secrets sign: %v", len(c.signs), err)
		}
		if judge.Verify(append(body, ' '), h) == nil {
			t.Error("a changed body passed")
		}
	}
}

// TestReadmeReceiver runs the program of the README that checks X-WhatIsUp-Signature.
func TestReadmeReceiver(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const listen = `http.ListenAndServe("127.0.0.1:9000", nil)`
	_, program, _ := strings.Cut(string(text), "```go\npackage main")
	program, _, ok := strings.Cut(program, "```")
	if !ok || !strings.Contains(program, listen) {
		t.Fatal("the README has no receiver")
	}
	dir := t.TempDir()
	// A free port, and nothing else differs from the README.
	program = strings.Replace(program, listen, `l, _ := net.Listen("tcp", "127.0.0.1:0"); fmt.Println(l.Addr()); http.Serve(l, nil)`, 1)
	program = "package main\n" + strings.Replace(program, "import (", "import (\n\"net\"", 1)
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", "receiver", "main.go")
	build.Dir, build.Env = dir, append(os.Environ(), "GO111MODULE=off", "GOFLAGS=")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	secret := NewSigningSecret()
	run := exec.CommandContext(t.Context(), filepath.Join(dir, "receiver"))
	run.Env = append(os.Environ(), "SECRET="+string(secret))
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = run.Process.Kill(); _ = run.Wait() }()
	lines := bufio.NewScanner(out)
	lines.Scan()
	url := "http://" + lines.Text() + "/hook"
	body := []byte(`{"event":"message.received"}`)
	now := time.Now().Unix()
	for _, c := range []struct {
		what      string
		signature string
		want      int
	}{
		{"ours", Sign([]Secret{secret}, now, body), 200},
		{"in a rotation", Sign([]Secret{NewSigningSecret(), secret}, now, body), 200},
		{"another's", Sign([]Secret{NewSigningSecret()}, now, body), 401},
		{"of another body", Sign([]Secret{secret}, now, []byte("{}")), 401},
		{"an old one", Sign([]Secret{secret}, now-600, body), 401},
		{"none", "", 401},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-WhatIsUp-Signature", c.signature)
		r.Header.Set("X-WhatIsUp-Event", "message.received")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", c.what, resp.StatusCode, c.want)
		}
	}
	if lines.Scan(); lines.Text() != "message.received "+string(body) {
		t.Errorf("it printed %q", lines.Text())
	}
}

func TestSigningSecrets(t *testing.T) {
	t.Parallel()
	if s := NewSigningSecret(); !ValidSigningSecret(string(s)) || s == NewSigningSecret() {
		t.Errorf("a new secret: %v", s)
	}
	for _, wrong := range []string{
		"", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFQ==",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYp=",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nMfKQ9r8GKYo=", "whsec_" + strings.Repeat("A", 88),
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKY-=",
	} {
		if ValidSigningSecret(wrong) {
			t.Errorf("%q passed", wrong)
		}
	}
}

func TestEndpointTakes(t *testing.T) {
	t.Parallel()
	event := Event{Name: MessageReceived, Customer: "c", Mode: Test, Instance: "i", Data: json.RawMessage(`{"chat_type":"group"}`)}
	for _, c := range []struct {
		name string
		e    Endpoint
		want bool
	}{
		{"everything", Endpoint{Customer: "c", Mode: Test, Events: []string{"*"}}, true},
		{"its beginning", Endpoint{Customer: "c", Mode: Test, Events: []string{"message.*"}}, true},
		{"another beginning", Endpoint{Customer: "c", Mode: Test, Events: []string{"instance.*"}}, false},
		{"another customer", Endpoint{Customer: "d", Mode: Test, Events: []string{"*"}}, false},
		{"the other mode", Endpoint{Customer: "c", Mode: Live, Events: []string{"*"}}, false},
		{"its instance", Endpoint{Customer: "c", Mode: Test, Events: []string{"*"}, Instance: "i"}, true},
		{"another instance", Endpoint{Customer: "c", Mode: Test, Events: []string{"*"}, Instance: "j"}, false},
		{"its kind of chat", Endpoint{Customer: "c", Mode: Test, Events: []string{"*"}, ChatTypes: []ChatType{ChatGroup}}, true},
		{"another kind of chat", Endpoint{Customer: "c", Mode: Test, Events: []string{"*"}, ChatTypes: []ChatType{ChatDirect}}, false},
	} {
		if got := c.e.Takes(&event); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	without := event
	without.Data = json.RawMessage(`{}`)
	if e := (Endpoint{Customer: "c", Mode: Test, Events: []string{"*"}, ChatTypes: []ChatType{ChatDirect}}); !e.Takes(&without) {
		t.Error("an event without a kind of chat was filtered by it")
	}
}
