package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"whatisup/sessionhost/host"
	"whatisup/shared/httpapi"
	"whatisup/shared/whatisup"
)

// figures are what the API's side counts. No label has a customer or an instance.
type figures struct {
	registry   *prometheus.Registry
	requests   *prometheus.HistogramVec
	deliveries *prometheus.CounterVec
	operations map[string]string // by route
}

func newFigures(version string) *figures {
	f := &figures{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "whatisup_api_request_seconds", Help: "Requests to the API by operation and status, and how long they took.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"operation", "status"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whatisup_deliveries_total", Help: "Webhook deliveries that have ended, by mode and outcome: delivered, or undelivered after all tries.",
		}, []string{"mode", "outcome"}),
		operations: map[string]string{},
	}
	for _, m := range []whatisup.Mode{whatisup.Live, whatisup.Test} { // so that the first one is seen as a rise
		for _, outcome := range []string{"delivered", "undelivered"} {
			f.deliveries.WithLabelValues(string(m), outcome)
		}
	}
	for _, r := range httpapi.Routes {
		f.operations[r.Method+" "+r.Path] = r.Operation
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "whatisup_build_info", Help: "1, with the version as label."}, []string{"version", "go"})
	build.WithLabelValues(version, runtime.Version()).Set(1)
	f.registry.MustRegister(f.requests, f.deliveries, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return f
}

func (f *figures) observe(_, route string, status int, took time.Duration) {
	operation, ok := f.operations[route]
	if !ok {
		operation = "other" // the dashboard, a HEAD, what there is not
	}
	f.requests.WithLabelValues(operation, strconv.Itoa(status)).Observe(took.Seconds())
}

// startHealth serves what is seen of the whole stack at one address.
func (c Config) startHealth(s *Stack, h *host.Host, start starter) error {
	address := c.Health
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("HEALTH_ADDR: %w", err)
	}
	s.Health = "http://" + l.Addr().String()

	gather := prometheus.Gatherers{c.figures.registry}
	if h != nil {
		gather = append(gather, labelled{h.Registry(), "mode", modeLabel(c.hostMode())})
	}
	if c.Both() {
		gather = append(gather, labelled{remote{c}, "mode", modeLabel(sandbox)})
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gather, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	answer := func(ask func(*host.Host) (bool, any), path string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			ok, all := true, map[string]any{"version": c.Version}
			if h != nil {
				well, state := ask(h)
				ok, all[modeLabel(c.hostMode())] = ok && well, state
			}
			if c.Both() {
				well, state := c.askSandbox(r.Context(), path)
				ok, all[modeLabel(sandbox)] = ok && well, state
			}
			if err := s.answers(r.Context()); err != nil {
				ok, all["aws"] = false, "the embedded AWS does not answer"
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			if !ok {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			json.NewEncoder(w).Encode(all) //nolint:errcheck // the client is gone
		}
	}
	mux.Handle("GET /healthz", answer((*host.Host).Healthy, "/healthz"))
	mux.Handle("GET /readyz", answer((*host.Host).Ready, "/readyz"))
	server := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: time.Minute}
	start("health", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { server.Close() })
		defer stop()
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

// modeLabel is a mode as keys name it.
func modeLabel(whatsapp string) string {
	if whatsapp == sandbox {
		return "test"
	}
	return whatsapp
}

// answers asks the embedded AWS whether it serves.
func (s *Stack) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.AWS+"/", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// remoteWithin bounds a question to the process of the other mode.
const remoteWithin = 5 * time.Second

func (c Config) askSandbox(ctx context.Context, path string) (bool, any) {
	const silent = "the process of this mode does not answer"
	ctx, cancel := context.WithTimeout(ctx, remoteWithin)
	defer cancel()
	resp, err := c.askSocket(ctx, sandboxSocket, path)
	if err != nil {
		return false, silent
	}
	defer resp.Body.Close()
	var answer struct {
		OK    bool
		State any
	}
	if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer) != nil {
		return false, silent
	}
	return answer.OK, answer.State
}

// remote gathers what the process of the other mode shows.
type remote struct{ c Config }

func (r remote) Gather() ([]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(context.Background(), remoteWithin)
	defer cancel()
	resp, err := r.c.askSocket(ctx, sandboxSocket, "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(resp.Body, 8<<20))
	var all []*dto.MetricFamily
	for _, f := range families {
		all = append(all, f)
	}
	return all, err
}

// labelled adds a label to all that is gathered.
type labelled struct {
	prometheus.Gatherer
	name, value string
}

func (l labelled) Gather() ([]*dto.MetricFamily, error) {
	families, err := l.Gatherer.Gather()
	for _, f := range families {
		for _, m := range f.Metric {
			m.Label = append(m.Label, &dto.LabelPair{Name: &l.name, Value: &l.value})
		}
	}
	return families, err
}
