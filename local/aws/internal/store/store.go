package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// ErrInUse says that another process has the file open.
var ErrInUse = errors.New("in use by another process")

// ErrClosed answers calls that come after Close.
var ErrClosed = errors.New("the store is closed")

// ErrDamaged says that the file can't be read as it is.
var ErrDamaged = errors.New("the file is damaged: restore the last backup with `whatisup restore`; what was received since is asked for again at WhatsApp where that is possible. Keep the damaged file until then")

// Store is an open file. It is safe for concurrent use.
type Store struct {
	db    *bbolt.DB
	path  string
	log   *slog.Logger
	ahead *ahead // the leader's

	// lead is held by the writer that commits for everybody who waits.
	lead chan struct{}

	mu       sync.Mutex
	waiting  []*write
	closed   bool
	want     int           // as many writes make a commit full
	full     chan struct{} // told when there are
	patience time.Duration // how long a leader waits for that
}

type write struct {
	fn   func(*bbolt.Tx) error
	err  error
	done chan struct{}
}

// Format is that of the file as a whole. 1 had no number, and keys of KMS in it
// as they are.
const Format = 2

var (
	metaBucket = []byte("file")
	formatKey  = []byte("format")
)

// Open opens the file, making it if need be. A file that another process holds
// is refused at once with ErrInUse, one that can't be read with ErrDamaged, and
// one of a newer format by that format's name. A large file that is mostly empty
// is compacted.
func Open(path string, log *slog.Logger) (*Store, error) {
	if err := walk(path); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db, err := bbolt.Open(path, 0o600, options())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, opening(err))
	}
	s := &Store{db: db, path: path, log: log, lead: make(chan struct{}, 1), full: make(chan struct{}, 1)}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	if s.ahead, err = newAhead(path); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), s.db.Close())
	}
	return s, nil
}

// opening tells what bbolt's error at opening means.
func opening(err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return ErrInUse
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	return err
}

// walk reads every key of the file, if there is one, without changing anything.
// To open it for writing, bbolt reads all pages in a goroutine of its own, where
// a page that is none ends the whole process.
func walk(path string) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	} else if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w (%v)", ErrDamaged, p)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a page behind the file's end
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: options().Timeout})
	if err != nil {
		return opening(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bbolt.Tx) error {
		if tx.Size() > info.Size() {
			return fmt.Errorf("%w (its end is missing: %d of %d bytes are there)", ErrDamaged, info.Size(), tx.Size())
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return walkBucket(b) })
	})
}

func walkBucket(b *bbolt.Bucket) error {
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return walkBucket(b.Bucket(k))
		}
		return nil
	})
}

func options() *bbolt.Options {
	return &bbolt.Options{
		Timeout: 100 * time.Millisecond,
		// The free list is rebuilt at opening: a commit writes only what it changed.
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
	}
}

// prepare looks at the file's format, and compacts it if that is worth it.
func (s *Store) prepare() error {
	info, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	if err := s.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		found := Format
		if v := b.Get(formatKey); v != nil {
			if found, err = strconv.Atoi(string(v)); err != nil {
				return fmt.Errorf("%w (its format is %q)", ErrDamaged, v)
			}
		}
		if found > Format {
			return fmt.Errorf("it has format %d, and this version knows formats up to %d: run the version that wrote it, or a newer one", found, Format)
		}
		return b.Put(formatKey, []byte(strconv.Itoa(Format)))
	}); err != nil {
		return err
	}
	free := int64(s.db.Stats().FreePageN) * int64(s.db.Info().PageSize)
	if info.Size() < worthCompacting || free < info.Size()/2 {
		return nil
	}
	if err := s.compact(); err != nil {
		if s.db == nil || s.db.Path() == "" { // it could not be opened again
			return err
		}
		s.log.Warn("could not compact", "path", s.path, "error", err) // larger, and no less right
		return nil
	}
	after, err := os.Stat(s.path)
	if err == nil {
		s.log.Info("compacted", "path", s.path, "from_bytes", info.Size(), "to_bytes", after.Size())
	}
	return err
}

// worthCompacting is the size below which nobody minds free pages.
const worthCompacting = 32 << 20

// Compact rewrites the file without what was deleted from it. Nobody else may use
// the store meanwhile.
func (s *Store) Compact() error {
	if err := s.compact(); err != nil {
		return err
	}
	ahead, err := newAhead(s.path)
	if err != nil {
		return err
	}
	old := s.ahead
	s.ahead = ahead
	return old.file.Close()
}

