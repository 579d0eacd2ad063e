package host

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"whatisup/shared/whatisup"
)

// stale is for how long a host may have failed to read the leases before it is no
// longer ready: it can then neither keep nor get a shard. And for how long it may
// not even have tried before it is called unhealthy, and replaced. While DynamoDB
// is away a new host would be no better than this one.
const stale = time.Minute

// state is what a host is doing.
type state struct {
	Host     string                  `json:"host"`
	Mode     whatisup.Mode           `json:"mode"`
	Draining bool                    `json:"draining"`
	Shards   []int                   `json:"shards"`
	Running  int                     `json:"running"` // sessions, whatever their status
	Sessions map[whatisup.Status]int `json:"sessions"`
	Pairings int                     `json:"pairings"`
	LeaseAge time.Duration           `json:"lease_age_ns"`
	Client   string                  `json:"client_version"`
	looked   time.Duration
	turned   time.Duration
}

func (h *Host) state() state {
	s := state{
		Host: h.cfg.ID, Mode: h.cfg.Mode, Draining: h.fleet.Draining(), Shards: []int{},
		Sessions: make(map[whatisup.Status]int), Running: h.kit.Budgets.Sessions(), Pairings: h.kit.Budgets.Pairings(),
		Client: h.network.Version().String(), looked: h.fleet.SinceLook(),
		turned: h.fleet.SinceTurn(),
	}
	for _, t := range h.fleet.Owned() {
		s.Shards = append(s.Shards, int(t.Shard()))
		s.LeaseAge = max(s.LeaseAge, t.LeaseAge())
	}
	for _, sh := range h.owned() {
		for status, n := range sh.Counts() {
			s.Sessions[status] += n
		}
	}
	return s
}

// health is the host's HTTP listener.
type health struct {
	listener net.Listener
	server   *http.Server
}

// listen opens the listener, so that a port in use ends the start and not a
// goroutine.
func (h *Host) listen() (*health, error) {
	if h.cfg.Health == "" {
		return &health{}, nil
	}
	l, err := net.Listen("tcp", h.cfg.Health)
	if err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	h.mu.Lock()
	h.address = l.Addr().String()
	h.mu.Unlock()
	return &health{l, &http.Server{Handler: h.handler(), ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute}}, nil
}

func (s *health) serve(ctx context.Context) {
	if s.listener == nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { s.server.Close() })
	defer stop()
	_ = s.server.Serve(s.listener) // ends with Close, which is what is waited for
}

// Address is where the host shows its health, once it runs.
func (h *Host) Address() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.address
}

// handler answers /healthz (this process works and should not be killed),
// /readyz (it owns what it should and takes part in the fleet) and /metrics.
func (h *Host) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		ok, s := h.Healthy()
		h.answer(w, ok, s)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ok, s := h.Ready()
		h.answer(w, ok, s)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(h.metrics.registry, promhttp.HandlerOpts{}))
	return mux
}

// Healthy says whether this process works and should not be killed, and what it
// does.
func (h *Host) Healthy() (bool, any) {
	s := h.state()
	return s.turned < stale || s.Draining, s
}

// Ready says whether the host owns what it should and takes part in the fleet.
func (h *Host) Ready() (bool, any) {
	s := h.state()
	return s.looked < stale && !s.Draining && len(s.Shards) > 0, s
}

// Registry has the host's metrics.
func (h *Host) Registry() prometheus.Gatherer { return h.metrics.registry }

func (h *Host) answer(w http.ResponseWriter, ok bool, s any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(s)
}

// Check asks the host at the address whether it is healthy, as the container's
// health check does.
func Check(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the host answers %s", answer.Status)
	}
	return nil
}
