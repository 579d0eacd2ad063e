package store

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// ErrInUse says that another process has the file open.
var ErrInUse = errors.New("in use by another process")

// ErrClosed answers calls that come after Close.
var ErrClosed = errors.New("the store is closed")

// Store is an open file. It is safe for concurrent use.
type Store struct {
	db    *bbolt.DB
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

// Open opens the file, making it if need be. A file that another process holds
// is refused at once with ErrInUse.
func Open(path string, log *slog.Logger) (*Store, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: 100 * time.Millisecond,
		// The free list is rebuilt at opening: a commit writes only what it changed.
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	ahead, err := newAhead(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	return &Store{db: db, log: log, ahead: ahead, lead: make(chan struct{}, 1), full: make(chan struct{}, 1)}, nil
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
