package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"whatisup/shared/whatisup"
)

// calls measures the API under concurrent clients. Its instances are live ones
// of customers of their own, which no host of this stack looks after.
func (b *bench) calls(ctx context.Context) error {
	few, err := b.newCustomer(ctx, "few", true)
	if err != nil {
		return err
	}
	lots, err := b.newCustomer(ctx, "lots", true)
	if err != nil {
		return err
	}
	const clients = 16
	ids := make([]string, b.size.Few)
	began := time.Now()
	made, err := each(b.size.Few, clients, func(i int) (d, _ time.Duration, err error) {
		ids[i], d, err = few.create(ctx, fmt.Sprintf("instance %d", i))
		return d, 0, err
	})
	if err != nil {
		return err
	}
	took := time.Since(began)
	more, err := each(b.size.Creates, clients, func(i int) (d, _ time.Duration, err error) {
		_, d, err = lots.create(ctx, fmt.Sprintf("instance %d", i))
		return d, 0, err
	})
	if err != nil {
		return err
	}
	took = time.Since(began) - took
	b.report.spread(fmt.Sprintf("API, %d clients: POST instances", clients), append(made.First, more.First...), nil, nil, nil)
	b.report.add(fmt.Sprintf("API, %d clients: POST instances, a second", clients), float64(b.size.Creates)/took.Seconds(), "1/s")
	if err := b.stack.ask(ctx, "fill", filling{whatisup.CustomerID(lots.id), b.size.Lots - b.size.Creates}, nil); err != nil {
		return err
	}

	get := func(c *customer, path func() string, n int) (times, readings, error) {
		var out times
		r, err := b.stack.metering(ctx, func() (err error) {
			out, err = each(n, clients, func(int) (time.Duration, time.Duration, error) {
				d, err := c.do(ctx, "GET", path(), nil, nil)
				return d, 0, err
			})
			return err
		})
		return out, r, err
	}
	one := func() string { return "/v1/instances/" + ids[rand.IntN(len(ids))] }
	list := func() string { return "/v1/instances?limit=100" }
	var small spread
	var bucket, bucketUnits float64
	for _, c := range []struct {
		what string
		of   *customer
		path func() string
		n    int
	}{
		{"GET instance", few, one, b.size.Calls},
		{"GET status", few, func() string { return one() + "/status" }, b.size.Calls},
		{"GET limits, which takes no token", few, func() string { return "/v1/limits" }, b.size.Calls},
		{fmt.Sprintf("GET instances, limit=100, of %d", b.size.Few), few, list, b.size.Lists},
		{fmt.Sprintf("GET instances, limit=100, of %d", b.size.Lots), lots, list, b.size.Lists},
	} {
		took, r, err := get(c.of, c.path, c.n)
		if err != nil {
			return err
		}
		var median []option
		switch {
		case c.what == "GET instance":
			for _, o := range r.API.Count {
				if o.Service == "dynamodb" && o.Name == "UpdateItem" && o.Resource == "access" {
					bucket, bucketUnits = ms(o.Took)/float64(o.Requests), o.Units/float64(o.Requests)
				}
			}
		case c.of == lots:
			median = []option{goal(1.2 * small.at(.5)), note("%d samples; the goal is 1.2 times that with %d", len(took.First), b.size.Few)}
			b.report.add(fmt.Sprintf("API, %d clients: %s, p50", clients, c.what), took.First.at(.5), "ms", median...)
			b.report.add(fmt.Sprintf("API, %d clients: %s, p99", clients, c.what), took.First.at(.99), "ms")
			continue
		case c.n == b.size.Lists:
			small = took.First
		}
		b.report.spread(fmt.Sprintf("API, %d clients: %s", clients, c.what), took.First, nil, nil, nil)
	}
	b.report.add("API: token bucket, inside DynamoDB", bucket, "ms", note("mean of one conditional update under %d clients, %.3g write units", clients, bucketUnits))
	return nil
}
