package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"whatisup/shared/whatisup"
)

// Leases are the rows that say who owns what. A call either happened or not, or
// its outcome is unknown ([whatisup.ErrUnavailable]); an unknown claim is found
// at the next look, as a lease in the host's own name.
type Leases interface {
	Leases(ctx context.Context, m whatisup.Mode) ([]whatisup.Lease, error)
	Lease(ctx context.Context, m whatisup.Mode, s whatisup.Shard) (whatisup.Lease, error)
	// ClaimLease makes owner the owner of the shard as it was seen, with the next
	// epoch, or answers ErrConflict; also if the seen owner is another host, and
	// the list no longer has it as it was seen: former, which has no incarnation
	// if the list had no such host.
	ClaimLease(ctx context.Context, m whatisup.Mode, seen whatisup.Lease, former whatisup.Host, owner string) (whatisup.Lease, error)
	// MarkUp and ReleaseLease answer ErrFenced unless the shard has this owner
	// with this epoch.
	MarkUp(ctx context.Context, m whatisup.Mode, l whatisup.Lease) error
	ReleaseLease(ctx context.Context, m whatisup.Mode, l whatisup.Lease) error
}

// Hosts is the list in which hosts see each other. A call is carried out once at
// most, maybe after its caller has given up waiting.
type Hosts interface {
	// Join puts the host on the list, in place of whatever had its name.
	Join(ctx context.Context, m whatisup.Mode, h whatisup.Host) error
	// Beat shows that it is alive. Beat and Leave answer ErrFenced unless the list
	// has this incarnation; a beat that is overtaken by a later one does nothing.
	Beat(ctx context.Context, m whatisup.Mode, h whatisup.Host) error
	Leave(ctx context.Context, m whatisup.Mode, h whatisup.Host) error
	Hosts(ctx context.Context, m whatisup.Mode) ([]whatisup.Host, error)
}

// Runner runs what belongs to an owned shard.
type Runner interface {
	// RunShard runs the shard until ctx ends, and returns when nothing of it
	// runs any more. Unless the cause of ctx's end is [ErrLost], the lease is
	// still held meanwhile: close and flush.
	RunShard(ctx context.Context, t *Tenure)
}

// Timing of a fleet. Zero values mean what [Default] has. Tests shorten it; in a
// deployment every host has the same.
type Timing struct {
	Renew    time.Duration // between beats
	RenewTry time.Duration // one call
	Trust    time.Duration // from before a beat or a claim is sent
	Takeover time.Duration // for how long lease and owner must be seen to stand still

	Settle     time.Duration // a new host waits before its first claim
	ClaimEvery time.Duration
	Look       time.Duration // between looks at the leases
	LookFast   time.Duration // while somebody drains or gives up
	FreeForAll time.Duration // a shard free for longer is anybody's
	Handover   time.Duration // at most, until the next owner is up
	GiveEvery  time.Duration // at least, between shards given up by a host well above its share
	GiveSlowly time.Duration // by one that is just above
	Drain      time.Duration // of all, at most
}

// Default is the timing of a deployment.
func Default() Timing {
	return Timing{
		Renew: 5 * time.Second, RenewTry: 2 * time.Second, Trust: 12 * time.Second, Takeover: 20 * time.Second,
		Settle: 2 * time.Second, ClaimEvery: 200 * time.Millisecond, Look: time.Second, LookFast: 300 * time.Millisecond,
		FreeForAll: 3 * time.Second, Handover: 4 * time.Second, GiveEvery: 3 * time.Second, GiveSlowly: time.Minute,
		Drain: 70 * time.Second,
	}
}

// Validate says what is wrong with the timing.
func (t Timing) Validate() error {
	if t.Renew+t.RenewTry >= t.Trust {
		return fmt.Errorf("fleet: a beat every %v that takes up to %v does not keep a trust of %v", t.Renew, t.RenewTry, t.Trust)
	}
	if t.Trust >= t.Takeover {
		return fmt.Errorf("fleet: an owner that trusts its lease for %v can be replaced after %v", t.Trust, t.Takeover)
	}
	return nil
}

// Config of a [Fleet].
type Config struct {
	// Host names this host; at any time one process uses the name.
	Host   string
	Mode   whatisup.Mode
	Shards int
	Leases Leases
	Hosts  Hosts
	Runner Runner
	Timing Timing // zero: Default
	Clock  Clock  // nil: NewClock
	Log    *slog.Logger
	// Sessions is how many sessions the host runs, for the others to see.
	Sessions func() int
}

