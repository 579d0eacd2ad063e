package host

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"whatisup/local/aws/awstest"
	"whatisup/local/whatsapp"
	"whatisup/local/whatsapp/whatsapptest"
	"whatisup/sessionhost/fleet"
	"whatisup/sessionhost/line"
	"whatisup/sessionhost/session"
	"whatisup/shared/bucket"
	"whatisup/shared/dynamo"
	"whatisup/shared/queue"
	"whatisup/shared/whatisup"
)

// world is an embedded AWS and a simulator, with hosts on them, and what the API
// would do.
type world struct {
	t        testing.TB
	aws      *awstest.Instance
	sim      *whatsapptest.Simulator
	db       *dynamo.DB
	commands *queue.Commands
	queues   *sqs.Client
	urls     queue.URLs
	keyID    string
	customer whatisup.CustomerID
	timing   session.Timing
	fleet    fleet.Timing
	shards   int
	bucket   *bucket.Bucket           // nil: the hosts have no files
	told     map[whatisup.EventID]int // what came off the events queue
	died     bool                     // a host has died on purpose
	said     *said                    // by the hosts
}

// said keeps what the hosts log, for a test that fails.
type said struct {
	mu   sync.Mutex
	text []byte
}

// saidAtMost of it is kept, the latest.
const saidAtMost = 256 << 10

func (s *said) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.text = append(s.text, line...); len(s.text) > 2*saidAtMost {
		s.text = slices.Clone(s.text[len(s.text)-saidAtMost:])
	}
	return len(line), nil
}

const patience = slowness * 30 * time.Second

// Between two looks at a condition.
const (
	firstLook = 5 * time.Millisecond
	lastLook  = 50 * time.Millisecond
)

func newWorld(t testing.TB, shards int) *world { return newWorldWith(t, shards, whatsapp.Config{}) }

func newWorldWith(t testing.TB, shards int, cfg whatsapp.Config) *world {
	t.Helper()
	w := &world{
		t: t, aws: awstest.Start(t), customer: whatisup.NewCustomerID(), shards: shards,
		told: make(map[whatisup.EventID]int), said: new(said),
		sim: whatsapptest.Start(t, cfg),
	}
	t.Cleanup(w.explain)
	ctx := t.Context()
	client := dynamodb.NewFromConfig(w.aws.Config)
	if err := dynamo.Local().Create(ctx, client); err != nil {
		t.Fatal(err)
	}
	w.queues = sqs.NewFromConfig(w.aws.Config)
	var err error
	if w.urls, err = queue.Local().Create(ctx, w.queues, shards); err != nil {
		t.Fatal(err)
	}
	key, err := kms.NewFromConfig(w.aws.Config).CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	w.keyID = aws.ToString(key.KeyMetadata.KeyId)
	w.db = dynamo.New(dynamo.Config{Client: client, Tables: dynamo.Local(), ShardCount: shards, Queues: true})
	w.commands = queue.NewCommands(w.queues, w.urls.CommandPrefix)
	w.timing = session.DefaultTiming()
	w.fleet = fleet.Default()
	w.fleet.Settle, w.fleet.ClaimEvery = 0, time.Millisecond
	return w
}

// explain tells, of a test that failed, when WhatsApp saw which connection, and
// what the hosts logged.
func (w *world) explain() {
	if !w.t.Failed() {
		return
	}
	for _, e := range w.sim.Journal(whatsapp.JournalFilter{Limit: 10_000}) {
		if e.Tag == "login" || e.Tag == "registration" || e.Tag == "success" || e.Tag == "failure" || e.Tag == "closed" {
			w.t.Logf("%s connection %d %s %s", e.At.Format(time.StampMilli), e.Connection, e.Instance, e.Stanza)
		}
	}
	w.said.mu.Lock()
	defer w.said.mu.Unlock()
	w.t.Logf("%s", w.said.text)
}

