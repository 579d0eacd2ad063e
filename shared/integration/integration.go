package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"whatisup/shared/control"
	"whatisup/shared/whatisup"
)

// Store keeps customers and the records of commands.
type Store interface {
	// Customer reads a customer, consistently, or ErrNotFound.
	Customer(context.Context, whatisup.CustomerID) (whatisup.Customer, error)
	// Claim makes this delivery the one that runs the command, until a time; or
	// answers the record that is there already.
	Claim(ctx context.Context, r whatisup.Record, until time.Time) (*whatisup.Record, error)
	// Complete stores the record: ErrClaimLost.
	Complete(context.Context, whatisup.Record) error
	// Abandon gives a claim back that came to nothing.
	Abandon(context.Context, whatisup.Record) error
	PutEvent(context.Context, whatisup.Event) error
}

const (
	recordKept = 24 * time.Hour
	// claimFor is how long one delivery may take to run a command.
	claimFor = 15 * time.Second
)

// Integration runs the commands of the queue.
type Integration struct {
	Store   Store
	Control *control.Control
	Log     *slog.Logger
}

// delivery is one message on its way.
type delivery struct {
	*Integration
	ctx     context.Context
	message []byte
	sent    time.Time
	command command
	who     control.Caller
	log     *slog.Logger
}

// errNobody keeps a message that no customer can be told of: the queue delivers
// it again and then moves it to the dead-letter queue, where the operator finds
// it.
var errNobody = errors.New("the command names no customer of ours")

// Carry runs the command of one message, which was sent to the queue at a time (zero:
// not known). An error means that the message should
// be delivered again, or kept in the dead-letter queue.
func (in *Integration) Carry(ctx context.Context, message []byte, sent time.Time) error {
	message = unwrap(message)
	cmd, problem := parse(message, in.Control.Now())
	d := &delivery{Integration: in, ctx: ctx, message: message, sent: sent, command: cmd}
	d.log = in.Log.With("command", cmd.name)
	if cmd.customer == "" || !cmd.mode.Valid() {
		d.log.Error("integration command names no customer", "error", problem)
		return errNobody
	}
	customer, err := in.Store.Customer(ctx, cmd.customer)
	if errors.Is(err, whatisup.ErrNotFound) {
		d.log.Error("integration command names an unknown customer", "customer_id", string(cmd.customer))
		return errNobody
	}
	if err != nil {
		return err
	}
	d.log = d.log.With("request_id", whatisup.RequestOf(cmd.id).ForLog(), "customer_id", string(cmd.customer), "mode", string(cmd.mode))
	d.who = control.Caller{
		Customer: customer, Mode: cmd.mode, Command: cmd.id,
		Request: whatisup.RequestOf(cmd.id), Began: in.Control.Now(), Log: d.log,
	}

	if problem == nil || cmd.name == "send" {
		problem, err = d.perform(problem)
		if err != nil {
			d.log.Error("integration command failed, to be delivered again", "error", err)
			return err
		}
	}
	if problem == nil {
		d.log.Info("integration command done")
		return nil
	}
	d.log.Info("integration command refused", "code", string(whatisup.ErrorCode(problem)))
	return d.refuse(problem)
}

// perform runs the command. problem is what the customer is told.
func (d *delivery) perform(refused error) (problem, err error) {
	switch {
	case d.who.Customer.Suspended:
		return control.ErrSuspended, nil
	case d.command.name == "send":
		return d.send(refused)
	}
	return d.once()
}

// once runs the command under the record of its id. problem is what the customer
// is told.
func (d *delivery) once() (problem, err error) {
	cmd := &d.command
	key := sha256.Sum256(fmt.Appendf(nil, "integration\x00%s\x00%s\x00%s", cmd.customer, cmd.mode, cmd.id))
	print := sha256.Sum256(cmd.same())
	record := whatisup.Record{
		Key: hex.EncodeToString(key[:]), Claim: uuid.NewString(), Print: print[:],
		ExpiresAt: d.Control.Now().Add(recordKept),
	}
	there, err := d.Store.Claim(d.ctx, record, d.Control.Now().Add(claimFor))
	switch {
	case err != nil:
		return nil, err
	case there == nil:
	case string(there.Print) != string(print[:]):
		return whatisup.NewError(whatisup.CodeIdempotencyConflict, "This command_id was already used for another command."), nil
	case len(there.Answer) > 0:
		return nil, nil // done before
	default:
		return nil, errors.New("another delivery of the command is running")
	}

	err = d.run(record)
	if err == nil {
		return nil, nil
	}
	abandoned := d.Store.Abandon(d.ctx, record)
	if e, ok := errors.AsType[*whatisup.Error](err); ok && e.Code != whatisup.CodeInternal {
		// The refusal is the outcome; a repetition gets its event again.
		return e, abandoned
	}
	if abandoned != nil {
		d.log.Warn("claim not given back", "error", abandoned)
	}
	return nil, err
}

// done makes the record that says that a command has run. Nobody asks for its
// result.
func done[R any](record whatisup.Record) control.Seal[R] {
	return func(R) (*whatisup.Record, error) {
		record.Answer = []byte{1}
		return &record, nil
	}
}

func (d *delivery) run(record whatisup.Record) error {
	cmd := &d.command
	if cmd.name == "create" {
		_, err := d.Control.Create(d.ctx, d.who, cmd.title, cmd.metadata, done[control.Instance](record))
		return err
	}
	i, err := d.Control.Find(d.ctx, d.who, cmd.instance)
	if err != nil {
		return err
	}
	switch cmd.name {
	case "connect":
		_, err = d.Control.Connect(d.ctx, d.who, i, done[whatisup.Shown](record))
	case "disconnect":
		_, err = d.Control.Disconnect(d.ctx, d.who, i, done[whatisup.Shown](record))
	case "logout":
		_, err = d.Control.Logout(d.ctx, d.who, i, done[whatisup.Shown](record))
	case "delete":
		err = d.Control.Delete(d.ctx, d.who, i, done[struct{}](record))
	}
	return err
}

// refuse answers a command by an event, on the queues and then in the log. The
// event's id is made of the message, so that a repetition is the same event.
func (d *delivery) refuse(problem error) error {
	id, ok := whatisup.ParseInstanceID(d.command.instance)
	if !ok {
		id = ""
	}
	e, err := d.Control.Event(d.who, whatisup.CommandRefused, id, whatisup.RefusedData{
		Command: d.command.word, Error: errorJSON(problem),
	})
	if err != nil {
		return err
	}
	e.ID = whatisup.EventID(uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "refused\x00%s\x00%s",
		whatisup.ErrorCode(problem), d.message)).String())
	return d.tell(e)
}

// tell sends an event to the queues and then writes it to the log.
func (d *delivery) tell(e whatisup.Event) error {
	if d.Control.Events != nil {
		if err := d.Control.Events.Send(d.ctx, e); err != nil {
			return err
		}
	}
	return d.Store.PutEvent(d.ctx, e)
}

// errorJSON is the error object of the HTTP API.
func errorJSON(err error) json.RawMessage {
	type object struct {
		Code    whatisup.Code  `json:"code"`
		Message string         `json:"message"`
		Details map[string]any `json:"details,omitempty"`
	}
	e, ok := errors.AsType[*whatisup.Error](err)
	if !ok {
		e = whatisup.NewError(whatisup.CodeInternal, "Something failed on our side.")
	}
	b, err := json.Marshal(object{e.Code, e.Message, e.Details})
	if err != nil { // details hold strings, numbers and times
		b, _ = json.Marshal(object{e.Code, e.Message, nil})
	}
	return b
}
