package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// fillFloor links bare clients until there are n.
func (b *bench) fillFloor(ctx context.Context, n int) error {
	var numbers []string
	if err := b.floor.ask(ctx, "numbers", struct{}{}, &numbers); err != nil {
		return err
	}
	if more := n - len(numbers); more > 0 {
		if err := b.floor.ask(ctx, "link", many{more, 24}, nil); err != nil {
			return err
		}
		if err := b.floor.ask(ctx, "numbers", struct{}{}, &numbers); err != nil {
			return err
		}
	}
	b.floorNumbers, b.floorLinked = numbers, len(numbers)
	return nil
}

// weights are what host and floor hold at one moment.
type weights struct{ host, floor weight }

func (b *bench) weights(ctx context.Context) (w weights, err error) {
	h, err := b.host.weigh(ctx)
	if err != nil {
		return w, err
	}
	w.host = h
	err = b.floor.ask(ctx, "process", struct{}{}, &w.floor)
	return w, err
}

// density lets linked sessions idle and weighs them, in the host and bare; and
// counts what idling asks of AWS.
func (b *bench) density(ctx context.Context) error {
	n, m := len(b.linked), b.floorLinked
	before, err := b.weights(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	read, err := b.stack.metering(ctx, func() error { return wait(ctx, b.size.Idle) })
	if err != nil {
		return err
	}
	idle := time.Since(began)
	after, err := b.weights(ctx)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("Density, %d idle sessions", n)
	ours, theirs := after.host.per(n, b.empty.host), after.floor.per(m, b.empty.floor)
	most := 1.4 * theirs.RSS
	b.report.add(name+": RSS a session", ours.RSS/1024, "KB", goal(most/1024), floorOf(theirs.RSS/1024),
		note("after %v idle at GOGC=%s; an empty host has %.3g MB, its parent %.3g MB", b.size.Idle, b.gogc, b.empty.host.RSS/(1<<20), b.host.parent()/(1<<20)))
	b.report.add(name+": RSS a session, target", ours.RSS/1024, "KB", goal(160), floorOf(theirs.RSS/1024))
	b.report.add(name+": RSS of the process", after.host.RSS/(1<<20), "MB", floorOf(after.floor.RSS/(1<<20)))
	b.report.add(name+": heap a session", ours.Heap/1024, "KB", floorOf(theirs.Heap/1024), note("with what is not swept yet"))
	b.report.add(name+": stack a session", ours.Stack/1024, "KB", floorOf(theirs.Stack/1024))
	b.report.add(name+": goroutines a session", ours.Goroutines, "", goal(6), floorOf(theirs.Goroutines))
	b.report.add(name+": processor, of one", 100*(after.host.CPU-before.host.CPU)/idle.Seconds(), "%",
		floorOf(100*(after.floor.CPU-before.floor.CPU)/idle.Seconds()), note("all sessions together"))

	// Idling is a stretch of time, so that upkeep counts.
	scale := float64(time.Hour) / float64(idle)
	hour := read.Host.usage(true).times(scale)
	b.idleHour, b.idleSessions, b.idleShards = hour, n, 0
	for _, o := range read.Host.Count {
		if o.Index {
			b.idleShards += o.Units * scale
		}
	}
	b.report.add("Requests: idle hour of the host, DynamoDB writes", hour.Writes, "1/h", note("extrapolated from %v with %d sessions", idle.Round(time.Second), n))
	b.report.add("Requests: idle hour of the host, DynamoDB reads", hour.Reads, "1/h")
	b.report.add("Requests: idle hour of the host, write units", hour.WriteUnits, "1/h")
	b.report.add("Requests: idle hour of the host, read units", hour.ReadUnits, "1/h")
	b.report.add("Requests: idle hour of the host, SQS requests", hour.Standard+hour.FIFO, "1/h")
	b.report.add("Requests: idle hour of the host, KMS calls", hour.KMS, "1/h")
	return nil
}

// busyDensity gives some sessions messages and weighs what each of them has
// grown by.
func (b *bench) busyDensity(ctx context.Context) error {
	n := min(b.size.Busy, len(b.linked), b.floorLinked)
	if n == 0 {
		return nil
	}
	c, stop := b.consume(ctx)
	defer stop()
	if err := b.drained(ctx, c); err != nil {
		return err
	}
	before, err := b.weights(ctx)
	if err != nil {
		return err
	}
	ours, theirs := newFlight(b.phones, b.linked[:n]), newFlight(b.phones, b.floorInstances(n))
	got, got2 := ours.arrived, theirs.arrived
	c.got.Store(&got)
	b.floorArrived.Store(&got2)
	for _, f := range []*flight{ours, theirs} {
		if _, _, err := f.send(ctx, 5*time.Minute, n*b.size.BusyMessages, 0); err != nil {
			return err
		}
	}
	if err := wait(ctx, b.size.Settle); err != nil {
		return err
	}
	after, err := b.weights(ctx)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("Density, after %d messages each to %d of them", b.size.BusyMessages, n)
	grown, grownFloor := after.host.per(n, before.host), after.floor.per(n, before.floor)
	b.report.add(name+": RSS a session, more by", grown.RSS/1024, "KB", floorOf(grownFloor.RSS/1024), note("%v later", b.size.Settle))
	b.report.add(name+": heap a session, more by", grown.Heap/1024, "KB", floorOf(grownFloor.Heap/1024))
	return nil
}

// gogcs tries other settings of the garbage collector on the same sessions: each
// in a new host that takes them over, and on the floor.
func (b *bench) gogcs(ctx context.Context) error {
	for _, gogc := range b.size.GOGC {
		gaps, err := b.replace(ctx, fmt.Sprintf("GOGC=%d", gogc))
		if err != nil {
			return err
		}
		if err := b.floor.ask(ctx, "gogc", gogc, nil); err != nil {
			return err
		}
		before, err := b.host.weigh(ctx)
		if err != nil {
			return err
		}
		if err := wait(ctx, b.size.Settle); err != nil {
			return err
		}
		after, err := b.weights(ctx)
		if err != nil {
			return err
		}
		n, m := len(b.linked), b.floorLinked
		ours, theirs := after.host.per(n, b.empty.host), after.floor.per(m, b.empty.floor)
		name := fmt.Sprintf("Density at GOGC=%d", gogc)
		b.report.add(name+": RSS a session", ours.RSS/1024, "KB", floorOf(theirs.RSS/1024),
			note("%v after a new host took %d sessions over, gaps p99 %.3g s", b.size.Settle, n, gaps.at(.99)))
		b.report.add(name+": heap a session", ours.Heap/1024, "KB", floorOf(theirs.Heap/1024))
		b.report.add(name+": processor, of one", 100*(after.host.CPU-before.CPU)/b.size.Settle.Seconds(), "%")
		cpu, err := b.busyCPU(ctx)
		if err != nil {
			return err
		}
		b.report.add(name+": processor time of the host a message", cpu, "ms")
	}
	return nil
}

// busyCPU is the processor time that a message costs the host, in milliseconds.
func (b *bench) busyCPU(ctx context.Context) (float64, error) {
	c, stop := b.consume(ctx)
	defer stop()
	if err := b.drained(ctx, c); err != nil {
		return 0, err
	}
	f := newFlight(b.phones, b.linked[:min(50, len(b.linked))])
	got := f.arrived
	c.got.Store(&got)
	before, err := b.host.weigh(ctx)
	if err != nil {
		return 0, err
	}
	if _, _, err := f.send(ctx, b.size.Flood, 1<<40, 0); err != nil {
		return 0, err
	}
	after, err := b.host.weigh(ctx)
	if f.serial.Load() == 0 {
		return 0, errors.Join(err, errors.New("nothing was sent"))
	}
	return 1000 * (after.CPU - before.CPU) / float64(f.serial.Load()), err
}
