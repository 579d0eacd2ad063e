// Package operator is the work of whoever runs a deployment: making customers
// and their keys, suspending customers, setting what they may, and checking that
// what was deleted is gone. It works on the tables directly, with the operator's
// own rights; there is no HTTP call for any of it.
//
// A change is in force within a minute: functions keep keys and customers that
// long.
package operator

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"whatisup/shared/whatisup"
)

// Store keeps customers, their keys, and what they want of their instances.
type Store interface {
	CreateCustomer(context.Context, whatisup.Customer, ...whatisup.APIKey) error
	Customer(context.Context, whatisup.CustomerID) (whatisup.Customer, error)
	Customers(context.Context) iter.Seq2[whatisup.Customer, error]
	SetSuspended(context.Context, whatisup.CustomerID, bool) error
	SetLimits(context.Context, whatisup.CustomerID, int, whatisup.RateLimit, whatisup.SendLimits) error

	Keys(context.Context, whatisup.CustomerID, whatisup.Mode) iter.Seq2[whatisup.APIKey, error]
	CreateKey(context.Context, whatisup.APIKey, *whatisup.Record) error
	RevokeKey(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.KeyID) error

	Instances(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, before whatisup.InstanceID, about int) iter.Seq2[*whatisup.Instance, error]
	Instance(context.Context, whatisup.CustomerID, whatisup.Mode, whatisup.InstanceID) (*whatisup.Instance, error)
	Suspend(context.Context, *whatisup.Instance, whatisup.Wanted) error
	Unsuspend(context.Context, *whatisup.Instance) error
	Left(context.Context, whatisup.CustomerID, whatisup.InstanceID) ([]string, error)

	Stops(context.Context, whatisup.Mode) (whatisup.Stops, error)
	PutStop(context.Context, whatisup.Mode, whatisup.Stop) error
	RemoveStop(ctx context.Context, m whatisup.Mode, scope string) error

	Endpoints(context.Context, whatisup.CustomerID, whatisup.Mode) ([]*whatisup.Endpoint, error)
	CountQueued(context.Context, whatisup.EndpointID) (int, error)
	DisableEndpoint(ctx context.Context, e *whatisup.Endpoint, reason string, told whatisup.Event) error
}

// Objects is the bucket of files.
type Objects interface {
	// List calls each for the keys that begin with prefix, until it returns false.
	List(ctx context.Context, prefix string, each func(key string) bool) error
	// Unfinished does so for the keys of uploads in parts that have not ended.
	Unfinished(ctx context.Context, prefix string, each func(key string) bool) error
}

// Operator does the work.
type Operator struct {
	Store   Store
	Objects Objects // nil: the check of what was deleted says that it did not look there
	Peppers whatisup.Peppers
	Now     func() time.Time
}

// New returns an operator.
func New(s Store, p whatisup.Peppers) *Operator {
	return &Operator{Store: s, Peppers: p, Now: time.Now}
}

// modes in the order in which a customer's things are listed.
var modes = []whatisup.Mode{whatisup.Live, whatisup.Test}

// Made is a new customer with its first keys, which are shown once.
type Made struct {
	Customer whatisup.CustomerID `json:"customer_id"`
	LiveKey  string              `json:"live_key"`
	TestKey  string              `json:"test_key"`
}

// MakeCustomer makes a customer with one key of each mode.
func (o *Operator) MakeCustomer(ctx context.Context, name string) (Made, error) {
	name, err := cleanName(name)
	if err != nil {
		return Made{}, err
	}
	id := whatisup.NewCustomerID()
	var keys []whatisup.APIKey
	texts := map[whatisup.Mode]string{}
	for _, m := range modes {
		k, text, err := o.Peppers.NewKey(whatisup.APIKey{Customer: id, Mode: m, Name: "first"})
		if err != nil {
			return Made{}, err
		}
		keys = append(keys, k)
		texts[m] = string(text)
	}
	c := whatisup.Customer{ID: id, Name: name, CreatedAt: id.CreatedAt()}
	if err := o.Store.CreateCustomer(ctx, c, keys...); err != nil {
		return Made{}, err
	}
	return Made{id, texts[whatisup.Live], texts[whatisup.Test]}, nil
}

func cleanName(s string) (string, error) {
	name, problem := whatisup.ParseName(s)
	if problem != "" {
		return "", errors.New("the name " + problem)
	}
	return name, nil
}

// Suspend shuts a customer out and stops its sessions; the links are kept. It is
// harmless to repeat, and repeating it finishes what was cut short.
//
// No call of the customer gets round it, although functions trust a customer
// that they have read for a while: once the customer is marked, no instance and
// no key can be made, for their transactions check the mark. Then each instance
// is stopped and marked itself, and nothing starts a marked one.
func (o *Operator) Suspend(ctx context.Context, c whatisup.CustomerID) (stopped int, err error) {
	if err := o.Store.SetSuspended(ctx, c, true); err != nil {
		return 0, err
	}
	err = o.each(ctx, c, func(i *whatisup.Instance) error {
		did, err := o.stop(ctx, i)
		if did {
			stopped++
		}
		return err
	})
	return stopped, err
}

