package shard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"whatisup/shared/whatisup"
)

const (
	// performWithin bounds one command.
	performWithin = 12 * time.Second
	// workSlots is how many commands with work a shard runs at a time.
	workSlots = 16
	// slotsEach is how many of them may be one customer's.
	slotsEach = 4
)

var (
	errExpired = errors.New("the command has expired")
	errFenced  = errors.New("the shard is not ours any more")
)

// carrier runs a command. A refusal is a [whatisup.Error]; after any other error
// the command comes again.
type carrier func(s *Shard, ctx context.Context, c *whatisup.Command) (whatisup.Result, error)

// carriers has the kinds that are not for a session: the sandbox's act for the
// simulated phone, not for our device.
var carriers = map[whatisup.CommandKind]carrier{
	whatisup.SandboxScan:      (*Shard).scan,
	whatisup.SandboxEnterCode: (*Shard).enterCode,
	whatisup.SandboxUnlink:    (*Shard).unlinkOnPhone,
	whatisup.SandboxMessage:   (*Shard).writeFromPhone,
	whatisup.SandboxFault:     (*Shard).setFault,
	whatisup.SandboxPhone:     (*Shard).askPhone,
}

// carrierOf is who runs commands of a kind.
func carrierOf(k whatisup.CommandKind) carrier {
	if carry := carriers[k]; carry != nil {
		return carry
	}
	return (*Shard).askSession
}

// take acts on messages: wake-ups at once, commands with work one after the
// other for each instance.
func (s *Shard) take(messages []Message) {
	groups := make(map[string][]Message)
	var woken []Message
	for _, m := range messages {
		c := &m.Command
		switch {
		case m.Problem != nil:
			s.kit.Log.Error("not a command; it is left for the dead-letter queue", "shard", int(s.tenure.Shard()), "error", m.Problem.Error())
		case !c.HasWork():
			s.kit.Metrics.Woken(s.kit.Now().Sub(m.SentAt))
			s.wakeFor(c.Kind, refOf(c), c.Media)
			woken = append(woken, m)
		default:
			groups[c.Group()] = append(groups[c.Group()], m)
		}
	}

	if len(woken) > 0 {
		s.spawn(func() {
			for _, m := range woken {
				s.tidy(s.ctx, m.Delete)
			}
		})
	}
	for _, group := range groups {
		s.spawn(func() { s.runGroup(group) })
	}
}

func (s *Shard) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.wg.Go(f)
}

// tidy does one thing to a message; if it fails the message comes again.
func (s *Shard) tidy(ctx context.Context, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := do(ctx); err != nil {
		s.kit.Log.Warn("message not tidied up; it comes again", "shard", int(s.tenure.Shard()), "error", err.Error())
	}
}

func refOf(c *whatisup.Command) whatisup.Ref {
	return whatisup.Ref{Customer: c.Customer, Mode: c.Mode, ID: c.Instance}
}

// runGroup runs the commands of one instance in their order. The messages are
// kept hidden meanwhile.
//
// No more groups wait than there are instances with commands: the queue hands out
// nothing of a group of which it has handed out something.
func (s *Shard) runGroup(group []Message) {
	for i, m := range group {
		done := make(chan error, 1)
		s.wg.Go(func() { done <- s.inSlot(&m.Command) })
		err := s.holding(group[i:], done)
		switch {
		case err == nil:
			s.tidy(s.ctx, m.Delete)
		case s.ctx.Err() != nil || !s.tenure.Trusted():
			for _, rest := range group[i:] {
				s.tidy(s.ctx, rest.Release)
			}
			return
		default:
			s.kit.Log.Warn("command not run; it comes again", "kind", string(m.Command.Kind), "error", err.Error(),
				"instance_id", string(m.Command.Instance), "request_id", m.Command.RequestID.ForLog())
			return // the rest is behind it in its group
		}
	}
}

// holding waits for done and keeps the messages hidden.
func (s *Shard) holding(group []Message, done <-chan error) error {
	t := time.NewTicker(6 * time.Second)
	defer t.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-t.C:
			for _, m := range group {
				s.tidy(s.ctx, m.Extend)
			}
		}
	}
}

// inSlot runs one command in a work slot of its customer, within the time of the
// call that waits for it. Nil means that it is done with, whatever came of it.
func (s *Shard) inSlot(c *whatisup.Command) error {
	expires := c.ExpiresAt.Time
	if expires.IsZero() {
		expires = time.Now().Add(performWithin)
	} else {
		// The API's clock set it, and contexts go by this machine's.
		expires = s.kit.Local(expires)
		c.ExpiresAt = whatisup.At(expires)
	}
	ctx, cancel := context.WithDeadlineCause(s.ctx, expires, errExpired)
	defer cancel()

	granted, giveBack := s.slots.Ask(c.Customer)
	defer giveBack()
	select {
	case <-granted:
	case <-ctx.Done():
	}
	if context.Cause(ctx) == errExpired {
		s.kit.Log.Info("expired command dropped", "kind", string(c.Kind), "instance_id", string(c.Instance), "request_id", c.RequestID.ForLog())
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.perform(ctx, c)
}

// perform runs a command and keeps its result.
func (s *Shard) perform(ctx context.Context, c *whatisup.Command) error {
	ctx, cancel := context.WithTimeout(ctx, performWithin)
	defer cancel()
	if !s.tenure.Trusted() {
		return errFenced
	}
	result, err := carrierOf(c.Kind)(s, ctx, c)
	if err != nil {
		refused, ok := errors.AsType[*whatisup.Error](err)
		if !ok {
			return err
		}
		result = whatisup.Result{Error: refused.Code, Message: refused.Message}
	}
	result.Command = c.ID
	s.kit.Log.Info("command run", "kind", string(c.Kind), "outcome", string(result.Error),
		"instance_id", string(c.Instance), "request_id", c.RequestID.ForLog())
	return s.kit.Results.PutResult(ctx, result)
}

// askSession has the instance's session run a command; the session is started if
// it isn't running.
func (s *Shard) askSession(ctx context.Context, c *whatisup.Command) (whatisup.Result, error) {
	one := s.session(refOf(c))
	if one == nil {
		return whatisup.Result{}, errFenced // the shard is closing
	}
	return one.Do(ctx, c)
}

// The sandbox's commands. Running one twice has the effect of running it once, as
// far as a person at a phone could tell.

var (
	errUnreadable    = whatisup.NewError(whatisup.CodeInvalidRequest, "the command's arguments can't be read")
	errNoSandbox     = whatisup.NewError(whatisup.CodeNoSessionHost, "this deployment runs no sandbox")
	errNothingToScan = whatisup.NewError(whatisup.CodeNothingToScan, "no code is shown that could be scanned")
	errNoPhone       = whatisup.NewError(whatisup.CodeNotConnected, "no phone is linked to this instance")
)

// target is how the simulator finds what is meant: a customer has a world of
// its own.
type target struct {
	World    whatisup.CustomerID `json:"world"`
	Instance whatisup.InstanceID `json:"instance,omitempty"`
}

func targetOf(c *whatisup.Command) target { return target{World: c.Customer, Instance: c.Instance} }

// sandboxArgs reads a sandbox command's arguments. Nothing of one reaches a phone
// but for a test key, on a host that has a sandbox.
func (s *Shard) sandboxArgs(c *whatisup.Command) (args whatisup.SandboxArgs, err error) {
	if s.kit.Phones == nil || c.Mode != whatisup.Test {
		return args, errNoSandbox
	}
	if len(c.Args) > 0 {
		if err := json.Unmarshal(c.Args, &args); err != nil {
			return args, errUnreadable.Because(err)
		}
	}
	return args, nil
}

// post makes one control call with a body.
func (s *Shard) post(ctx context.Context, call string, in any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return s.kit.Phones.Do(ctx, whatisup.PhoneCall{Method: http.MethodPost, Path: call, Body: body}, nil)
}

func (s *Shard) scan(ctx context.Context, c *whatisup.Command) (none whatisup.Result, err error) {
	args, err := s.sandboxArgs(c)
	if err != nil {
		return none, err
	}
	code := s.code(c.Instance)
	if code == "" {
		return none, errNothingToScan
	}
	return none, s.post(ctx, "scan", struct {
		target
		QR          string `json:"qr"`
		PhoneNumber string `json:"phone_number"`
	}{targetOf(c), code, args.PhoneNumber})
}

func (s *Shard) enterCode(ctx context.Context, c *whatisup.Command) (none whatisup.Result, err error) {
	args, err := s.sandboxArgs(c)
	if err != nil {
		return none, err
	}
	return none, s.post(ctx, "enter-code", struct {
		World       whatisup.CustomerID `json:"world"`
		Code        string              `json:"code"`
		PhoneNumber string              `json:"phone_number"`
	}{c.Customer, args.Code, args.PhoneNumber})
}

func (s *Shard) unlinkOnPhone(ctx context.Context, c *whatisup.Command) (none whatisup.Result, err error) {
	if _, err = s.sandboxArgs(c); err != nil {
		return none, err
	}
	return none, s.post(ctx, "unlink", targetOf(c))
}

func (s *Shard) setFault(ctx context.Context, c *whatisup.Command) (none whatisup.Result, err error) {
	args, err := s.sandboxArgs(c)
	if err != nil {
		return none, err
	}
	if args.Fault == nil {
		return none, errUnreadable
	}
	return none, s.post(ctx, "faults", struct {
		target
		*whatisup.SandboxFaultOf
	}{targetOf(c), args.Fault})
}

// writeFromPhone lets somebody write: to the instance's number, unless the
// writing names a group or another person. The message's id is the command's, so
// that it is written once.
func (s *Shard) writeFromPhone(ctx context.Context, c *whatisup.Command) (whatisup.Result, error) {
	args, err := s.sandboxArgs(c)
	if err != nil {
		return whatisup.Result{}, err
	}
	i, err := s.kit.Rows.Owned(ctx, refOf(c))
	if errors.Is(err, whatisup.ErrNotFound) || err == nil && !i.DeletedAt.IsZero() {
		return whatisup.Result{}, whatisup.NewError(whatisup.CodeInstanceNotFound, "no such instance")
	}
	if err != nil {
		return whatisup.Result{}, err
	}
	if !i.HasLink() || i.Observed.PhoneNumber == "" {
		return whatisup.Result{}, errNoPhone
	}
	var writing map[string]any
	if err := decodeExact(args.Writing, &writing); err != nil || writing == nil {
		return whatisup.Result{}, errUnreadable.Because(err)
	}
	id := "AC" + strings.ToUpper(strings.ReplaceAll(string(c.ID), "-", ""))
	writing["world"], writing["message_id"] = c.Customer, id
	if writing["to"] == nil && writing["group"] == nil {
		writing["to"] = string(i.Observed.PhoneNumber)
	}
	return whatisup.Result{MessageID: id}, s.post(ctx, "messages", writing)
}

// askPhone makes the call of a command about the phones of a customer's world.
func (s *Shard) askPhone(ctx context.Context, c *whatisup.Command) (whatisup.Result, error) {
	args, err := s.sandboxArgs(c)
	if err != nil {
		return whatisup.Result{}, err
	}
	if args.Call == nil {
		return whatisup.Result{}, errUnreadable
	}
	call := *args.Call
	if call.Method == http.MethodGet {
		query := map[string]string{"world": string(c.Customer)}
		for name, value := range call.Query {
			if name != "world" {
				query[name] = value
			}
		}
		call.Query = query
	} else {
		var body map[string]any
		if err := decodeExact(call.Body, &body); err != nil || body == nil {
			return whatisup.Result{}, errUnreadable.Because(err)
		}
		body["world"] = c.Customer
		if call.Body, err = json.Marshal(body); err != nil {
			return whatisup.Result{}, err
		}
	}
	var r whatisup.Result
	err = s.kit.Phones.Do(ctx, call, &r.Answer)
	return r, err
}

// decodeExact decodes JSON with every number digit for digit.
func decodeExact(raw json.RawMessage, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(into)
}
