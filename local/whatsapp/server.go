package whatsapp

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.mau.fi/libsignal/logger"

	"go.mau.fi/whatsmeow/util/keys"
)

// HeaderWorld and HeaderInstance name a connection's world and instance in the
// WebSocket's upgrade request. Without them it is in DefaultWorld and unnamed.
const (
	HeaderWorld    = "X-WhatsApp-World"
	HeaderInstance = "X-WhatsApp-Instance"
	DefaultWorld   = "default"
)

// Config of a simulator. The zero value runs.
type Config struct {
	DataDir string           // keeps everything over a restart; empty: a temporary directory, removed at the end
	Log     *slog.Logger     // discarded by default
	Clock   func() time.Time // time.Now by default

	Seed [32]byte // of every key, for reproducible ones; random by default. A data directory keeps its own

	Refs             int           // codes given to a connection that registers; 6 by default
	RegistrationLife time.Duration // how long such a connection may live; 170 s by default
	PairCodeLife     time.Duration // how long a pair code may be typed; 160 s by default
	PhoneTimeout     time.Duration // how long a phone waits for the device while linking; 15 s by default
	HandshakeTimeout time.Duration // 20 s by default
	IdleTimeout      time.Duration // a connection silent for longer is closed; 3 min by default
	PassiveGrace     time.Duration // a passive login gets its stanzas after this, if it has not become active; 5 s by default

	JournalBytes int // memory for the journal; 16 MiB by default
	Messages     int // messages kept for AwaitMessage and GET /control/messages; 10,000 by default
	QueueLimit   int // stanzas kept for one absent device; 10,000 by default

	MinVersion [3]uint32 // older clients are refused with 405; none by default
	Revision   int       // the client revision that the page at / announces

	Latency   time.Duration // between a client's stanza and its answer, as on a network; none by default
	Host      string        // host:port of the media host, as clients reach this server; by default the address that they have reached it at
	Names     []string      // names beside localhost and addresses under which the control interface answers
	MediaLife time.Duration // how long the media host keeps a file; 30 days by default

	Hooks Hooks
}

// Hooks let a test look at and interfere with the server. They are called
// without locks, on the goroutine of the connection, and must return soon.
type Hooks struct {
	// Stanza sees every stanza of both directions, as the journal does.
	Stanza func(Entry, *Node)
	// IQ may answer a client's query instead of the server. A nil node with
	// true leaves the query without an answer.
	IQ func(from Connection, query *Node) (answer *Node, handled bool)
}

// Server is the simulated WhatsApp. See the package documentation.
type Server struct {
	cfg   Config
	log   *slog.Logger
	db    *database
	seed  seed
	known derived

	sessions cache[sessionName, knownSession]
	root     *keys.KeyPair
	noise    *ecdh.PrivateKey // the static key of the handshake
	chain    []byte           // its certificates
	tls      *tls.Config
	ca       []byte
	mux      *http.ServeMux

	journal  *journal
	messages *messages

	behaviours phones
	held       heldBack
	calls      calls
	screens    screens
	address    atomic.Pointer[string] // where Serve listens

	phones [64]sync.Mutex // striped by person: a phone does one thing at a time

	nextOneTime atomic.Uint32 // number of a phone's next one-time key

	ctx  context.Context // ends when Run ends
	stop context.CancelFunc
	wg   sync.WaitGroup // connections and their writers

	mu      sync.Mutex
	closed  bool
	nextID  uint64
	conns   map[*conn]struct{}
	devices map[deviceName]*device
	people  map[person][]*device
	refs    map[string]*conn // codes that can be scanned
	faults  []*fault
	over    []*fault // that have ended, and somebody has to be told
}

