package local

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/prometheus/client_golang/prometheus"

	repository "whatisup"
	localaws "whatisup/local/aws"
	"whatisup/local/front"
	"whatisup/local/gateway"
	"whatisup/local/gateway/template"
	"whatisup/local/whatsapp"
	"whatisup/sessionhost/fleet"
	"whatisup/sessionhost/host"
	"whatisup/sessionhost/tally"
	"whatisup/shared/control"
	"whatisup/shared/dashboard"
	"whatisup/shared/dynamo"
	"whatisup/shared/expiry"
	"whatisup/shared/fetch"
	"whatisup/shared/foreign"
	"whatisup/shared/httpapi"
	"whatisup/shared/input"
	"whatisup/shared/integration"
	"whatisup/shared/lambdahttp"
	"whatisup/shared/operator"
	"whatisup/shared/queue"
	"whatisup/shared/seal"
	"whatisup/shared/webhook"
	"whatisup/shared/webhook/takers"
	"whatisup/shared/whatisup"
)

// Stack is where the parts of a running stack are.
type Stack struct {
	API      string // URL of the API and the dashboard on this machine
	Public   string // the same as clients reach it
	Health   string // URL of the health page
	AWS      string
	WhatsApp string // of the simulator; empty with the real WhatsApp
	Keys     map[whatisup.Mode]string
	Env      map[string]string // what functions and hosts read
	AWSConf  aws.Config

	created *created // hears of the bucket's objects
	stirs   *stirs

	// Server and Simulator are the stand-ins themselves, for tests; the simulator
	// is nil if it is not ours.
	Server    *localaws.Server
	Simulator *whatsapp.Server
}

// stopWithin bounds how long each part may take to stop.
const stopWithin = 90 * time.Second

