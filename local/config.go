package local

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	localaws "whatisup/local/aws"
	"whatisup/local/front"
	"whatisup/shared/dynamo"
	"whatisup/shared/whatisup"
)

// Config of a local stack.
type Config struct {
	DataDir string
	// Bind is where the API listens; AWSBind where the embedded AWS does, which is
	// open to whoever has the stack's secret key. The simulator and the health
	// page never leave loopback.
	Bind, AWSBind string
	// The ports of the API, of AWS and of the simulator; 0 lets the system choose.
	Port, AWSPort, WhatsAppPort int
	// Listeners are open already, by the name of their port's setting (PORT, AWS_PORT,
	// WHATSAPP_PORT); the others are opened.
	Listeners map[string]net.Listener
	// Health is the address of /healthz, /readyz and /metrics; empty: a free port
	// of this machine.
	Health string

	// WhatsApp is sandbox, live, or live,sandbox. With both, [Run] serves live and
	// [RunSandbox], in a process of its own, the sandbox.
	WhatsApp string
	// Endpoint is another simulator's URL, to use in place of our own; Root its
	// public key in hex, asked of it if empty; CAFile its certificate authority.
	Endpoint, Root, CAFile string

	// Seed of the simulator's keys, for stacks that share a process, which can
	// trust only one; zero: random, and kept in DataDir.
	Seed [32]byte

	// PublicURL is where clients reach the API, if not at Bind and Port: behind a
	// reverse proxy, say. No slash at its end.
	PublicURL string
	// EventQueue makes the queue to which every event goes. Nobody but its reader
	// empties it.
	EventQueue bool

	// ForeignAllow is what URLs of customers may reach beside public addresses.
	ForeignAllow string
	// Door is the API's own: TLS, proxies, limits by address. Zero: plain HTTP without
	// limits.
	Door front.Config

	// Env is the program's environment: what the session host reads beside what
	// the stack gives it, and where secrets come from that are not in DataDir.
	Env func(name string) string
	// Limits are a customer's, and Sends those of its messages, where it has none of its
	// own; zero: the API's.
	Limits whatisup.RateLimit
	Sends  whatisup.SendLimits

	// Clock is that of everything but the session host; nil: time.Now. It is for
	// trying a host whose machine's clock is off.
	Clock func() time.Time

	// Tables are the tables' names; zero: [dynamo.Local]. They are for trying a move to
	// a stack whose tables are named otherwise.
	Tables dynamo.Tables

	// NoHost leaves the session host to other processes.
	NoHost bool
	// Front, if given, is put before the embedded AWS, for somebody who wants to
	// count; functions and hosts know only the URL that it returns.
	Front func(*localaws.Server) (url string, err error)

	// Version of the program, as DataDir and the metrics name it.
	Version string
	Log     *slog.Logger

	figures *figures
}

// The settings of WHATSAPP.
const (
	sandbox = "sandbox"
	live    = "live"
)

