package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// weight is what a process holds and has used.
type weight struct {
	RSS        float64 // bytes
	Heap       float64 // bytes of live and unswept objects
	Stack      float64
	Goroutines float64
	CPU        float64 // seconds since its start
}

// per is the weight of each of n things that came between two weighings.
func (w weight) per(n int, empty weight) weight {
	f := float64(max(n, 1))
	return weight{(w.RSS - empty.RSS) / f, (w.Heap - empty.Heap) / f, (w.Stack - empty.Stack) / f, (w.Goroutines - empty.Goroutines) / f, 0}
}

// readSelf weighs this process.
func readSelf() weight {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/sched/goroutines:goroutines"},
	}
	metrics.Read(samples)
	return weight{
		RSS:  resident(os.Getpid()),
		Heap: float64(samples[0].Value.Uint64()), Stack: float64(samples[1].Value.Uint64()),
		Goroutines: float64(samples[2].Value.Uint64()), CPU: cpuOf().Seconds(),
	}
}

// resident is the memory that a process holds, 0 where there is no /proc.
func resident(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(text)[0], 64)
			return kb * 1024
		}
	}
	return 0
}

// host is the real session host, parent and child, in processes of their own.
type host struct {
	ID     string
	health string
	cmd    *exec.Cmd
	ended  chan error
	log    *tail
}

// logVariable names a directory for the logs of session hosts, which otherwise
// are kept in memory and shown if a step fails.
const logVariable = "BENCH_LOGS"

// buildHost builds the program.
func buildHost(ctx context.Context, dir string) (string, error) {
	top, err := root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "sessionhost")
	// As it is shipped, but for this machine.
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./sessionhost")
	build.Dir = top
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the session host: %w: %s", err, out)
	}
	return path, nil
}

// startHost starts a session host on the stack, with further settings, and waits
// until it answers.
func startHost(ctx context.Context, program string, s *stack, id string, settings ...string) (*host, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &host{ID: id, health: l.Addr().String(), cmd: exec.Command(program), ended: make(chan error, 1), log: &tail{}}
	if err := l.Close(); err != nil {
		return nil, err
	}
	env := maps.Clone(s.Env)
	delete(env, "PEPPER") // a host has no business with keys
	env["AWS_ENDPOINT_URL"], env["HOST_ID"], env["HEALTH_ADDR"] = s.HostAWS, id, h.health
	for name, value := range env {
		h.cmd.Env = append(h.cmd.Env, name+"="+value)
	}
	h.cmd.Env = append(h.cmd.Env, "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"))
	h.cmd.Env = append(h.cmd.Env, settings...)
	if dir := os.Getenv(logVariable); dir != "" {
		f, err := os.Create(filepath.Join(dir, id+".log"))
		if err != nil {
			return nil, err
		}
		defer f.Close() // the process has its own
		h.cmd.Stdout, h.cmd.Stderr = f, f
	} else {
		h.cmd.Stdout, h.cmd.Stderr = h.log, h.log
	}
	h.cmd.SysProcAttr = ownGroup()
	h.cmd.WaitDelay = 10 * time.Second // for its output, once it has ended
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { h.ended <- h.cmd.Wait() }()
	err = await(ctx, time.Minute, "the session host answers", func() (bool, error) {
		select {
		case err := <-h.ended:
			h.ended <- err
			return false, fmt.Errorf("the session host ended: %w: %s", cmp.Or(err, io.EOF), h.log)
		default:
		}
		_, err := h.weigh(ctx)
		return err == nil, nil
	})
	if err != nil {
		h.kill()
		return nil, err
	}
	return h, nil
}

// weigh reads the child's own metrics.
func (h *host) weigh(ctx context.Context) (weight, error) {
	m, err := h.metrics(ctx)
	return weight{
		RSS:  m["process_resident_memory_bytes"],
		Heap: m["go_memstats_heap_alloc_bytes"], Stack: m["go_memstats_stack_inuse_bytes"],
		Goroutines: m["go_goroutines"], CPU: m["process_cpu_seconds_total"],
	}, err
}

// metrics reads /metrics: names with their labels, as they stand there.
func (h *host) metrics(ctx context.Context) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.health+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	out := make(map[string]float64)
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil && name != "#" {
			out[name] = v
		}
	}
	return out, nil
}

// parent is the memory of the process that watches the child.
func (h *host) parent() float64 { return resident(h.cmd.Process.Pid) }

// kill ends both processes as a machine that dies would.
func (h *host) kill() {
	_ = syscall.Kill(-h.cmd.Process.Pid, syscall.SIGKILL)
	err := <-h.ended
	h.ended <- err
}

// drain asks the host to end, as ECS does, and waits for it.
func (h *host) drain(ctx context.Context) error {
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-h.ended:
		h.ended <- err
		if err != nil {
			return fmt.Errorf("the session host did not end well: %w: %s", err, h.log)
		}
		return nil
	case <-time.After(2 * time.Minute): // stopTimeout
		h.kill()
		return errors.New("the session host did not end within its stopTimeout")
	case <-ctx.Done():
		h.kill()
		return ctx.Err()
	}
}

// tail keeps the end of what a process printed.
type tail struct {
	b bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.b.Write(p)
	if over := t.b.Len() - 1<<16; over > 1<<16 {
		t.b.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	b := t.b.Bytes()
	return string(b[max(0, len(b)-4000):])
}

// await looks again and again, for what it waits for is behind a network.
func await(ctx context.Context, within time.Duration, what string, look func() (bool, error)) error {
	deadline := time.Now().Add(within)
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		ok, err := look()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %v for: %s", within, what)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// versions says what was measured, and on what.
func versions() map[string]string {
	out := map[string]string{
		"go": runtime.Version(), "machine": runtime.GOOS + "/" + runtime.GOARCH, "processors": strconv.Itoa(runtime.NumCPU()),
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				out["processor"] = strings.TrimSpace(value)
				break
			}
		}
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		if fields := strings.Fields(string(b)); len(fields) > 1 {
			kb, _ := strconv.Atoi(fields[1])
			out["memory"] = strconv.Itoa(kb>>10) + " MB"
		}
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		out["load at the start"], _, _ = strings.Cut(string(b), " ")
	}
	for _, module := range []string{"go.mau.fi/whatsmeow", "github.com/aws/aws-sdk-go-v2/service/dynamodb"} {
		if v := moduleVersion(module); v != "" {
			out[module] = v
		}
	}
	return out
}

// median of durations or other figures, and any other quantile.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// spread is a series of figures.
type spread []float64

func (s spread) at(q float64) float64 { return quantile(slices.Sorted(slices.Values(s)), q) }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
