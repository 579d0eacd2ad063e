package host

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"whatisup/sessionhost/tally"
	"whatisup/shared/whatisup"
)

// metrics is what a host counts. It has no instance and no customer in any
// label: their number has no bound.
type metrics struct {
	registry    *prometheus.Registry
	connects    *prometheus.CounterVec
	connect     *prometheus.HistogramVec
	firstCode   prometheus.Histogram
	ended       *prometheus.CounterVec
	sent        prometheus.Histogram
	woken       prometheus.Histogram
	unsupported *prometheus.CounterVec
	setAside    *prometheus.CounterVec
	aside       atomic.Int64 // since the last line of figures
	unreadable  prometheus.Counter
	unread      atomic.Int64 // since the last line of figures
	calls       *prometheus.HistogramVec
	messages    *prometheus.CounterVec
	received    prometheus.Counter
	files       *prometheus.CounterVec
	acked       prometheus.Histogram
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		connects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whatisup_connects_total", Help: "Connections to WhatsApp that were tried, by budget and outcome.",
		}, []string{"budget", "outcome"}),
		connect: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "whatisup_connect_seconds", Help: "From the dial to the login.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"budget"}),
		firstCode: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "whatisup_first_code_seconds", Help: "From the dial of an attempt to its first QR code.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whatisup_ended_total", Help: "Connections and attempts to pair that ended, by cause.",
		}, []string{"cause"}),
		sent: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "whatisup_event_lag_seconds", Help: "From what happened to its event on the queues.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
		woken: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "whatisup_wake_up_age_seconds", Help: "Age of wake-ups when they were taken off the queue.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60},
		}),
	}
	m.calls = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "whatisup_store_call_seconds", Help: "Calls to DynamoDB, SQS and KMS, each try by itself, by operation and outcome.",
		Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 25},
	}, []string{"operation", "outcome"})
	m.messages = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "whatisup_messages_total", Help: "Own messages that were sent or have ended, by status and error code.",
	}, []string{"status", "code"})
	m.received = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "whatisup_received_messages_total", Help: "Messages that instances have received.",
	})
	m.files = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "whatisup_received_files_total", Help: "Files of received messages, by what has become of them: ready, or why not.",
	}, []string{"outcome"})
	m.acked = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "whatisup_message_ack_seconds", Help: "From handing a message to the library to WhatsApp's acknowledgement.",
		Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 30},
	})
	m.setAside = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "whatisup_set_aside_total", Help: "Events that a sink refuses for good, and that it lacks therefore.",
	}, []string{"sink", "reason"})
	m.unsupported = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "whatisup_unsupported_messages_total", Help: "Received messages of a kind that this version does not know, by WhatsApp's name.",
	}, []string{"name"})
	m.unreadable = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "whatisup_unreadable_links_total", Help: "Links whose auth state does not open: damaged, or somebody has written to the table.",
	})
	m.registry.MustRegister(m.received, m.unsupported, m.files, m.unreadable, m.setAside, m.messages, m.acked, m.calls, m.connects, m.connect, m.firstCode, m.ended, m.sent, m.woken,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) Connect(kind, outcome string, took time.Duration) {
	m.connects.WithLabelValues(kind, outcome).Inc()
	if outcome == "ok" {
		m.connect.WithLabelValues(kind).Observe(took.Seconds())
	}
}

func (m *metrics) FirstCode(took time.Duration) { m.firstCode.Observe(took.Seconds()) }
func (m *metrics) Ended(cause string)           { m.ended.WithLabelValues(cause).Inc() }
func (m *metrics) EventSent(late time.Duration) { m.sent.Observe(max(late.Seconds(), 0)) }
func (m *metrics) SetAside(sink, reason string) {
	m.setAside.WithLabelValues(sink, reason).Inc()
	m.aside.Add(1)
}
func (m *metrics) Unreadable() {
	m.unreadable.Inc()
	m.unread.Add(1)
}
func (m *metrics) Unsupported(name string) { m.unsupported.WithLabelValues(name).Inc() }
func (m *metrics) MessageEnded(s whatisup.MessageStatus, c whatisup.MessageCode) {
	m.messages.WithLabelValues(string(s), string(c)).Inc()
}
func (m *metrics) File(outcome string)             { m.files.WithLabelValues(outcome).Inc() }
func (m *metrics) MessageAcked(took time.Duration) { m.acked.Observe(took.Seconds()) }
func (m *metrics) Woken(late time.Duration)        { m.woken.Observe(max(late.Seconds(), 0)) }

// counted is a tally that shows what was received, too.
type counted struct {
	*tally.Tally
	m *metrics
}

func (c counted) Count(r whatisup.Ref, u whatisup.Usage) {
	c.m.received.Add(float64(u.In))
	c.Tally.Count(r, u)
}

