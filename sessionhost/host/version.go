package host

import (
	"context"
	"sync"
	"time"

	"whatisup/shared/whatisup"
)

// WhatsApp refuses web clients whose version is too old, for every session at
// once. So a live host asks for the newest version at start, uses it if it is
// newer than the library's own, asks again now and then, and asks at once when a
// login was refused for it. If WhatsApp can't be asked the present version stays
// in use.
const (
	versionEvery = 6 * time.Hour
	versionAfter = time.Minute // at least, between two questions
)

// versions is what a host knows of client versions.
type versions struct {
	once  sync.Once
	ask   chan struct{}
	mu    sync.Mutex
	asked time.Time
	said  time.Time
}

func (v *versions) questions() chan struct{} {
	v.once.Do(func() { v.ask = make(chan struct{}, 1) })
	return v.ask
}

// outdated is called by sessions whose login was refused for the client's
// version.
func (h *Host) outdated() {
	h.version.mu.Lock()
	silent := time.Since(h.version.said) < versionAfter
	if !silent {
		h.version.said = time.Now()
	}
	h.version.mu.Unlock()
	if !silent {
		h.log.Error("WhatsApp refuses this client version; links are kept and tried again with a newer one",
			"client_version", h.kit.Network.Version().String())
	}
	h.metrics.Ended("client_outdated")
	select {
	case h.version.questions() <- struct{}{}:
	default:
	}
}

// learnVersion asks once, and says whether a newer version is in use now.
func (h *Host) learnVersion(ctx context.Context) bool {
	if h.cfg.Mode != whatisup.Live {
		return false
	}
	h.version.mu.Lock()
	soon := time.Since(h.version.asked) < versionAfter
	if !soon {
		h.version.asked = time.Now()
	}
	h.version.mu.Unlock()
	if soon {
		return false
	}
	newest, err := h.kit.Network.Newest(ctx)
	if err != nil {
		h.log.Warn("the newest client version is unknown; going on with the present one",
			"client_version", h.kit.Network.Version().String(), "error", err.Error())
		return false
	}
	if !h.kit.Network.Use(newest) {
		return false
	}
	h.log.Info("client version", "client_version", newest.String())
	return true
}

// keepVersion keeps the version new, until ctx ends.
func (h *Host) keepVersion(ctx context.Context) {
	if h.cfg.Mode != whatisup.Live {
		return
	}
	for {
		t := time.NewTimer(versionEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-h.version.questions():
			t.Stop()
		case <-t.C:
		}
		if h.learnVersion(ctx) {
			for _, s := range h.owned() {
				s.WakeOutdated()
			}
		}
	}
}
