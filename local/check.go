package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	localaws "whatisup/local/aws"
	"whatisup/local/deploy/stack"
	"whatisup/local/front"
	"whatisup/shared/whatisup"
)

// Finding is one thing that [Check] looked at.
type Finding struct {
	About, Says string
	Bad         bool // the stack does not run with it, or not safely
	Note        bool // as it may be, and worth knowing
}

// clockWithin is how much the clock may differ: WhatsApp and ACME bear minutes, an
// expiry does not.
const clockWithin = 2 * time.Second

// Check looks at what a stack needs, and changes nothing. The settings themselves
// have been read already.
func Check(ctx context.Context, c Config) []Finding {
	k := &check{Config: c}
	k.folder()
	k.keys()
	if c.Serves(whatisup.Live) {
		k.clock(ctx)
	}
	k.ports()
	k.network()
	return k.all
}

// check is one look at everything.
type check struct {
	Config
	all []Finding

	first bool // the next run is a first start
	found written
}

func (c *check) say(about, format string, args ...any) {
	c.all = append(c.all, Finding{About: about, Says: fmt.Sprintf(format, args...)})
}

func (c *check) note(about, format string, args ...any) {
	c.all = append(c.all, Finding{About: about, Says: fmt.Sprintf(format, args...), Note: true})
}

func (c *check) bad(about, format string, args ...any) {
	c.all = append(c.all, Finding{About: about, Says: fmt.Sprintf(format, args...), Bad: true})
}

func (c *check) folder() {
	_, err := os.Stat(c.DataDir)
	if err == nil {
		c.first, err = c.isFirst()
	}
	var formatErr error
	c.found, formatErr = c.format()
	switch {
	case errors.Is(err, fs.ErrNotExist), c.first:
		c.note("data", "%s is empty: the next run is a first start", c.DataDir)
		c.first = true
	case err != nil:
		c.bad("data", "%v", err)
	case formatErr != nil:
		c.bad("data", "%v", formatErr)
	default:
		if err := c.nothingMissing(c.found); err != nil {
			c.bad("data", "%v", err)
		} else {
			c.say("data", "%s has format %d, written by whatisup %s", c.DataDir, c.found.Format, c.found.By)
		}
		c.permissions()
	}
}

func (c *check) permissions() {
	open := 0
	_ = filepath.WalkDir(c.DataDir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // told by what needs it
		}
		if info, err := d.Info(); err == nil && info.Mode().Perm()&0o077 != 0 && filepath.Dir(p) == c.DataDir && !d.IsDir() {
			open++
			c.bad("permissions", "%s can be read by others: chmod 600 it", p)
		} else if err == nil && p == c.DataDir && info.Mode().Perm()&0o077 != 0 {
			open++
			c.bad("permissions", "%s can be entered by others: chmod 700 it", p)
		}
		return nil
	})
	if open == 0 {
		c.say("permissions", "only the owner reads %s", c.DataDir)
	}
}

func (c *check) keys() {
	for _, s := range []struct {
		name, file string
		parse      func(string) error
	}{
		{"PEPPER", pepperFile, func(text string) error { _, err := whatisup.ParsePeppers(text); return err }},
		{"KMS_ROOT", rootFile, func(text string) error { _, err := localaws.ParseRoots(text); return err }},
	} {
		text, from, err := c.secret(s.name, s.file)
		switch {
		case err != nil:
			c.bad("keys", "%s: %v", s.name, err)
		case text == "" && (c.first || c.found.Format == 1):
			c.note("keys", "%s will be made at the first start, in %s", s.name, c.path(s.file))
		case text == "":
			// told above
		case s.parse(text) != nil:
			c.bad("keys", "%s from %s: %v", s.name, from, s.parse(text))
		case from == c.path(s.file):
			c.note("keys", "%s lies beside the data it protects, in %s: whoever copies the folder has both", s.name, from)
		default:
			c.say("keys", "%s comes from %s", s.name, from)
		}
	}
}

// clock compares the clock with the Date of WhatsApp's answer.
func (c *check) clock(ctx context.Context) {
	ahead, err := clock(ctx, "https://web.whatsapp.com/")
	switch {
	case err != nil:
		c.bad("whatsapp", "web.whatsapp.com can't be reached: %v", err)
	case ahead.Abs() > clockWithin+time.Second: // a Date has whole seconds
		c.bad("clock", "it differs by about %v from WhatsApp's: switch on NTP (timedatectl set-ntp true)", ahead.Round(time.Second))
	default:
		c.say("clock", "within %v of WhatsApp's", clockWithin+time.Second)
	}
}

func (c *check) ports() {
	if env, err := stack.Local(c.DataDir); err == nil {
		c.note("ports", "not looked at: a stack runs at %s", env["EVENTS_URL"])
	} else {
		host := c.Bind
		ports := []struct {
			name, host string
			port       int
		}{{"PORT", host, c.Port}, {"AWS_PORT", c.AWSBind, c.AWSPort}, {"HTTP_PORT", host, c.Door.HTTPPort}}
		if c.Serves(whatisup.Test) && c.Endpoint == "" {
			ports = append(ports, struct {
				name, host string
				port       int
			}{"WHATSAPP_PORT", "127.0.0.1", c.WhatsAppPort})
		}
		for _, p := range ports {
			if p.port == 0 {
				continue
			}
			l, err := net.Listen("tcp", net.JoinHostPort(p.host, strconv.Itoa(p.port)))
			if err != nil {
				c.bad("ports", "%s: %v", p.name, err)
				continue
			}
			l.Close()
			c.say("ports", "%s %d is free", p.name, p.port)
		}
	}
}

func (c *check) network() {
	switch {
	case isLoopback(c.Bind):
		c.say("network", "the API is reached from this machine alone")
	case c.Door.TLS():
		c.say("network", "the API is open at %s, over TLS", c.Bind)
	default:
		c.bad("network", "the API is open at %s without TLS: keys and messages go in the clear. Set ACME_DOMAINS or TLS_CERT_FILE, or bind to 127.0.0.1 behind a proxy", c.Bind)
	}
	if c.PublicURL == "" && !isLoopback(c.Bind) {
		c.bad("network", "PUBLIC_URL is not set: events_url would name %s", c.Bind)
	}
	if !isLoopback(c.AWSBind) {
		c.note("network", "the embedded AWS is open at %s, to whoever has the stack's secret key", c.AWSBind)
	}
	if allow := c.getenv("FOREIGN_ALLOW"); allow != "" {
		c.note("network", "webhooks and media may reach inside: FOREIGN_ALLOW=%s", allow)
	}
	if c.Door.CertFile != "" {
		if _, err := front.New(c.Door, nil, nil, c.Log); err != nil {
			c.bad("network", "%v", err)
		}
	}
}

// clock asks a server for the time, and says how far ahead ours is.
func clock(ctx context.Context, url string) (ahead time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	return time.Since(date), err
}
