package whatsapp

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/util/keys"
)

// serve runs a simulator until the test ends.
func serve(t testing.TB, cfg Config) (address string, server *Server) {
	t.Helper()
	server, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = server.Run(ctx) })
	running.Go(func() { _ = server.Serve(ctx, listener) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return listener.Addr().String(), server
}

func (c *childProcess) scan(world, number string) func(string) error {
	return func(qr string) error {
		return c.post("/control/scan", fmt.Sprintf(`{"world":%q,"qr":%q,"phone_number":%q}`, world, qr, number))
	}
}

// A link holds from the moment the device is told to restart, whatever happens
// to the process after it.
func TestLinksOutliveAKilledProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	child := startChild(t, dir)
	devices := make([]*wireDevice, 5)
	for i := range devices {
		devices[i] = newWireDevice()
		if err := devices[i].link(child.address, "w", "i", child.scan("w", strconv.Itoa(4915100000000+i))); err != nil {
			t.Fatal(err)
		}
	}
	w, err := devices[0].start(child.address, "w", "i")
	if err != nil {
		t.Fatal(err)
	}
	if err = devices[0].uploadKeys(w, 50); err != nil {
		t.Fatal(err)
	}
	child.kill()

	child = startChild(t, dir)
	for i, d := range devices {
		w, err := d.start(child.address, "w", "i")
		if err != nil {
			t.Fatalf("device %d cannot log in: %v", i, err)
		}
		if i == 0 {
			count, err := w.query("count", "encrypt", "get", Node{Tag: "count"})
			if err != nil || !strings.Contains(render(count), `value="50"`) {
				t.Errorf("the keys were lost: %v %v", count, err)
			}
		}
		_ = w.ws.CloseNow()
	}
	thief := *devices[1]
	thief.noise = keys.NewKeyPair()
	if _, err := thief.start(child.address, "w", "i"); err == nil {
		t.Error("another key was let in")
	}
}

// resident reads what memory a process holds.
func resident(t *testing.T, pid int) (anonymous, file int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "RssAnon:"):
			anonymous, _ = strconv.Atoi(fields[1])
		case strings.HasPrefix(line, "RssFile:"):
			file, _ = strconv.Atoi(fields[1])
		}
	}
	return anonymous, file
}

// TestScale links devices to a simulator in a process of its own and weighs
// it. WHATSAPP_SCALE sets how many: 2,000 is what it must bear.
func TestScale(t *testing.T) {
	count := 50
	text, long := os.LookupEnv("WHATSAPP_SCALE")
	if long {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	dir := os.Getenv("WHATSAPP_SCALE_DIR")
	if dir == "" {
		dir = t.TempDir()
	}
	child := startChild(t, dir)
	before, err := child.weigh()
	if err != nil {
		t.Fatal(err)
	}
	anonymous, file := resident(t, child.cmd.Process.Pid)
	start := time.Now()
	wires := make([]*wire, count)
	work, failed := make(chan int), make(chan error, count)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for i := range work {
				d, instance := newWireDevice(), "instance-"+strconv.Itoa(i)
				err := d.link(child.address, "w", instance, child.scan("w", strconv.Itoa(4915100000000+i)))
				if err == nil {
					if wires[i], err = d.start(child.address, "w", instance); err == nil {
						err = d.uploadKeys(wires[i], 812)
					}
				}
				if err != nil {
					failed <- fmt.Errorf("device %d: %w", i, err)
				}
			}
		})
	}
	for i := range count {
		work <- i
	}
	close(work)
	workers.Wait()
	close(failed)
	for err := range failed {
		t.Fatal(err)
	}
	linked := time.Since(start)
	if long {
		for _, w := range wires {
			if _, err := w.query("ping", "w:p", "get"); err != nil {
				t.Fatal(err)
			}
		}
	}
	anonymousAfter, fileAfter := resident(t, child.cmd.Process.Pid)
	after, err := child.weigh()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("each: heap %.1f KB, stack %.1f KB, %.2f goroutines", float64(after.heap-before.heap)/1024/float64(count),
		float64(after.stack-before.stack)/1024/float64(count), float64(after.goroutines)/float64(count))
	each := float64(anonymousAfter-anonymous+fileAfter-file) / float64(count)
	t.Logf("%d devices linked in %v on %d processors; each %.1f KB resident, of which %.1f KB are the database's file",
		count, linked.Round(time.Millisecond), runtime.NumCPU(), each, float64(fileAfter-file)/float64(count))
	if long && each > 60 {
		t.Errorf("a device costs %.1f KB, at most 60 are allowed", each)
	}
	for _, w := range wires {
		_ = w.ws.CloseNow()
	}
}