// New opens the data directory. It starts nothing: see Run and Serve.
func New(cfg Config) (*Server, error) {
	orDefault(&cfg.Clock, time.Now, cfg.Clock == nil)
	orDefault(&cfg.Log, slog.New(slog.DiscardHandler), cfg.Log == nil)
	orDefault(&cfg.Refs, 6, cfg.Refs <= 0)
	orDefault(&cfg.RegistrationLife, 170*time.Second, cfg.RegistrationLife <= 0)
	orDefault(&cfg.PairCodeLife, 160*time.Second, cfg.PairCodeLife <= 0)
	orDefault(&cfg.PhoneTimeout, 15*time.Second, cfg.PhoneTimeout <= 0)
	orDefault(&cfg.HandshakeTimeout, 20*time.Second, cfg.HandshakeTimeout <= 0)
	orDefault(&cfg.IdleTimeout, 3*time.Minute, cfg.IdleTimeout <= 0)
	orDefault(&cfg.PassiveGrace, 5*time.Second, cfg.PassiveGrace <= 0)
	orDefault(&cfg.JournalBytes, 16<<20, cfg.JournalBytes <= 0)
	orDefault(&cfg.Messages, 10_000, cfg.Messages <= 0)
	orDefault(&cfg.QueueLimit, 10_000, cfg.QueueLimit <= 0)
	orDefault(&cfg.Revision, 1045649367, cfg.Revision <= 0)
	orDefault(&cfg.MediaLife, 30*24*time.Hour, cfg.MediaLife <= 0)

	prepareLibrary()
	db, err := openDatabase(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg:      cfg,
		log:      cfg.Log,
		db:       db,
		journal:  newJournal(cfg.JournalBytes),
		messages: newMessages(cfg.Messages),
		conns:    map[*conn]struct{}{},
		devices:  map[deviceName]*device{},
		people:   map[person][]*device{},
		refs:     map[string]*conn{},
		sessions: cache[sessionName, knownSession]{most: maxCachedLarge},
	}
	if err = s.prepare(); err != nil {
		_ = db.close()
		return nil, err
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.mux = s.routes()
	return s, nil
}

// prepareLibrary makes libsignal set its logger up, a variable of the process
// that it otherwise sets at first use without a lock.
var prepareLibrary = sync.OnceFunc(func() { logger.Debug("the simulator starts") })

func rand32() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint32(b[:])
}

func orDefault[T any](field *T, value T, unset bool) {
	if unset {
		*field = value
	}
}

func (s *Server) prepare() (err error) {
	if s.seed, err = s.db.loadSeed(func(b []byte) {
		if copy(b, s.cfg.Seed[:]); s.cfg.Seed == [32]byte{} {
			_, _ = rand.Read(b)
		}
	}); err != nil {
		return err
	}
	s.nextOneTime.Store(rand32())
	s.root = s.seed.keyPair("root")
	noise := s.seed.keyPair("noise")
	if s.noise, err = ecdh.X25519().NewPrivateKey(noise.Priv[:]); err != nil {
		return err
	}
	if s.chain, err = certificateChain(s.root, s.seed.keyPair("intermediate"), noise, s.cfg.Clock()); err != nil {
		return err
	}
	if s.tls, s.ca, err = s.prepareTLS(); err != nil {
		return err
	}
	if err = s.loadPhones(); err != nil {
		return err
	}
	return s.loadDevices()
}

// Root is the public key that a client must trust instead of WhatsApp's.
func (s *Server) Root() [32]byte { return *s.root.Pub }

// CA is the certificate, in PEM, to trust for the TLS side.
func (s *Server) CA() []byte { return s.ca }

func (s *Server) now() time.Time { return s.cfg.Clock() }

// Run keeps house until ctx ends: it closes connections that are silent or
// whose codes have run out, ends faults, and syncs the database. Then it closes
// every connection, waits for them, and closes the database. After that the
// server is of no more use.
func (s *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	s.sweepMedia()
	var flush <-chan time.Time
	for {
		select {
		case <-s.db.commits.idle:
			flush = time.After(goneLife)
		case <-flush:
			if err := s.db.flush(); err != nil {
				s.log.Error("cannot forget what was acknowledged", "error", err)
			}
		case <-hour.C:
			s.sweepMedia()
		case <-tick.C:
			s.sweep()
			if err := s.db.sync(); err != nil {
				s.log.Error("cannot sync the simulator's database", "error", err)
			}
		case <-ctx.Done():
			return s.shutDown()
		}
	}
}

func (s *Server) shutDown() error {
	s.mu.Lock()
	s.closed = true
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	s.stop()
	for _, c := range conns {
		c.close("simulator stops")
	}
	s.wg.Wait()
	return s.db.close()
}

func (s *Server) sweep() {
	now := s.now()
	type closing struct {
		c   *conn
		why string
	}
	var old []closing
	s.mu.Lock()
	s.expireFaults(now)
	over := s.over
	s.over = nil
	for c := range s.conns {
		switch {
		case c.registration != nil && now.After(c.registration.ends):
			old = append(old, closing{c, "codes ran out"})
		case !c.deafUntil.IsZero() && now.After(c.deafUntil):
			old = append(old, closing{c, "half-open connection ended"})
		case now.Sub(time.Unix(0, c.heard.Load())) > s.cfg.IdleTimeout:
			old = append(old, closing{c, "silent for too long"})
		}
	}
	s.mu.Unlock()
	s.tellEnded(over)
	for _, o := range old {
		o.c.close(o.why)
	}
}

// ServeHTTP serves the WebSocket, the page that tells the client version, and
// the control interface.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }
