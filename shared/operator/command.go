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

// command is one thing that an operator can ask for. Every answer is JSON, one object a
// line.
type command struct {
	usage string // its words, and its flags in brackets
	help  string // what it does; a line break where the line would be too long
	run   func(*request, context.Context) error
}

// name is the first word, words how many follow it.
func (c command) name() string { name, _, _ := strings.Cut(c.usage, " "); return name }

func (c command) words() (n int) {
	words, _, _ := strings.Cut(c.usage, " [")
	return len(strings.Fields(words)) - 1
}

var commands = []command{
	{"make NAME", "a customer with a live and a test key", (*request).makeCustomer},
	{"list", "all customers", (*request).list},
	{"suspend CUSTOMER", "shuts it out and stops its sessions; links are kept.\nRepeat it if it was cut short", (*request).suspend},
	{"resume CUSTOMER", "lets it back; its sessions stay stopped", (*request).resume},
	{"limits CUSTOMER [-max-instances N] [-burst N] [-per-second N] [-send-burst N] [-send-per-second N] [-instance-send-burst N] [-instance-send-per-second N]", "what it may; what is not given is the deployment's", (*request).limits},
	{"keys CUSTOMER", "its keys that are not revoked", (*request).keys},
	{"key CUSTOMER [-mode live|test] [-name NAME]", "makes a key", (*request).makeKey},
	{"revoke CUSTOMER KEY", "ends a key", (*request).revoke},
	{"rotate CUSTOMER KEY", "makes a key like it, and ends it", (*request).rotate},
	{"endpoints CUSTOMER [-instance INSTANCE]", "its webhook endpoints, and how each is", (*request).endpoints},
	{"disable-endpoint CUSTOMER ENDPOINT", "nothing more is sent to it; its customer can't enable it", (*request).disableEndpoint},
	{"stop-sending [-customer CUSTOMER | -instance INSTANCE] [-new-chats] [-mode live|test]",
		"nothing is sent, or no chat begun: of an instance, a\ncustomer or, without either, the whole deployment", (*request).stopSending},
	{"resume-sending [-customer CUSTOMER | -instance INSTANCE] [-mode live|test]", "takes that back; an automatic stop, too", (*request).resumeSending},
	{"stops", "what is stopped", (*request).stops},
	{"wiped CUSTOMER INSTANCE", "what is left of a deleted instance, rows and files; fails if\nthere is anything", (*request).wiped},
}