// Run runs the stack until ctx ends, and calls ready once everything answers.
func Run(ctx context.Context, c Config, ready func(*Stack)) (err error) {
	c.figures = newFigures(c.Version)
	unlock, err := c.lockFolder(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	secrets, err := c.openFolder()
	if err != nil {
		return err
	}
	// Whoever finds this file finds a running stack.
	if err := os.Remove(c.path(envFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The parts, in the order in which they came up; they stop in the other.
	parts, ctx := newParts(ctx)
	defer func() { err = parts.stop(ctx, err) }()

	s := &Stack{}
	if err := c.startAWS(s, secrets, parts.start); err != nil {
		return err
	}
	tables := c.tables()
	if err := tables.Create(ctx, dynamodb.NewFromConfig(s.AWSConf)); err != nil {
		return fmt.Errorf("tables: %w", err)
	}
	queues := sqs.NewFromConfig(s.AWSConf)
	urls, err := c.makeQueues(ctx, queues)
	if err != nil {
		return err
	}
	files, err := c.startFiles(ctx, s, urls.Media, parts.start)
	if err != nil {
		return fmt.Errorf("bucket: %w", err)
	}
	authKey, err := authKey(ctx, kms.NewFromConfig(s.AWSConf))
	if err != nil {
		return fmt.Errorf("key for auth state: %w", err)
	}
	peppers, err := whatisup.ParsePeppers(secrets.pepper)
	if err != nil {
		return fmt.Errorf("the pepper: %w", err)
	}
	db := dynamo.New(dynamo.Config{Client: dynamodb.NewFromConfig(s.AWSConf), Tables: tables, Queues: c.EventQueue, Clock: dynamo.NewClock(c.Clock)})
	if err := db.CheckPeppers(ctx, peppers); err != nil {
		return fmt.Errorf("the pepper: %w", err)
	}
	if err := db.CheckMoved(ctx, c.Serves); err != nil {
		return err
	}
	if s.Keys, err = c.firstCustomer(ctx, operator.New(db, peppers)); err != nil {
		return err
	}
	var root string
	if !c.Both() { // otherwise the sandbox's own process does
		if root, err = c.startSimulator(ctx, s, parts.start); err != nil {
			return err
		}
	}
	api, err := c.listen("PORT")
	if err != nil {
		return err
	}
	s.API = "http://" + api.Addr().String()
	if c.Door.TLS() {
		s.API = "https://" + api.Addr().String()
	}
	s.Public = cmp.Or(c.PublicURL, s.API)

	s.Env = map[string]string{
		"AWS_ENDPOINT_URL": s.AWS, "AWS_REGION": region,
		"MEDIA_TABLE": tables.Media, "MEDIA_BUCKET": mediaBucket, "MEDIA_QUEUE_URL": urls.Media, "MEDIA_SECRET": mediaSecret(peppers),
		"PUBLIC_URL": s.Public, "MEDIA_ENDPOINT": s.Public + lentPath,
		"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secrets.aws,
		"ACCESS_TABLE": tables.Access, "INSTANCES_TABLE": tables.Instances, "CALLS_TABLE": tables.Calls,
		"EVENTS_TABLE": tables.Events, "FLEET_TABLE": tables.Fleet, "DEVICES_TABLE": tables.Devices, "MESSAGES_TABLE": tables.Messages,
		"WEBHOOKS_TABLE": tables.Webhooks, "WEBHOOK_EVENTS_QUEUE_URL": urls.WebhookEvents, "WEBHOOK_ATTEMPTS_QUEUE_URL": urls.WebhookDeliveries,
		"WEBHOOK_WAKES_QUEUE_URL": urls.WebhookWakes, "WEBHOOK_KEY_ID": authKey, "FOREIGN_ALLOW": c.ForeignAllow,
		"COMMAND_QUEUE_PREFIX": urls.CommandPrefix, "EVENT_QUEUE_URLS": urls.Events, "INTEGRATION_QUEUE_URL": urls.Integration,
		"SHARD_COUNT": strconv.Itoa(whatisup.DefaultShardCount),
		"AUTH_KEY_ID": authKey, "PEPPER": secrets.pepper,
		"SANDBOX": strconv.FormatBool(c.Serves(whatisup.Test)), "EVENTS_URL": s.Public + "/v1/events",
		"WHATSAPP": c.WhatsApp, "WHATSAPP_ENDPOINT": s.WhatsApp, "WHATSAPP_NOISE_ROOT": root, "WHATSAPP_CA_FILE": c.CAFile,
	}
	limited := func(name string, l whatisup.RateLimit) {
		if l.Burst > 0 {
			s.Env[name+"_BURST"] = strconv.Itoa(l.Burst)
		}
		if l.PerSecond > 0 {
			s.Env[name+"_PER_SECOND"] = strconv.FormatFloat(l.PerSecond, 'g', -1, 64)
		}
	}
	limited("RATE_LIMIT", c.Limits)
	limited("SEND_LIMIT_CUSTOMER", c.Sends.Customer)
	limited("SEND_LIMIT_INSTANCE", c.Sends.Instance)
	for k, v := range s.Env {
		if v == "" {
			delete(s.Env, k)
		}
	}
	var h *host.Host
	if !c.NoHost {
		if h, err = c.startHost(s, parts.start); err != nil {
			return errors.Join(err, api.Close())
		}
	}
	if err := c.startHealth(s, h, parts.start); err != nil {
		return errors.Join(err, api.Close())
	}
	if err := c.startGateway(s, api, db, peppers, urls, files, parts.start); err != nil {
		return errors.Join(err, api.Close())
	}
	if err := c.startControl(s, parts.start); err != nil {
		return err
	}
	s.Env["HEALTH_URL"] = s.Health
	text, err := json.MarshalIndent(s.Env, "", "  ")
	if err != nil {
		return err
	}
	if err := c.folderDone(); err != nil {
		return err
	}
	if err := writeSecret(c.path(envFile), string(text)); err != nil {
		return err
	}
	defer os.Remove(c.path(envFile))
	if ready != nil {
		ready(s)
	}
	<-ctx.Done()
	return nil
}

const region = "us-east-1"

// accessKey is the name of the one key that signs requests to the embedded AWS.
const accessKey = "local"

func (c Config) startAWS(s *Stack, secrets secrets, start starter) error {
	roots, err := localaws.ParseRoots(secrets.root)
	if err != nil {
		return fmt.Errorf("KMS_ROOT: %w", err)
	}
	conf := localaws.Config{
		Path: c.path(databases), Clock: c.Clock, AccessKey: accessKey, SecretKey: secrets.aws, Roots: roots, Log: c.Log.With("part", "aws"),
	}
	s.created = &created{keys: make(chan string, queued)}
	conf.Created = s.created.hear
	s.stirs = newStirs(c.tables().Events)
	conf.Written = s.stirs.hear
	if s.Server, err = localaws.Open(conf); err != nil {
		return err
	}
	l, err := c.listen("AWS_PORT")
	if err != nil {
		return errors.Join(err, s.Server.Close())
	}
	if host, _, err := net.SplitHostPort(l.Addr().String()); err == nil && !isLoopback(host) {
		c.Log.Warn("the embedded AWS can be reached from other machines, and answers whoever has the stack's secret key", "address", l.Addr().String(), "key", c.path(secretFile))
	}
	start("aws", func(ctx context.Context) error {
		return errors.Join(s.Server.Serve(ctx, l), s.Server.Close())
	})
	s.AWS = "http://" + l.Addr().String()
	if c.Front != nil {
		if s.AWS, err = c.Front(s.Server); err != nil {
			return err
		}
	}
	s.AWSConf = aws.Config{
		Region: region, BaseEndpoint: aws.String(s.AWS),
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secrets.aws, ""),
		// One connection a long poll, and some for everything else.
		HTTPClient: awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = 64
		}),
	}
	return nil
}

