package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// firstCodes measures the time to a QR code on fresh instances, one at a time
// and all at once, in its parts, beside the bare library.
func (b *bench) firstCodes(ctx context.Context) error {
	warm, err := b.instances(ctx, 2)
	if err != nil {
		return err
	}
	for _, id := range warm { // connections, code paths, key caches
		if _, _, err := b.customer.qr(ctx, id); err != nil {
			return err
		}
	}
	if err := b.forget(ctx, warm); err != nil {
		return err
	}
	for _, c := range []struct {
		name        string
		n, parallel int
		customers   int
	}{{"QR alone", b.size.QR, 1, 1}, {"QR at once", b.size.QRTogether, b.size.QRTogether, 1 + b.size.QRTogether/waitingMost}} {
		var floor times
		bare, err := b.spending(ctx, func() error { return b.floor.ask(ctx, "qr", many{c.n, c.parallel}, &floor) })
		if err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		// Timed first, and then followed on its way: the meters take time, too.
		ids, err := b.instancesOf(ctx, c.customers, c.n)
		if err != nil {
			return err
		}
		var took spread
		spent, err := b.spending(ctx, func() (err error) {
			took, err = b.timeCodes(ctx, ids, c.parallel, nil)
			return err
		})
		if err != nil {
			return err
		}
		if err := b.forget(ctx, ids); err != nil {
			return err
		}
		if ids, err = b.instancesOf(ctx, c.customers, c.n); err != nil {
			return err
		}
		parts, read, err := b.measureCodes(ctx, ids, c.parallel)
		if err != nil {
			return err
		}
		var median, tail []option
		if c.parallel == 1 {
			median = []option{goal(60)}
		} else {
			tail = []option{goal(1.5*floor.First.at(.99) + 300)}
		}
		b.report.spread(c.name+": GET qr", took, floor.First, median, tail)
		perCall := 1000 / float64(c.n)
		b.report.add(c.name+": processor time a call", perCall*(spent.host+spent.stack), "ms", floorOf(perCall*(bare.floor+bare.stack)),
			note("%.3g ms the host's, the rest of the API and of what stands in for AWS and WhatsApp; %d processors", perCall*spent.host, runtime.NumCPU()))
		for _, part := range parts {
			b.report.add(c.name+": of it "+part.name+", p50", part.took.at(.5), "ms", note("p99 %.4g ms", part.took.at(.99)))
		}
		var looks int
		for _, o := range read.API.Count {
			if o.Name == "GetItem" && o.Resource == "calls" {
				looks += o.Requests
			}
		}
		b.report.add(c.name+": looks at the code row, a call", float64(looks)/float64(c.n), "")
		if c.parallel == 1 {
			b.uses("QR call with an attempt", read, c.n)
		}
		if err := b.forget(ctx, ids); err != nil {
			return err
		}
	}
	return nil
}

// part is one leg of the way to a code.
type part struct {
	name string
	took spread
}

// call is one fetch of a code.
type call struct{ began, ended time.Time }

// timeCodes fetches a first code of every instance. It tells each call, if
// somebody wants to know.
func (b *bench) timeCodes(ctx context.Context, ids []string, parallel int, tell func(id string, c call)) (spread, error) {
	took, err := each(len(ids), parallel, func(i int) (time.Duration, time.Duration, error) {
		began := time.Now()
		_, d, err := b.of(ids[i]).qr(ctx, ids[i])
		if tell != nil {
			tell(ids[i], call{began, began.Add(d)})
		}
		return d, 0, err
	})
	return took.First, err
}