func (s *Store) compact() error {
	path := s.path + ".compact"
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	to, err := bbolt.Open(path, 0o600, options())
	if err != nil {
		return err
	}
	err = bbolt.Compact(to, s.db, 1<<20)
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	// The same names, so that a snapshot finds its file; closed before, because a
	// file that is open under two names has two locks.
	if err := s.db.Close(); err != nil {
		return err
	}
	if err := os.Rename(path, s.path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return err
	}
	s.db, err = bbolt.Open(s.path, 0o600, options())
	return err
}

// Snapshot writes the file as it is at one moment. Writes go on meanwhile. size is
// called first, with how much there will be.
func (s *Store) Snapshot(size func(int64) error, to io.Writer) error {
	return s.View(func(tx *bbolt.Tx) error {
		if err := size(tx.Size()); err != nil {
			return err
		}
		_, err := tx.WriteTo(to)
		return err
	})
}

// View runs fn on a consistent picture of everything committed so far.
func (s *Store) View(fn func(*bbolt.Tx) error) error {
	err := s.db.View(fn)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// Update runs fn alone and returns when what it wrote is on disk.
//
// A fn that returns an error must not have written anything: its error goes to
// its caller and the others of the same commit go on. A fn that panics takes
// nothing with it but itself: the commit is begun again without it, so fn may
// run more than once and must set its results afresh each time.
func (s *Store) Update(fn func(*bbolt.Tx) error) error {
	w := &write{fn: fn, done: make(chan struct{})}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.waiting = append(s.waiting, w)
	if len(s.waiting) >= s.want {
		select {
		case s.full <- struct{}{}:
		default:
		}
	}
	s.mu.Unlock()
	select {
	case <-w.done:
	case s.lead <- struct{}{}:
		// The last leader may just have served this write as well; then
		// there is nothing to wait for.
		if !w.isDone() {
			s.commit(s.gather())
		}
		<-s.lead
		<-w.done
	}
	return w.err
}

func (w *write) isDone() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// gather takes the writes that wait. Writers that were answered together are
// likely to write again together; to wait a moment for all of them is cheaper
// than to sync the disk twice, each time for half of them.
func (s *Store) gather() []*write {
	s.mu.Lock()
	short, patience := len(s.waiting) < s.want, s.patience
	s.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for late := false; short && !late; {
		select {
		case <-s.full:
		case <-timer.C:
			late = true
		}
		s.mu.Lock()
		short = len(s.waiting) < s.want // full may have been told of an earlier commit
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	batch := s.waiting
	s.waiting = nil
	return batch
}

// maxPatience bounds what one writer may lose by waiting for others.
const maxPatience = time.Millisecond

// learn notes how many writers there seem to be: those of this commit and
// those that came meanwhile.
func (s *Store) learn(served int, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = served + len(s.waiting)
	s.patience = min(took/2, maxPatience)
}

func (s *Store) commit(batch []*write) {
	if len(batch) == 0 {
		return
	}
	finish := func(ws []*write) {
		for _, w := range ws {
			close(w.done)
		}
	}
	start := time.Now()
	if err := s.ahead.keep(); err != nil {
		s.log.Warn("could not write ahead", "error", err) // slower, and no less right
	}
	for len(batch) > 0 {
		failed := -1
		err := s.db.Update(func(tx *bbolt.Tx) error {
			s.ahead.used = tx.Size()
			for i, w := range batch {
				if w.err = run(w.fn, tx); w.err != nil {
					var p *panicked
					if errors.As(w.err, &p) {
						failed = i
						return w.err
					}
				}
			}
			return nil
		})
		if failed >= 0 {
			s.log.Error("a write failed", "error", batch[failed].err)
			finish(batch[failed : failed+1])
			batch = append(batch[:failed:failed], batch[failed+1:]...)
			continue
		}
		if err != nil {
			s.log.Error("the commit failed", "error", err)
			for _, w := range batch {
				w.err = fmt.Errorf("commit: %w", err)
			}
		}
		break
	}
	s.learn(len(batch), time.Since(start))
	finish(batch)
}

type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

func run(fn func(*bbolt.Tx) error, tx *bbolt.Tx) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{v, debug.Stack()}
		}
	}()
	return fn(tx)
}

// Close waits for the commit under way and closes the file. Writes that wait
// are committed; later ones get ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.lead <- struct{}{}
	s.commit(s.gather())
	<-s.lead
	return errors.Join(s.db.Close(), s.ahead.file.Close())
}

// Must panics on err. Inside Update it turns what cannot happen (a bucket that
// is missing, a key over the limit) into a failed write instead of half a one.
func Must(err error) {
	if err != nil {
		panic(err)
	}
}