// makeQueues makes the queues. Without a reader the queue of all events would only
// grow: unless it is asked for it is not there, and one that was there is removed.
func (c Config) makeQueues(ctx context.Context, client *sqs.Client) (queue.URLs, error) {
	names := queue.Local()
	if c.EventQueue {
		return names.Create(ctx, client, whatisup.DefaultShardCount)
	}
	for _, name := range []string{names.Events, names.EventsDead} {
		found, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String(name)})
		if _, none := errors.AsType[*sqstypes.QueueDoesNotExist](err); none {
			continue
		} else if err != nil {
			return queue.URLs{}, fmt.Errorf("the queue %s: %w", name, err)
		}
		if _, err := client.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: found.QueueUrl}); err != nil {
			return queue.URLs{}, fmt.Errorf("remove the queue %s: %w", name, err)
		}
		c.Log.Info("a queue was removed, because EVENT_QUEUE is off", "queue", name)
	}
	names.Events, names.EventsDead = "", ""
	return names.Create(ctx, client, whatisup.DefaultShardCount)
}

// startSimulator starts the simulated WhatsApp, unless the real one or another
// simulator is to be used, and returns its root key in hex.
func (c Config) startSimulator(ctx context.Context, s *Stack, start starter) (root string, err error) {
	switch {
	case c.WhatsApp == live:
		return "", nil
	case c.Endpoint != "":
		s.WhatsApp = c.Endpoint
		if c.Root != "" {
			return c.Root, nil
		}
		return askRoot(ctx, c.Endpoint)
	}
	if s.Simulator, err = whatsapp.New(whatsapp.Config{DataDir: c.path("whatsapp"), Seed: c.Seed, Clock: c.Clock, Log: c.Log.With("part", "whatsapp")}); err != nil {
		return "", err
	}
	// Its control calls ask for no key: it never leaves this machine.
	l, err := c.listen("WHATSAPP_PORT")
	if err != nil {
		return "", err
	}
	s.WhatsApp = "http://" + l.Addr().String()
	start("whatsapp", func(ctx context.Context) error {
		served := make(chan error, 1)
		go func() { served <- s.Simulator.Serve(ctx, l) }()
		return errors.Join(s.Simulator.Run(ctx), <-served)
	})
	key := s.Simulator.Root()
	return hex.EncodeToString(key[:]), nil
}

