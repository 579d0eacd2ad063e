package local

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/time/rate"

	"whatisup/sessionhost/host"
)

// A backup is a gzipped tar of DATA_DIR: each database as it was at one moment,
// every other file as it is, and last a list of all with their hashes, without
// which the backup is not whole. It is as secret as the folder. What the stack gets
// from elsewhere (PEPPER, KMS_ROOT, a systemd credential) is not in it.

// listFile is the last file of a backup.
const listFile = "backup.json"

// contents is what it says.
type contents struct {
	Format  int               `json:"format"`
	By      string            `json:"written_by"`
	At      time.Time         `json:"at"`
	Hashes  map[string]string `json:"sha256"`
	Missing []string          `json:"not_in_it,omitempty"` // what comes from elsewhere
}

const (
	// backupRate is how much of the data is read in a second at most, so that who
	// is served meanwhile hardly feels it.
	backupRate = 16 << 20
	// controlSocket is where a running stack hands out its backup, to its own user.
	controlSocket = "control.sock"
	sandboxSocket = "sandbox.sock"
	simulatorFile = "whatsapp/whatsapp.db"
	simulatorLog  = "whatsapp/whatsapp.ahead" // what it holds is in the backup's simulatorFile
)

// snapshot writes a database as it is at one moment, and says before how much
// that will be.
type snapshot func(size func(int64) error, to io.Writer) error

// transient are files that belong to a running process.
func transient(name string) bool {
	switch name {
	case envFile, firstFile, controlSocket, sandboxSocket, listFile, databases + ".compact", simulatorLog:
		return true
	}
	return strings.HasPrefix(path.Base(name), ".new-")
}

// writeBackup writes the folder; databases, by name, are taken from their owners.
func (c Config) writeBackup(ctx context.Context, to io.Writer, owners map[string]snapshot) error {
	z, err := gzip.NewWriterLevel(to, gzip.BestSpeed)
	if err != nil {
		return err
	}
	w := &backupWriter{ctx: ctx, tar: tar.NewWriter(z), limit: rate.NewLimiter(backupRate, 1<<20), now: time.Now()}
	w.list = contents{Format: folderFormat, By: c.Version, At: w.now.UTC(), Hashes: map[string]string{}}
	// The tables first: what they refer to is on the disk by then.
	for _, name := range []string{databases, simulatorFile} {
		owner, ok := owners[name]
		if !ok {
			continue
		}
		out := w.file(name)
		if err := owner(out.begin, out); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		out.end()
	}
	err = filepath.WalkDir(c.DataDir, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // an object that was deleted meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(c.DataDir, p)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if _, owned := owners[name]; owned || !d.Type().IsRegular() || transient(name) || strings.HasPrefix(name, "lost+found/") {
			return nil
		}
		return w.copy(name, p)
	})
	if err != nil {
		return err
	}
	for _, name := range []string{pepperFile, rootFile} {
		if _, ok := w.list.Hashes[name]; !ok {
			w.list.Missing = append(w.list.Missing, name)
		}
	}
	b, err := json.MarshalIndent(w.list, "", "  ")
	if err != nil {
		return err
	}
	out := w.file(listFile)
	if err := out.begin(int64(len(b))); err != nil {
		return err
	}
	if _, err := out.Write(b); err != nil {
		return err
	}
	return errors.Join(w.tar.Close(), z.Close())
}

type backupWriter struct {
	ctx   context.Context
	tar   *tar.Writer
	limit *rate.Limiter
	now   time.Time
	list  contents
}

// entry is one file of a backup while it is written.
type entry struct {
	w    *backupWriter
	name string
	sum  interface {
		io.Writer
		Sum([]byte) []byte
	}
}

func (w *backupWriter) file(name string) *entry { return &entry{w, name, sha256.New()} }

func (e *entry) begin(size int64) error {
	return e.w.tar.WriteHeader(&tar.Header{Name: e.name, Mode: 0o600, Size: size, ModTime: e.w.now})
}