// metered counts and times what goes through an HTTP client of the SDK.
type metered struct {
	aws.HTTPClient
	m *metrics
}

func (c metered) Do(r *http.Request) (*http.Response, error) {
	began := time.Now()
	answer, err := c.HTTPClient.Do(r)
	outcome := "no_answer"
	if err == nil {
		outcome = strconv.Itoa(answer.StatusCode/100) + "xx"
	}
	// The target is "DynamoDB_20120810.GetItem" and its like.
	service, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	service, _, _ = strings.Cut(service, "_")
	c.m.calls.WithLabelValues(service+"."+operation, outcome).Observe(time.Since(began).Seconds())
	return answer, err
}

// gauges are read when somebody looks.
var (
	sessionsDesc = prometheus.NewDesc("whatisup_sessions", "Running sessions by the status of their instance.", []string{"status"}, nil)
	pairingsDesc = prometheus.NewDesc("whatisup_pairings", "Open attempts to pair.", nil, nil)
	shardsDesc   = prometheus.NewDesc("whatisup_shards", "Shards that this host owns.", nil, nil)
	leaseDesc    = prometheus.NewDesc("whatisup_lease_age_seconds", "Since the beat that keeps the leases, or the oldest claim if none was since.", nil, nil)
	clockDesc    = prometheus.NewDesc("whatisup_clock_ahead_seconds", "How far this machine's clock is ahead of DynamoDB's; 0 up to 2 s.", nil, nil)
	drainingDesc = prometheus.NewDesc("whatisup_draining", "Whether the host is on its way out.", nil, nil)
)

// gauges is a collector over the host's present state.
type gauges struct{ h *Host }

func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sessionsDesc, pairingsDesc, shardsDesc, leaseDesc, clockDesc, drainingDesc} {
		ch <- d
	}
}

func (g gauges) Collect(ch chan<- prometheus.Metric) {
	s := g.h.state()
	for _, status := range whatisup.Statuses {
		ch <- prometheus.MustNewConstMetric(sessionsDesc, prometheus.GaugeValue, float64(s.Sessions[status]), string(status))
	}
	ch <- prometheus.MustNewConstMetric(pairingsDesc, prometheus.GaugeValue, float64(s.Pairings))
	ch <- prometheus.MustNewConstMetric(shardsDesc, prometheus.GaugeValue, float64(len(s.Shards)))
	ch <- prometheus.MustNewConstMetric(leaseDesc, prometheus.GaugeValue, s.LeaseAge.Seconds())
	ch <- prometheus.MustNewConstMetric(clockDesc, prometheus.GaugeValue, g.h.clock.Ahead().Seconds())
	draining := 0.0
	if s.Draining {
		draining = 1
	}
	ch <- prometheus.MustNewConstMetric(drainingDesc, prometheus.GaugeValue, draining)
}

// emit writes the few figures that alarms look at as lines that CloudWatch Logs
// turns into metrics.
func (h *Host) emit(ctx context.Context) {
	if h.cfg.MetricsNamespace == "" {
		return
	}
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			line, err := h.emf(now)
			if err != nil {
				h.log.Error("no metrics line", "error", err.Error())
				continue
			}
			fmt.Fprintln(os.Stdout, string(line))
		}
	}
}

// emf is one line in CloudWatch's embedded metric format.
func (h *Host) emf(now time.Time) ([]byte, error) {
	type metric struct{ Name, Unit string }
	s := h.state()
	return json.Marshal(map[string]any{
		"_aws": map[string]any{
			"Timestamp": now.UnixMilli(),
			"CloudWatchMetrics": []any{map[string]any{
				"Namespace":  h.cfg.MetricsNamespace,
				"Dimensions": [][]string{{"Mode"}},
				"Metrics": []metric{
					{"ConnectedSessions", "Count"}, {"Sessions", "Count"}, {"Pairings", "Count"}, {"Shards", "Count"}, {"LeaseAge", "Milliseconds"}, {"ClockOff", "Milliseconds"}, {"SetAside", "Count"},
					{"Unreadable", "Count"},
				},
			}},
		},
		"Mode":              string(h.cfg.Mode),
		"Host":              h.cfg.ID,
		"ConnectedSessions": s.Sessions[whatisup.Connected],
		"Sessions":          s.Running,
		"Pairings":          s.Pairings,
		"Shards":            len(s.Shards),
		"LeaseAge":          s.LeaseAge.Milliseconds(),
		"ClockOff":          h.clock.Ahead().Abs().Milliseconds(),
		"SetAside":          h.metrics.aside.Swap(0),
		"Unreadable":        h.metrics.unread.Swap(0),
	})
}