func (c Config) startGateway(s *Stack, l net.Listener, db *dynamo.DB, peppers whatisup.Peppers, urls queue.URLs, files *files, start starter) error {
	t, err := template.Parse(repository.Template)
	if err != nil {
		return err
	}
	functions, err := t.Functions()
	if err != nil {
		return err
	}
	log := slog.New(withoutRequests(c.Log.Handler())).With("part", "function")
	queues := sqs.NewFromConfig(s.AWSConf)
	hooks, err := c.webhooks(s, db, log)
	if err != nil {
		return err
	}
	conf := httpapi.Config{
		Store:    db,
		Webhooks: hooks,
		Commands: queue.NewCommands(queues, s.Env["COMMAND_QUEUE_PREFIX"]),
		Events:   hooks.Path.Events,
		Peppers:  peppers,
		Limits:   c.Limits, SendLimits: c.Sends,
		Sandbox:   c.Serves(whatisup.Test),
		EventsURL: s.Env["EVENTS_URL"],
		Document:  httpapi.Contract(),
		Dashboard: dashboard.Handler(s.Env["EVENTS_URL"], ""),
		Arrival:   lambdahttp.Arrival,
		Log:       log,
		Now:       c.Clock,
		Stirred:   s.stirs.await,
	}
	if c.Clock != nil {
		conf.Arrival = nil // the gateway's clock is the machine's
	}
	bucket := s.bucket()
	conf.Objects, conf.Work, conf.PublicURL = bucket, queue.NewMedia(queues, s.Env["MEDIA_QUEUE_URL"]), s.Env["PUBLIC_URL"]
	if conf.Links, err = whatisup.NewMediaLinks(conf.PublicURL, whatisup.Secret(s.Env["MEDIA_SECRET"])); err != nil {
		return err
	}
	fetcher := fetch.Fetcher{Guard: hooks.Guard}
	conf.Foreign = fetcher.Check
	api := httpapi.New(conf)
	answering, streaming := map[string]gateway.Handler{}, map[string]http.Handler{}
	for name, h := range api.Functions() {
		answering[name] = lambdahttp.Wrap(h, log)
	}
	// What a trigger of the template feeds, with the trigger's own settings.
	in := &integration.Integration{Store: db, Log: log, Control: control.New(control.Config{
		Store: db, Commands: conf.Commands, Events: conf.Events, Peppers: conf.Peppers, Now: c.Clock,
	})}
	message := func(do func(context.Context, webhook.Message) error) func(context.Context, events.SQSEvent) (events.SQSEventResponse, error) {
		return lambdahttp.Messages(func(ctx context.Context, m lambdahttp.Message) error {
			err := do(ctx, webhook.Message{Body: m.Body, Group: m.Group, Order: m.Order})
			if err != nil {
				log.Error("a webhook's message is taken again", "error", err)
			}
			return err
		})
	}
	fanOut := lambdahttp.Batches(func(ctx context.Context, all []lambdahttp.Message) []error {
		messages := make([]webhook.Message, len(all))
		for i, m := range all {
			messages[i] = webhook.Message{Body: m.Body, Group: m.Group, Order: m.Order}
		}
		errs := hooks.Path.FanOut(ctx, messages)
		if err := errors.Join(errs...); err != nil {
			log.Error("a webhook's message is taken again", "error", err)
		}
		return errs
	})
	worker := control.New(control.Config{
		Store: db, Events: conf.Events, Objects: bucket, Links: conf.Links, Foreign: conf.Foreign, Fetcher: fetcher, Stream: streamTo(bucket),
	})
	names := queue.Local()
	fed := map[string]gateway.Trigger{
		"IntegrationCommands":   {QueueURL: s.Env["INTEGRATION_QUEUE_URL"], Handler: lambdahttp.Queue(in.Carry), ARN: names.Integration},
		"MediaQueue":            {QueueURL: urls.Media, Handler: lambdahttp.Queue(worker.CarryMedia), ARN: names.Media},
		"WebhookEvents":         {QueueURL: urls.WebhookEvents, Handler: fanOut, ARN: names.WebhookEvents},
		"WebhookWakes":          {QueueURL: urls.WebhookWakes, ARN: names.WebhookWakes},
		"WebhookDeliveries":     {QueueURL: urls.WebhookDeliveries, Handler: message(hooks.Path.Deliver), ARN: names.WebhookDeliveries},
		"WebhookEventsDead":     {QueueURL: urls.WebhookEventsDead, Handler: message(hooks.Path.DeadEvent), ARN: names.WebhookEventsDead},
		"WebhookDeliveriesDead": {QueueURL: urls.WebhookDeliveriesDead, Handler: message(hooks.Path.Dead), ARN: names.WebhookDeliveriesDead},
	}
	messages := expiry.Sweeper{Store: db, Events: hooks.Path.Events, Log: log, Now: c.Clock}
	scheduled := map[string]func(context.Context) error{"sweep": func(ctx context.Context) error {
		return errors.Join(hooks.Path.Sweep(ctx), messages.Sweep(ctx))
	}}
	counts, clock := tallies{of: map[whatisup.Mode]*tally.Tally{}, deliveries: c.figures.deliveries}, c.Clock
	if clock == nil {
		clock = time.Now
	}
	for _, m := range []whatisup.Mode{whatisup.Live, whatisup.Test} {
		one := tally.New(db, m, clock, log)
		counts.of[m] = one
		start("tally", func(ctx context.Context) error {
			one.Run(ctx)
			return nil
		})
	}
	hooks.Path.Tally = counts
	for _, f := range functions {
		if f.Streams {
			streaming[f.Name] = api.Function(httpapi.FunctionEvents)
		}
		for _, trigger := range f.Triggers {
			feed, ok := fed[trigger.Resource()]
			if !ok {
				return fmt.Errorf("template.yaml: nothing feeds the function %s from %s", f.Name, trigger.Resource())
			}
			feed.Queue, feed.Log = queues, log
			feed.ARN = "arn:aws:sqs:" + region + ":000000000000:" + feed.ARN
			feed.Batch, feed.Timeout = trigger.BatchSize, f.Timeout
			if strings.HasPrefix(trigger.Resource(), "Webhook") {
				feed.Concurrency = trigger.Concurrency
			}
			if trigger.Resource() == "WebhookWakes" {
				feed.Handler, feed.Concurrency = message(newWakes(hooks.Path.Wake, trigger.Concurrency, log).work), wakesInHand
				feed.Timeout += wakesPatience
			}
			start(f.Name, feed.Run)
		}
		if f.Every > 0 {
			job, ok := scheduled[f.Name]
			if !ok {
				return fmt.Errorf("template.yaml: nothing is run by the schedule of %s", f.Name)
			}
			start(f.Name, gateway.Schedule{Every: f.Every, Timeout: f.Timeout, Handler: job, Log: log}.Run)
		}
	}
	g, err := gateway.New(gateway.Config{
		Template: t, Functions: answering, Streams: streaming, StreamPath: streamPath, Log: c.Log.With("part", "gateway"),
		MaxBody: input.MaxBody, Observe: c.figures.observe,
	})
	if err != nil {
		return err
	}
	door, err := front.New(c.Door, files.before(g), httpapi.RefuseAddress, c.Log.With("part", "front"))
	if err != nil {
		return err
	}
	start("gateway", func(ctx context.Context) error {
		err := door.Serve(ctx, l)
		g.Wait()
		return err
	})
	return nil
}

