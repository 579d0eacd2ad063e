package deploytest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/local/aws"
	"whatisup/local/gateway"
	"whatisup/local/gateway/runtimeapi"
	"whatisup/local/gateway/template"
	"whatisup/local/whatsapp"
	"whatisup/shared/bucket"
	"whatisup/shared/dynamo"
	"whatisup/shared/operator"
	"whatisup/shared/queue"
	"whatisup/shared/whatisup"
)

// system is the whole system out of its real programs: functions behind the
// gateway, a session host, each with the variables that template.yaml gives it
// and no others, and each with an AWS of its own that notes what it does.
type system struct {
	t        *testing.T
	template *template.Template
	known    template.Values
	recorder *recorder
	binaries string
	aws      string // the embedded AWS itself
	config   sdk.Config
	whatsapp *whatsapp.Server
	endpoint string // of the simulator
	api      string
	made     operator.Made
	files    *bucket.Bucket
	invoke   map[string]*runtimeapi.Function
	output   *lines
}

// What a deployment has in the middle of a change of its pepper.
const (
	oldPepper = "1:YW4gb2xkZXIgcGVwcGVyLCBsb25nIGVub3VnaA=="
	pepper    = "2:c2l4dGVlbiBieXRlcyBvciBtb3Jl"
)

// start brings the system up. Everything ends with the test.
func start(t *testing.T) *system {
	t.Helper()
	d := declared(t)
	s := &system{
		t: t, template: d, recorder: newRecorder(), binaries: t.TempDir(), output: &lines{},
		invoke: make(map[string]*runtimeapi.Function),
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what the programs said last:\n%s", s.output)
		}
	})
	s.build()
	s.startAWS()
	s.startWhatsApp()
	s.known = values(t, d, map[string]any{
		"Sandbox": "true", "HostImageUri": "image", "RateLimitBurst": 100000, "RateLimitPerSecond": 1000,
		"ForeignAllow": "127.0.0.1",
	})
	s.makeTablesAndQueues()
	s.startFunctions()
	return s
}

// until runs something for as long as the test.
func (s *system) until(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := run(ctx); err != nil {
			s.t.Errorf("ended early: %v", err)
		}
	})
	s.t.Cleanup(func() { cancel(); running.Wait() })
}