func (e *entry) Write(b []byte) (n int, err error) {
	for part := range slices.Chunk(b, 256<<10) {
		if err := e.w.limit.WaitN(e.w.ctx, len(part)); err != nil {
			return n, err
		}
		e.sum.Write(part)
		m, err := e.w.tar.Write(part)
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (e *entry) end() { e.w.list.Hashes[e.name] = hex.EncodeToString(e.sum.Sum(nil)) }

func (w *backupWriter) copy(name, from string) error {
	f, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	e := w.file(name)
	if err := e.begin(info.Size()); err != nil {
		return err
	}
	if _, err := io.CopyN(e, f, info.Size()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	e.end()
	return nil
}

// startControl serves the backup of the running stack, to whoever may enter
// DATA_DIR.
func (c Config) startControl(s *Stack, start starter) error {
	owners := map[string]snapshot{databases: s.Server.Snapshot}
	switch {
	case s.Simulator != nil:
		owners[simulatorFile] = s.Simulator.Snapshot
	case c.Both() && c.Endpoint == "":
		owners[simulatorFile] = c.snapshotOfSandbox
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /backup", func(w http.ResponseWriter, r *http.Request) {
		if err := c.writeBackup(r.Context(), w, owners); err != nil {
			c.Log.Error("the backup was not finished", "error", err)
			panic(http.ErrAbortHandler) // what has been sent must not look whole
		}
	})
	return c.serveSocket(controlSocket, mux, start)
}

// startSandboxControl serves what the live process needs of the sandbox's: its
// database for a backup, its health and its figures.
func (c Config) startSandboxControl(s *Stack, h *host.Host, start starter) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /snapshot", func(w http.ResponseWriter, _ *http.Request) {
		if s.Simulator == nil {
			http.NotFound(w, nil)
			return
		}
		err := s.Simulator.Snapshot(func(n int64) error {
			w.Header().Set("Content-Length", fmt.Sprint(n))
			return nil
		}, w)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	})
	for path, ask := range map[string]func() (bool, any){"/healthz": h.Healthy, "/readyz": h.Ready} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			ok, state := ask()
			json.NewEncoder(w).Encode(map[string]any{"OK": ok, "State": state}) //nolint:errcheck // the asker is gone
		})
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(h.Registry(), promhttp.HandlerOpts{}))
	return c.serveSocket(sandboxSocket, mux, start)
}

func (c Config) snapshotOfSandbox(size func(int64) error, to io.Writer) error {
	resp, err := c.askSocket(context.Background(), sandboxSocket, "/snapshot")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := size(resp.ContentLength); err != nil {
		return err
	}
	_, err = io.Copy(to, resp.Body)
	return err
}

// socketPath is a socket's name in DATA_DIR, short enough for the system however
// long DATA_DIR is, while done has not been called.
func (c Config) socketPath(name string) (at string, done func(), err error) {
	at = c.path(name)
	if len(at) < 100 || runtime.GOOS != "linux" {
		return at, func() {}, nil
	}
	folder, err := os.Open(c.DataDir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), name), func() { folder.Close() }, nil
}