// tallies count what webhooks deliver, each mode's by itself.
type tallies struct {
	of         map[whatisup.Mode]*tally.Tally
	deliveries *prometheus.CounterVec
}

func (t tallies) Count(r whatisup.Ref, u whatisup.Usage) {
	t.deliveries.WithLabelValues(string(r.Mode), "delivered").Add(float64(u.Deliveries))
	t.deliveries.WithLabelValues(string(r.Mode), "undelivered").Add(float64(u.Lost))
	t.of[r.Mode].Count(r, u)
}

// webhooks is the way of events to endpoints, and what the API does with them. Loopback
// is a test key's on somebody's own machine.
func (c Config) webhooks(s *Stack, db *dynamo.DB, log *slog.Logger) (*webhook.Desk, error) {
	allow, err := foreign.ParseAllow(c.ForeignAllow)
	if err != nil {
		return nil, fmt.Errorf("FOREIGN_ALLOW: %w", err)
	}
	own := []string{s.API, s.AWS}
	for _, u := range []string{c.PublicURL, s.WhatsApp} {
		if u != "" {
			own = append(own, u)
		}
	}
	guard, err := foreign.New(foreign.Config{Allow: allow, Own: own, OneMachine: true})
	if err != nil {
		return nil, err
	}
	queues := sqs.NewFromConfig(s.AWSConf)
	sinks := queue.NewEvents(queues, queue.SplitURLs(s.Env["EVENT_QUEUE_URLS"])).
		WithWebhooks(s.Env["WEBHOOK_EVENTS_QUEUE_URL"], takers.New(db))
	sealer := webhook.NewSealer(seal.NewKeyring(kms.NewFromConfig(s.AWSConf), s.Env["WEBHOOK_KEY_ID"]))
	return &webhook.Desk{Sealer: sealer, Guard: guard, Path: &webhook.Path{
		Store: db, Log: db, Events: sinks, Secrets: sealer, Slog: log,
		Now:    c.Clock,
		Queue:  queue.NewWebhooks(queues, s.Env["WEBHOOK_ATTEMPTS_QUEUE_URL"], s.Env["WEBHOOK_WAKES_QUEUE_URL"]),
		Client: func(test bool) *http.Client { return guard.Client(test, 0) },
	}}, nil
}

