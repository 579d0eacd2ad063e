package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/sessionhost/courier"
	"whatisup/sessionhost/devicestore"
	"whatisup/sessionhost/fleet"
	"whatisup/sessionhost/line"
	"whatisup/sessionhost/session"
	"whatisup/sessionhost/shard"
	"whatisup/sessionhost/tally"
	"whatisup/sessionhost/transfer"
	"whatisup/shared/dynamo"
	"whatisup/shared/qr"
	"whatisup/shared/queue"
	"whatisup/shared/seal"
	"whatisup/shared/webhook/takers"
	"whatisup/shared/whatisup"
)

// lastGoroutines bounds the wait for what can't be interrupted.
const lastGoroutines = 25 * time.Second

// Host is a session host.
type Host struct {
	cfg     Config
	log     *slog.Logger
	db      *dynamo.DB
	network *line.Network
	courier *courier.Courier
	kit     *shard.Kit
	fleet   *fleet.Fleet
	devices *devicestore.Store
	inbox   inbox
	metrics *metrics
	tally   *tally.Tally
	desk    *transfer.Desk // nil: no files
	clock   *dynamo.Clock
	stops   *stops
	version versions
	cut     context.CancelFunc // ends what was left to end by itself

	mu      sync.Mutex
	shards  map[whatisup.Shard]*shard.Shard
	address string
}

// Run is a process's session host, as its environment wants it, until ctx ends.
func Run(ctx context.Context, getenv func(string) string, log *slog.Logger) error {
	headroom := Headroom()
	defer runtime.KeepAlive(headroom)
	cfg, err := FromEnv(getenv)
	if err != nil {
		return err
	}
	conf, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return fmt.Errorf("AWS settings: %w", err)
	}
	line.LogLibsignal(log)
	h, err := New(cfg, conf, log)
	if err != nil {
		return err
	}
	return h.Run(ctx)
}

// New puts a host together. It calls nothing.
func New(cfg Config, aws aws.Config, log *slog.Logger) (*Host, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	network, err := networkOf(&cfg)
	if err != nil {
		return nil, err
	}
	line.NameDevice(cfg.DeviceName)
	log = log.With("host", cfg.ID)
	m := newMetrics()
	clock := dynamo.NewClock(cfg.Now)
	busy := metered{busyClient(), m}
	tables := dynamodb.NewFromConfig(aws, func(o *dynamodb.Options) { o.HTTPClient = clock.Watch(busy) })
	inserting := dynamo.NewInserting(tables, log)
	db := dynamo.New(dynamo.Config{
		Clock:  clock,
		Client: tables, Inserting: inserting,
		Tables: cfg.Tables, ShardCount: cfg.Shards, Queues: len(cfg.EventQueues) > 0 || cfg.WebhookEvents != "",
	})
	leases := dynamo.New(dynamo.Config{
		Clock: clock,
		Client: dynamodb.NewFromConfig(aws, func(o *dynamodb.Options) {
			o.HTTPClient = clock.Watch(metered{awshttp.NewBuildableClient(), m})
			o.RetryMaxAttempts = 1
		}),
		Tables: cfg.Tables, ShardCount: cfg.Shards,
	})
	queues := sqs.NewFromConfig(aws, func(o *sqs.Options) { o.HTTPClient = busy })
	h := &Host{
		cfg: cfg, log: log, db: db, network: network, metrics: m, clock: clock, shards: make(map[whatisup.Shard]*shard.Shard),
		inbox: inbox{queue.NewCommands(queues, cfg.CommandPrefix)},
		devices: devicestore.New(devicestore.Config{
			Table: cfg.Tables.Devices, DynamoDB: inserting,
			Keyring: seal.NewKeyring(kms.NewFromConfig(aws, func(o *kms.Options) { o.HTTPClient = busy }), cfg.KeyID), Log: log,
			Format: cfg.AuthFormat,
		}),
	}
	h.stops = newStops(db, cfg.Mode, clock.Now)
	m.registry.MustRegister(gauges{h})
	timing := cfg.Session
	if timing == (session.Timing{}) {
		timing = session.DefaultTiming()
	}
	blamed := make(map[whatisup.InstanceID]bool, len(cfg.Blamed))
	for _, id := range cfg.Blamed {
		blamed[id] = true
	}
	events := queue.NewEvents(queues, cfg.EventQueues).WithWebhooks(cfg.WebhookEvents, takers.New(db))
	events.SetAside = h.setAside
	h.courier = courier.New(events, db, log, func(late time.Duration) { m.EventSent(late - clock.Ahead()) })
	var end context.Context
	end, h.cut = context.WithCancel(context.Background())
	h.tally = tally.New(db, cfg.Mode, clock.Now, log)
	h.kit = &shard.Kit{
		Kit: &session.Kit{
			Mode: cfg.Mode, Store: rows{db}, Codes: db,
			Devices:  devices{h.devices, db},
			Courier:  h.courier,
			EventLog: db, Ledger: db, Incoming: db, Chats: db,
			Draw: draw,
			Open: func(ctx context.Context, o line.Options) session.Line {
				return network.Open(ctx, o)
			},
			Budgets: session.NewBudgets(cfg.ResumePerSecond, cfg.ConnectsPerSecond, cfg.MaxSessions),
			Metrics: h.metrics, Usage: counted{h.tally, h.metrics}, Log: log, Timing: timing,
			Clock: clock.Now, ClockOff: func() bool { return clock.Ahead() != 0 },
			Blamed:   func(id whatisup.InstanceID) bool { return blamed[id] },
			Outdated: h.outdated,
			Stops:    h.stops.of,
			Restricted: func(id whatisup.InstanceID, r whatisup.Restriction) {
				h.stops.note(id, h.kit.Budgets.Sessions())
			},

			Performers: performers(db, db, clock.Now),
		},
		Shards: rows{db}, Rows: rows{db}, Results: db, End: end,
	}
	if h.desk, err = deskOf(cfg, aws, db, clock, m, log); err != nil {
		return nil, err
	}
	if h.desk != nil {
		h.kit.Files = files{h.desk}
	}
	if network.Simulated() {
		h.kit.Phones = &shard.Control{Endpoint: cfg.Redirect.Endpoint, Client: network.ControlClient()}
	}
	h.fleet, err = fleet.New(fleet.Config{
		Host: cfg.ID, Mode: cfg.Mode, Shards: cfg.Shards, Leases: leases, Hosts: leases, Runner: h,
		Timing: cfg.Fleet, Log: log, Sessions: h.kit.Budgets.Sessions,
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// performers are the commands that a session runs on its line.
func performers(changes session.Changes, chats session.Chats, now func() time.Time) map[whatisup.CommandKind]session.Performer {
	asker, all := session.Asker(changes), make(map[whatisup.CommandKind]session.Performer)
	for _, kind := range whatisup.Asks {
		all[kind] = asker
	}
	all[whatisup.ChatRead] = session.Reader(chats, asker)
	all[whatisup.PresenceSubscribe] = session.Subscriber(chats, asker, now)
	return all
}

// setAside tells of an event that a queue refuses for good. Its content stays out
// of the log.
func (h *Host) setAside(url string, e whatisup.Event, reason string) {
	h.log.Error("a queue refuses an event for good; it is set aside", "queue", url, "event", string(e.Name), "event_id", string(e.ID),
		"instance_id", string(e.Instance), "reason", reason)
	h.metrics.SetAside("queue", reason)
}

func draw(raw string) ([]byte, string, error) {
	code, err := qr.Draw(raw)
	if err != nil {
		return nil, "", err
	}
	return code, code.DataURL(), nil
}

func networkOf(cfg *Config) (*line.Network, error) {
	if cfg.Mode == whatisup.Live {
		return line.Live()
	}
	return line.Sandbox(cfg.Redirect)
}

// busyClient keeps enough connections open for many sessions at once; the SDK's
// own default keeps ten a host.
func busyClient() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost, t.MaxIdleConns = 64, 128
	}).WithTimeout(40 * time.Second)
}

