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
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"whatisup/local/gateway/runtimeapi"
	"whatisup/local/gateway/sample"
	"whatisup/local/gateway/template"
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

// known asks the running API for what the events are filled with.
func (s *stack) known(ctx context.Context, id string) (sample.Stack, error) {
	type instance struct {
		ID         string `json:"id"`
		CustomerID string `json:"customer_id"`
	}
	var instances struct {
		Data []instance `json:"data"`
	}
	if err := s.call(ctx, "GET", "/v1/instances?limit=1", "", &instances); err != nil {
		return sample.Stack{}, err
	}
	if len(instances.Data) == 0 {
		instances.Data = make([]instance, 1)
		if err := s.call(ctx, "POST", "/v1/instances", `{"name":"sample"}`, &instances.Data[0]); err != nil {
			return sample.Stack{}, err
		}
	}
	var keys struct {
		Data []struct {
			ID     string `json:"id"`
			Prefix string `json:"prefix"`
		} `json:"data"`
	}
	if err := s.call(ctx, "GET", "/v1/api-keys", "", &keys); err != nil {
		return sample.Stack{}, err
	}
	known := sample.Stack{
		Key: s.key, CustomerID: instances.Data[0].CustomerID, InstanceID: cmp.Or(id, instances.Data[0].ID), Now: time.Now(),
	}
	for _, k := range keys.Data {
		if !strings.HasPrefix(s.key, k.Prefix) { // never the key that is in use
			known.KeyID = k.ID
		}
	}
	return known, nil
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
	for name, value := range s.env {
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