// Fleet is this host's part of the fleet.
type Fleet struct {
	host     string
	mode     whatisup.Mode
	shards   int
	leases   Leases
	hosts    Hosts
	runner   Runner
	timing   Timing
	clock    Clock
	log      *slog.Logger
	sessions func() int

	mu       sync.Mutex
	tenures  map[whatisup.Shard]*Tenure
	looked   time.Duration // the clock's time of the last look that succeeded
	turned   time.Duration // and of the last that began
	draining bool
	me       whatisup.Host // as the next beat shows it, but for what changes
	listed   bool          // a beat of this incarnation has succeeded
	usurped  bool          // the name is another process's, or was when it was last tried
	nameFree bool          // nobody beats under the name any more
	beating  chan struct{} // holds one while a beat is on its way

	// What only the loop of Run touches.
	seen     map[whatisup.Shard]sighting
	beats    map[string]heard
	began    time.Duration
	gave     time.Duration
	slowly   time.Duration // when one was given up for the sake of one
	given    whatisup.Shard
	givenOut bool
}

// sighting is what was seen of a lease, and since when it has not changed.
type sighting struct {
	lease whatisup.Lease
	since time.Duration
}

// heard is what was seen of a host, or of an owner that is not on the list.
type heard struct {
	host  whatisup.Host
	first time.Duration // when this incarnation was seen first
	since time.Duration // since when its counter has not changed
}

// New checks the configuration. Nothing runs until [Fleet.Run].
func New(c Config) (*Fleet, error) {
	if c.Timing == (Timing{}) {
		c.Timing = Default()
	}
	if c.Clock == nil {
		c.Clock = NewClock()
	}
	if c.Sessions == nil {
		c.Sessions = func() int { return 0 }
	}
	var problems []error
	if c.Host == "" {
		problems = append(problems, errors.New("fleet: the host has no name"))
	}
	if c.Shards < 1 {
		problems = append(problems, errors.New("fleet: no shards"))
	}
	problems = append(problems, c.Timing.Validate())
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return &Fleet{
		host: c.Host, mode: c.Mode, shards: c.Shards, leases: c.Leases, hosts: c.Hosts, runner: c.Runner,
		timing: c.Timing, clock: c.Clock, log: c.Log, sessions: c.Sessions,
		me: whatisup.Host{ID: c.Host, Incarnation: incarnation()}, beating: make(chan struct{}, 1),
		tenures: make(map[whatisup.Shard]*Tenure), seen: make(map[whatisup.Shard]sighting), beats: make(map[string]heard),
	}, nil
}

// Owned lists the tenures of this moment, by shard.
func (f *Fleet) Owned() []*Tenure {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]*Tenure, 0, len(f.tenures))
	for _, t := range f.tenures {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *Tenure) int { return int(a.Shard() - b.Shard()) })
	return all
}

// SinceLook is how long ago the leases were last read.
func (f *Fleet) SinceLook() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clock() - f.looked
}

// SinceTurn is how long ago the fleet last tried to read the leases, whether it
// could or not.
func (f *Fleet) SinceTurn() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clock() - f.turned
}

// Draining says whether the host is on its way out.
func (f *Fleet) Draining() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.draining
}

// Run owns shards until ctx ends, then drains. It returns nil after everything
// has ended.
func (f *Fleet) Run(ctx context.Context) error {
	// Calls and tenures outlive ctx: draining needs both.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	beating, still := context.WithCancel(life)
	defer still()
	next := f.beatOnce(life) // what is claimed from now on is kept by it
	wg.Go(func() { f.beat(beating, next) })

	f.began = f.clock()
	for {
		wait := f.look(life, &wg)
		select {
		case <-ctx.Done():
			f.drain(life)
			still()
			f.leave(life)
			return nil
		case <-time.After(wait):
		}
	}
}

// beat shows the host to the others and keeps its leases, on its own: a slow look
// must not make it look dead.
func (f *Fleet) beat(ctx context.Context, next time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
		next = f.beatOnce(ctx)
	}
}

