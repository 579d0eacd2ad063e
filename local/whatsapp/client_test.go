package whatsapp_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	_ "modernc.org/sqlite"

	"whatisup/local/whatsapp"
	"whatisup/local/whatsapp/whatsapptest"
)

// deadline is how long a test waits for something that should happen soon.
const deadline = 60 * time.Second

var trustOnce sync.Once

// start runs a simulator that says of every device that one of its one-time keys
// is left: the client then makes 50 new ones, and not the 812 of a first time,
// which are most of what linking costs.
func start(t *testing.T, cfg whatsapp.Config) *whatsapptest.Simulator {
	t.Helper()
	cfg.Hooks.IQ = func(_ whatsapp.Connection, query *whatsapp.Node) (*whatsapp.Node, bool) {
		if _, asks := query.GetOptionalChildByTag("count"); !asks {
			return nil, false
		}
		return &whatsapp.Node{
			Tag:     "iq",
			Attrs:   whatsapp.Attrs{"id": query.Attrs["id"], "type": "result", "from": types.ServerJID},
			Content: []whatsapp.Node{{Tag: "count", Attrs: whatsapp.Attrs{"value": "1"}}},
		}, true
	}
	return whatsapptest.Start(t, cfg)
}

// client is an unmodified whatsmeow client with a store on disk.
type client struct {
	*whatsmeow.Client
	t      *testing.T
	sim    *whatsapptest.Simulator
	path   string
	db     *sql.DB
	events chan any
}

// internals is the library's door to what it has no other call for.
func (c *client) internals() *whatsmeow.DangerousInternalClient {
	return c.DangerousInternals() //lint:ignore SA1019 its name says what it is; it goes away in no version
}

// openClient opens a client on a store, which it makes if there is none.
func openClient(t *testing.T, sim *whatsapptest.Simulator, path, world, instance string) *client {
	t.Helper()
	trustOnce.Do(func() { whatsmeow.WACertPubKey = sim.Root() })
	if whatsmeow.WACertPubKey != sim.Root() {
		t.Fatal("simulators of one test process must have one root key")
	}
	if path == "" {
		path = filepath.Join(t.TempDir(), "client.db")
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=synchronous(0)&_pragma=journal_mode(memory)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	container := sqlstore.NewWithDB(db, "sqlite", waLog.Noop)
	if err = container.Upgrade(t.Context()); err != nil {
		t.Fatal(err)
	}
	device, err := container.GetFirstDevice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, sim, device, world, instance)
	c.path, c.db = path, db
	return c
}

func newClient(t *testing.T, sim *whatsapptest.Simulator, device *store.Device, world, instance string) *client {
	t.Helper()
	logger := waLog.Noop
	if os.Getenv("WHATSAPP_TEST_LOG") != "" {
		logger = waLog.Stdout(instance, "DEBUG", false)
	}
	c := &client{Client: whatsmeow.NewClient(device, logger), t: t, sim: sim, events: make(chan any, 1024)}
	http := sim.HTTPClient(t, world, instance)
	c.SetPreLoginHTTPClient(http)
	c.SetWebsocketHTTPClient(http)
	c.EnableAutoReconnect = false
	c.SynchronousAck = true
	c.AddEventHandler(func(event any) {
		select {
		case c.events <- event:
		default:
		}
	})
	t.Cleanup(c.close)
	return c
}

func (c *client) close() {
	c.Disconnect()
	if c.db != nil {
		_ = c.db.Close()
		c.db = nil
	}
}

func (c *client) connect() {
	c.t.Helper()
	if err := c.Connect(); err != nil {
		c.t.Fatalf("cannot connect: %v", err)
	}
}

// await waits for an event of a kind, and drops those before it.
func await[T any](c *client) T {
	c.t.Helper()
	return awaitThat(c, func(T) bool { return true })
}

func awaitThat[T any](c *client, accept func(T) bool) T {
	c.t.Helper()
	timeout := time.After(deadline)
	var seen []string
	for {
		select {
		case event := <-c.events:
			if wanted, ok := event.(T); ok && accept(wanted) {
				return wanted
			}
			seen = append(seen, fmt.Sprintf("%T", event))
		case <-timeout:
			c.t.Fatalf("no %T came, but %v", *new(T), seen)
		}
	}
}

// pair links a client by scanning its first code, and waits until it is
// logged in.
func (c *client) pair(world, number string) whatsapp.Device {
	c.t.Helper()
	c.connect()
	code := await[*events.QR](c)
	device, err := c.sim.ScanQR(context.Background(), world, code.Codes[0], number)
	if err != nil {
		c.t.Fatalf("cannot scan: %v", err)
	}
	await[*events.PairSuccess](c)
	await[*events.Connected](c)
	return device
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	end := time.Now().Add(deadline)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
		<-tick.C
	}
}

// soon is a context that bounds a wait.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}