// measureCodes fetches a first code of every instance and says where the time
// went, as the meters in front of AWS saw it.
func (b *bench) measureCodes(ctx context.Context, ids []string, parallel int) (parts []part, r readings, err error) {
	var mu sync.Mutex
	calls := make(map[string]call)
	before, err := b.host.metrics(ctx)
	if err != nil {
		return nil, r, err
	}
	r, err = b.stack.metering(ctx, func() error {
		_, err := b.timeCodes(ctx, ids, parallel, func(id string, c call) {
			mu.Lock()
			defer mu.Unlock()
			calls[id] = c
		})
		return err
	})
	if err != nil {
		return nil, r, err
	}
	after, err := b.host.metrics(ctx)
	if err != nil {
		return nil, r, err
	}
	library := 1000 * (after["whatisup_first_code_seconds_sum"] - before["whatisup_first_code_seconds_sum"]) /
		max(1, after["whatisup_first_code_seconds_count"]-before["whatisup_first_code_seconds_count"])
	sent := firsts(r.API.Trace, "SendMessage", "commands")
	taken := firsts(r.Host.Trace, "ReceiveMessage", "commands")
	shown := firsts(r.Host.Trace, "UpdateItem", "calls")
	parts = []part{{name: "API (key, bucket, instance, wish)"}, {name: "queue"}, {name: "host and library"}, {name: "code row and poll"}}
	for id, c := range calls {
		s, t, p := sent[id], taken[id], shown[id]
		if s.Began.IsZero() || t.Ended.IsZero() || p.Began.IsZero() {
			return nil, r, fmt.Errorf("the way of a code can't be followed: sent %v, taken %v, shown %v", !s.Began.IsZero(), !t.Ended.IsZero(), !p.Began.IsZero())
		}
		for i, d := range []time.Duration{s.Began.Sub(c.began), t.Ended.Sub(s.Began), p.Began.Sub(t.Ended), c.ended.Sub(p.Began)} {
			parts[i].took = append(parts[i].took, ms(d))
		}
	}
	parts = append(parts, part{"library, dial to code (mean)", spread{library}})
	return parts, r, nil
}

// firsts finds the first request of a kind about each instance.
func firsts(trace []moment, name, resource string) map[string]moment {
	out := make(map[string]moment)
	for _, m := range trace {
		if m.Name != name || m.Resource != resource {
			continue
		}
		for _, id := range m.Instances {
			if old, ok := out[id]; !ok || m.Ended.Before(old.Ended) {
				out[id] = m
			}
		}
	}
	return out
}

// waitingMost is how many calls of one customer may wait at a time, less some.
const waitingMost = 16

// instances makes fresh ones.
func (b *bench) instances(ctx context.Context, n int) ([]string, error) {
	return b.instancesOf(ctx, 1, n)
}

// instancesOf makes fresh ones, of so many customers in turn: one alone may not
// have many calls waiting.
func (b *bench) instancesOf(ctx context.Context, customers, n int) (ids []string, err error) {
	all := []*customer{b.customer}
	for len(all) < customers {
		c, err := b.newCustomer(ctx, fmt.Sprintf("bench-%d", len(all)), false)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	var mu sync.Mutex
	_, err = each(n, waitingMost, func(i int) (time.Duration, time.Duration, error) {
		c := all[i%len(all)]
		id, _, err := c.create(ctx, fmt.Sprintf("bench-%d", i))
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, id)
		if c != b.customer {
			b.others[id] = c
		}
		return 0, 0, err
	})
	return ids, err
}

// of is the customer that has an instance.
func (b *bench) of(id string) *customer { return cmp.Or(b.others[id], b.customer) }

// forget deletes instances and waits until their attempts have ended.
func (b *bench) forget(ctx context.Context, ids []string) error {
	_, err := each(len(ids), 16, func(i int) (time.Duration, time.Duration, error) {
		_, err := b.of(ids[i]).do(ctx, "DELETE", "/v1/instances/"+ids[i], nil, nil)
		return 0, 0, err
	})
	if err != nil {
		return err
	}
	return await(ctx, time.Minute, "the attempts have ended", func() (bool, error) {
		m, err := b.host.metrics(ctx)
		return m["whatisup_pairings"] == 0, err
	})
}

