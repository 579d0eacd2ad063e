package local

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	localaws "whatisup/local/aws"
	"whatisup/shared/whatisup"
)

// Config of a local stack.
type Config struct {
	DataDir  string
	Template string // path of template.yaml
	Bind     string
	// The ports of the API, of AWS and of the simulator; 0 lets the system choose.
	Port, AWSPort, WhatsAppPort int

	// WhatsApp is sandbox or live.
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

	// Host is what the session host reads beside what the stack gives it.
	Host func(name string) string
	// Limits are a customer's, where it has none of its own; zero: the API's.
	Limits whatisup.RateLimit

	// NoHost leaves the session host to other processes.
	NoHost bool
	// Front, if given, is put before the embedded AWS, for somebody who wants to
	// count; functions and hosts know only the URL that it returns.
	Front func(*localaws.Server) (url string, err error)

	Log *slog.Logger
}

// ConfigFromEnv reads the settings of `make run`, and says everything that is
// wrong with them at once.
func ConfigFromEnv(getenv func(string) string, log *slog.Logger) (Config, error) {
	var problems []error
	port := func(name string, otherwise int) int {
		s := getenv(name)
		if s == "" {
			return otherwise
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > 65535 {
			problems = append(problems, fmt.Errorf("%s must be a port, not %q", name, s))
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
			problems = append(problems, fmt.Errorf("%s must be a number above 0, not %q", name, s))
		}
		return n
	}
	c := Config{
		DataDir:      cmp.Or(getenv("DATA_DIR"), ".data"),
		Template:     "template.yaml",
		Bind:         cmp.Or(getenv("BIND"), "127.0.0.1"),
		Port:         port("PORT", 8080),
		AWSPort:      port("AWS_PORT", 4566),
		WhatsAppPort: port("WHATSAPP_PORT", 8090),
		WhatsApp:     cmp.Or(getenv("WHATSAPP"), "sandbox"),
		Endpoint:     getenv("WHATSAPP_ENDPOINT"),
		Root:         getenv("WHATSAPP_NOISE_ROOT"),
		CAFile:       getenv("WHATSAPP_CA_FILE"),
		PublicURL:    strings.TrimRight(getenv("PUBLIC_URL"), "/"),
		Host:         getenv,
		Limits:       whatisup.RateLimit{Burst: int(number("RATE_LIMIT_BURST")), PerSecond: number("RATE_LIMIT_PER_SECOND")},
		Log:          log,
	}
	if u, err := url.Parse(c.PublicURL); c.PublicURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		problems = append(problems, fmt.Errorf("PUBLIC_URL must be a URL like https://api.example.com, not %q", c.PublicURL))
	}
	if _, err := os.Stat(c.Template); err != nil {
		problems = append(problems, fmt.Errorf("must be started where template.yaml is: %w", err))
	}
	switch c.WhatsApp {
	case "sandbox":
	case "live":
		if c.Endpoint != "" || c.Root != "" || c.CAFile != "" {
			problems = append(problems, errors.New("WHATSAPP=live speaks to WhatsApp only: WHATSAPP_ENDPOINT, WHATSAPP_NOISE_ROOT and WHATSAPP_CA_FILE are for the sandbox"))
		}
	default:
		problems = append(problems, fmt.Errorf("WHATSAPP must be sandbox or live, not %q", c.WhatsApp))
	}
	return c, errors.Join(problems...)
}

func (c Config) path(name string) string { return filepath.Join(c.DataDir, name) }