// Usage lists the commands.
func Usage() string {
	const column = 31 // where the help begins
	var b strings.Builder
	for _, c := range commands {
		usage := c.usage
		if len(usage) >= column {
			usage += "\n"
		} else {
			usage += strings.Repeat(" ", column-len(usage))
		}
		b.WriteString(usage)
		for i, line := range strings.Split(c.help, "\n") {
			if i > 0 || strings.HasSuffix(usage, "\n") {
				b.WriteString(strings.Repeat(" ", column))
			}
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// ErrUsage is a command line that is none.
var ErrUsage = errors.New("usage")

// ErrLeft is what the command wiped answers where something is left.
var ErrLeft = errors.New("not everything is gone")

// Run runs one command line.
func (o *Operator) Run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return ErrUsage
	}
	for _, c := range commands {
		if c.name() == args[0] {
			r, err := o.read(c, args[1:], out)
			if err != nil {
				return err
			}
			return c.run(r, ctx)
		}
	}
	return ErrUsage
}

// request is a command line that was read.
type request struct {
	*Operator
	out      io.Writer
	customer whatisup.CustomerID // the first word, where the command has CUSTOMER
	word     string              // the last one

	maxInstances, burst int
	perSecond           float64
	sends               whatisup.SendLimits
	mode                whatisup.Mode
	name                string
	ofInstance          string
	ofCustomer          string
	newChats            bool
}

// read reads the words and flags of a command.
func (o *Operator) read(c command, args []string, out io.Writer) (*request, error) {
	r := &request{Operator: o, out: out}
	flags := flag.NewFlagSet(c.name(), flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&r.maxInstances, "max-instances", 0, "")
	flags.IntVar(&r.burst, "burst", 0, "")
	flags.Float64Var(&r.perSecond, "per-second", 0, "")
	flags.IntVar(&r.sends.Customer.Burst, "send-burst", 0, "")
	flags.Float64Var(&r.sends.Customer.PerSecond, "send-per-second", 0, "")
	flags.IntVar(&r.sends.Instance.Burst, "instance-send-burst", 0, "")
	flags.Float64Var(&r.sends.Instance.PerSecond, "instance-send-per-second", 0, "")
	flags.StringVar((*string)(&r.mode), "mode", string(whatisup.Live), "")
	flags.StringVar(&r.name, "name", "operator", "")
	flags.StringVar(&r.ofInstance, "instance", "", "")
	flags.StringVar(&r.ofCustomer, "customer", "", "")
	flags.BoolVar(&r.newChats, "new-chats", false, "")

	words, err := parse(flags, args)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if len(words) != c.words() {
		return nil, ErrUsage
	}
	flags.Visit(func(f *flag.Flag) {
		if !strings.Contains(c.usage, "-"+f.Name+" ") && !strings.Contains(c.usage, "-"+f.Name+"]") {
			err = fmt.Errorf("%w: %s takes no -%s", ErrUsage, c.name(), f.Name)
		}
	})
	if err != nil {
		return nil, err
	}
	if r.mode != whatisup.Live && r.mode != whatisup.Test {
		return nil, fmt.Errorf("%w: the mode is live or test", ErrUsage)
	}

	if len(words) > 0 {
		r.word = words[len(words)-1]
	}
	if strings.HasPrefix(c.usage, c.name()+" CUSTOMER") {
		var ok bool
		if r.customer, ok = whatisup.ParseCustomerID(words[0]); !ok {
			return nil, fmt.Errorf("%w: %q is no customer's id", ErrUsage, words[0])
		}
	}
	return r, nil
}

// print writes one line of the answer.
func (r *request) print(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(r.out, "%s\n", b)
	return err
}

func (r *request) makeCustomer(ctx context.Context) error {
	made, err := r.MakeCustomer(ctx, r.word)
	if err != nil {
		return err
	}
	return r.print(made)
}

func (r *request) list(ctx context.Context) error {
	for c, err := range r.Store.Customers(ctx) {
		if err != nil {
			return err
		}
		if err := r.print(customerOf(c)); err != nil {
			return err
		}
	}
	return nil
}

func (r *request) suspend(ctx context.Context) error {
	stopped, err := r.Suspend(ctx, r.customer)
	if err != nil {
		return err
	}
	return r.print(map[string]any{"customer_id": r.customer, "suspended": true, "stopped": stopped})
}

func (r *request) resume(ctx context.Context) error {
	if err := r.Resume(ctx, r.customer); err != nil {
		return err
	}
	return r.print(map[string]any{"customer_id": r.customer, "suspended": false})
}

func (r *request) limits(ctx context.Context) error {
	requests := whatisup.RateLimit{Burst: r.burst, PerSecond: r.perSecond}
	for _, l := range []whatisup.RateLimit{requests, r.sends.Customer, r.sends.Instance} {
		if r.maxInstances < 0 || l.Burst < 0 || l.PerSecond < 0 || l.PerSecond > 1e6 {
			return fmt.Errorf("%w: limits are not negative, and at most a million a second", ErrUsage)
		}
	}
	if err := r.Store.SetLimits(ctx, r.customer, r.maxInstances, requests, r.sends); err != nil {
		return err
	}
	c, err := r.Store.Customer(ctx, r.customer)
	if err != nil {
		return err
	}
	return r.print(customerOf(c))
}

func (r *request) keys(ctx context.Context) error {
	for _, m := range modes {
		for k, err := range r.Store.Keys(ctx, r.customer, m) {
			if err != nil {
				return err
			}
			if err := r.print(keyOf(k, "")); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *request) makeKey(ctx context.Context) error {
	k, text, err := r.MakeKey(ctx, r.customer, r.mode, r.name)
	if err != nil {
		return err
	}
	return r.print(keyOf(k, text))
}

func (r *request) revoke(ctx context.Context) error {
	k, err := r.key(ctx, r.customer, r.word)
	if err != nil {
		return err
	}
	return r.Store.RevokeKey(ctx, r.customer, k.Mode, k.ID)
}

func (r *request) rotate(ctx context.Context) error {
	k, err := r.key(ctx, r.customer, r.word)
	if err != nil {
		return err
	}
	made, text, err := r.Peppers.NewKey(whatisup.APIKey{
		Customer: r.customer, Mode: k.Mode, Instance: k.Instance, Name: k.Name, ExpiresAt: k.ExpiresAt,
	})
	if err != nil {
		return err
	}
	if err := r.Store.CreateKey(ctx, made, nil); err != nil {
		return err
	}
	if err := r.print(keyOf(made, string(text))); err != nil {
		return err
	}
	return r.Store.RevokeKey(ctx, r.customer, k.Mode, k.ID)
}

func (r *request) endpoints(ctx context.Context) error {
	var instance whatisup.InstanceID
	if r.ofInstance != "" {
		var ok bool
		if instance, ok = whatisup.ParseInstanceID(r.ofInstance); !ok {
			return fmt.Errorf("%w: %q is no instance's id", ErrUsage, r.ofInstance)
		}
	}
	return r.Endpoints(ctx, r.customer, instance, func(e *whatisup.Endpoint) error { return r.printEndpoint(ctx, e) })
}

func (r *request) disableEndpoint(ctx context.Context) error {
	endpoint, ok := whatisup.ParseEndpointID(r.word)
	if !ok {
		return fmt.Errorf("%w: %q is no endpoint's id", ErrUsage, r.word)
	}
	e, err := r.DisableEndpoint(ctx, r.customer, endpoint)
	if err != nil {
		return err
	}
	return r.printEndpoint(ctx, e)
}

func (r *request) printEndpoint(ctx context.Context, e *whatisup.Endpoint) error {
	queued, err := r.Store.CountQueued(ctx, e.ID)
	if err != nil {
		return err
	}
	return r.print(endpointOf(e, queued))
}

func (r *request) stopSending(ctx context.Context) error {
	scope, err := scopeOf(r.ofCustomer, r.ofInstance)
	if err != nil {
		return err
	}
	if err := r.Store.PutStop(ctx, r.mode, whatisup.Stop{Scope: scope, NewChats: r.newChats, By: "operator", Since: r.Now()}); err != nil {
		return err
	}
	return r.print(map[string]any{"scope": scope, "mode": r.mode, "stopped": true})
}

func (r *request) resumeSending(ctx context.Context) error {
	scope, err := scopeOf(r.ofCustomer, r.ofInstance)
	if err != nil {
		return err
	}
	if err := r.Store.RemoveStop(ctx, r.mode, scope); err != nil {
		return err
	}
	return r.print(map[string]any{"scope": scope, "mode": r.mode, "stopped": false})
}

func (r *request) stops(ctx context.Context) error {
	for _, m := range modes {
		all, err := r.Store.Stops(ctx, m)
		if err != nil {
			return err
		}
		for _, s := range all {
			line := struct {
				Mode whatisup.Mode `json:"mode"`
				whatisup.Stop
			}{m, s}
			if err := r.print(line); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *request) wiped(ctx context.Context) error {
	instance, ok := whatisup.ParseInstanceID(r.word)
	if !ok {
		return fmt.Errorf("%w: %q is no instance's id", ErrUsage, r.word)
	}
	left, err := r.Left(ctx, r.customer, instance)
	if err != nil {
		return err
	}
	if err := r.print(map[string]any{"instance_id": instance, "wiped": len(left) == 0, "left": append([]string{}, left...)}); err != nil {
		return err
	}
	if len(left) > 0 {
		return ErrLeft
	}
	return nil
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

	SendBurst             int           `json:"send_burst"`
	SendPerSecond         float64       `json:"send_per_second"`
	InstanceSendBurst     int           `json:"instance_send_burst"`
	InstanceSendPerSecond float64       `json:"instance_send_per_second"`
	CreatedAt             whatisup.Time `json:"created_at"`
}

func customerOf(c whatisup.Customer) customerLine {
	return customerLine{
		c.ID, c.Name, c.Suspended, c.MaxInstances, c.Limits.Burst, c.Limits.PerSecond,
		c.Sends.Customer.Burst, c.Sends.Customer.PerSecond, c.Sends.Instance.Burst, c.Sends.Instance.PerSecond, whatisup.At(c.CreatedAt),
	}
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