// beatOnce says in how long the next beat is due.
func (f *Fleet) beatOnce(ctx context.Context) (next time.Duration) {
	select { // one after the other, so that none overtakes another
	case f.beating <- struct{}{}:
		defer func() { <-f.beating }()
	case <-ctx.Done():
		return f.timing.Renew
	}
	f.mu.Lock()
	if f.usurped && !f.nameFree {
		f.mu.Unlock()
		return f.timing.Renew
	}
	if f.usurped {
		f.usurped, f.me.Incarnation = false, incarnation()
	}
	f.me.Counter++
	f.me.Draining, f.me.Sessions = f.draining, f.sessions()
	h, call := f.me, f.hosts.Beat
	if !f.listed {
		call = f.hosts.Join
	}
	f.mu.Unlock()
	callCtx, cancel := context.WithTimeout(ctx, f.timing.RenewTry)
	defer cancel()
	sent := f.clock()
	switch err := call(callCtx, f.mode, h); {
	case err == nil:
		f.mu.Lock()
		f.listed = true
		f.mu.Unlock()
		for _, t := range f.Owned() {
			t.beaten(sent)
		}
		return f.timing.Renew
	case errors.Is(err, whatisup.ErrFenced):
		f.mu.Lock()
		f.listed, f.usurped, f.nameFree = false, true, false
		f.mu.Unlock()
		f.log.Error("this host is off the list, or another process has its name")
		for _, t := range f.Owned() {
			t.lose(errUsurped)
		}
		return f.timing.Renew
	default:
		if ctx.Err() == nil {
			f.log.Warn("no beat", "error", err.Error())
		}
		return f.timing.Renew / 10
	}
}

// incarnation is a number for a process, as good as never given twice.
func incarnation() string { return fmt.Sprintf("%016x", rand.Uint64()) }

var errUsurped = errors.New("another process has the name of this host")

func (f *Fleet) leave(ctx context.Context) {
	f.mu.Lock()
	h, listed := f.me, f.listed
	f.mu.Unlock()
	if !listed {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, f.timing.RenewTry)
	defer cancel()
	if err := f.hosts.Leave(ctx, f.mode, h); err != nil {
		f.log.Warn("still on the list of hosts; it forgets by itself", "error", err.Error())
	}
}

// claimsAtOnce is how many leases in its own name a host claims at a time.
const claimsAtOnce = 16

// look reads leases and hosts once, claims what is in its own name, or else at most one
// shard, or gives up at most one, and says when to look again.
func (f *Fleet) look(ctx context.Context, wg *sync.WaitGroup) time.Duration {
	f.mu.Lock()
	f.turned = f.clock()
	f.mu.Unlock()
	v, err := f.read(ctx)
	if err != nil {
		f.log.Warn("cannot read the leases", "error", err.Error())
		return jitter(f.timing.Look)
	}
	now := f.clock()
	if own := f.leftBehind(v); len(own) > 0 {
		var claims errgroup.Group
		claims.SetLimit(claimsAtOnce)
		for _, l := range own {
			claims.Go(func() error { f.claim(ctx, wg, l, f.host); return nil })
		}
		_ = claims.Wait() // always nil
		return f.timing.ClaimEvery
	}
	if s, from, ok := f.choose(v, now); ok {
		f.claim(ctx, wg, s, from)
		return f.timing.ClaimEvery
	}
	f.giveUp(v, now)
	if v.hurry {
		return jitter(f.timing.LookFast)
	}
	return jitter(f.timing.Look)
}

// view is what one look saw.
type view struct {
	leases []whatisup.Lease
	owned  map[string]int // shards by owner
	live   []string       // hosts that take part: seen to beat, not draining
	share  int            // of one host, rounded up
	hurry  bool           // shards are changing hands
}