func (c Config) serveSocket(name string, h http.Handler, start starter) error {
	if err := os.Remove(c.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	at, done, err := c.socketPath(name)
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", at)
	if err == nil {
		err = os.Chmod(at, 0o600)
	}
	if err != nil {
		done()
		return fmt.Errorf("%s: %w", c.path(name), err)
	}
	server := &http.Server{Handler: h, ReadTimeout: 10 * time.Second}
	start(name, func(ctx context.Context) error {
		defer done()
		stop := context.AfterFunc(ctx, func() { server.Close() })
		defer stop()
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

func (c Config) askSocket(ctx context.Context, name, path string) (*http.Response, error) {
	at, done, err := c.socketPath(name)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		defer done()
		var d net.Dialer
		return d.DialContext(ctx, "unix", at)
	}}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://whatisup"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("the running stack answers %s", resp.Status), resp.Body.Close())
	}
	return resp, nil
}

// Backup writes a backup of DATA_DIR to a file that must not be there yet. A stack
// that runs goes on meanwhile.
func Backup(ctx context.Context, c Config, file string) error {
	if _, err := os.Stat(file); err == nil {
		return fmt.Errorf("%s is there already", file)
	}
	f, err := os.OpenFile(file+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(file + ".part")
	resp, err := c.askSocket(ctx, controlSocket, "/backup")
	switch {
	case err == nil:
		_, err = io.Copy(f, resp.Body)
		err = errors.Join(err, resp.Body.Close())
	case errors.Is(err, fs.ErrNotExist) || isRefused(err):
		err = c.backupAtRest(ctx, f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("no backup was made: %w", err)
	}
	// What came over the socket is believed when it is whole.
	if _, err := readBackup(file+".part", nil); err != nil {
		return fmt.Errorf("no backup was made: %w", err)
	}
	return errors.Join(os.Rename(file+".part", file), syncFolder(filepath.Dir(file)))
}

// backupAtRest is for a stack that does not run.
func (c Config) backupAtRest(ctx context.Context, to io.Writer) error {
	unlock, err := c.lockFolder(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(c.path(databases)); err != nil {
		return fmt.Errorf("%s has no data: %w", c.DataDir, err)
	}
	return c.writeBackup(ctx, to, nil)
}

// readBackup goes through a backup and holds every file against its list. keep, if
// given, is called for each, and must read it.
func readBackup(file string, keep func(name string, from io.Reader) error) (list contents, err error) {
	f, err := os.Open(file)
	if err != nil {
		return list, err
	}
	defer f.Close()
	broken := func(err error) error {
		return fmt.Errorf("%s is no whole backup: %w", file, err)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return list, broken(err)
	}
	found := map[string]string{}
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return list, broken(err)
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) {
			return list, broken(fmt.Errorf("it holds %q", h.Name))
		}
		if h.Name == listFile {
			if err := json.NewDecoder(io.LimitReader(in, 64<<20)).Decode(&list); err != nil {
				return list, broken(err)
			}
			continue
		}
		sum := sha256.New()
		from := io.TeeReader(in, sum)
		if keep == nil {
			_, err = io.Copy(io.Discard, from)
		} else {
			err = keep(h.Name, from)
		}
		if err != nil {
			return list, broken(err)
		}
		found[h.Name] = hex.EncodeToString(sum.Sum(nil))
	}
	if list.Hashes == nil {
		return list, broken(errors.New("its end is missing"))
	}
	if list.Format > folderFormat {
		return list, fmt.Errorf("%s was written by whatisup %s in format %d; this version knows formats up to %d", file, list.By, list.Format, folderFormat)
	}
	for name, sum := range list.Hashes {
		if found[name] != sum {
			return list, broken(fmt.Errorf("%s is not as it was", name))
		}
	}
	if found[databases] == "" {
		return list, broken(fmt.Errorf("%s is not in it", databases))
	}
	return list, nil
}

// Restored says what a backup brought back.
type Restored struct {
	By      string
	At      time.Time
	Missing []string // files whose content must come from elsewhere
}

// Restore makes DATA_DIR from a backup. It refuses a folder that is not empty.
func Restore(ctx context.Context, c Config, file string) (r Restored, err error) {
	unlock, err := c.lockFolder(ctx)
	if err != nil {
		return r, err
	}
	defer unlock()
	if empty, err := c.isFirst(); err != nil {
		return r, err
	} else if !empty {
		return r, fmt.Errorf("%s is not empty: nothing was restored. Move it away first, or choose another DATA_DIR", c.DataDir)
	}
	// Beside the place and then into it, so that a cut leaves nothing half there.
	beside := c.path(".restoring")
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(beside))
		}
	}()
	list, err := readBackup(file, func(name string, from io.Reader) error {
		to := filepath.Join(beside, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, from)
		return errors.Join(err, out.Sync(), out.Close())
	})
	if err != nil {
		return r, err
	}
	entries, err := os.ReadDir(beside)
	if err != nil {
		return r, err
	}
	// The database last: without it no run takes the folder for whole.
	slices.SortFunc(entries, func(a, b os.DirEntry) int {
		return cmp.Compare(btoi(a.Name() == databases), btoi(b.Name() == databases))
	})
	for _, e := range entries {
		if err := os.Rename(filepath.Join(beside, e.Name()), c.path(e.Name())); err != nil {
			return r, err
		}
	}
	return Restored{list.By, list.At, list.Missing}, errors.Join(os.Remove(beside), syncFolder(c.DataDir))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// isRefused says that nobody listens at a socket: its owner was killed.
func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
