package host

import (
	"context"
	"sync"
	"time"

	"whatisup/sessionhost/line"
	"whatisup/shared/whatisup"
)

// WhatsApp refuses web clients whose version is too old, for every session at
// once. So a live host asks for the newest version, uses it if it is newer than
// the library's own, asks again now and then, and asks at once when a login was
// refused for it. What was learned is kept for the hosts to come: they begin with
// it, and ask when they run. So a start waits for WhatsApp's page in a deployment
// that has never learned a version, and nowhere else; and when the page can't be
// reached or has changed, the fleet stays at the newest version that it knew.
const (
	versionEvery = 6 * time.Hour
	versionAfter = time.Minute // at least, between two questions
	// versionWithin bounds the calls to the table.
	versionWithin = 2 * time.Second
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
			"client_version", h.network.Version().String())
	}
	h.metrics.Ended("client_outdated")
	select {
	case h.version.questions() <- struct{}{}:
	default:
	}
}

// recallVersion uses the version that was kept, and says whether there is one.
func (h *Host) recallVersion(ctx context.Context) bool {
	if h.cfg.Mode != whatisup.Live {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, versionWithin)
	defer cancel()
	kept, err := h.db.ClientVersion(ctx, h.cfg.Mode)
	if err != nil {
		h.log.Warn("the kept client version can't be read", "error", err.Error())
		return false
	}
	v, err := line.ParseVersion(kept)
	if err != nil {
		return false // none, or none that this library understands
	}
	if h.network.Use(v) {
		h.log.Info("client version", "client_version", v.String(), "source", "kept")
	}
	return true
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
	newest, err := h.network.Newest(ctx)
	if err != nil {
		h.log.Warn("the newest client version is unknown; going on with the present one",
			"client_version", h.network.Version().String(), "error", err.Error())
		return false
	}
	if !h.network.Use(newest) {
		return false
	}
	h.log.Info("client version", "client_version", newest.String(), "source", "asked")
	ctx, cancel := context.WithTimeout(ctx, versionWithin)
	defer cancel()
	if err := h.db.KeepClientVersion(ctx, h.cfg.Mode, newest.String()); err != nil {
		h.log.Warn("client version not kept", "error", err.Error())
	}
	return true
}

// keepVersion keeps the version new, until ctx ends.
func (h *Host) keepVersion(ctx context.Context) {
	if h.cfg.Mode != whatisup.Live {
		return
	}
	for {
		if h.learnVersion(ctx) {
			for _, s := range h.owned() {
				s.WakeOutdated()
			}
		}
		t := time.NewTimer(versionEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-h.version.questions():
			t.Stop()
		case <-t.C:
		}
	}
}