func (f *Fleet) read(ctx context.Context) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timing.RenewTry)
	defer cancel()
	// Both may be behind, which costs time and nothing else: see doc.go.
	leases, err := f.leases.Leases(ctx, f.mode)
	if err != nil {
		return view{}, err
	}
	hosts, err := f.hosts.Hosts(ctx, f.mode)
	if err != nil {
		return view{}, err
	}
	now := f.clock()
	v := view{leases: leases, owned: make(map[string]int)}
	listed := make(map[string]whatisup.Host, len(hosts))
	for _, h := range hosts {
		listed[h.ID] = h
	}
	for _, l := range leases {
		if was, ok := f.seen[l.Shard]; !ok || was.lease.Owner != l.Owner || was.lease.Epoch != l.Epoch || was.lease.Counter != l.Counter {
			f.seen[l.Shard] = sighting{lease: l, since: now}
		}
		if l.Owner == "" {
			v.hurry = true
		} else {
			v.owned[l.Owner]++
			if _, ok := listed[l.Owner]; !ok {
				listed[l.Owner] = whatisup.Host{ID: l.Owner}
			}
		}
	}
	for id, h := range listed {
		was, ok := f.beats[id]
		switch {
		case !ok || was.host.Incarnation != h.Incarnation:
			f.beats[id] = heard{host: h, first: now, since: now}
		case was.host.Counter != h.Counter:
			f.beats[id] = heard{host: h, first: was.first, since: now}
		}
	}
	for id := range f.beats {
		if _, ok := listed[id]; !ok {
			delete(f.beats, id)
		}
	}
	for _, h := range hosts {
		if h.ID == f.host || now-f.beats[h.ID].since >= whatisup.HostSilent {
			continue
		}
		if h.Draining {
			v.hurry = true
		} else {
			v.live = append(v.live, h.ID)
		}
	}
	v.live = append(v.live, f.host)
	v.share = (f.shards + len(v.live) - 1) / len(v.live)
	if f.owns() < f.shards/len(v.live) {
		v.hurry = true
	}
	named, ok := f.beats[f.host]
	f.mu.Lock()
	f.looked = now
	f.nameFree = !ok || named.host.Incarnation == "" || now-named.since >= f.timing.Takeover
	f.mu.Unlock()
	for _, t := range f.Owned() {
		if l := leases[t.Shard()]; l.Epoch > t.Epoch() {
			t.lose(fmt.Errorf("another owner has epoch %d", l.Epoch))
		}
	}
	return v, nil
}

func (f *Fleet) owns() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.tenures)
}

// mayClaim says whether this host is on the list, and which shards it has. What is
// claimed by a host that is not there is kept by no beat, or by another process's.
func (f *Fleet) mayClaim() (mine map[whatisup.Shard]bool, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	mine = make(map[whatisup.Shard]bool, len(f.tenures))
	for s := range f.tenures {
		mine[s] = true
	}
	return mine, f.listed && f.beats[f.host].host.Incarnation == f.me.Incarnation
}

// leftBehind are the leases in the own name that nobody here keeps: of the process
// before, or of a claim whose answer was lost. Their sessions wait for nobody else.
func (f *Fleet) leftBehind(v view) (own []whatisup.Lease) {
	mine, ok := f.mayClaim()
	if !ok {
		return nil
	}
	for _, l := range v.leases {
		if l.Owner == f.host && !mine[l.Shard] {
			own = append(own, l)
		}
	}
	return own
}

// choose picks the lease to claim now, if any; from is the owner that is
// replaced without having given up.
func (f *Fleet) choose(v view, now time.Duration) (l whatisup.Lease, from string, ok bool) {
	mine, ok := f.mayClaim()
	if !ok || now-f.began < f.timing.Settle {
		return whatisup.Lease{}, "", false
	}
	fewest := true
	for _, h := range v.live {
		if h != f.host && v.owned[h] < len(mine) {
			fewest = false
		}
	}
	start := 0
	if len(v.leases) > 0 {
		start = rand.N(len(v.leases)) // hosts that look at one moment should not all want the same
	}
	for i := range v.leases {
		l := v.leases[(start+i)%len(v.leases)]
		if mine[l.Shard] {
			continue
		}
		idle := now - f.seen[l.Shard].since
		if l.Owner != "" { // nobody's, once it and its owner stand still
			idle = min(idle, now-f.beats[l.Owner].since)
		}
		switch {
		case l.Owner == "":
			// First the host with the fewest shards, a moment later any below its
			// share, in the end anybody.
			if fewest && len(mine) < v.share || len(mine) < v.share && idle >= f.timing.FreeForAll/4 || idle >= f.timing.FreeForAll || l.Epoch == 0 && len(mine) < v.share {
				return l, "", true
			}
		case idle >= f.timing.Takeover:
			if len(mine) < v.share || idle >= f.timing.Takeover+f.timing.FreeForAll {
				return l, l.Owner, true
			}
		}
	}
	return whatisup.Lease{}, "", false
}