// Run runs the host until ctx ends, and drains it. It returns after its last
// goroutine has ended, or has been waited for long enough.
func (h *Host) Run(ctx context.Context) error {
	defer h.cut()
	health, err := h.listen()
	if err != nil {
		return err
	}
	if !h.recallVersion(ctx) {
		h.learnVersion(ctx)
	}

	// The device store and the health page outlive the draining.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.devices.Run(life) })
	wg.Go(func() { health.serve(life) })
	wg.Go(func() { h.keepVersion(ctx) })
	wg.Go(func() { h.emit(life) })
	wg.Go(func() { h.watchClock(life) })
	wg.Go(func() { h.watchStops(ctx) })
	wg.Go(func() { h.tally.Run(life) })

	h.log.Info("session host runs", "mode", string(h.cfg.Mode), "shards", h.cfg.Shards, "health", h.Address())
	err = h.fleet.Run(ctx)

	ended := make(chan struct{})
	go func() { // ends with the goroutines that it waits for
		h.kit.Background.Wait()
		if h.desk != nil {
			h.desk.Wait()
		}
		h.courier.Wait()
		close(ended)
	}()
	soon := time.AfterFunc(pollsEnd, h.cut)
	defer soon.Stop()
	select {
	case <-ended:
	case <-time.After(lastGoroutines):
		err = errors.Join(err, fmt.Errorf("something did not end within %v", lastGoroutines))
	}
	stop()
	wg.Wait()
	h.log.Info("session host has ended")
	return err
}

// pollsEnd is how long open polls may go on after the last shard was given up.
const pollsEnd = 2 * time.Second

// RunShard is [fleet.Runner].
func (h *Host) RunShard(ctx context.Context, t *fleet.Tenure) {
	s := shard.New(h.kit, h.inbox, t)
	h.mu.Lock()
	h.shards[t.Shard()] = s
	h.mu.Unlock()
	s.Run(ctx)
	h.mu.Lock()
	delete(h.shards, t.Shard())
	h.mu.Unlock()
}

func (h *Host) owned() []*shard.Shard {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*shard.Shard, 0, len(h.shards))
	for _, s := range h.shards {
		all = append(all, s)
	}
	return all
}
