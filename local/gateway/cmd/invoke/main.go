// Command invoke runs a function's real binary on a sample event, over the
// Lambda Runtime API and against the stack that `make run` keeps up, and prints
// what it answers. With -fill it only writes the events as they would be sent.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/local/gateway/runtimeapi"
	"whatisup/local/gateway/sample"
	"whatisup/local/gateway/template"
	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "invoke:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, getenv func(string) string, out, diagnosis io.Writer) error {
	flags := flag.NewFlagSet("invoke", flag.ContinueOnError)
	flags.SetOutput(diagnosis)
	event := flags.String("event", "", "a sample of events/ by its name, or a file with an event; all samples are listed without it")
	id := flags.String("id", "", "the instance; the customer's newest if empty, a new one if there is none")
	fill := flags.String("fill", "", "folder to write all filled events and env.json to, instead of running anything")
	if err := flags.Parse(args); err != nil {
		return err
	}
	functions, err := declared()
	if err != nil {
		return err
	}
	if *event == "" && *fill == "" {
		return samples(functions, out)
	}
	stack, err := open(cmp.Or(getenv("DATA_DIR"), ".data"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	if *fill != "" {
		return stack.fill(ctx, *fill, *id, diagnosis)
	}
	text, err := os.ReadFile(fileOf(*event))
	if err != nil {
		return fmt.Errorf("%w; without EVENT all samples are listed", err)
	}
	function, err := functionOf(functions, text)
	if err != nil {
		return fmt.Errorf("%s: %w", *event, err)
	}
	with, err := stack.known(ctx, *id)
	if err != nil {
		return err
	}
	filled, err := sample.Fill(text, with)
	if err != nil {
		return fmt.Errorf("%s: %w", *event, err)
	}
	return stack.invoke(ctx, function, filled, out, diagnosis)
}

// declared are the functions of template.yaml.
func declared() ([]template.Function, error) {
	text, err := os.ReadFile("template.yaml")
	if err != nil {
		return nil, err
	}
	t, err := template.Parse(text)
	if err != nil {
		return nil, err
	}
	return t.Functions()
}

// fileOf takes the name of a sample as its file's.
func fileOf(event string) string {
	if strings.ContainsAny(event, "/.") {
		return event
	}
	return filepath.Join("events", event+".json")
}

// samples lists the sample events with the function of each.
func samples(functions []template.Function, out io.Writer) error {
	files, err := filepath.Glob("events/*.json")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "Say which event, as in `make invoke EVENT=qr`. There are:")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		f, err := functionOf(functions, text)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		fmt.Fprintf(out, "  %-28s %s\n", strings.TrimSuffix(filepath.Base(file), ".json"), f.Name)
	}
	return nil
}

// functionOf finds the function that an event is for: by its route, by its queue, whose
// name begins with the function's, or because it came to a URL of its own.
func functionOf(functions []template.Function, event []byte) (*template.Function, error) {
	kind, err := sample.KindOf(event)
	if err != nil {
		return nil, err
	}
	var e struct {
		RouteKey string `json:"routeKey"`
		Records  []struct {
			Queue string `json:"eventSourceARN"`
		}
	}
	if err := json.Unmarshal(event, &e); err != nil {
		return nil, err
	}
	for i, f := range functions {
		mine := false
		switch kind {
		case sample.HTTP:
			mine = slices.ContainsFunc(f.Routes, func(r template.Route) bool { return r.Key() == e.RouteKey })
		case sample.URL:
			mine = f.Streams
		case sample.Queued:
			queue := e.Records[0].Queue[strings.LastIndex(e.Records[0].Queue, ":")+1:] // <stack>-<function>-…
			_, queue, _ = strings.Cut(queue, "-")
			mine = strings.HasPrefix(queue, f.Name+"-")
		}
		if mine {
			return &functions[i], nil
		}
	}
	return nil, errors.New("template.yaml has no function for this event")
}

// stack is the running stack, as it can be known from its data directory.
type stack struct {
	dir string
	env map[string]string
	key string
	api string
}

func open(dir string) (*stack, error) {
	text, err := os.ReadFile(filepath.Join(dir, "env.json"))
	if err != nil {
		return nil, fmt.Errorf("is `make run` up? %w", err)
	}
	s := &stack{dir: dir}
	if err := json.Unmarshal(text, &s.env); err != nil {
		return nil, fmt.Errorf("env.json: %w", err)
	}
	file := "test.key"
	if s.env["WHATSAPP"] == "live" {
		file = "live.key"
	}
	key, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil, err
	}
	s.key = strings.TrimSpace(string(key))
	s.api = strings.TrimSuffix(s.env["EVENTS_URL"], "/v1/events")
	if s.api == "" {
		return nil, errors.New("env.json does not say where the API is (EVENTS_URL)")
	}
	return s, nil
}

