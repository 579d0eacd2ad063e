package store

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
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
	db  *bbolt.DB
	log *slog.Logger

	// lead is held by the writer that commits for everybody who waits.
	lead chan struct{}

	mu      sync.Mutex
	waiting []*write
	closed  bool
	last    int // how many writes the last commit carried
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
	return &Store{db: db, log: log, lead: make(chan struct{}, 1)}, nil
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
	s.mu.Unlock()
	for {
		select {
		case <-w.done:
			return w.err
		case s.lead <- struct{}{}:
			s.commit(s.gather())
			<-s.lead
		}
	}
}

// gather takes the writes that wait. If the last commit carried several, those
// callers are likely to be about to write again, and waiting a moment for them
// is cheaper than syncing the disk once more.
func (s *Store) gather() []*write {
	take := func(want int) []*write {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.waiting) < want {
			return nil
		}
		batch := s.waiting
		s.waiting = nil
		return batch
	}
	s.mu.Lock()
	want := s.last
	s.mu.Unlock()
	if want > 1 {
		for deadline := time.Now().Add(gatherFor); time.Now().Before(deadline); {
			if batch := take(want); batch != nil {
				return batch
			}
			runtime.Gosched()
		}
	}
	return take(0)
}

const gatherFor = 150 * time.Microsecond

func (s *Store) commit(batch []*write) {
	if len(batch) == 0 {
		return
	}
	finish := func(ws []*write) {
		for _, w := range ws {
			close(w.done)
		}
	}
	for len(batch) > 0 {
		failed := -1
		err := s.db.Update(func(tx *bbolt.Tx) error {
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
	s.mu.Lock()
	s.last = len(batch)
	s.mu.Unlock()
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
	return s.db.Close()
}

// Must panics on err. Inside Update it turns what cannot happen (a bucket that
// is missing, a key over the limit) into a failed write instead of half a one.
func Must(err error) {
	if err != nil {
		panic(err)
	}
}
