package main

import (
	"strings"
	"sync"
	"testing"

	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// screen is a terminal that calls seen with what it shows.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
	seen func(string)
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(b)
	s.seen(string(b))
	return len(b), nil
}

// The code is drawn, a phone scans it, and the command says who is connected.
func TestDrawnUntilConnected(t *testing.T) {
	t.Parallel()
	s := localtest.Start(t, nil)
	key := s.Keys[whatisup.Test]
	c := localtest.NewClient(t, s.API, key)
	id := c.Create("drawn").ID
	settings := map[string]string{"API": s.API + "/", "KEY": key}
	getenv := func(name string) string { return settings[name] }
	out := &screen{seen: func(text string) {
		if strings.Contains(text, "Linked devices") {
			c.Must(204, "POST", "/v1/sandbox/instances/"+id+"/scan", "", nil)
		}
	}}
	if err := runQR(t.Context(), program{[]string{id}, getenv, out, out}); err != nil {
		t.Fatal(err)
	}
	if shown := out.text.String(); !strings.Contains(shown, "█▀") || !strings.Contains(shown, "Connected as +") {
		t.Errorf("shown:\n%s", shown)
	}

	settings["KEY"] = "wiu_test_wrong"
	if err := runQR(t.Context(), program{[]string{id}, getenv, out, out}); err == nil || !strings.Contains(err.Error(), "auth_malformed") {
		t.Errorf("a wrong key: %v", err)
	}
	if err := runQR(t.Context(), program{nil, getenv, out, out}); err == nil {
		t.Error("it runs without an instance")
	}
}