// known reads from the stack's tables what the events are filled with: a call of the API
// would cost the customer a token.
func (s *stack) known(ctx context.Context, id string) (sample.Stack, error) {
	db := s.tables()
	mode, own, ok := whatisup.ParseAPIKeyText(s.key)
	if !ok {
		return sample.Stack{}, errors.New("the stack's key is none")
	}
	key, err := db.Key(ctx, own)
	if err != nil {
		return sample.Stack{}, fmt.Errorf("the stack's key: %w", err)
	}
	known := sample.Stack{Key: s.key, CustomerID: string(key.Customer), InstanceID: id, Now: time.Now()}
	if id == "" {
		if known.InstanceID, err = s.newest(ctx, db, key); err != nil {
			return sample.Stack{}, err
		}
	}
	for k, err := range db.Keys(ctx, key.Customer, mode) {
		if err != nil {
			return sample.Stack{}, err
		}
		if k.ID != own { // never the key that is in use
			known.KeyID = string(k.ID)
		}
	}
	return known, nil
}

// newest is the customer's newest instance. If there is none, the API makes one, for a
// token.
func (s *stack) newest(ctx context.Context, db *dynamo.DB, key whatisup.APIKey) (string, error) {
	for i, err := range db.Instances(ctx, key.Customer, key.Mode, "", 1) {
		if err != nil {
			return "", err
		}
		return string(i.Config.ID), nil
	}
	var made struct {
		ID string `json:"id"`
	}
	err := s.call(ctx, "POST", "/v1/instances", `{"name":"sample"}`, &made)
	return made.ID, err
}

func (s *stack) tables() *dynamo.DB {
	get := func(name string) string { return s.env[name] }
	client := dynamodb.New(dynamodb.Options{
		Region: get("AWS_REGION"), BaseEndpoint: aws.String(get("AWS_ENDPOINT_URL")),
		Credentials: credentials.NewStaticCredentialsProvider(get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY"), ""),
	})
	return dynamo.New(dynamo.Config{Client: client, Tables: dynamo.TablesFromEnv(get)})
}

func (s *stack) call(ctx context.Context, method, path, body string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.api+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+s.key)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode > 299 {
		return fmt.Errorf("%s %s: %s", method, path, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// fill writes every sample event, filled, and the functions' environment in the
// form that `sam local invoke --env-vars` reads.
func (s *stack) fill(ctx context.Context, dir, id string, diagnosis io.Writer) error {
	with, err := s.known(ctx, id)
	if err != nil {
		return err
	}
	// What is written holds a key and the pepper.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	files, err := filepath.Glob("events/*.json")
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		filled, err := sample.Fill(text, with)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), filled, 0o600); err != nil {
			return err
		}
	}
	env, err := json.MarshalIndent(map[string]any{"Parameters": s.env}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "env.json"), append(env, '\n'), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(diagnosis, "%d events and env.json are in %s; try `sam local invoke QrFunction -e %s`\n",
		len(files), dir, filepath.Join(dir, "qr.json"))
	return nil
}

// invoke builds the function for this machine and puts the event through it.
func (s *stack) invoke(ctx context.Context, function *template.Function, event []byte, out, diagnosis io.Writer) error {
	name := function.Name
	binary, err := filepath.Abs(filepath.Join(s.dir, "functions", name))
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-tags", "lambda.norpc", "-o", binary, "./functions/"+name)
	build.Stdout, build.Stderr = diagnosis, diagnosis
	if err := build.Run(); err != nil {
		return fmt.Errorf("build %s: %w", name, err)
	}
	var env []string
	for name, value := range s.unlimited() {
		env = append(env, name+"="+value)
	}
	running := runtimeapi.New(runtimeapi.Config{
		Name: name, Binary: binary, Env: env, Timeout: function.Timeout, MemoryMB: function.MemoryMB, Output: diagnosis,
	})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- running.Run(ctx) }()
	response, err := running.Invoke(ctx, event)
	if err == nil {
		err = show(out, response)
	}
	cancel()
	return errors.Join(err, <-ended)
}

// unlimited is the function's environment with a bucket that a call takes next to
// nothing from: a microsecond of what fills it. Trying a function is no customer's call.
func (s *stack) unlimited() map[string]string {
	env := maps.Clone(s.env)
	env["RATE_LIMIT_BURST"], env["RATE_LIMIT_PER_SECOND"] = "1000000000000", "1000000"
	return env
}

// show prints an answer: a buffered one with its body in the open, a streamed
// one as it comes.
func show(out io.Writer, response *runtimeapi.Response) error {
	defer response.Body.Close()
	if response.ContentType != "application/json" {
		_, err := io.Copy(out, response.Body)
		return err
	}
	b, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, b, "", "  "); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, pretty.String())
	return err
}
