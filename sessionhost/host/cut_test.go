package host

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// lifeline is all that ties a host to the world: a proxy to AWS and one to the
// simulator. Cutting it is what a host's death looks like from outside, and what
// a partition looks like from inside.
type lifeline struct {
	t     testing.TB
	aws   *http.Server
	awsL  net.Listener
	simL  net.Listener
	proxy *httputil.ReverseProxy

	mu    sync.Mutex
	dead  bool
	conns map[net.Conn]bool
	// point sees every request to AWS that writes, by its name, and says whether
	// the host dies before or after it.
	point func(name string) (before, after bool)
}

func newLifeline(t testing.TB, w *world) *lifeline {
	t.Helper()
	target, err := url.Parse(w.aws.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	l := &lifeline{t: t, proxy: httputil.NewSingleHostReverseProxy(target), conns: make(map[net.Conn]bool)}
	l.proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	l.proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) }
	if l.awsL, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if l.simL, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	l.aws = &http.Server{Handler: l, ErrorLog: nil}
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.aws.Serve(l.awsL) })
	wg.Go(func() { l.pipe(&wg, w.sim.Address) })
	t.Cleanup(func() {
		l.cut()
		l.simL.Close()
		l.aws.Close()
		wg.Wait()
	})
	return l
}

// config is cfg behind the lifeline.
func (l *lifeline) config(w *world, id string) (Config, aws.Config) {
	cfg, conf := w.config(id), w.aws.Config.Copy()
	cfg.Redirect.Endpoint = "http://" + l.simL.Addr().String()
	conf.BaseEndpoint = aws.String("http://" + l.awsL.Addr().String())
	// Queue URLs lead to the real port otherwise.
	cfg.CommandPrefix = strings.Replace(cfg.CommandPrefix, strings.TrimPrefix(w.aws.Endpoint, "http://"), l.awsL.Addr().String(), 1)
	for i, u := range cfg.EventQueues {
		cfg.EventQueues[i] = strings.Replace(u, strings.TrimPrefix(w.aws.Endpoint, "http://"), l.awsL.Addr().String(), 1)
	}
	return cfg, conf
}

// cut ends everything that goes through the lifeline, for good.
func (l *lifeline) cut() {
	l.mu.Lock()
	l.dead = true
	conns := l.conns
	l.conns = make(map[net.Conn]bool)
	l.mu.Unlock()
	for c := range conns {
		c.Close()
	}
}

func (l *lifeline) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

func (l *lifeline) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || l.isDead() {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	name := writePoint(r.Header.Get("X-Amz-Target"), string(body))
	if strings.HasPrefix(r.URL.Path, "/"+bucketName) {
		name = objectPoint(r)
	}
	l.mu.Lock()
	point := l.point
	l.mu.Unlock()
	if name != "" && point != nil {
		before, after := point(name)
		if before {
			l.cut()
			panic(http.ErrAbortHandler)
		}
		if after {
			l.proxy.ServeHTTP(&discard{header: http.Header{}}, r.WithContext(context.WithoutCancel(r.Context())))
			l.cut()
			panic(http.ErrAbortHandler)
		}
	}
	l.proxy.ServeHTTP(w, r)
}

type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// writePoint names what a request writes, empty for reads and for what only
// keeps the host alive.
func writePoint(target, body string) string {
	_, op, _ := strings.Cut(target, ".")
	switch op {
	case "UpdateItem", "PutItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem", "BatchExecuteStatement", "SendMessageBatch", "GenerateDataKey", "DeleteMessageBatch":
	default:
		return ""
	}
	var tables []string
	for _, t := range []string{"instances", "calls", "events", "devices", "fleet", "messages", "media"} {
		if strings.Contains(body, `"whatisup-`+t+`"`) || strings.Contains(body, `\"whatisup-`+t+`\"`) {
			tables = append(tables, t)
		}
	}
	if len(tables) == 1 && tables[0] == "fleet" {
		return ""
	}
	return op + " " + strings.Join(tables, "+")
}

// pipe connects whoever comes with the simulator.
func (l *lifeline) pipe(wg *sync.WaitGroup, to string) {
	for {
		c, err := l.simL.Accept()
		if err != nil {
			return
		}
		if l.isDead() {
			c.Close()
			continue
		}
		s, err := net.Dial("tcp", to)
		if err != nil {
			c.Close()
			continue
		}
		l.mu.Lock()
		l.conns[c], l.conns[s] = true, true
		l.mu.Unlock()
		both := func() {
			c.Close()
			s.Close()
			l.mu.Lock()
			delete(l.conns, c)
			delete(l.conns, s)
			l.mu.Unlock()
		}
		wg.Go(func() { defer both(); _, _ = io.Copy(s, c) })
		wg.Go(func() { defer both(); _, _ = io.Copy(c, s) })
	}
}