// scans measures from the scan to connected, as the API shows it, and pair
// codes, one at a time.
func (b *bench) scans(ctx context.Context) error {
	var floor, floorCode times
	err := errors.Join(
		b.floor.ask(ctx, "link", many{b.size.Scans, 1}, &floor),
		b.floor.ask(ctx, "code", many{b.size.PairCodes, 1}, &floorCode))
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	ids, err := b.instances(ctx, b.size.Scans+b.size.PairCodes)
	if err != nil {
		return err
	}
	var scan, code, entry spread
	for _, id := range ids[:b.size.Scans] {
		raw, _, err := b.customer.qr(ctx, id)
		if err != nil {
			return err
		}
		number := b.number()
		began := time.Now()
		if err := b.phones.scan(ctx, b.customer.id, raw, number); err != nil {
			return err
		}
		if err := b.customer.becomes(ctx, id, "connected", 5*time.Millisecond); err != nil {
			return err
		}
		scan = append(scan, ms(time.Since(began)))
		b.linked = append(b.linked, instance{id, number, b.customer.id})
	}
	for _, id := range ids[b.size.Scans:] {
		number := b.number()
		var answer struct {
			Code string `json:"code"`
		}
		took, err := b.customer.do(ctx, "POST", "/v1/instances/"+id+"/pair-code", map[string]string{"phone_number": number}, &answer)
		if err != nil {
			return err
		}
		code = append(code, ms(took))
		began := time.Now()
		if err := b.phones.enterCode(ctx, b.customer.id, answer.Code, number); err != nil {
			return err
		}
		if err := b.customer.becomes(ctx, id, "connected", 5*time.Millisecond); err != nil {
			return err
		}
		entry = append(entry, ms(time.Since(began)))
		b.linked = append(b.linked, instance{id, number, b.customer.id})
	}
	b.report.spread("Link: scan to connected", scan, floor.Then, []option{goal(1.5 * floor.Then.at(.5))}, nil)
	b.report.spread("Link: POST pair-code", code, floorCode.First, nil, nil)
	b.report.spread("Link: code entered to connected", entry, floorCode.Then, nil, nil)
	return nil
}

// link links instances, many at a time, as fast as it goes.
func (b *bench) link(ctx context.Context, n int) error {
	var mu sync.Mutex
	var again atomic.Int64
	began := time.Now()
	_, err := each(n, waitingMost, func(i int) (time.Duration, time.Duration, error) {
		id, _, err := b.customer.create(ctx, fmt.Sprintf("linked-%d", i))
		if err != nil {
			return 0, 0, err
		}
		raw, _, err := b.customer.qr(ctx, id)
		for try := 1; unavailable(err) && try < 3; try++ { // as a customer would
			again.Add(1)
			raw, _, err = b.customer.qr(ctx, id)
		}
		if err != nil {
			return 0, 0, err
		}
		mu.Lock()
		number := b.number()
		mu.Unlock()
		if err := b.phones.scan(ctx, b.customer.id, raw, number); err != nil {
			return 0, 0, err
		}
		if err := b.customer.becomes(ctx, id, "connected", 100*time.Millisecond); err != nil {
			return 0, 0, err
		}
		mu.Lock()
		defer mu.Unlock()
		b.linked = append(b.linked, instance{id, number, b.customer.id})
		return 0, 0, nil
	})
	if err != nil {
		return err
	}
	if n >= 50 {
		b.report.add(fmt.Sprintf("Link: pairings a second, %d at a time", waitingMost), float64(n)/time.Since(began).Seconds(), "1/s",
			note("%d of them; simulator, AWS and API on the same processors; %d QR calls had no code within their wait", n, again.Load()))
	}
	return nil
}

// number is a phone number that nobody has.
func (b *bench) number() string {
	b.phone++
	return fmt.Sprintf("49160%07d", b.phone)
}

