// Package environment reads what template.yaml gives a function, once, at its
// start. Each function asks only for what its template section has.
package environment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/functions/internal/awsenv"
	"whatisup/shared/control"
	"whatisup/shared/dynamo"
	"whatisup/shared/httpapi"
	"whatisup/shared/integration"
	"whatisup/shared/lambdahttp"
	"whatisup/shared/queue"
	"whatisup/shared/webhook/takers"
	"whatisup/shared/whatisup"
)

// Function is a function's surroundings.
type Function struct {
	aws     aws.Config
	api     httpapi.Config
	problem error
	db      *dynamo.DB
}

// pepperWithin bounds the look at the peppers: a function that can't reach its
// table says so in its answers.
const pepperWithin = 3 * time.Second

// Open reads the settings that every function has, opens the tables, and looks
// whether the peppers are those of the stored keys: with others every customer
// would be told that his key is wrong, so that is an error.
func Open(ctx context.Context) (*Function, error) {
	f, db, err := open()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pepperWithin)
	defer cancel()
	if err := db.CheckPeppers(ctx, f.api.Peppers); errors.Is(err, whatisup.ErrPepper) {
		return nil, fmt.Errorf("PEPPER: %w", err)
	} else if err != nil {
		f.api.Log.Warn("the peppers were not compared with the stored keys", "error", err)
	}
	return f, nil
}

// Main is the main of a function that needs nothing but its surroundings: it opens
// them, serves what build makes of them, and ends the process where one of the two
// fails.
func Main(build func(*Function) any) {
	f, err := Open(context.Background())
	var handler any
	if err == nil {
		handler = build(f)
		err = f.problem
	}
	if err != nil {
		slog.Error("not started", "error", err)
		os.Exit(1)
	}
	lambda.Start(handler)
}

// OpenApart is Open for a function that reads no key: it has no right to the table
// that they are in.
func OpenApart() (*Function, error) {
	f, _, err := open()
	return f, err
}

func open() (*Function, *dynamo.DB, error) {
	cfg, err := awsenv.Config(os.Getenv)
	if err != nil {
		return nil, nil, err
	}
	var problems []error
	number := func(name string, parse func(string) error) {
		if s := os.Getenv(name); s != "" {
			if err := parse(s); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	f := &Function{aws: cfg, api: httpapi.Config{
		Sandbox:   os.Getenv("SANDBOX") == "true",
		EventsURL: os.Getenv("EVENTS_URL"),
		Arrival:   lambdahttp.Arrival,
		Log:       lambdacontext.NewLogger(),
	}}
	shards := 0
	number("SHARD_COUNT", func(s string) (err error) { shards, err = strconv.Atoi(s); return })
	number("MAX_INSTANCES", func(s string) (err error) { f.api.MaxInstances, err = strconv.Atoi(s); return })
	number("RATE_LIMIT_BURST", func(s string) (err error) { f.api.Limits.Burst, err = strconv.Atoi(s); return })
	number("RATE_LIMIT_PER_SECOND", func(s string) (err error) {
		f.api.Limits.PerSecond, err = strconv.ParseFloat(s, 64)
		return
	})
	number("PEPPER", func(s string) (err error) { f.api.Peppers, err = whatisup.ParsePeppers(s); return })
	db := dynamo.New(dynamo.Config{
		Client:     dynamodb.NewFromConfig(cfg),
		Tables:     dynamo.TablesFromEnv(os.Getenv),
		ShardCount: shards,
		Queues:     os.Getenv("EVENT_QUEUE_URLS") != "" || os.Getenv("WEBHOOK_EVENTS_QUEUE_URL") != "",
	})
	f.api.Store, f.db = db, db
	return f, db, errors.Join(problems...)
}

// Commands adds the shards' queues.
func (f *Function) Commands() *Function {
	f.api.Commands = queue.NewCommands(sqs.NewFromConfig(f.aws), os.Getenv("COMMAND_QUEUE_PREFIX"))
	return f
}

// Events adds the event queues, the one that begins the way to webhooks among them.
func (f *Function) Events() *Function {
	f.api.Events = queue.NewEvents(sqs.NewFromConfig(f.aws), queue.SplitURLs(os.Getenv("EVENT_QUEUE_URLS"))).
		WithWebhooks(os.Getenv("WEBHOOK_EVENTS_QUEUE_URL"), takers.New(f.db))
	return f
}

// Webhooks adds what the calls of webhooks need.
func (f *Function) Webhooks(hooks control.Webhooks) *Function {
	f.api.Webhooks = hooks
	return f
}

// With adds what only some functions need, such as files; the package of each opens it,
// so that functions that have nothing to do with it don't link it.
func (f *Function) With(add func(aws.Config, *httpapi.Config) error) *Function {
	if err := add(f.aws, &f.api); err != nil {
		f.problem = errors.Join(f.problem, err)
	}
	return f
}

// AWS is how AWS is reached.
func (f *Function) AWS() aws.Config { return f.aws }

// Check returns what went wrong while something was added.
func (f *Function) Check() error { return f.problem }

// Control is the operations themselves, for a function of a queue.
func (f *Function) Control(change func(*control.Config)) *control.Control {
	c := control.Config{
		Store: f.api.Store, Commands: f.api.Commands, Events: f.api.Events,
		Objects: f.api.Objects, Work: f.api.Work, Links: f.api.Links, MediaKept: f.api.MediaKept, Foreign: f.api.Foreign,
	}
	change(&c)
	return control.New(c)
}

// Pages adds the contract's routes and the page at /, which is made for the URL of the
// event stream.
func (f *Function) Pages(contract *httpapi.Document, dashboard func(eventsURL string) http.Handler) *Function {
	f.api.Document, f.api.Dashboard = contract, dashboard(f.api.EventsURL)
	return f
}

// Unstreamed is for a function that can't stream: whoever asks it for the event
// stream gets what there is, and is told to come again. Anything longer would hold
// the function, and its client would see nothing of it.
func (f *Function) Unstreamed() *Function {
	f.api.StreamFor = time.Nanosecond
	return f
}

// Handler is the handler of the function of that name.
func (f *Function) Handler(name string) http.Handler { return httpapi.New(f.api).Function(name) }

// Integration is the handler of the integration queue.
func (f *Function) Integration() *integration.Integration {
	return &integration.Integration{Store: f.api.Store, Log: f.api.Log, Control: control.New(control.Config{
		Store: f.api.Store, Commands: f.api.Commands, Events: f.api.Events,
		MaxInstances: f.api.MaxInstances, Peppers: f.api.Peppers,
	})}
}

// Log is the function's logger.
func (f *Function) Log() *slog.Logger { return f.api.Log }