// each calls do for every instance of a customer.
func (o *Operator) each(ctx context.Context, c whatisup.CustomerID, do func(*whatisup.Instance) error) error {
	for _, m := range modes {
		for i, err := range o.Store.Instances(ctx, c, m, "", 0) {
			if err != nil {
				return err
			}
			if err := do(i); err != nil && !errors.Is(err, whatisup.ErrNotFound) {
				return fmt.Errorf("instance %s: %w", i.Config.ID, err)
			}
		}
	}
	return nil
}

// stopTries is how often an instance is stopped again that its customer changes
// meanwhile.
const stopTries = 20

// stop stops and marks an instance. It says whether the instance was running.
func (o *Operator) stop(ctx context.Context, i *whatisup.Instance) (running bool, err error) {
	for try := 1; ; try++ {
		w, changed := i.WantStop(o.Now(), "")
		if !changed && i.Wanted.Suspended {
			return false, nil
		}
		err := o.Store.Suspend(ctx, i, w)
		if !errors.Is(err, whatisup.ErrConflict) || try == stopTries {
			return err == nil && changed, err
		}
		if i, err = o.Store.Instance(ctx, i.Config.Customer, i.Config.Mode, i.Config.ID); err != nil {
			return false, err
		}
	}
}

// Resume lets a customer back. Its sessions stay stopped until the customer
// connects them: only the customer knows which of them should run. It is
// harmless to repeat, and repeating it finishes what was cut short.
func (o *Operator) Resume(ctx context.Context, c whatisup.CustomerID) error {
	if err := o.Store.SetSuspended(ctx, c, false); err != nil {
		return err
	}
	return o.each(ctx, c, func(i *whatisup.Instance) error {
		if !i.Wanted.Suspended {
			return nil
		}
		return o.Store.Unsuspend(ctx, i)
	})
}

// MakeKey makes a key for a customer.
func (o *Operator) MakeKey(ctx context.Context, c whatisup.CustomerID, m whatisup.Mode, name string) (whatisup.APIKey, string, error) {
	name, err := cleanName(name)
	if err != nil {
		return whatisup.APIKey{}, "", err
	}
	if _, err := o.Store.Customer(ctx, c); err != nil {
		return whatisup.APIKey{}, "", err
	}
	k, text, err := o.Peppers.NewKey(whatisup.APIKey{Customer: c, Mode: m, Name: name})
	if err != nil {
		return whatisup.APIKey{}, "", err
	}
	return k, string(text), o.Store.CreateKey(ctx, k, nil)
}

// Endpoints calls do for each webhook endpoint of a customer, in both modes; of one
// instance, if it is named: those that are bound to it.
func (o *Operator) Endpoints(ctx context.Context, c whatisup.CustomerID, i whatisup.InstanceID, do func(*whatisup.Endpoint) error) error {
	for _, m := range modes {
		all, err := o.Store.Endpoints(ctx, c, m)
		if err != nil {
			return err
		}
		for _, e := range all {
			if i != "" && e.Instance != i {
				continue
			}
			if err := do(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// DisableEndpoint disables a customer's webhook endpoint. What it is owed is held, and its
// customer can't enable it. The sweep tells it to
// the queues. It is harmless to repeat.
func (o *Operator) DisableEndpoint(ctx context.Context, c whatisup.CustomerID, id whatisup.EndpointID) (*whatisup.Endpoint, error) {
	var found *whatisup.Endpoint
	err := o.Endpoints(ctx, c, "", func(e *whatisup.Endpoint) error {
		if e.ID == id {
			found = e
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, whatisup.ErrNotFound
	}
	told, err := whatisup.DisabledEvent(found, whatisup.DisabledByOperator, o.Now())
	if err != nil {
		return nil, err
	}
	err = o.Store.DisableEndpoint(ctx, found, whatisup.DisabledByOperator, told)
	if err != nil && !errors.Is(err, whatisup.ErrConflict) {
		return nil, err
	}
	if err == nil {
		found.Disabled = whatisup.DisabledByOperator
	}
	return found, nil // disabled already, for the reason that it has
}

// Left lists what is left of a deleted instance: rows by table and key, objects by what
// their keys begin with. Nothing of what is in them is read.
func (o *Operator) Left(ctx context.Context, c whatisup.CustomerID, id whatisup.InstanceID) ([]string, error) {
	left, err := o.Store.Left(ctx, c, id)
	if err != nil {
		return nil, err
	}
	if o.Objects == nil {
		return append(left, "the bucket was not looked at: its name was not given"), nil
	}
	for _, class := range []whatisup.ObjectClass{whatisup.ClassWeek, whatisup.ClassMonth} {
		for _, m := range modes {
			prefix := class.ObjectPrefix(m, c, id)
			for _, look := range []struct {
				what string
				list func(context.Context, string, func(string) bool) error
			}{{"object(s)", o.Objects.List}, {"unfinished upload(s)", o.Objects.Unfinished}} {
				n := 0
				if err := look.list(ctx, prefix, func(string) bool { n++; return true }); err != nil {
					return nil, fmt.Errorf("the bucket: %w", err)
				}
				if n > 0 {
					left = append(left, fmt.Sprintf("the bucket: %d %s under %s", n, look.what, prefix))
				}
			}
		}
	}
	return left, nil
}
