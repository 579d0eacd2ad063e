package devicestore

import (
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// This file is a model of a link that is stored as a log (see "A log of the
// link" in the package's text): the table, owners that come and go, requests
// that arrive late, twice or never, and the rules that the store follows. It
// explores them at random, and after every change of the table it asks whether
// what a next owner would find is what was committed. Each rule can be left out;
// a test shows that the model notices.

// rules are what the store keeps to. The zero value is all of them.
type rules struct {
	noAdoption   bool // an owner begins without an entry of its own
	noEnd        bool // a wipe puts no entry
	foldAnyway   bool // a fold does not look at what stands in the row
	createAnyway bool // a fold makes a new row without asking the device row
	deleteRows   bool // a fold removes a row, and leaves no tombstone
	foldedEarly  bool // an entry says that everything before it is folded
	bowToNobody  bool // an owner that begins late goes on after a higher epoch's entry
	skipFresh    bool // a row that was made and deleted since is not folded
	skipNothing  bool // an entry is applied to a row that has it already
}

// The table.

type modelHead struct {
	epoch  int
	linked bool
	folded int // everything up to here stands in rows
	swept  bool
}

type modelOp struct {
	key    string
	full   bool // the value does not depend on the one before
	base   int  // else that one, as the difference's own check has it
	value  int
	delete bool
}

type modelEntry struct {
	epoch, mark int
	adopt, end  bool
	ops         []modelOp
	folded      int
}

type modelRow struct {
	at, value int
	gone      bool // a tombstone
}

type modelTable struct {
	head    modelHead
	entries map[int]modelEntry
	rows    map[string]modelRow
}

func (t *modelTable) last() int {
	if len(t.entries) == 0 {
		return 0
	}
	return slices.Max(slices.Collect(maps.Keys(t.entries)))
}

// apply applies one change to a value; 0 is none.
func (op modelOp) apply(value int) (int, error) {
	switch {
	case op.delete:
		return 0, nil
	case !op.full && op.base != value:
		return 0, fmt.Errorf("a difference to %d meets %d in %s", op.base, value, op.key)
	}
	return op.value, nil
}

// recovered is what an owner finds that loads the table as it is now.
func (t *modelTable) recovered(rule rules) (map[string]int, error) {
	state := make(map[string]int)
	at := make(map[string]int)
	for key, row := range t.rows {
		at[key] = row.at
		if !row.gone {
			state[key] = row.value
		}
	}
	last := t.last()
	folded := t.head.folded
	if e, ok := t.entries[last]; ok {
		folded = max(folded, e.folded)
	}
	for n := folded + 1; n <= last; n++ {
		e, ok := t.entries[n]
		if !ok {
			return nil, fmt.Errorf("entry %d is missing", n)
		}
		for _, op := range e.ops {
			if n <= at[op.key] && !rule.skipNothing {
				continue
			}
			value, err := op.apply(state[op.key])
			if err != nil {
				return nil, err
			}
			if state[op.key] = value; value == 0 {
				delete(state, op.key)
			}
		}
	}
	return state, nil
}

// A request is one call of the table. It is made, it arrives (or doesn't, or
// twice), and its answer reaches who made it (or doesn't).

type modelCall struct {
	owner   *modelOwner
	exec    func(*modelTable) any
	arrived bool
	answer  any
	lost    bool // no answer came in time
}

// modelOwner is a handle, with its own order of things.
type modelOwner struct {
	m     *model
	epoch int
	next  func() (*modelCall, bool)
	stop  func()
	call  *modelCall
	dead  bool

	n, folded int
	dirty     map[string]*modelDirty
	cache     map[string]int
	exists    map[string]bool // rows known to stand at their own keys, as tombstones too
}

type modelDirty struct {
	first, last int
	ops         []numberedOp // not applied yet: what the row has is not known
	fresh       bool         // made by this owner, and no fold of it was begun
}

type numberedOp struct {
	n int
	modelOp
}

// model is one exploration.
type model struct {
	rule   rules
	r      *rand.Rand
	table  modelTable
	owners []*modelOwner
	late   []*modelCall // under way for somebody who waits no more
	ghost  []map[string]int
	marks  int
	wiped  int // the end's number
	loaded int // the highest epoch that has begun to work
	fault  error
}

func newModel(seed uint64, rule rules) *model {
	return &model{
		rule: rule, r: rand.New(rand.NewPCG(seed, 11)),
		table: modelTable{head: modelHead{epoch: 1, linked: true}, entries: make(map[int]modelEntry), rows: make(map[string]modelRow)},
		ghost: []map[string]int{{}},
	}
}

func (m *model) failf(format string, args ...any) {
	if m.fault == nil {
		m.fault = fmt.Errorf(format, args...)
	}
}

// put stores an entry where nothing stands, and keeps the true history. It is
// the table's part; ok is false if something stands there.
func (m *model) put(t *modelTable, n int, e modelEntry) (modelEntry, bool) {
	if old, taken := t.entries[n]; taken {
		return old, false
	}
	last := t.last()
	if n != last+1 {
		m.failf("entry %d after %d", n, last)
	}
	if m.wiped > 0 {
		m.failf("entry %d after the link's end at %d", n, m.wiped)
	}
	if e.epoch < m.loaded {
		m.failf("an entry of epoch %d while %d works", e.epoch, m.loaded)
	}
	if before, ok := t.entries[last]; ok && before.epoch > e.epoch {
		m.failf("an entry of epoch %d after one of epoch %d", e.epoch, before.epoch)
	}
	state := maps.Clone(m.ghost[len(m.ghost)-1])
	for _, op := range e.ops {
		value, err := op.apply(state[op.key])
		if err != nil {
			m.failf("committed on what is not the present: %w", err)
		}
		if state[op.key] = value; value == 0 {
			delete(state, op.key)
		}
	}
	m.ghost = append(m.ghost, state)
	t.entries[n] = e
	if e.end {
		m.wiped = n
	}
	return e, true
}

type modelDeath struct{}

// begin starts an owner of the present epoch.
func (m *model) begin() {
	o := &modelOwner{m: m, epoch: m.table.head.epoch, dirty: make(map[string]*modelDirty), cache: make(map[string]int), exists: make(map[string]bool)}
	o.next, o.stop = iter.Pull(func(yield func(*modelCall) bool) {
		defer func() {
			if e := recover(); e != nil && e != (modelDeath{}) {
				panic(e)
			}
		}()
		o.run(func(exec func(*modelTable) any) any {
			c := &modelCall{owner: o, exec: exec}
			for {
				if !yield(c) {
					panic(modelDeath{})
				}
				if !c.lost {
					return c.answer
				}
				c = &modelCall{owner: o, exec: exec} // the same again; the first may arrive still
			}
		})
	})
	m.owners = append(m.owners, o)
	o.resume()
}

func (o *modelOwner) resume() {
	call, ok := o.next()
	if !ok {
		o.dead, o.call = true, nil
		return
	}
	o.call = call
}

func (o *modelOwner) die() { panic(modelDeath{}) }

type ask func(func(*modelTable) any) any

type taken struct {
	entry modelEntry
	ok    bool
	head  bool // the device row refused
}

// run is the owner's life.
func (o *modelOwner) run(ask ask) {
	r := o.m.r
	o.load(ask)
	for range 1 + r.IntN(25) {
		switch r.IntN(12) {
		default:
			o.commit(ask, r.IntN(8) == 0)
		case 0, 1, 2, 3:
			o.foldOne(ask)
		case 4:
			if r.IntN(3) == 0 {
				o.wipe(ask)
			}
		case 5:
			o.get(ask, o.someKey())
		}
	}
	for len(o.dirty) > 0 {
		o.foldOne(ask)
	}
	n := o.n
	ask(func(t *modelTable) any {
		if t.head.linked && t.head.epoch == o.epoch && t.head.folded < n {
			t.head.folded = n
		}
		return nil
	})
}

func (o *modelOwner) someKey() string { return string(rune('a' + o.m.r.IntN(4))) }

// load finds the log's end, closes it to earlier owners, and reads what is not
// folded.
func (o *modelOwner) load(ask ask) {
	head := ask(func(t *modelTable) any { return t.head }).(modelHead)
	if !head.linked || head.epoch != o.epoch {
		o.die()
	}
	type found struct {
		n     int
		entry modelEntry
	}
	for {
		newest := ask(func(t *modelTable) any { return found{t.last(), t.entries[t.last()]} }).(found)
		if newest.entry.end || newest.entry.epoch > o.epoch && !o.m.rule.bowToNobody {
			o.die()
		}
		o.n, o.folded = max(newest.n, head.folded), max(newest.entry.folded, head.folded)
		// Entries don't change, so they may be read before the log is closed.
		o.replay(ask(func(t *modelTable) any { return maps.Clone(t.entries) }).(map[int]modelEntry))
		if newest.entry.epoch < o.epoch && !o.m.rule.noAdoption {
			o.m.marks++
			e := modelEntry{epoch: o.epoch, mark: o.m.marks, adopt: true, folded: o.folded}
			at := o.n + 1
			got := ask(func(t *modelTable) any {
				if !t.head.linked || t.head.epoch != o.epoch {
					return taken{head: true}
				}
				old, ok := o.m.put(t, at, e)
				return taken{entry: old, ok: ok || old.mark == e.mark}
			}).(taken)
			if got.head {
				o.die()
			}
			if !got.ok {
				o.dirty = make(map[string]*modelDirty)
				continue // an earlier owner was faster
			}
			o.n = at
		}
		o.m.loaded = max(o.m.loaded, o.epoch)
		return
	}
}

func (o *modelOwner) replay(entries map[int]modelEntry) {
	for n := o.folded + 1; n <= o.n; n++ {
		for _, op := range entries[n].ops {
			d := o.dirty[op.key]
			if d == nil {
				d = &modelDirty{first: n}
				o.dirty[op.key] = d
			}
			d.last, d.ops = n, append(d.ops, numberedOp{n, op})
		}
	}
}

// get returns a row's value: from memory, or from the row and the entries that
// it doesn't have yet.
func (o *modelOwner) get(ask ask, key string) int {
	value, known := o.cache[key]
	if !known {
		type found struct {
			row modelRow
			ok  bool
		}
		got := ask(func(t *modelTable) any { row, ok := t.rows[key]; return found{row, ok} }).(found)
		o.exists[key] = got.ok
		if got.ok && !got.row.gone {
			value = got.row.value
		}
		if d := o.dirty[key]; d != nil {
			for _, op := range d.ops {
				if got.ok && op.n <= got.row.at && !o.m.rule.skipNothing {
					continue
				}
				var err error
				if value, err = op.apply(value); err != nil {
					if o.m.table.last() == o.n {
						o.m.failf("owner of epoch %d: %w", o.epoch, err)
					}
					o.die()
				}
			}
			d.ops = nil
		}
		o.cache[key] = value
	}
	// One that is not the last any more may read what its successor has folded;
	// nothing comes of it, for it can't commit.
	if o.m.table.last() == o.n && o.m.wiped == 0 {
		if want := o.m.ghost[len(o.m.ghost)-1][key]; want != value {
			o.m.failf("owner of epoch %d reads %d in %s, committed is %d", o.epoch, value, key, want)
		}
	}
	return value
}

// commit changes one or two rows in an entry, or, if it is a large one, in a
// transaction of the entry and the rows.
func (o *modelOwner) commit(ask ask, large bool) {
	m := o.m
	m.marks++
	e := modelEntry{epoch: o.epoch, mark: m.marks, folded: o.foldedNow()}
	at := o.n + 1
	if m.rule.foldedEarly {
		e.folded = o.n
	}
	for range 1 + m.r.IntN(2) {
		key := o.someKey()
		if len(e.ops) > 0 && e.ops[0].key == key {
			continue
		}
		value := o.get(ask, key)
		op := modelOp{key: key, base: value, value: m.marks*10 + len(e.ops)}
		switch {
		case value == 0 || large:
			op.full = true
		case m.r.IntN(4) == 0:
			op.delete = true
		}
		e.ops = append(e.ops, op)
	}
	got := ask(func(t *modelTable) any {
		old, ok := t.entries[at]
		if ok {
			return taken{entry: old, ok: old.mark == e.mark}
		}
		if large {
			for _, op := range e.ops {
				if row, ok := t.rows[op.key]; ok && row.at >= at {
					return taken{}
				}
			}
		}
		m.put(t, at, e)
		if large {
			for _, op := range e.ops {
				t.rows[op.key] = modelRow{at: at, value: op.value}
			}
		}
		return taken{ok: true}
	}).(taken)
	if !got.ok {
		o.die()
	}
	if here, ok := m.table.entries[at]; !ok || here.mark != e.mark {
		m.failf("entry %d was acknowledged and is not there", at)
	}
	o.n = at
	for _, op := range e.ops {
		o.cache[op.key] = op.value
		if op.delete {
			o.cache[op.key] = 0
		}
		if large {
			delete(o.dirty, op.key)
			o.exists[op.key] = true
			continue
		}
		d := o.dirty[op.key]
		if d == nil {
			d = &modelDirty{first: at, fresh: !o.exists[op.key]}
			o.dirty[op.key] = d
		}
		d.last = at
	}
}

func (o *modelOwner) foldedNow() int {
	folded := o.n
	for _, d := range o.dirty {
		folded = min(folded, d.first-1)
	}
	return folded
}

// foldOne writes the row whose change is the oldest to its own key.
func (o *modelOwner) foldOne(ask ask) {
	var key string
	for _, k := range slices.Sorted(maps.Keys(o.dirty)) {
		if key == "" || o.dirty[k].first < o.dirty[key].first {
			key = k
		}
	}
	if key == "" {
		return
	}
	value := o.get(ask, key)
	d := o.dirty[key]
	at := d.last
	if value == 0 && o.m.rule.skipFresh && d.fresh {
		delete(o.dirty, key)
		return
	}
	d.fresh = false
	row := modelRow{at: at, value: value, gone: value == 0}
	write := func(t *modelTable) {
		if row.gone && o.m.rule.deleteRows {
			delete(t.rows, key)
			return
		}
		t.rows[key] = row
	}
	type outcome struct{ missing, newer, refused bool }
	got := ask(func(t *modelTable) any {
		old, ok := t.rows[key]
		switch {
		case o.m.rule.foldAnyway:
		case !ok:
			return outcome{missing: true}
		case old.at >= at:
			return outcome{newer: old.at > at}
		}
		write(t)
		return outcome{}
	}).(outcome)
	if got.missing {
		got = ask(func(t *modelTable) any {
			old, ok := t.rows[key]
			switch {
			case !o.m.rule.createAnyway && (!t.head.linked || t.head.epoch != o.epoch):
				return outcome{refused: true}
			case ok && old.at >= at:
				return outcome{newer: old.at > at}
			}
			write(t)
			return outcome{}
		}).(outcome)
	}
	if got.newer || got.refused {
		o.die()
	}
	o.exists[key] = true
	delete(o.dirty, key)
}

// wipe ends the link, and removes its rows.
func (o *modelOwner) wipe(ask ask) {
	m := o.m
	for try := 0; ; try++ {
		m.marks++
		e := modelEntry{epoch: o.epoch, mark: m.marks, end: true, folded: o.foldedNow()}
		at := o.n + 1
		got := ask(func(t *modelTable) any {
			if old, ok := t.entries[at]; ok && old.mark == e.mark {
				return taken{ok: true}
			}
			if !t.head.linked || t.head.epoch != o.epoch {
				return taken{head: true}
			}
			if !m.rule.noEnd {
				if old, ok := m.put(t, at, e); !ok {
					return taken{entry: old}
				}
			} else {
				m.wiped = max(1, t.last())
			}
			t.head.linked = false
			return taken{ok: true}
		}).(taken)
		if got.ok {
			break
		}
		o.die()
	}
	for {
		keys := ask(func(t *modelTable) any { return slices.Sorted(maps.Keys(t.rows)) }).([]string)
		if len(keys) == 0 {
			break
		}
		for _, key := range keys {
			ask(func(t *modelTable) any { delete(t.rows, key); return nil })
		}
	}
	ask(func(t *modelTable) any { t.head.swept = true; return nil })
	o.die()
}

// step does one thing at random.
func (m *model) step() {
	var live []*modelOwner
	for _, o := range m.owners {
		if !o.dead {
			live = append(live, o)
		}
	}
	m.owners = live
	pick := m.r.IntN(100)
	switch {
	case len(live) == 0 || pick < 2:
		if len(live) < 4 {
			if m.r.IntN(2) == 0 {
				m.table.head.epoch++
			}
			m.begin()
		}
	case pick < 3: // a death; what it has asked may still arrive
		o := live[m.r.IntN(len(live))]
		if o.call != nil && !o.call.arrived {
			m.late = append(m.late, o.call)
		}
		o.stop()
		o.dead = true
	case pick < 6 && len(m.late) > 0: // something arrives late
		i := m.r.IntN(len(m.late))
		c := m.late[i]
		m.late = slices.Delete(m.late, i, i+1)
		c.exec(&m.table)
	default:
		o := live[m.r.IntN(len(live))]
		switch c := o.call; {
		case !c.arrived && m.r.IntN(12) == 0: // no answer in time; it is asked again
			m.late = append(m.late, c)
			c.lost = true
			o.resume()
		case !c.arrived:
			c.answer, c.arrived = c.exec(&m.table), true
			if m.r.IntN(12) == 0 { // it arrives twice
				m.late = append(m.late, c)
			}
		case m.r.IntN(12) == 0: // it happened, and the answer is lost
			c.lost = true
			o.resume()
		default:
			o.resume()
		}
	}
}

// check asks what a next owner would find.
func (m *model) check() {
	if m.fault != nil {
		return
	}
	if m.table.head.linked {
		got, err := m.table.recovered(m.rule)
		if want := m.ghost[len(m.ghost)-1]; err != nil || !maps.Equal(got, want) {
			m.failf("a next owner finds %v, committed is %v; %v", got, want, err)
		}
	}
	if m.table.head.swept && len(m.table.rows) > 0 {
		m.failf("rows came back after the sweep: %v", m.table.rows)
	}
}

// explore runs worlds until a fault, and returns it.
func explore(rule rules, worlds, steps int) (entries int, fault error) {
	for seed := range worlds {
		m := newModel(uint64(seed), rule)
		for step := range steps {
			m.step()
			if m.check(); m.fault != nil {
				fault = fmt.Errorf("world %d, step %d: %w", seed, step, m.fault)
				break
			}
			if m.table.head.swept && m.r.IntN(20) == 0 {
				// The late ones arrive, and that is the world's end.
				for _, c := range m.late {
					c.exec(&m.table)
					m.check()
				}
				break
			}
		}
		if m.fault != nil && fault == nil {
			fault = fmt.Errorf("world %d, at its end: %w", seed, m.fault)
		}
		for _, o := range m.owners {
			o.stop()
		}
		entries += m.table.last()
		if fault != nil {
			return entries, fault
		}
	}
	return entries, nil
}

// The rules hold in every world that is tried, and none of them may be left out.
// SOAK tries a hundred times as many.
func TestLogModel(t *testing.T) {
	t.Parallel()
	worlds := 2000
	if os.Getenv("SOAK") != "" {
		worlds *= 100
	}
	entries, fault := explore(rules{}, worlds, 600)
	if fault != nil {
		t.Error(fault)
	}
	t.Logf("%d worlds, %d entries", worlds, entries)
	for name, rule := range map[string]rules{
		"an owner begins without an entry":                 {noAdoption: true},
		"a wipe puts no entry":                             {noEnd: true},
		"a fold does not look at what stands in the row":   {foldAnyway: true},
		"a fold makes a row without asking the device row": {createAnyway: true},
		"a fold leaves no tombstone":                       {deleteRows: true},
		"an entry says too much is folded":                 {foldedEarly: true},
		"an owner goes on after a higher epoch's entry":    {bowToNobody: true},
		"what came and went is not folded":                 {skipFresh: true},
		"an entry is applied to a row that has it":         {skipNothing: true},
	} {
		if _, fault := explore(rule, 20*2000, 600); fault == nil {
			t.Errorf("without a rule (%s) nothing goes wrong", name)
		} else {
			t.Logf("%s: %v", name, fault)
		}
	}
}
