package host

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"whatisup/shared/whatisup"
)

// ChildVariable tells a process that it is the child.
const ChildVariable = "SESSIONHOST_CHILD"

const (
	crashWindow = 10 * time.Minute
	crashLimit  = 3
	// crashPause is between a crash and the next start; it grows with the crashes
	// of the last window, so that a host that can't run doesn't burn the machine.
	crashPause = 200 * time.Millisecond
	crashMost  = 30 * time.Second
)

// Watch runs this program's session host as a child: see [Child.Watch]. The child
// gets the same name in the fleet each time, so that it takes over its leases at
// once.
func Watch(ctx context.Context, log *slog.Logger) error {
	id := os.Getenv("HOST_ID")
	if id == "" {
		id = uuid.NewString()
	}
	return Child{Args: os.Args[1:], Env: []string{ChildVariable + "=1", "HOST_ID=" + id}}.Watch(ctx, log)
}

// Child is how this program is run by itself.
type Child struct {
	Args []string
	Env  []string // beside this process's own
	// Files are open files that every child gets, from descriptor 3 on: listeners,
	// say, which so outlive a crash.
	Files []*os.File
}

// Watch runs the child, again and again, until ctx ends; then it passes the end
// on and waits. A child that ends by itself without having crashed (its settings
// are wrong) ends Watch too. The child dies with its parent.
func (c Child) Watch(ctx context.Context, log *slog.Logger) error {
	program, err := self()
	if err != nil {
		return err
	}
	// A child is killed when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var crashes crashLog
	for {
		env := append(os.Environ(), c.Env...)
		env = append(env, runtimeSettings(os.Getenv)...)
		if blamed := crashes.blamed(time.Now()); len(blamed) > 0 {
			env = append(env, BlamedVariable+"="+strings.Join(blamed, ","))
		}
		crash, err := runChild(ctx, program, c, env)
		if ctx.Err() != nil {
			return err
		}
		if crash == nil {
			return err
		}
		n := crashes.add(time.Now(), crash.instance)
		log.Error("the child crashed", "cause", crash.cause, "instance_id", string(crash.instance), "crashes", n)
		pause := min(crashPause<<min(n-1, 10), crashMost)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// self is this program's file. Without /proc, as in a bare file system, it is
// the name that it was started by.
func self() (string, error) {
	program, err := os.Executable()
	if err != nil {
		return exec.LookPath(os.Args[0])
	}
	return program, nil
}

// GOGC is the child's, unless the operator sets another: how far the heap may
// grow beyond what lives in it, in percent, before it is collected. What lives in
// a host is thousands of idle sessions, so the runtime's own 100 would keep as
// much again for garbage that is seldom made. The benchmark measures both.
const GOGC = "50"

// Headroom is memory that the child holds and never touches. To the garbage
// collector it lives, so that at the GOGC above at least half of it, 8 MB, is
// garbage before there is a collection: an almost empty host would otherwise
// collect with every other QR call, a third of its processor time. Pages that
// nobody touches are in no memory.
func Headroom() []byte { return make([]byte, 16<<20) }

// runtimeSettings are the child's settings of the Go runtime.
func runtimeSettings(getenv func(string) string) []string {
	return []string{"GODEBUG=" + godebug(getenv("GODEBUG")), "GOGC=" + cmp.Or(getenv("GOGC"), GOGC)}
}

// godebug adds the setting that prints the labels of a crashing goroutine.
func godebug(present string) string {
	const labels = "tracebacklabels=1"
	switch {
	case present == "":
		return labels
	case strings.Contains(present, "tracebacklabels="):
		return present
	}
	return present + "," + labels
}

// runChild runs one child to its end. crash is nil if it did not crash.
func runChild(ctx context.Context, program string, c Child, env []string) (*crash, error) {
	cmd := exec.Command(program, c.Args...)
	cmd.ExtraFiles = c.Files
	cmd.Env = env
	cmd.Stdin = os.Stdin // none of its own: that would take a /dev/null
	cmd.Stdout = os.Stdout
	cmd.SysProcAttr = childAttributes()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	var read crashReader
	var wg sync.WaitGroup
	wg.Go(func() { read.copy(os.Stderr, stderr) })
	wg.Wait() // Wait closes the pipe, so reading ends first
	err = cmd.Wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return nil, err
	}
	if read.crash.cause != "" {
		return &read.crash, nil
	}
	if exit.ExitCode() == -1 {
		return &crash{cause: exit.String()}, nil // killed: out of memory, or by hand
	}
	return nil, fmt.Errorf("the child ended: %w", err)
}

// crash is what a crash trace tells.
type crash struct {
	cause    string
	instance whatisup.InstanceID // whose session it was; empty: nobody's
}

// crashReader passes a child's stderr on and looks for a crash trace in it.
type crashReader struct {
	crash crash
	done  bool // the crashing goroutine, which is printed first, has been seen
}

func (r *crashReader) copy(to io.Writer, from io.Reader) {
	in := bufio.NewReaderSize(from, 64<<10)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			r.line(line)
			_, _ = io.WriteString(to, line)
		}
		if err != nil {
			return
		}
	}
}

var (
	// goroutine 12 [running] {"instance": "0197…"}:  — the form of the labels has
	// changed between releases, so any id in the braces counts.
	goroutineLine = regexp.MustCompile(`^goroutine \d+.*\[running`)
	anInstance    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
)

func (r *crashReader) line(line string) {
	switch {
	case r.crash.cause == "":
		for _, start := range []string{"panic: ", "fatal error: ", "unexpected fault address", "SIGSEGV", "SIGABRT", "SIGBUS"} {
			if strings.HasPrefix(line, start) {
				// The message may hold anything; only its kind is kept.
				r.crash.cause = strings.TrimSuffix(strings.TrimSpace(start), ":")
			}
		}
	case !r.done && goroutineLine.MatchString(line):
		r.done = true
		if strings.Contains(line, "instance") {
			r.crash.instance = whatisup.InstanceID(anInstance.FindString(line))
		}
	}
}

// crashLog remembers the crashes of the last window.
type crashLog struct {
	all []crashAt
}

type crashAt struct {
	at       time.Time
	instance whatisup.InstanceID
}

// add notes a crash and returns how many there were in the window.
func (c *crashLog) add(now time.Time, id whatisup.InstanceID) int {
	kept := c.all[:0]
	for _, a := range c.all {
		if now.Sub(a.at) < crashWindow {
			kept = append(kept, a)
		}
	}
	c.all = append(kept, crashAt{now, id})
	return len(c.all)
}

// blamed lists the instances that reached the limit within the window.
func (c *crashLog) blamed(now time.Time) []string {
	counts := make(map[whatisup.InstanceID]int)
	var blamed []string
	for _, a := range c.all {
		if a.instance == "" || now.Sub(a.at) >= crashWindow {
			continue
		}
		if counts[a.instance]++; counts[a.instance] == crashLimit {
			blamed = append(blamed, string(a.instance))
		}
	}
	return blamed
}