func (w *world) config(id string) Config {
	root := w.sim.Root()
	c := Config{
		ID: id, Mode: whatisup.Test, Tables: dynamo.Local(), CommandPrefix: w.urls.CommandPrefix,
		EventQueues: []string{w.urls.Events}, Shards: w.shards, KeyID: w.keyID,
		Redirect:          line.Redirect{Endpoint: "http://" + w.sim.Address, Root: hex.EncodeToString(root[:])},
		ConnectsPerSecond: 100, ResumePerSecond: 1000, MaxSessions: 1000, DeviceName: "Test",
		Fleet: w.fleet, Session: w.timing, Health: "127.0.0.1:0",
	}
	if w.bucket != nil {
		c.Bucket, c.MediaSecret, c.PublicURL, c.MediaKept = bucketName, "a secret of sixteen", "https://api.example.com", whatisup.MediaKept
	}
	return c
}

// running is a host that runs.
type runningHost struct {
	*Host
	stop func() // drains it and waits
}

func (w *world) host(id string) *runningHost { return w.hostWith(w.config(id)) }

func (w *world) hostWith(cfg Config) *runningHost { return w.hostOn(cfg, w.aws.Config) }

func (w *world) hostOn(cfg Config, conf aws.Config) *runningHost {
	w.t.Helper()
	var out io.Writer = w.said
	if os.Getenv("HOST_TEST_LOG") != "" {
		out = os.Stderr
	}
	h, err := New(cfg, conf, slog.New(slog.NewTextHandler(out, nil)))
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.Run(ctx); err != nil {
			w.t.Errorf("host %s: %v", cfg.ID, err)
		}
	})
	r := &runningHost{h, sync.OnceFunc(func() { cancel(); wg.Wait() })}
	w.t.Cleanup(r.stop)
	return r
}