// streamPath is where the event stream is.
const streamPath = "/v1/events"

// startHost starts the session host of this process. Its id is the data
// directory's, which one process at a time has: so a new run takes over at once
// what the last one owned, however that ended.
func (c Config) startHost(s *Stack, start starter) (*host.Host, error) {
	conf, err := host.FromEnv(HostEnv(s.Env, c.hostMode(), hostID, c.getenv))
	if err != nil {
		return nil, err
	}
	// It is the first of its machine: nobody whom it should leave shards to is
	// about to start, and somebody waits for a first code.
	conf.Fleet = fleet.Default()
	conf.Fleet.Settle, conf.Fleet.ClaimEvery = 50*time.Millisecond, 5*time.Millisecond
	conf.Health = "" // the stack shows it
	h, err := host.New(conf, s.AWSConf, c.Log.With("part", "host"))
	if err != nil {
		return nil, err
	}
	start("host", h.Run)
	return h, nil
}

// hostID is the name of the session host that a stack runs itself. Each mode has
// names of its own.
const hostID = "run"

// HostEnv is what a session host of a mode (live or sandbox) on a running stack
// reads: the stack's own settings first, then its user's.
func HostEnv(stack map[string]string, mode, id string, getenv func(string) string) func(string) string {
	return func(name string) string {
		switch name {
		case "WHATSAPP":
			return mode
		case "WHATSAPP_ENDPOINT", "WHATSAPP_NOISE_ROOT", "WHATSAPP_CA_FILE":
			if mode == live {
				return ""
			}
			return stack[name] // the stack has decided
		case "PEPPER":
			return "" // a host has no business with keys
		}
		if v, ok := stack[name]; ok {
			return v
		}
		switch name {
		case "HOST_ID":
			return cmp.Or(getenv(name), id)
		case "HEALTH_ADDR": // several hosts share this machine
			return cmp.Or(getenv(name), "127.0.0.1:0")
		}
		return getenv(name)
	}
}

// askRoot asks another simulator for its root key.
func askRoot(ctx context.Context, endpoint string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(endpoint, "/")+"/control/root", nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", fmt.Errorf("the simulator at WHATSAPP_ENDPOINT: %w; give its root key as WHATSAPP_NOISE_ROOT", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the simulator's root key: HTTP %d: %w; give it as WHATSAPP_NOISE_ROOT", resp.StatusCode, err)
	}
	var answer struct {
		Root string `json:"root"`
	}
	if json.Unmarshal(b, &answer) != nil || answer.Root == "" {
		answer.Root = strings.TrimSpace(string(b))
	}
	return answer.Root, nil
}

// Ports are the settings of the ports that a process of the stack listens at.
func (c Config) Ports(sandboxOnly bool) []string {
	switch {
	case sandboxOnly:
		return []string{"WHATSAPP_PORT"}
	case c.WhatsApp == sandbox && c.Endpoint == "":
		return []string{"PORT", "AWS_PORT", "WHATSAPP_PORT"}
	}
	return []string{"PORT", "AWS_PORT"}
}

// Listen takes the port of a setting, or says how to choose another.
func (c Config) Listen(name string) (net.Listener, error) {
	at := map[string]struct {
		bind string
		port int
	}{"PORT": {c.Bind, c.Port}, "AWS_PORT": {cmp.Or(c.AWSBind, loopback), c.AWSPort}, "WHATSAPP_PORT": {loopback, c.WhatsAppPort}}[name]
	l, err := net.Listen("tcp", net.JoinHostPort(at.bind, strconv.Itoa(at.port)))
	if err != nil {
		return nil, fmt.Errorf("%w (choose another port with %s=…)", err, name)
	}
	return l, nil
}

const loopback = "127.0.0.1"

func (c Config) listen(name string) (net.Listener, error) {
	if l, ok := c.Listeners[name]; ok {
		return l, nil
	}
	return c.Listen(name)
}
