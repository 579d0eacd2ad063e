package local_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"whatisup/local"
	"whatisup/local/localtest"
	"whatisup/local/move"
	"whatisup/local/whatsapp"
	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

// A link, with all that belongs to it, goes from one machine to a stack with tables of
// other names, another pepper and another KMS key, and on to a new machine: nobody scans
// again, and it sends and receives at each.
func TestMove(t *testing.T) {
	t.Parallel()
	seed := [32]byte{1} // of all stacks of a test process
	simulator, err := whatsapp.New(whatsapp.Config{DataDir: t.TempDir(), Seed: seed, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- simulator.Serve(ctx, l) }()
	go func() { ended <- simulator.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
	endpoint := "http://" + l.Addr().String()
	hooks := receive(t)

	conf := func(name string, pepper ...string) local.Config {
		return local.Config{
			DataDir: filepath.Join(t.TempDir(), name), Bind: "127.0.0.1", WhatsApp: "sandbox", Seed: seed, Endpoint: endpoint, Log: discard,
			Limits: whatisup.RateLimit{Burst: 100000, PerSecond: 100000},
			Env: func(name string) string {
				if name == "PEPPER" {
					return strings.Join(pepper, ",")
				}
				return ""
			},
		}
	}
	start := func(t *testing.T, c local.Config) *local.Stack {
		return localtest.Start(t, func(into *local.Config) { log := into.Log; *into = c; into.Log = log })
	}
	both := []whatisup.Mode{whatisup.Live, whatisup.Test}

	a := conf("one machine")
	l1 := &moved{hooks: hooks, number: "4915112345678"}
	t.Run("one machine", func(t *testing.T) {
		s := start(t, a)
		l1.key = s.Keys[whatisup.Test]
		l1.make(t, s)
		l1.use(t, s)
		if err := local.Still(t.Context(), a, "", func(*move.Side) error { return nil }); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("the folder of a running stack is opened: %v", err)
		}
	})
	pepper, err := os.ReadFile(filepath.Join(a.DataDir, "pepper"))
	if err != nil {
		t.Fatal(err)
	}
	_, secret, _ := strings.Cut(strings.TrimSpace(string(pepper)), ":")
	own := make([]byte, 32)
	rand.Read(own) //nolint:errcheck // never fails
	b := conf("stack", "1:"+base64.StdEncoding.EncodeToString(own), "2:"+secret)
	b.Tables = renamed(dynamo.Local())

	t.Run("to a stack", func(t *testing.T) {
		s := start(t, b)
		before := localtest.Devices(t, endpoint)
		there := sideOf(t, s, b, 2)
		run := func(there *move.Side) (text string, err error) {
			var out strings.Builder
			err = local.Still(t.Context(), a, "", func(here *move.Side) error {
				return move.Run(t.Context(), here, there, both, func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) })
			})
			return out.String(), err
		}
		// Without the pepper of the keys every customer would be locked out.
		if _, err := run(sideOf(t, s, b, 1)); !errors.Is(err, move.ErrRefused) || !strings.Contains(err.Error(), "pepper") {
			t.Errorf("without the pepper: %v", err)
		}
		// It dies at ever later requests, and each run goes on.
		tries := 0
		for most := int64(1); ; most += most/2 + 1 {
			limited := *there
			limited.AWS = dying(there.AWS, most)
			_, err := run(&limited)
			if err == nil {
				break
			}
			if tries++; !errors.Is(err, errDied) {
				t.Fatalf("after %d requests: %v", most, err)
			}
		}
		if tries < 5 {
			t.Errorf("it died only %d times", tries)
		}
		if text, err := run(there); err != nil || !strings.Contains(text, "already") {
			t.Errorf("run again when it is done: %v\n%s", err, text)
		}
		l1.look(t, s, before)
		l1.use(t, s)
		err := local.Run(t.Context(), a, nil)
		if err == nil || !strings.Contains(err.Error(), "were moved") {
			t.Errorf("the source starts again: %v", err)
		}
		// While the hosts of a stack run, nothing is taken from it.
		err = local.Still(t.Context(), conf("nothing"), b.Env("PEPPER"), func(here *move.Side) error {
			return move.Run(t.Context(), there, here, both, t.Logf)
		})
		if !errors.Is(err, move.ErrRefused) || !strings.Contains(err.Error(), "is running") {
			t.Errorf("a running stack is moved: %v", err)
		}
		suspend(t, s, b, true) // as the operator does before it is stopped
	})

	c := conf("new machine")
	t.Run("and back", func(t *testing.T) {
		err := local.Still(t.Context(), b, "", func(from *move.Side) error {
			return local.Still(t.Context(), c, b.Env("PEPPER"), func(to *move.Side) error {
				return move.Run(t.Context(), from, to, both, t.Logf)
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		before := localtest.Devices(t, endpoint)
		s := start(t, c)
		suspend(t, s, c, false)
		l1.look(t, s, before)
		l1.use(t, s)
		// Where the customers are already, nothing is overwritten.
		d := conf("elsewhere", strings.TrimSpace(string(pepper)))
		err = local.Still(t.Context(), b, "", func(from *move.Side) error {
			return local.Still(t.Context(), d, strings.TrimSpace(string(pepper)), func(to *move.Side) error {
				return move.Run(t.Context(), from, to, both, t.Logf)
			})
		})
		if !errors.Is(err, move.ErrRefused) || !strings.Contains(err.Error(), "were moved to") {
			t.Errorf("moved twice, to two places: %v", err)
		}
	})
}

// moved is a link, and what a customer has with it.
type moved struct {
	hooks                            *receiver
	key, number, id, endpoint, media string
	secret                           whatisup.Secret
	used                             int
	sent                             []string
}

func (m *moved) make(t *testing.T, s *local.Stack) {
	c := localtest.NewClient(t, s.API, m.key)
	i := c.Create("moved")
	m.id = i.ID
	c.QR(m.id)
	c.Must(204, "POST", "/v1/sandbox/instances/"+m.id+"/scan", fmt.Sprintf(`{"phone_number":%q}`, m.number), nil)
	c.AwaitStatus(m.id, "connected")
	var made struct {
		ID     string `json:"id"`
		Secret string `json:"signing_secret"`
	}
	c.Must(201, "POST", "/v1/webhook-endpoints", fmt.Sprintf(`{"url":%q,"events":["message.received"]}`, m.hooks.URL+"/hook"), &made)
	m.endpoint, m.secret = made.ID, whatisup.Secret(made.Secret)
	m.media = give(t, c, "image/jpeg", picture(t, 40, 30)).MediaID
}

// look finds everything as it was before the move, connected without a scan.
func (m *moved) look(t *testing.T, s *local.Stack, before []localtest.Device) {
	t.Helper()
	c := localtest.NewClient(t, s.API, m.key)
	if i := c.AwaitStatus(m.id, "connected"); i.PhoneNumber == nil || *i.PhoneNumber != m.number || i.Name != "moved" {
		t.Errorf("it came as %+v", i)
	}
	after := localtest.Devices(t, s.WhatsApp)
	if len(after) != 1 || len(before) != 1 || after[0].JID != before[0].JID {
		t.Errorf("WhatsApp has %+v, it was %+v", after, before)
	}
	for _, id := range m.sent {
		var l letter
		if c.Must(200, "GET", "/v1/instances/"+m.id+"/messages/"+id, "", &l); l.Status != "read" {
			t.Errorf("the message %s is %s", id, l.Status)
		}
	}
	var file media
	c.Must(200, "GET", "/v1/media/"+m.media, "", &file)
	if resp, b := get(t, file.URL); resp.StatusCode != 200 || !bytes.Equal(b, picture(t, 40, 30)) {
		t.Errorf("the file: %d, %d bytes", resp.StatusCode, len(b))
	}
	var events struct{ Data []struct{ Event string } }
	if c.Must(200, "GET", "/v1/event-log?events=message.received&instance_id="+m.id, "", &events); len(events.Data) != m.used {
		t.Errorf("the log has %d received messages, want %d", len(events.Data), m.used)
	}
}

// use sends a message and receives one, which a webhook is told of, with its own secret.
func (m *moved) use(t *testing.T, s *local.Stack) {
	t.Helper()
	m.used++
	c := localtest.NewClient(t, s.API, m.key)
	box := mailbox{c, t, "/v1/instances/" + m.id + "/messages"}
	sent := box.send(text("4915100000001", fmt.Sprint("hello ", m.used)))
	box.await(sent.ID, "read")
	m.sent = append(m.sent, sent.ID)
	p := people{c, m.id}
	said := fmt.Sprint("and back ", m.used)
	id := p.write(fmt.Sprintf(`{"from":"4915100000001","text":%q}`, said))
	if e := p.awaitEvent(t, "message.received", idIs(id)); e.Data.Text == nil || *e.Data.Text != said {
		t.Errorf("received %+v", e)
	}
	localtest.Await(t, "the webhook", func() bool {
		m.hooks.mu.Lock()
		defer m.hooks.mu.Unlock()
		for _, one := range m.hooks.got {
			if strings.Contains(string(one.body), said) {
				var at int64
				fmt.Sscan(one.header.Get("Webhook-Timestamp"), &at) //nolint:errcheck // a wrong one shows below
				if one.header.Get("X-WhatIsUp-Signature") != whatisup.Sign([]whatisup.Secret{m.secret}, at, one.body) {
					t.Error("the webhook is signed with another secret")
				}
				return true
			}
		}
		return false
	})
}

func suspend(t *testing.T, s *local.Stack, c local.Config, suspended bool) {
	t.Helper()
	tables := c.Tables
	if tables == (dynamo.Tables{}) {
		tables = dynamo.Local()
	}
	db := dynamo.New(dynamo.Config{Client: dynamodb.NewFromConfig(s.AWSConf), Tables: tables})
	for customer, err := range db.Customers(t.Context()) {
		if err == nil {
			err = db.SetSuspended(t.Context(), customer.ID, suspended)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func renamed(t dynamo.Tables) dynamo.Tables {
	for _, name := range []*string{&t.Access, &t.Instances, &t.Calls, &t.Events, &t.Fleet, &t.Devices, &t.Messages, &t.Media, &t.Webhooks} {
		*name = strings.Replace(*name, "whatisup-", "other-", 1)
	}
	return t
}

// sideOf is a running stack as one end of a move that knows the first peppers alone.
func sideOf(t *testing.T, s *local.Stack, c local.Config, known int) *move.Side {
	t.Helper()
	peppers, err := whatisup.ParsePeppers(strings.Join(strings.Split(c.Env("PEPPER"), ",")[:known], ","))
	if err != nil {
		t.Fatal(err)
	}
	key := s.Env["AUTH_KEY_ID"]
	return &move.Side{
		Name: "a stack", AWS: s.AWSConf, Tables: c.Tables, Webhook: key, Bucket: s.Env["MEDIA_BUCKET"], Queues: "whatisup-", Peppers: peppers,
		Keys: map[whatisup.Mode]string{whatisup.Live: key, whatisup.Test: key},
	}
}

var errDied = errors.New("died")

type deadline struct {
	under http.RoundTripper
	left  atomic.Int64
}

func (d *deadline) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.left.Add(-1) < 0 {
		return nil, errDied
	}
	return d.under.RoundTrip(r)
}

// dying lets so many requests through, and none after them.
func dying(c aws.Config, requests int64) aws.Config {
	d := &deadline{under: http.DefaultTransport}
	d.left.Store(requests)
	c.HTTPClient = &http.Client{Transport: d}
	c.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	return c
}
