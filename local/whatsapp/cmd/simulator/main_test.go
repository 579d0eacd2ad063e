package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	got, err := configFrom(env())
	if err != nil || got.address != "127.0.0.1:8090" || got.dataDir != ".data/whatsapp" {
		t.Errorf("defaults: %+v, %v", got, err)
	}
	got, err = configFrom(env("WHATSAPP_PORT", "9000", "BIND", "0.0.0.0", "DATA_DIR", "/x"))
	if err != nil || got.address != "0.0.0.0:9000" || got.dataDir != "/x/whatsapp" {
		t.Errorf("settings: %+v, %v", got, err)
	}
	if _, err = configFrom(env("WHATSAPP_PORT", "http", "BIND", "everywhere")); err == nil ||
		!strings.Contains(err.Error(), "WHATSAPP_PORT") || !strings.Contains(err.Error(), "BIND") {
		t.Errorf("both problems should be named: %v", err)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	read, write := io.Pipe()
	var stderr bytes.Buffer
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, env("WHATSAPP_PORT", "0", "DATA_DIR", t.TempDir()), write, &stderr)
		_ = write.Close()
	}()
	line := make([]byte, 256)
	n, err := read.Read(line)
	if err != nil {
		t.Fatalf("no line: %v, %v", err, <-ended)
	}
	fields := strings.Fields(string(line[:n]))
	if len(fields) != 4 || len(fields[3]) != 64 {
		t.Fatalf("the line is %q", line[:n])
	}
	answer, err := http.Get(fields[1] + "/control/root")
	if err != nil {
		t.Fatal(err)
	}
	root, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if !strings.Contains(string(root), fields[3]) {
		t.Errorf("another root: %s", root)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ended badly: %v", err)
	}
}
