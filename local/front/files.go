package front

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookEvery is how often the certificate's files are looked at.
const lookEvery = 10 * time.Second

// files is a certificate in two files, read again when one has changed.
type files struct {
	cert, key string
	log       *slog.Logger

	mu     sync.Mutex
	loaded *tls.Certificate
	stamp  [2]time.Time
	looked time.Time
}

func (f *files) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.loaded != nil && time.Since(f.looked) < lookEvery {
		return f.loaded, nil
	}
	var stamp [2]time.Time
	for i, path := range []string{f.cert, f.key} {
		info, err := os.Stat(path)
		if err != nil {
			return f.keep(err)
		}
		stamp[i] = info.ModTime()
	}
	f.looked = time.Now()
	if f.loaded != nil && stamp == f.stamp {
		return f.loaded, nil
	}
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil { // also between the writes of the two
		return f.keep(err)
	}
	if f.loaded != nil {
		f.log.Info("the certificate was read again", "file", f.cert)
	}
	f.loaded, f.stamp = &c, stamp
	return f.loaded, nil
}

// keep goes on with what there is.
func (f *files) keep(err error) (*tls.Certificate, error) {
	if f.loaded == nil {
		return nil, err
	}
	f.log.Error("the certificate can't be read again: the one before stays", "file", f.cert, "error", err)
	return f.loaded, nil
}