func (w *world) create() whatisup.InstanceID {
	w.t.Helper()
	id := whatisup.NewInstanceID()
	e, err := whatisup.NewEvent(whatisup.InstanceCreated, w.customer, whatisup.Test, id, time.Now(), struct{}{})
	if err != nil {
		w.t.Fatal(err)
	}
	err = w.db.CreateInstance(w.t.Context(), whatisup.Config{
		Customer: w.customer, Mode: whatisup.Test, ID: id, Name: "one", Metadata: json.RawMessage(`{"a":1}`), UpdatedAt: time.Now(),
	}, whatisup.Created{Event: e})
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) get(id whatisup.InstanceID) *whatisup.Instance {
	w.t.Helper()
	i, err := w.db.Instance(w.t.Context(), w.customer, whatisup.Test, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

// want does what a call of the API does to the row, and wakes the host.
func (w *world) want(id whatisup.InstanceID, f func(i *whatisup.Instance) (whatisup.Wanted, bool)) {
	w.t.Helper()
	for {
		i := w.get(id)
		wanted, changed := f(i)
		if changed {
			err := w.db.Want(w.t.Context(), i, wanted, nil)
			if errors.Is(err, whatisup.ErrConflict) {
				continue
			}
			if err != nil {
				w.t.Fatal(err)
			}
		}
		w.wake(i.Shard, id)
		return
	}
}

func (w *world) wake(s whatisup.Shard, id whatisup.InstanceID) {
	w.t.Helper()
	err := w.commands.Send(w.t.Context(), s, whatisup.Command{
		ID: whatisup.NewCommandID(), Kind: whatisup.Wake, Customer: w.customer, Mode: whatisup.Test, Instance: id, SentAt: whatisup.At(time.Now()),
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) fetchQR(id whatisup.InstanceID) {
	w.want(id, func(i *whatisup.Instance) (whatisup.Wanted, bool) { return i.WantAttempt(time.Now(), "req_qr") })
}

func (w *world) logout(id whatisup.InstanceID) {
	w.want(id, func(i *whatisup.Instance) (whatisup.Wanted, bool) { return i.WantLogout(time.Now(), "req_logout") })
}

func (w *world) disconnect(id whatisup.InstanceID) {
	w.want(id, func(i *whatisup.Instance) (whatisup.Wanted, bool) { return i.WantStop(time.Now(), "req_stop") })
}

func (w *world) connect(id whatisup.InstanceID) {
	w.want(id, func(i *whatisup.Instance) (whatisup.Wanted, bool) { return i.WantConnect(time.Now(), "req_connect") })
}

func (w *world) delete(id whatisup.InstanceID) {
	w.t.Helper()
	for {
		i := w.get(id)
		e, err := whatisup.NewEvent(whatisup.InstanceDeleted, w.customer, whatisup.Test, id, time.Now(), struct{}{})
		if err != nil {
			w.t.Fatal(err)
		}
		err = w.db.DeleteInstance(w.t.Context(), i, e, nil)
		if errors.Is(err, whatisup.ErrConflict) {
			continue
		}
		if err != nil {
			w.t.Fatal(err)
		}
		w.wake(i.Shard, id)
		return
	}
}

// code waits for a code that can be scanned, as the QR call does. An attempt
// that a slow machine let run out is begun again.
func (w *world) code(id whatisup.InstanceID) string {
	w.t.Helper()
	var raw string
	w.await("a code", func() bool {
		i := w.get(id)
		p, err := w.db.Pairing(w.t.Context(), id)
		if err != nil {
			w.t.Fatal(err)
		}
		if p.Scannable(i.Wanted.Generation, time.Now()) {
			raw = p.Raw
		} else if i.Observed.FailedCause == whatisup.CodeWhatsAppUnreachable && !i.AttemptOpen() && !i.HasLink() {
			w.fetchQR(id)
		}
		return raw != ""
	})
	return raw
}

func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	w.awaitFor(patience, what, ok)
}

func (w *world) awaitFor(within time.Duration, what string, ok func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(within)
	for wait := firstLook; !ok(); wait = min(wait+wait/8, lastLook) {
		if time.Now().After(deadline) {
			w.t.Fatalf("no %s within %v", what, within)
		}
		time.Sleep(wait)
	}
}

// status waits until the instance has the status, with the reason.
func (w *world) status(id whatisup.InstanceID, status whatisup.Status, reason whatisup.Reason) *whatisup.Instance {
	w.t.Helper()
	return w.statusWithin(patience, id, status, reason)
}

func (w *world) statusWithin(within time.Duration, id whatisup.InstanceID, status whatisup.Status, reason whatisup.Reason) *whatisup.Instance {
	w.t.Helper()
	deadline := time.Now().Add(within)
	for wait := firstLook; ; wait = min(wait+wait/8, lastLook) {
		i := w.get(id)
		if i.Observed.Status == status && i.Observed.Reason == reason {
			return i
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("status is %s (%s) and not %s (%s) within %v", i.Observed.Status, i.Observed.Reason, status, reason, within)
		}
		time.Sleep(wait)
	}
}

// link pairs an instance with a phone and waits until it is connected.
func (w *world) link(id whatisup.InstanceID, number string) {
	w.t.Helper()
	w.fetchQR(id)
	if _, err := w.sim.ScanQR(w.t.Context(), string(w.customer), w.code(id), number); err != nil {
		w.t.Fatal(err)
	}
	w.status(id, whatisup.Connected, "")
}

// events reads the log of the instance, oldest first.
func (w *world) events(id whatisup.InstanceID) (events []whatisup.Event) {
	w.t.Helper()
	for e, err := range w.db.EventsAfter(w.t.Context(), w.customer, whatisup.Test, "0", 1000) {
		if err != nil {
			w.t.Fatal(err)
		}
		if e.Instance == id {
			events = append(events, e.Event)
		}
	}
	return events
}

// logRows reads every event of the log.
func (w *world) logRows() (rows []map[string]types.AttributeValue) {
	w.t.Helper()
	p := dynamodb.NewScanPaginator(dynamodb.NewFromConfig(w.aws.Config), &dynamodb.ScanInput{TableName: aws.String(dynamo.Local().Events)})
	for p.HasMorePages() {
		out, err := p.NextPage(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, row := range out.Items {
			if row["body"] != nil { // else it keeps a position free of a late write
				rows = append(rows, row)
			}
		}
	}
	return rows
}

// logged is how many events the log holds.
func (w *world) logged() int { return len(w.logRows()) }
