package operator

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"whatisup/shared/whatisup"
)

// Usage lists the commands. Every answer is JSON, one object a line.
const Usage = `make NAME                      a customer with a live and a test key
list                           all customers
suspend CUSTOMER               shuts it out and stops its sessions; links are kept.
                               Repeat it if it was cut short
resume CUSTOMER                lets it back; its sessions stay stopped
limits CUSTOMER [-max-instances N] [-burst N] [-per-second N]
                               what it may; what is not given is the deployment's
keys CUSTOMER                  its keys that are not revoked
key CUSTOMER [-mode live|test] [-name NAME]
                               makes a key
revoke CUSTOMER KEY            ends a key
rotate CUSTOMER KEY            makes a key like it, and ends it
endpoints CUSTOMER [-instance INSTANCE]
                               its webhook endpoints, and how each is
disable-endpoint CUSTOMER ENDPOINT
                               nothing more is sent to it; its customer can't enable it
stop-sending [-customer CUSTOMER | -instance INSTANCE] [-new-chats] [-mode live|test]
                               nothing is sent, or no chat begun: of an instance, a
                               customer or, without either, the whole deployment
resume-sending [-customer CUSTOMER | -instance INSTANCE] [-mode live|test]
                               takes that back; an automatic stop, too
stops                          what is stopped
wiped CUSTOMER INSTANCE        what is left of a deleted instance, rows and files; fails if
                               there is anything
`

// ErrUsage is a command line that is none.
var ErrUsage = errors.New("usage")

// ErrLeft is what the command wiped answers where something is left.
var ErrLeft = errors.New("not everything is gone")

