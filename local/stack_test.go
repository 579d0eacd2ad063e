package local_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/local"
	"whatisup/local/deploy/stack"
	"whatisup/local/localtest"
	"whatisup/shared/dynamo"
	"whatisup/shared/operator"
	"whatisup/shared/qr/qrtest"
	"whatisup/shared/whatisup"
)

// The main job: open an instance, fetch its code, scan it, see it connected,
// delete it.
func TestMainJob(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	c := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])

	i := c.Create("support-line")
	if i.Status != "pending" || i.PhoneNumber != nil {
		t.Errorf("a fresh instance is %+v", i)
	}
	code := c.QR(i.ID)
	if got := qrtest.ReadURL(t, code.QR); got != code.Raw {
		t.Errorf("the picture reads %q, raw is %q", got, code.Raw)
	}
	if got := c.Get(i.ID); got.Status != "qr" {
		t.Errorf("with a code it is %s", got.Status)
	}
	if again := c.QR(i.ID); again.Raw != code.Raw {
		t.Error("a second fetch gives another code")
	}
	c.Must(204, "POST", "/v1/sandbox/instances/"+i.ID+"/scan", `{"phone_number":"4915112345678"}`, nil)
	i = c.AwaitStatus(i.ID, "connected")
	if i.PhoneNumber == nil || *i.PhoneNumber != "4915112345678" {
		t.Errorf("connected as %v", i.PhoneNumber)
	}
	devices := localtest.Devices(t, s.WhatsApp)
	if len(devices) != 1 || devices[0].Instance != i.ID || !devices[0].Connected {
		t.Errorf("WhatsApp has %+v", devices)
	}
	// A linked instance is never paired anew.
	c.Must(409, "GET", "/v1/instances/"+i.ID+"/qr", "", nil)

	c.Must(204, "DELETE", "/v1/instances/"+i.ID, "", nil)
	c.Must(404, "GET", "/v1/instances/"+i.ID, "", nil)
	c.Must(404, "DELETE", "/v1/instances/"+i.ID, "", nil)
	var list struct{ Data []localtest.Instance }
	if c.Must(200, "GET", "/v1/instances", "", &list); len(list.Data) != 0 {
		t.Errorf("the list has %+v", list.Data)
	}
	localtest.Await(t, "the device is unlinked at WhatsApp", func() bool {
		return len(localtest.Devices(t, s.WhatsApp)) == 0
	})
}

func TestInstancesAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	c := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	var made []string
	for n := range 12 {
		made = append(made, c.Create(fmt.Sprint("line ", n)).ID)
	}
	slices.Reverse(made)
	var list struct {
		Data []localtest.Instance
		Next *string `json:"next_cursor"`
	}
	c.Must(200, "GET", "/v1/instances", "", &list)
	var got []string
	for _, i := range list.Data {
		got = append(got, i.ID)
	}
	if !slices.Equal(got, made) {
		t.Errorf("listed %v, made %v", got, made)
	}
	_, body := c.Do("GET", "/v1/instances/"+made[0], "")
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || len(fields) != 9 {
		t.Errorf("%d fields (%v): %s", len(fields), err, body)
	}
}

func TestCustomersDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	mine := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	theirs := localtest.NewClient(t, s.API, anotherCustomer(t, s).TestKey)
	live := localtest.NewClient(t, s.API, s.Keys[whatisup.Live])
	i := mine.Create("mine")
	for name, c := range map[string]*localtest.Client{"another customer": theirs, "another mode": live} {
		for _, call := range [][3]string{
			{"GET", "", ""}, {"PATCH", "", `{"name":"x"}`}, {"DELETE", "", ""}, {"GET", "/status", ""}, {"GET", "/qr", ""},
			{"POST", "/connect", ""}, {"POST", "/disconnect", ""}, {"POST", "/logout", ""}, {"POST", "/pair-code", `{"phone_number":"4915112345678"}`},
		} {
			c.Must(404, call[0], "/v1/instances/"+i.ID+call[1], call[2], nil)
		}
		var list struct{ Data []localtest.Instance }
		if c.Must(200, "GET", "/v1/instances", "", &list); len(list.Data) != 0 {
			t.Errorf("%s lists %+v", name, list.Data)
		}
	}
	if got := mine.Get(i.ID); got.Name != "mine" || got.Status != "pending" {
		t.Errorf("it is now %+v", got)
	}
	if resp, _ := localtest.NewClient(t, s.API, "nonsense").Do("GET", "/v1/instances", ""); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a nonsensical key: %d", resp.StatusCode)
	}
}