func (f *Fleet) claim(ctx context.Context, wg *sync.WaitGroup, seen whatisup.Lease, from string) {
	callCtx, cancel := context.WithTimeout(ctx, f.timing.RenewTry)
	defer cancel()
	sent := f.clock()
	l, err := f.leases.ClaimLease(callCtx, f.mode, seen, f.beats[seen.Owner].host, f.host)
	if err != nil {
		if !errors.Is(err, whatisup.ErrConflict) {
			f.log.Warn("cannot claim", "shard", int(seen.Shard), "error", err.Error())
		}
		return
	}
	f.mu.Lock()
	if !f.listed { // the name was lost meanwhile; whoever has it finds the lease
		f.mu.Unlock()
		return
	}
	t := newTenure(ctx, f, l, from, sent)
	f.tenures[l.Shard] = t
	f.mu.Unlock()
	f.log.Info("shard claimed", "shard", int(l.Shard), "epoch", uint64(l.Epoch), "from", from)
	wg.Go(func() {
		t.keep(ctx)
		f.mu.Lock()
		delete(f.tenures, l.Shard)
		f.mu.Unlock()
	})
}

// giveUp gives one shard away if this host has more than its share and somebody
// else has less.
func (f *Fleet) giveUp(v view, now time.Duration) {
	mine := f.owns()
	above := mine - v.share
	room := false
	for _, h := range v.live {
		// A host that has just come doesn't claim yet.
		if h != f.host && v.owned[h] < v.share && now-f.beats[h].first >= f.timing.Settle+f.timing.Look {
			room = true
		}
	}
	if above < 1 || !room {
		return
	}
	every := f.timing.GiveEvery
	if f.givenOut && now-f.gave < every {
		return
	}
	if above == 1 {
		// One too many is hardly worth moving sessions for.
		if f.slowly != 0 && now-f.slowly < f.timing.GiveSlowly {
			return
		}
	}
	if f.givenOut {
		// One at a time: the sessions of the last one are back first.
		if l := v.leases[f.given]; !(l.Owner != "" && l.Owner != f.host && l.Up) && now-f.gave < every+f.timing.Takeover {
			return
		}
	}
	owned := f.Owned()
	for _, t := range owned {
		if t.ctx.Err() != nil {
			return // one is on its way out
		}
	}
	t := owned[rand.N(len(owned))]
	f.gave, f.given, f.givenOut = now, t.Shard(), true
	if above == 1 {
		f.slowly = now
	}
	f.log.Info("giving a shard up to level out", "shard", int(t.Shard()), "owned", mine, "share", v.share)
	t.cancel(nil)
}

// drain gives everything up, in time.
func (f *Fleet) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, f.timing.Drain)
	defer cancel()
	f.mu.Lock()
	f.draining = true
	f.mu.Unlock()
	f.beatOnce(ctx)
	owned := f.Owned()
	f.log.Info("draining", "shards", len(owned))
	if v, err := f.read(ctx); err == nil && len(v.live) > 1 && len(owned) > 0 {
		// Whoever will claim looks slowly until it has seen the beat.
		select {
		case <-time.After(f.timing.Look + f.timing.Look/5):
		case <-ctx.Done():
		}
	}
	for i, t := range owned {
		t.cancel(nil)
		v, err := f.read(ctx)
		if err == nil && len(v.live) == 1 {
			for _, t := range owned[i+1:] { // nobody waits for them
				t.cancel(nil)
			}
			break
		}
		select {
		case <-t.end:
		case <-ctx.Done():
		}
		if i < len(owned)-1 {
			f.awaitUp(ctx, t.Shard())
		}
	}
	for _, t := range owned {
		t.cancel(nil)
	}
	for _, t := range owned {
		select {
		case <-t.end:
		case <-ctx.Done():
			// Whatever hangs must not speak any more; the lease runs out.
			t.lose(errors.New("draining took too long"))
		}
	}
}

// awaitUp waits until the shard's next owner has started its sessions, but not
// for long.
func (f *Fleet) awaitUp(ctx context.Context, s whatisup.Shard) {
	ctx, cancel := context.WithTimeout(ctx, f.timing.Handover)
	defer cancel()
	for {
		l, err := f.leases.Lease(ctx, f.mode, s)
		if err == nil && l.Owner != "" && l.Owner != f.host && l.Up {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(f.timing.LookFast / 3):
		}
	}
}

// jitter is d, give or take a tenth, so that hosts started together don't stay
// in step.
func jitter(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5+1) }