// build makes all programs.
func (s *system) build() {
	s.t.Helper()
	targets := []string{"./sessionhost", "./local/deploy/image/cmd/withroot", "./local/gateway/cmd/invoke"}
	for _, f := range functions(s.t, s.template) {
		targets = append(targets, "./functions/"+f.Name)
	}
	// Static, as they are deployed; otherwise with what is compiled already.
	cmd := exec.CommandContext(s.t.Context(), "go", append([]string{
		"build", "-tags", "lambda.norpc", "-ldflags=-s -w", "-o", s.binaries + "/",
	}, targets...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("build: %v\n%s", err, out)
	}
}

func (s *system) startAWS() {
	s.t.Helper()
	server, err := aws.Open(aws.Config{Path: filepath.Join(s.t.TempDir(), "aws.db")})
	if err != nil {
		s.t.Fatal(err)
	}
	listener := listen(s.t)
	s.aws = "http://" + listener.Addr().String()
	s.t.Cleanup(func() {
		for what, n := range server.Unknown() {
			s.t.Errorf("the embedded AWS does not know %s (asked %d times)", what, n)
		}
	})
	s.until(func(ctx context.Context) error { return errors.Join(server.Serve(ctx, listener), server.Close()) })
	s.config = sdk.Config{
		Region: "eu-central-1", BaseEndpoint: &s.aws,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	}
}

func (s *system) startWhatsApp() {
	s.t.Helper()
	server, err := whatsapp.New(whatsapp.Config{DataDir: s.t.TempDir()})
	if err != nil {
		s.t.Fatal(err)
	}
	listener := listen(s.t)
	s.whatsapp, s.endpoint = server, "http://"+listener.Addr().String()
	s.until(server.Run)
	s.until(func(ctx context.Context) error { return server.Serve(ctx, listener) })
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// makeTablesAndQueues makes what the template declares, from the definitions
// that are compared with it, and puts its local addresses in the place of the
// deployed ones.
func (s *system) makeTablesAndQueues() {
	s.t.Helper()
	ctx := s.t.Context()
	if err := sandboxTables().Create(ctx, dynamodb.NewFromConfig(s.config)); err != nil {
		s.t.Fatal(err)
	}
	urls, err := queue.Local().Create(ctx, sqs.NewFromConfig(s.config), whatisup.DefaultShardCount)
	if err != nil {
		s.t.Fatal(err)
	}
	s.known["EventsQueue"], s.known["IntegrationCommands"], s.known["MediaQueue"] = urls.Events, urls.Integration, urls.Media
	s.known["MediaBucket"] = bucketName
	s.files = bucket.New(bucket.Config{AWS: s.config, Name: bucketName})
	if err := s.files.Create(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.known["WebhookEvents"], s.known["WebhookDeliveries"], s.known["WebhookWakes"] = urls.WebhookEvents, urls.WebhookDeliveries, urls.WebhookWakes
	s.known["WebhookEventsDead"], s.known["WebhookDeliveriesDead"] = urls.WebhookEventsDead, urls.WebhookDeliveriesDead
	secrets, err := kms.NewFromConfig(s.config).CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.known["WebhookKey.Arn"] = *secrets.KeyMetadata.KeyId
	key, err := kms.NewFromConfig(s.config).CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.known["SandboxAuthKey.Arn"] = *key.KeyMetadata.KeyId
	peppers, err := whatisup.ParsePeppers(pepper)
	if err != nil {
		s.t.Fatal(err)
	}
	s.made, err = s.operator(peppers).MakeCustomer(ctx, "acme")
	if err != nil {
		s.t.Fatal(err)
	}
}

// sandboxTables are the deployment's, as its sandbox host knows them.
func sandboxTables() dynamo.Tables {
	t := dynamo.Local()
	t.Devices = "whatisup-sandbox-devices"
	return t
}

// deployedPrefix is where the template says the queues are.
const deployedPrefix = "https://sqs.eu-central-1.amazonaws.com/123456789012/"

// mediaSecret seals the URLs of a run's files.
const mediaSecret = "a secret of this test alone"

// variables are a program's, as the template gives them, with the addresses of
// this run and what Lambda and ECS add.
func (s *system) variables(program string, written map[string]any) []string {
	s.t.Helper()
	prefix := strings.TrimSuffix(s.known["EventsQueue"].(string), queue.Local().Events)
	env := []string{
		"AWS_ENDPOINT_URL=" + s.recorder.endpoint(s.t, program, s.aws),
		"AWS_REGION=eu-central-1", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
	}
	for name, v := range written {
		text := fmt.Sprint(v)
		if name == "MEDIA_SECRET" {
			text = mediaSecret
		}
		if name == "PEPPER" {
			text = oldPepper + "," + pepper
		}
		env = append(env, name+"="+strings.Replace(text, deployedPrefix, prefix, 1))
	}
	return env
}

func (s *system) startFunctions() {
	s.t.Helper()
	buffered, streams := make(map[string]gateway.Handler), make(map[string]http.Handler)
	log := slog.New(slog.NewTextHandler(s.output, nil))
	for _, f := range functions(s.t, s.template) {
		env := resolve(s.t, s.template, f.Env, s.known).(map[string]any)
		running := runtimeapi.New(runtimeapi.Config{
			Name: f.Name, Binary: filepath.Join(s.binaries, f.Name), Env: s.variables(f.Name, env),
			Timeout: f.Timeout, MemoryMB: f.MemoryMB, Concurrency: 8, Output: s.output,
		})
		s.until(running.Run)
		s.invoke[f.Name] = running
		if f.Streams {
			streams[f.Name] = gateway.Stream(running, log)
		} else if len(f.Routes) > 0 {
			buffered[f.Name] = gateway.Buffered(running)
		}
		for _, trigger := range f.Triggers {
			s.startTrigger(f, trigger, running, log)
		}
	}
	g, err := gateway.New(gateway.Config{Template: s.template, Functions: buffered, Streams: streams, StreamPath: "/v1/events", Log: log})
	if err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewServer(g)
	s.t.Cleanup(func() { server.CloseClientConnections(); server.Close(); g.Wait() })
	s.api = server.URL
}

func (s *system) startTrigger(f template.Function, trigger template.Trigger, running *runtimeapi.Function, log *slog.Logger) {
	s.t.Helper()
	config := s.config.Copy()
	// Lambda takes messages with the function's own role.
	config.BaseEndpoint = sdk.String(s.recorder.endpoint(s.t, f.Name, s.aws))
	s.until(gateway.Trigger{
		Queue: sqs.NewFromConfig(config), QueueURL: s.known[trigger.Resource()].(string),
		ARN: fmt.Sprint(resolve(s.t, s.template, trigger.Queue, s.known)), Batch: trigger.BatchSize, Timeout: f.Timeout, Log: log,
		Handler: func(ctx context.Context, e events.SQSEvent) (events.SQSEventResponse, error) {
			var answer events.SQSEventResponse
			b, err := json.Marshal(e)
			if err != nil {
				return answer, err
			}
			response, err := running.Invoke(ctx, b)
			if err != nil {
				return answer, err
			}
			defer response.Body.Close()
			return answer, json.NewDecoder(response.Body).Decode(&answer)
		},
	}.Run)
}

// startHost starts the session host's program and returns what ends it, as ECS
// does: with a signal, and then by waiting.
func (s *system) startHost() (stop func()) {
	s.t.Helper()
	container := hostContainers(s.t, s.template, "SandboxHostTask", s.known)[0]
	written := variablesOf(container)
	written["WHATSAPP_ENDPOINT"] = s.endpoint
	var command []string
	for _, word := range container["EntryPoint"].([]any) {
		command = append(command, filepath.Join(s.binaries, fmt.Sprint(word)))
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(s.variables("sessionhost", written), "HEALTH_ADDR=127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = s.output, s.output
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it has ended then
			select {
			case err := <-ended:
				if err != nil {
					s.t.Errorf("session host: %v", err)
				}
			case <-time.After(90 * time.Second):
				cmd.Process.Kill() //nolint:errcheck // as above
				<-ended
				s.t.Error("the session host did not drain")
			}
		})
	}
	s.t.Cleanup(stop)
	return stop
}

// answer is what a call to the API gave.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	text   string
}

// call calls the API with the test key.
func (s *system) call(method, path, body string, headers ...string) answer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 40*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.api+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.made.TestKey)
	r.Header.Set("Accept", "application/json")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	a := answer{status: response.StatusCode, header: response.Header, text: string(text)}
	json.Unmarshal(text, &a.body) //nolint:errcheck // not every answer is JSON
	return a
}

// must calls the API and fails the test unless it answers the status.
func (s *system) must(status int, method, path, body string, headers ...string) answer {
	s.t.Helper()
	a := s.call(method, path, body, headers...)
	if a.status != status {
		s.t.Fatalf("%s %s: %d %s, want %d", method, path, a.status, a.text, status)
	}
	return a
}

// eventually waits for a condition.
func (s *system) eventually(what string, holds func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// create makes an instance and returns its id.
func (s *system) create() string {
	s.t.Helper()
	return s.must(201, "POST", "/v1/instances", `{"name":"one"}`).body["id"].(string)
}

// awaitCode makes a call that waits for a code, again if the machine was too
// busy for it to come in time.
func (s *system) awaitCode(method, path, body string) {
	s.t.Helper()
	s.eventually("a code", func() bool {
		a := s.call(method, path, body)
		if a.status != 200 && a.status != 503 {
			s.t.Fatalf("%s %s: %d %s", method, path, a.status, a.text)
		}
		return a.status == 200
	})
}

// connect pairs an instance with a simulated phone.
func (s *system) connect(id string) {
	s.t.Helper()
	s.awaitCode("GET", "/v1/instances/"+id+"/qr", "")
	s.must(204, "POST", "/v1/sandbox/instances/"+id+"/scan", "")
	s.reach(id, "connected")
}

func (s *system) reach(id, status string) {
	s.t.Helper()
	s.eventually(id+" "+status, func() bool {
		return s.must(200, "GET", "/v1/instances/"+id, "").body["status"] == status
	})
}

// lines keeps the end of what programs print.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const linesKept = 32 << 10

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(b)
	if over := l.b.Len() - linesKept; over > 0 {
		l.b.Next(over)
	}
	return len(b), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