// Two customers may link the same number; each has a WhatsApp of its own.
func TestWorldsAreApart(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	for _, key := range []string{s.Keys[whatisup.Test], anotherCustomer(t, s).TestKey} {
		c := localtest.NewClient(t, s.API, key)
		i := c.Create("x")
		c.QR(i.ID)
		c.Must(204, "POST", "/v1/sandbox/instances/"+i.ID+"/scan", `{"phone_number":"4915112345678"}`, nil)
		c.AwaitStatus(i.ID, "connected")
	}
	devices := localtest.Devices(t, s.WhatsApp)
	if len(devices) != 2 || devices[0].World == devices[1].World {
		t.Errorf("WhatsApp has %+v", devices)
	}
}

var discard = slog.New(slog.DiscardHandler)

func anotherCustomer(t *testing.T, s *local.Stack) operator.Made {
	t.Helper()
	peppers, err := whatisup.ParsePeppers(s.Env["PEPPER"])
	if err != nil {
		t.Fatal(err)
	}
	db := dynamo.New(dynamo.Config{Client: dynamodb.NewFromConfig(s.AWSConf), Tables: dynamo.Local()})
	made, err := operator.New(db, peppers).MakeCustomer(t.Context(), "another")
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// After kill -9 of everything, the instance logs in again with the link it has:
// seen as a new login at WhatsApp, without a scan.
func TestLinkSurvivesKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := localtest.StartProcess(t, dir)
	c := localtest.NewClient(t, p.API, p.Key(t, whatisup.Test))
	paired := c.Pair("survivor")
	before := localtest.Devices(t, p.WhatsApp)
	for range 2 {
		p.Kill(t)
		p = localtest.StartProcess(t, dir)
		c = localtest.NewClient(t, p.API, p.Key(t, whatisup.Test))
		localtest.Await(t, "a new login", func() bool {
			d := localtest.Devices(t, p.WhatsApp)
			return len(d) == 1 && d[0].JID == before[0].JID && d[0].Connected && d[0].Logins >= 1
		})
		after := c.AwaitStatus(paired.ID, "connected")
		if *after.PhoneNumber != *paired.PhoneNumber {
			t.Errorf("it came back as another number")
		}
	}
	// The stack stops in order, too, and comes back.
	if err := p.Stop(t); err != nil {
		t.Errorf("stopped with: %v", err)
	}
	p = localtest.StartProcess(t, dir)
	localtest.NewClient(t, p.API, p.Key(t, whatisup.Test)).AwaitStatus(paired.ID, "connected")
}

func TestSecretsAreTheOwnersAlone(t *testing.T) {
	t.Parallel()
	dir := ""
	localtest.Start(t, func(c *local.Config) { dir = c.DataDir })
	for _, name := range []string{"format", "pepper", "kms.root", "aws.secret", "env.json", "test.key", "live.key", "aws.db"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode().Perm())
		}
	}
}

func TestOneProcessADataDirectory(t *testing.T) {
	t.Parallel()
	dir := ""
	localtest.Start(t, func(c *local.Config) { dir = c.DataDir })
	c, err := local.ConfigFromEnv(func(name string) string {
		return map[string]string{"DATA_DIR": dir, "PORT": "0", "AWS_PORT": "0", "WHATSAPP_PORT": "0"}[name]
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Log = discard
	if err := local.Run(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), "DATA_DIR") {
		t.Errorf("a second process: %v", err)
	}
}

func TestConfigSaysEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := local.ConfigFromEnv(func(name string) string {
		return map[string]string{"PORT": "http", "RATE_LIMIT_BURST": "-1", "WHATSAPP": "live", "WHATSAPP_ENDPOINT": "http://127.0.0.1:1"}[name]
	}, discard)
	for _, want := range []string{"PORT", "RATE_LIMIT_BURST", "WHATSAPP=live"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in: %v", want, err)
		}
	}
}