// ConfigFromEnv reads the settings of `whatisup run`, and says everything that is
// wrong with them at once.
func ConfigFromEnv(getenv func(string) string, log *slog.Logger) (Config, error) {
	var problems []error
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	port := func(name string, otherwise int) int {
		s := getenv(name)
		if s == "" {
			return otherwise
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > 65535 {
			wrong("%s must be a port, not %q", name, s)
		}
		return n
	}
	number := func(name string) float64 {
		s := getenv(name)
		if s == "" {
			return 0
		}
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || n <= 0 || n > 1e6 {
			wrong("%s must be a number above 0, not %q", name, s)
		}
		return n
	}
	flag := func(name string) bool {
		switch s := getenv(name); s {
		case "", "0", "false", "no":
			return false
		case "1", "true", "yes":
			return true
		default:
			wrong("%s must be true or false, not %q", name, s)
			return false
		}
	}
	limit := func(burst, perSecond float64) whatisup.RateLimit {
		return whatisup.RateLimit{Burst: int(burst), PerSecond: perSecond}
	}
	c := Config{
		DataDir:      cmp.Or(getenv("DATA_DIR"), ".data"),
		Bind:         cmp.Or(getenv("BIND"), "127.0.0.1"),
		AWSBind:      cmp.Or(getenv("AWS_BIND"), "127.0.0.1"),
		Port:         port("PORT", 8080),
		AWSPort:      port("AWS_PORT", 4566),
		WhatsAppPort: port("WHATSAPP_PORT", 8090),
		Health:       getenv("HEALTH_ADDR"),
		Endpoint:     getenv("WHATSAPP_ENDPOINT"),
		Root:         getenv("WHATSAPP_NOISE_ROOT"),
		CAFile:       getenv("WHATSAPP_CA_FILE"),
		PublicURL:    strings.TrimRight(getenv("PUBLIC_URL"), "/"),
		EventQueue:   flag("EVENT_QUEUE"),
		ForeignAllow: getenv("FOREIGN_ALLOW"),
		Env:          getenv,
		Limits:       limit(number("RATE_LIMIT_BURST"), number("RATE_LIMIT_PER_SECOND")),
		Sends: whatisup.SendLimits{
			Customer: limit(number("SEND_LIMIT_CUSTOMER_BURST"), number("SEND_LIMIT_CUSTOMER_PER_SECOND")),
			Instance: limit(number("SEND_LIMIT_INSTANCE_BURST"), number("SEND_LIMIT_INSTANCE_PER_SECOND")),
		},
		Log: log,
	}
	if u, err := url.Parse(c.PublicURL); c.PublicURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		wrong("PUBLIC_URL must be a URL like https://api.example.com, not %q", c.PublicURL)
	}
	if c.Health != "" {
		if host, _, err := net.SplitHostPort(c.Health); err != nil {
			wrong("HEALTH_ADDR must be an address like 127.0.0.1:9090, not %q", c.Health)
		} else if !isLoopback(host) {
			wrong("HEALTH_ADDR must be an address of this machine alone, like 127.0.0.1:9090, not %q: it asks for no key", c.Health)
		}
	}

	var err error
	if c.Door, err = front.FromEnv(getenv, c.PublicURL); err != nil {
		problems = append(problems, err)
	}
	c.Door.Cache = c.path("acme")
	if c.PublicURL == "" && len(c.Door.Domains) > 0 {
		wrong("PUBLIC_URL must be set with ACME_DOMAINS, as in https://%s", c.Door.Domains[0])
	}

	modes := strings.Split(cmp.Or(strings.ReplaceAll(getenv("WHATSAPP"), " ", ""), sandbox), ",")
	slices.Sort(modes)
	c.WhatsApp = strings.Join(modes, ",")
	switch c.WhatsApp {
	case sandbox, live + "," + sandbox:
	case live:
		if c.Endpoint != "" || c.Root != "" || c.CAFile != "" {
			wrong("WHATSAPP=live speaks to WhatsApp only: WHATSAPP_ENDPOINT, WHATSAPP_NOISE_ROOT and WHATSAPP_CA_FILE are for the sandbox")
		}
	default:
		wrong("WHATSAPP must be sandbox, live or live,sandbox, not %q", getenv("WHATSAPP"))
	}
	return c, errors.Join(problems...)
}

// Both says whether live and sandbox run together.
func (c Config) Both() bool { return c.WhatsApp == live+","+sandbox }

// Serves says whether keys of a mode work.
func (c Config) Serves(m whatisup.Mode) bool {
	name := map[whatisup.Mode]string{whatisup.Live: live, whatisup.Test: sandbox}[m]
	return slices.Contains(strings.Split(c.WhatsApp, ","), name)
}

// hostMode is the mode of the session host in [Run]'s process.
func (c Config) hostMode() string {
	if c.Both() {
		return live
	}
	return c.WhatsApp
}

func (c Config) tables() dynamo.Tables { return cmp.Or(c.Tables, dynamo.Local()) }

func (c Config) path(name string) string { return filepath.Join(c.DataDir, name) }

// isLoopback says whether a host of an address is this machine alone.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