// Run carries out one command line.
func (o *Operator) Run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return ErrUsage
	}
	command := args[0]
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var (
		maxInstances = flags.Int("max-instances", 0, "")
		burst        = flags.Int("burst", 0, "")
		perSecond    = flags.Float64("per-second", 0, "")
		mode         = flags.String("mode", string(whatisup.Live), "")
		name         = flags.String("name", "operator", "")
		instance     = flags.String("instance", "", "")
		customer     = flags.String("customer", "", "")
		newChats     = flags.Bool("new-chats", false, "")
	)
	words, err := parse(flags, args[1:])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	word := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	wants := map[string]int{"make": 1, "list": 0, "suspend": 1, "resume": 1, "limits": 1, "keys": 1, "key": 1, "revoke": 2, "rotate": 2, "wiped": 2,
		"endpoints": 1, "disable-endpoint": 2, "stop-sending": 0, "resume-sending": 0, "stops": 0}
	n, known := wants[command]
	if !known || len(words) != n {
		return ErrUsage
	}
	print := func(v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%s\n", b)
		return err
	}
	if command == "make" {
		made, err := o.MakeCustomer(ctx, word(0))
		if err != nil {
			return err
		}
		return print(made)
	}
	if command == "list" {
		for c, err := range o.Store.Customers(ctx) {
			if err != nil {
				return err
			}
			if err := print(customerOf(c)); err != nil {
				return err
			}
		}
		return nil
	}
	switch command {
	case "stop-sending", "resume-sending":
		scope, err := scopeOf(*customer, *instance)
		if err != nil {
			return err
		}
		m := whatisup.Mode(*mode)
		if m != whatisup.Live && m != whatisup.Test {
			return fmt.Errorf("%w: the mode is live or test", ErrUsage)
		}
		if command == "resume-sending" {
			err = o.Store.RemoveStop(ctx, m, scope)
		} else {
			err = o.Store.PutStop(ctx, m, whatisup.Stop{Scope: scope, NewChats: *newChats, By: "operator", Since: o.Now()})
		}
		if err != nil {
			return err
		}
		return print(map[string]any{"scope": scope, "mode": m, "stopped": command == "stop-sending"})
	case "stops":
		for _, m := range modes {
			all, err := o.Store.Stops(ctx, m)
			if err != nil {
				return err
			}
			for _, s := range all {
				if err := print(struct {
					Mode whatisup.Mode `json:"mode"`
					whatisup.Stop
				}{m, s}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	id, ok := whatisup.ParseCustomerID(word(0))
	if !ok {
		return fmt.Errorf("%w: %q is no customer's id", ErrUsage, word(0))
	}
	switch command {
	case "suspend":
		stopped, err := o.Suspend(ctx, id)
		if err != nil {
			return err
		}
		return print(map[string]any{"customer_id": id, "suspended": true, "stopped": stopped})
	case "resume":
		if err := o.Resume(ctx, id); err != nil {
			return err
		}
		return print(map[string]any{"customer_id": id, "suspended": false})
	case "limits":
		if *maxInstances < 0 || *burst < 0 || *perSecond < 0 || *perSecond > 1e6 {
			return fmt.Errorf("%w: limits are not negative", ErrUsage)
		}
		if err := o.Store.SetLimits(ctx, id, *maxInstances, whatisup.RateLimit{Burst: *burst, PerSecond: *perSecond}); err != nil {
			return err
		}
		c, err := o.Store.Customer(ctx, id)
		if err != nil {
			return err
		}
		return print(customerOf(c))
	case "keys":
		for _, m := range modes {
			for k, err := range o.Store.Keys(ctx, id, m) {
				if err != nil {
					return err
				}
				if err := print(keyOf(k, "")); err != nil {
					return err
				}
			}
		}
		return nil
	case "key":
		m := whatisup.Mode(*mode)
		if !m.Valid() {
			return fmt.Errorf("%w: a mode is live or test", ErrUsage)
		}
		k, text, err := o.MakeKey(ctx, id, m, *name)
		if err != nil {
			return err
		}
		return print(keyOf(k, text))
	case "revoke", "rotate":
		k, err := o.key(ctx, id, word(1))
		if err != nil {
			return err
		}
		if command == "rotate" {
			made, text, err := o.Peppers.NewKey(whatisup.APIKey{
				Customer: id, Mode: k.Mode, Instance: k.Instance, Name: k.Name, ExpiresAt: k.ExpiresAt,
			})
			if err == nil {
				err = o.Store.CreateKey(ctx, made, nil)
			}
			if err != nil {
				return err
			}
			if err := print(keyOf(made, string(text))); err != nil {
				return err
			}
		}
		return o.Store.RevokeKey(ctx, id, k.Mode, k.ID)
	case "endpoints":
		i, ok := whatisup.ParseInstanceID(*instance)
		if *instance != "" && !ok {
			return fmt.Errorf("%w: %q is no instance's id", ErrUsage, *instance)
		}
		if *instance == "" {
			i = ""
		}
		return o.Endpoints(ctx, id, i, func(e *whatisup.Endpoint) error {
			queued, err := o.Store.CountQueued(ctx, e.ID)
			if err != nil {
				return err
			}
			return print(endpointOf(e, queued))
		})
	case "disable-endpoint":
		endpoint, ok := whatisup.ParseEndpointID(word(1))
		if !ok {
			return fmt.Errorf("%w: %q is no endpoint's id", ErrUsage, word(1))
		}
		e, err := o.DisableEndpoint(ctx, id, endpoint)
		if err != nil {
			return err
		}
		queued, err := o.Store.CountQueued(ctx, e.ID)
		if err != nil {
			return err
		}
		return print(endpointOf(e, queued))
	default: // wiped
		instance, ok := whatisup.ParseInstanceID(word(1))
		if !ok {
			return fmt.Errorf("%w: %q is no instance's id", ErrUsage, word(1))
		}
		left, err := o.Left(ctx, id, instance)
		if err != nil {
			return err
		}
		if err := print(map[string]any{"instance_id": instance, "wiped": len(left) == 0, "left": append([]string{}, left...)}); err != nil {
			return err
		}
		if len(left) > 0 {
			return ErrLeft
		}
		return nil
	}
}

// key finds a customer's key by its id or its prefix.
func (o *Operator) key(ctx context.Context, c whatisup.CustomerID, name string) (whatisup.APIKey, error) {
	for _, m := range modes {
		for k, err := range o.Store.Keys(ctx, c, m) {
			if err != nil || name == string(k.ID) || name == k.Prefix {
				return k, err
			}
		}
	}
	return whatisup.APIKey{}, whatisup.ErrNotFound
}

// parse reads flags wherever they stand among the words.
func parse(flags *flag.FlagSet, args []string) (words []string, err error) {
	for len(args) > 0 {
		if !strings.HasPrefix(args[0], "-") {
			words, args = append(words, args[0]), args[1:]
			continue
		}
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		args = flags.Args()
	}
	return words, nil
}

type customerLine struct {
	ID           whatisup.CustomerID `json:"customer_id"`
	Name         string              `json:"name"`
	Suspended    bool                `json:"suspended"`
	MaxInstances int                 `json:"max_instances"`
	Burst        int                 `json:"burst"`
	PerSecond    float64             `json:"per_second"`
	CreatedAt    whatisup.Time       `json:"created_at"`
}

func customerOf(c whatisup.Customer) customerLine {
	return customerLine{c.ID, c.Name, c.Suspended, c.MaxInstances, c.Limits.Burst, c.Limits.PerSecond, whatisup.At(c.CreatedAt)}
}

type keyLine struct {
	ID        whatisup.KeyID      `json:"key_id"`
	Mode      whatisup.Mode       `json:"mode"`
	Instance  whatisup.InstanceID `json:"instance_id,omitempty"`
	Name      string              `json:"name"`
	Prefix    string              `json:"prefix"`
	LastUsed  whatisup.Time       `json:"last_used_at"`
	ExpiresAt whatisup.Time       `json:"expires_at"`
	Secret    string              `json:"secret,omitempty"`
}

func keyOf(k whatisup.APIKey, text string) keyLine {
	return keyLine{k.ID, k.Mode, k.Instance, k.Name, k.Prefix, whatisup.At(k.LastUsedAt), whatisup.At(k.ExpiresAt), text}
}

type endpointLine struct {
	ID       whatisup.EndpointID     `json:"endpoint_id"`
	Mode     whatisup.Mode           `json:"mode"`
	Instance whatisup.InstanceID     `json:"instance_id,omitempty"`
	URL      string                  `json:"url"`
	Events   []string                `json:"events"`
	Status   whatisup.EndpointStatus `json:"status"`
	Disabled string                  `json:"disabled_reason,omitempty"`
	Queued   int                     `json:"queued"` // deliveries in the queue
	Behind   bool                    `json:"behind"` // more are owed
	Failures int                     `json:"failures"`
	Failing  whatisup.Time           `json:"failing_since"`
}

func endpointOf(e *whatisup.Endpoint, queued int) endpointLine {
	return endpointLine{
		e.ID, e.Mode, e.Instance, e.URL, e.Events, e.Status(), e.Disabled, queued, e.Behind, e.Failures, whatisup.At(e.FailingSince),
	}
}

// Timeout bounds one command line.
const Timeout = 5 * time.Minute

// scopeOf is what a stop of sending is about.
func scopeOf(customer, instance string) (string, error) {
	switch {
	case customer != "" && instance != "":
		return "", fmt.Errorf("%w: a stop is of a customer or of an instance", ErrUsage)
	case customer != "":
		if _, ok := whatisup.ParseCustomerID(customer); !ok {
			return "", fmt.Errorf("%w: %q is no customer's id", ErrUsage, customer)
		}
		return customer, nil
	case instance != "":
		if _, ok := whatisup.ParseInstanceID(instance); !ok {
			return "", fmt.Errorf("%w: %q is no instance's id", ErrUsage, instance)
		}
		return instance, nil
	}
	return whatisup.StopAll, nil
}