// A folder that lacks something is refused by the name of the file, and nothing
// new is made in it.
func TestOnlyAnEmptyFolderIsAFirstStart(t *testing.T) {
	t.Parallel()
	full := t.TempDir()
	p := localtest.StartProcess(t, full)
	if err := p.Stop(t); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"aws.db", "pepper", "kms.root", "whatsapp/whatsapp.db"} {
		for _, damage := range []func(string) error{os.Remove, func(path string) error { return os.Truncate(path, 0) }} {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(full)); err != nil {
				t.Fatal(err)
			}
			if err := damage(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			err := local.Run(t.Context(), local.Config{DataDir: dir, Bind: "127.0.0.1", WhatsApp: "sandbox", Log: discard}, nil)
			if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
				t.Errorf("without %s: %v", name, err)
			}
			if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Size() > 0 {
				t.Errorf("%s was made anew", name)
			}
		}
	}
	newer := t.TempDir()
	if err := os.WriteFile(filepath.Join(newer, "format"), []byte(`{"format":99,"written_by":"v9.1.0"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	err := local.Run(t.Context(), local.Config{DataDir: newer, WhatsApp: "sandbox", Version: "v1.0.0", Log: discard}, nil)
	if err == nil || !strings.Contains(err.Error(), "v9.1.0") {
		t.Errorf("newer data: %v", err)
	}
}

// Live and sandbox run together, each in a process of its own, under one parent.
func TestBothModes(t *testing.T) {
	t.Parallel()
	p := localtest.StartProcess(t, t.TempDir(), "WHATSAPP=live,sandbox")
	localtest.NewClient(t, p.API, p.Key(t, whatisup.Test)).Pair("of the sandbox")
	localtest.NewClient(t, p.API, p.Key(t, whatisup.Live)).Create("live")
}

// The queue of all events is there when it is asked for, and gone when it is not.
func TestNoQueueWithoutAReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, want := range []bool{true, false} {
		p := localtest.StartProcess(t, dir, fmt.Sprint("EVENT_QUEUE=", want))
		localtest.NewClient(t, p.API, p.Key(t, whatisup.Test)).Create("x")
		env, err := stack.Local(dir)
		if err != nil {
			t.Fatal(err)
		}
		client := sqs.NewFromConfig(aws.Config{
			Region: env["AWS_REGION"], BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL"]),
			Credentials: credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], ""),
		})
		out, err := client.ListQueues(t.Context(), &sqs.ListQueuesInput{QueueNamePrefix: aws.String("whatisup-events")})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(out.QueueUrls) > 0; got != want || (env["EVENT_QUEUE_URLS"] != "") != want {
			t.Errorf("EVENT_QUEUE=%t: queues %v, told of %q", want, out.QueueUrls, env["EVENT_QUEUE_URLS"])
		}
		// Nobody without the stack's own key gets an answer.
		stranger := sqs.NewFromConfig(aws.Config{
			Region: env["AWS_REGION"], BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL"]),
			Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
		})
		if _, err := stranger.ListQueues(t.Context(), &sqs.ListQueuesInput{}); err == nil {
			t.Error("any key opens the embedded AWS")
		}
		if err := p.Stop(t); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever was answered a code reads the status qr from then on, in every call.
func TestAnAnsweredCodeIsShown(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	c := localtest.NewClient(t, s.API, s.Keys[whatisup.Test])
	for range 15 {
		id := c.Create("x").ID
		c.QR(id)
		var i localtest.Instance
		c.Must(200, "GET", "/v1/instances/"+id, "", &i)
		var status struct {
			Status      string
			QRExpiresAt *string `json:"qr_expires_at"`
		}
		c.Must(200, "GET", "/v1/instances/"+id+"/status", "", &status)
		if i.Status != "qr" || status.Status != "qr" || status.QRExpiresAt == nil {
			t.Fatalf("after its code was answered the instance is %s, and %+v", i.Status, status)
		}
		c.Must(204, "DELETE", "/v1/instances/"+id, "", nil)
	}
}