// counts counts what single things cost in requests, one after the other.
func (b *bench) counts(ctx context.Context) error {
	n := b.size.Counted
	// Pairing: from a created instance to connected.
	ids, err := b.instances(ctx, n)
	if err != nil {
		return err
	}
	r, err := b.stack.metering(ctx, func() error {
		for _, id := range ids {
			raw, _, err := b.customer.qr(ctx, id)
			if err != nil {
				return err
			}
			number := b.number()
			if err := b.phones.scan(ctx, b.customer.id, raw, number); err != nil {
				return err
			}
			err = await(ctx, time.Minute, "the device is connected", func() (bool, error) {
				e, err := b.journalOf(ctx, id, "success")
				return len(e) > 0, err
			})
			if err != nil {
				return err
			}
			b.linked = append(b.linked, instance{id, number, b.customer.id})
		}
		return b.settle(ctx)
	})
	if err != nil {
		return err
	}
	b.uses("pairing", r, n)

	// Reconnect: the connection drops and the session comes back by itself.
	some := b.linked[len(b.linked)-n:]
	r, err = b.stack.metering(ctx, func() error {
		for _, i := range some {
			before, err := b.journalOf(ctx, i.ID, "success")
			if err != nil {
				return err
			}
			if err := b.phones.do(ctx, "POST", "faults", map[string]string{"world": i.World, "instance": i.ID, "kind": "drop"}, nil); err != nil {
				return err
			}
			err = await(ctx, time.Minute, "the session is back", func() (bool, error) {
				e, err := b.journalOf(ctx, i.ID, "success")
				return len(e) > len(before), err
			})
			if err != nil {
				return err
			}
		}
		return b.settle(ctx)
	})
	if err != nil {
		return err
	}
	b.uses("reconnect", r, n)
	return nil
}

func (b *bench) journalOf(ctx context.Context, id, tag string) ([]entry, error) {
	all, err := b.phones.journal(ctx, b.customer.id, tag, 0)
	return slices.DeleteFunc(all, func(e entry) bool { return e.Instance != id }), err
}

// settle waits until the host says that every linked session is connected, and
// until what it still writes about that is written.
func (b *bench) settle(ctx context.Context) error {
	err := await(ctx, time.Minute, "every session is connected", func() (bool, error) {
		m, err := b.host.metrics(ctx)
		return int(m[`whatisup_sessions{status="connected"}`]) >= len(b.linked), err
	})
	if err != nil {
		return err
	}
	return wait(ctx, 500*time.Millisecond)
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// uses reports what one of n things cost, and keeps it for the bounds and the
// bill.
func (b *bench) uses(what string, r readings, n int) {
	u := r.API.usage(false).plus(r.Host.usage(false)).times(1 / float64(n))
	b.used[what] = u
	add := func(kind string, v float64, with ...option) {
		if v > 0 || len(with) > 0 {
			b.report.add("Requests: "+what+", "+kind, v, "each", with...)
		}
	}
	units, rd, s := goals(what, "write units"), goals(what, "reads"), goals(what, "sends")
	add("DynamoDB writes", u.Writes)
	if u.Reads > 0 {
		rd = append(rd, note("%s", breakdown(n, false, r.API, r.Host)))
	}
	add("DynamoDB reads", u.Reads, rd...)
	if u.WriteUnits > 0 {
		add("write units", u.WriteUnits, append(units, note("%s", breakdown(n, true, r.API, r.Host)))...)
	}
	add("read units", u.ReadUnits)
	add("SQS sends of events", u.Sends, s...)
	add("SQS requests in all", u.Standard+u.FIFO)
	add("KMS calls", u.KMS)
}

// breakdown lists the writes or the reads that one of n things takes, dearest first.
func breakdown(n int, written bool, all ...counted) string {
	var list []countedOperation
	for _, c := range all {
		for _, o := range c.Count {
			if writes[o.Name] == written && o.Service == "dynamodb" && !o.upkeep() && o.Units > 0 {
				list = append(list, o)
			}
		}
	}
	slices.SortFunc(list, func(a, b countedOperation) int { return cmp.Compare(b.Units, a.Units) })
	var parts []string
	for _, o := range list {
		parts = append(parts, fmt.Sprintf("%.3g by %.3g %s on %s", o.Units/float64(n), float64(o.Requests)/float64(n), o.Name, o.Resource))
	}
	return strings.Join(parts, "; ")
}
