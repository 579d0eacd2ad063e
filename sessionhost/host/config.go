package host

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"whatisup/shared/dynamo"
	"whatisup/shared/queue"
	"whatisup/shared/whatisup"

	"whatisup/sessionhost/devicestore"
	"whatisup/sessionhost/fleet"
	"whatisup/sessionhost/line"
	"whatisup/sessionhost/session"
)

// Config of a session host.
type Config struct {
	// ID names the host in the fleet. It is used by one process at a time: what
	// the process before it owned is taken over at once.
	ID   string
	Mode whatisup.Mode

	Tables        dynamo.Tables
	Bucket        string          // of files; empty: none are sent or fetched
	MediaSecret   whatisup.Secret // seals the URLs of files
	MediaKept     time.Duration   // how long received files are kept
	PublicURL     string          // where the API is, for those URLs
	CommandPrefix string          // of the URLs of the shards' queues
	EventQueues   []string        // URLs
	// WebhookEvents is the URL of the queue that begins the way to webhooks; empty: none.
	WebhookEvents string
	Shards        int
	KeyID         string // the KMS key that wraps data keys
	AuthFormat    devicestore.Format

	Redirect line.Redirect // sandbox only

	ConnectsPerSecond float64
	ResumePerSecond   float64
	MaxSessions       int
	DeviceName        string // as the phone shows the linked device

	Health           string // address of /healthz, /readyz and /metrics; empty: none
	MetricsNamespace string // CloudWatch's, for metrics as lines of the log; empty: none

	// Blamed lists instances that have crashed the host too often.
	Blamed []whatisup.InstanceID

	// Now is this machine's clock; nil: time.Now.
	Now func() time.Time

	Fleet   fleet.Timing   // zero: the deployment's
	Session session.Timing // zero: the deployment's
}

// The defaults of a deployment.
const (
	DefaultConnectsPerSecond = 20
	DefaultResumePerSecond   = 100
	DefaultMaxSessions       = 4000
	DefaultDeviceName        = "WhatIsUp"
	DefaultHealth            = "127.0.0.1:8070"
)

// BlamedVariable names instances that the parent process blames for crashes.
const BlamedVariable = "SESSIONHOST_BLAMED"

// FromEnv reads the configuration of a host process.
func FromEnv(getenv func(string) string) (Config, error) {
	var problems []error
	c := Config{
		ID:               getenv("HOST_ID"),
		Tables:           dynamo.TablesFromEnv(getenv),
		Bucket:           getenv("MEDIA_BUCKET"),
		MediaSecret:      whatisup.Secret(getenv("MEDIA_SECRET")),
		PublicURL:        getenv("PUBLIC_URL"),
		MediaKept:        whatisup.MediaKept,
		CommandPrefix:    getenv("COMMAND_QUEUE_PREFIX"),
		EventQueues:      queue.SplitURLs(getenv("EVENT_QUEUE_URLS")),
		WebhookEvents:    getenv("WEBHOOK_EVENTS_QUEUE_URL"),
		KeyID:            getenv("AUTH_KEY_ID"),
		AuthFormat:       devicestore.FormatLog,
		Redirect:         line.Redirect{Endpoint: getenv("WHATSAPP_ENDPOINT"), Root: getenv("WHATSAPP_NOISE_ROOT")},
		DeviceName:       getenv("DEVICE_NAME"),
		Health:           DefaultHealth,
		MetricsNamespace: getenv("METRICS_NAMESPACE"),
	}
	if c.ID == "" {
		c.ID = uuid.NewString()
	}
	if c.DeviceName == "" {
		c.DeviceName = DefaultDeviceName
	}
	if h := getenv("HEALTH_ADDR"); h != "" {
		c.Health = h
	}
	switch w := getenv("WHATSAPP"); w {
	case "live":
		c.Mode = whatisup.Live
	case "sandbox":
		c.Mode = whatisup.Test
	default:
		problems = append(problems, fmt.Errorf("WHATSAPP must be live or sandbox, not %q", w))
	}
	switch f := getenv("AUTH_FORMAT"); f {
	case "", "log":
	case "rows":
		c.AuthFormat = devicestore.FormatRows
	default:
		problems = append(problems, fmt.Errorf("AUTH_FORMAT must be log or rows, not %q", f))
	}
	if path := getenv("WHATSAPP_CA_FILE"); path != "" {
		ca, err := os.ReadFile(path)
		if err != nil {
			problems = append(problems, fmt.Errorf("WHATSAPP_CA_FILE: %w", err))
		} else if len(ca) == 0 {
			problems = append(problems, errors.New("WHATSAPP_CA_FILE is empty"))
		}
		c.Redirect.CA = ca
	}
	number := func(name string, otherwise float64) float64 {
		v := getenv(name)
		if v == "" {
			return otherwise
		}
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || n <= 0 || n > 1e6 {
			problems = append(problems, fmt.Errorf("%s must be a number above 0, not %q", name, v))
		}
		return n
	}
	c.MediaKept = time.Duration(number("MEDIA_DAYS", whatisup.MediaKept.Hours()/24) * 24 * float64(time.Hour))
	c.Shards = int(number("SHARD_COUNT", whatisup.DefaultShardCount))
	c.ConnectsPerSecond = number("CONNECTS_PER_SECOND", DefaultConnectsPerSecond)
	c.ResumePerSecond = number("RESUME_PER_SECOND", DefaultResumePerSecond)
	c.MaxSessions = int(number("MAX_SESSIONS", DefaultMaxSessions))
	for id := range strings.SplitSeq(getenv(BlamedVariable), ",") {
		if id, ok := whatisup.ParseInstanceID(id); ok {
			c.Blamed = append(c.Blamed, id)
		}
	}
	problems = append(problems, c.Validate())
	return c, errors.Join(problems...)
}

