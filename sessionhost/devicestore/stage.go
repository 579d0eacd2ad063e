package devicestore

import (
	"context"
	"time"
)

// stage makes writes visible at once and durable with the next commit, at the
// latest some seconds from now. It is for what may be lost in a crash.
func (l *link) stage(ctx context.Context, rows map[string]*write, edits ...func(*hot)) error {
	if err := l.usable(); err != nil {
		return err
	}
	if t := l.txnOf(ctx); t != nil {
		for sk, w := range rows {
			t.set(sk, w)
		}
		t.hot = append(t.hot, edits...)
		return nil
	}
	for _, w := range rows {
		if len(w.value) > stagedBytes {
			return l.commitRows(ctx, rows, edits...)
		}
	}
	l.mu.Lock()
	if len(l.staged) == 0 && len(l.stagedHot) == 0 {
		l.stagedAt = time.Now()
	}
	for sk, w := range rows {
		l.staged[sk] = w
		l.touched(sk)
	}
	l.stagedHot = append(l.stagedHot, edits...)
	full := len(l.staged) >= stagedRows
	l.mu.Unlock()
	if full {
		return l.flush(ctx)
	}
	return nil
}

// commitRows writes rows at once.
func (l *link) commitRows(ctx context.Context, rows map[string]*write, edits ...func(*hot)) error {
	if t := l.txnOf(ctx); t != nil {
		return l.stage(ctx, rows, edits...)
	}
	return l.commit(ctx, &change{rows: rows, hot: edits}, nil)
}

// More rows, or a larger one, are not worth waiting with.
const (
	stagedRows  = 25
	stagedBytes = 32 << 10
)

// flush writes what is staged, and what else waits for a commit.
func (l *link) flush(ctx context.Context) error {
	l.mu.Lock()
	nothing := l.dead != nil || !l.stored || len(l.staged) == 0 && len(l.stagedHot) == 0 && len(l.events.finished) == 0
	l.mu.Unlock()
	if nothing {
		return nil
	}
	return l.commit(ctx, &change{}, nil)
}
