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
func Check(ctx context.Context, c Config) (all []Finding) {
	say := func(about, format string, args ...any) {
		all = append(all, Finding{About: about, Says: fmt.Sprintf(format, args...)})
	}
	note := func(about, format string, args ...any) {
		all = append(all, Finding{About: about, Says: fmt.Sprintf(format, args...), Note: true})
	}
	bad := func(about, format string, args ...any) {
		all = append(all, Finding{About: about, Says: fmt.Sprintf(format, args...), Bad: true})
	}

	// The folder.
	_, err := os.Stat(c.DataDir)
	exists := err == nil
	first := false
	if exists {
		first, err = c.isFirst()
	}
	found, formatErr := c.format()
	switch {
	case errors.Is(err, fs.ErrNotExist), first:
		note("data", "%s is empty: the next run is a first start", c.DataDir)
		first = true
	case err != nil:
		bad("data", "%v", err)
	case formatErr != nil:
		bad("data", "%v", formatErr)
	default:
		if err := c.nothingMissing(found); err != nil {
			bad("data", "%v", err)
		} else {
			say("data", "%s has format %d, written by whatisup %s", c.DataDir, found.Format, found.By)
		}
		open := 0
		_ = filepath.WalkDir(c.DataDir, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // told by what needs it
			}
			if info, err := d.Info(); err == nil && info.Mode().Perm()&0o077 != 0 && (p == c.DataDir || filepath.Dir(p) == c.DataDir) && !d.IsDir() {
				open++
				bad("permissions", "%s can be read by others: chmod 600 it", p)
			} else if err == nil && p == c.DataDir && info.Mode().Perm()&0o077 != 0 {
				open++
				bad("permissions", "%s can be entered by others: chmod 700 it", p)
			}
			return nil
		})
		if open == 0 {
			say("permissions", "only the owner reads %s", c.DataDir)
		}
	}

	// The keys.
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
			bad("keys", "%s: %v", s.name, err)
		case text == "" && (first || found.Format == 1):
			note("keys", "%s will be made at the first start, in %s", s.name, c.path(s.file))
		case text == "":
			// told above
		case s.parse(text) != nil:
			bad("keys", "%s from %s: %v", s.name, from, s.parse(text))
		case from == c.path(s.file):
			note("keys", "%s lies beside the data it protects, in %s: whoever copies the folder has both", s.name, from)
		default:
			say("keys", "%s comes from %s", s.name, from)
		}
	}

	// The clock, by the Date of whoever is asked.
	if c.Serves(whatisup.Live) {
		if ahead, err := clock(ctx, "https://web.whatsapp.com/"); err != nil {
			bad("whatsapp", "web.whatsapp.com can't be reached: %v", err)
		} else if ahead.Abs() > clockWithin+time.Second { // a Date has whole seconds
			bad("clock", "it differs by about %v from WhatsApp's: switch on NTP (timedatectl set-ntp true)", ahead.Round(time.Second))
		} else {
			say("clock", "within %v of WhatsApp's", clockWithin+time.Second)
		}
	}

	// The ports.
	if env, err := stack.Local(c.DataDir); err == nil {
		note("ports", "not looked at: a stack runs at %s", env["EVENTS_URL"])
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
				bad("ports", "%s: %v", p.name, err)
				continue
			}
			l.Close()
			say("ports", "%s %d is free", p.name, p.port)
		}
	}

	// The world.
	switch {
	case isLoopback(c.Bind):
		say("network", "the API is reached from this machine alone")
	case c.Door.TLS():
		say("network", "the API is open at %s, over TLS", c.Bind)
	default:
		bad("network", "the API is open at %s without TLS: keys and messages go in the clear. Set ACME_DOMAINS or TLS_CERT_FILE, or bind to 127.0.0.1 behind a proxy", c.Bind)
	}
	if c.PublicURL == "" && !isLoopback(c.Bind) {
		bad("network", "PUBLIC_URL is not set: events_url would name %s", c.Bind)
	}
	if !isLoopback(c.AWSBind) {
		note("network", "the embedded AWS is open at %s, to whoever has the stack's secret key", c.AWSBind)
	}
	if allow := c.getenv("FOREIGN_ALLOW"); allow != "" {
		note("network", "webhooks and media may reach inside: FOREIGN_ALLOW=%s", allow)
	}
	if c.Door.CertFile != "" {
		if _, err := front.New(c.Door, nil, nil, c.Log); err != nil {
			bad("network", "%v", err)
		}
	}
	return all
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