// Validate says everything that is wrong with the configuration.
func (c *Config) Validate() error {
	var problems []error
	need := func(ok bool, what string) {
		if !ok {
			problems = append(problems, errors.New(what))
		}
	}
	need(c.ID != "", "HOST_ID must not be empty")
	need(c.Tables.Instances != "" && c.Tables.Calls != "" && c.Tables.Events != "" && c.Tables.Fleet != "" && c.Tables.Devices != "" && c.Tables.Messages != "",
		"INSTANCES_TABLE, CALLS_TABLE, EVENTS_TABLE, FLEET_TABLE, DEVICES_TABLE and MESSAGES_TABLE must be set")
	need(c.CommandPrefix != "", "COMMAND_QUEUE_PREFIX must be set")
	if c.Bucket != "" {
		need(c.Tables.Media != "", "MEDIA_TABLE must be set beside MEDIA_BUCKET")
		need(len(c.MediaSecret) >= 16, "MEDIA_SECRET must have at least 16 characters")
		need(c.PublicURL != "", "PUBLIC_URL must be set beside MEDIA_BUCKET")
		need(c.MediaKept > 0 && c.MediaKept <= whatisup.MediaKept, "MEDIA_DAYS must be 1 to 7")
	}
	need(c.KeyID != "", "AUTH_KEY_ID must be set")
	need(c.Shards >= 1 && c.Shards <= 9999, "SHARD_COUNT must be 1 to 9999")
	need(c.ConnectsPerSecond > 0 && c.ResumePerSecond > 0, "CONNECTS_PER_SECOND and RESUME_PER_SECOND must be above 0")
	switch c.Mode {
	case whatisup.Live:
		// A redirect takes the authentication of the server away, so real links
		// must never run under one.
		need(c.Redirect.Endpoint == "" && c.Redirect.Root == "" && c.Redirect.CA == nil,
			"WHATSAPP_ENDPOINT, WHATSAPP_NOISE_ROOT and WHATSAPP_CA_FILE are for WHATSAPP=sandbox alone")
	case whatisup.Test:
		need(c.Redirect.Endpoint != "" && c.Redirect.Root != "", "WHATSAPP_ENDPOINT and WHATSAPP_NOISE_ROOT must be set with WHATSAPP=sandbox")
	}
	if c.Health != "" {
		if _, _, err := net.SplitHostPort(c.Health); err != nil {
			problems = append(problems, fmt.Errorf("HEALTH_ADDR: %w", err))
		}
	}
	return errors.Join(problems...)
}
