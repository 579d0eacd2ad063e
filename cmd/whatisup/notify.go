package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"whatisup/local"
	"whatisup/local/deploy/stack"
)

// notify tells systemd that the stack is up, and, as long as its health page says
// that it works, that it still is. Without NOTIFY_SOCKET nobody asks.
func notify(ctx context.Context, c local.Config) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	every := time.Second
	if us, err := strconv.Atoi(os.Getenv("WATCHDOG_USEC")); err == nil && us > 0 {
		every = min(every, time.Duration(us)*time.Microsecond/4)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	ready := false
	for {
		select {
		case <-ctx.Done():
			tell(socket, "STOPPING=1")
			return
		case <-tick.C:
		}
		if !well(ctx, c) {
			continue
		}
		if !ready {
			ready = true
			tell(socket, "READY=1")
		}
		tell(socket, "WATCHDOG=1")
	}
}

func tell(socket, state string) {
	if conn, err := net.Dial("unixgram", socket); err == nil {
		conn.Write([]byte(state)) //nolint:errcheck // systemd notices what does not come
		conn.Close()
	}
}

// well asks the health page of the stack that runs now.
func well(ctx context.Context, c local.Config) bool {
	env, err := stack.Local(c.DataDir)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, env["HEALTH_URL"]+"/healthz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
