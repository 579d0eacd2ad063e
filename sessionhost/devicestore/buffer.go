package devicestore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/uuid"
	"go.mau.fi/whatsmeow/store"
	wa "go.mau.fi/whatsmeow/types"

	"whatisup/shared/whatisup"
)

const bufferLife = 14 * 24 * time.Hour // the server redelivers no longer

// pendingEvent is a message that was decrypted and not yet handled.
type pendingEvent struct {
	hash      [hashSize]byte
	eventID   uuid.UUID
	plaintext []byte
	server    time.Time // whole seconds
	inserted  time.Time // whole milliseconds
	row       bool      // it has a row of its own: too large for the device row
}

func (p *pendingEvent) append(b []byte) []byte {
	b = append(b, p.hash[:]...)
	b = append(b, p.eventID[:]...)
	b = binary.AppendVarint(b, p.server.Unix())
	b = binary.AppendVarint(b, p.inserted.UnixMilli())
	return appendBytes(b, p.plaintext)
}

func decodePending(d *decoder) *pendingEvent {
	p := &pendingEvent{}
	p.hash = [hashSize]byte(d.take(hashSize))
	p.eventID = uuid.UUID(d.take(len(p.eventID)))
	p.server = time.Unix(d.varint(), 0)
	p.inserted = time.UnixMilli(d.varint())
	p.plaintext = d.bytes()
	return p
}

// eventBuffer is the part of a link that knows which messages are not yet
// handled. It is complete from Load on: a hash that isn't here is in no row
// either, which is why a received message needs no read. The link's mutex
// guards it.
type eventBuffer struct {
	pending  map[[hashSize]byte]*pendingEvent
	handling *pendingEvent // what whatsmeow is handing to its handlers now
	again    bool          // ... and it was decrypted before
	done     []shortHash   // the last ones that were handled; the device row has fewer
	finished []finished    // those that are handled and still stand in the table
}

// finished is a handled message whose removal from the table waits for company.
type finished struct {
	hash [hashSize]byte
	row  bool
}

// doneKnown is how many handled messages are remembered in memory. It is more
// than comfort: a connection that breaks may take many acknowledgements with it.
const doneKnown = 128

func (b *eventBuffer) isDone(hash [hashSize]byte) bool { return slices.Contains(b.done, short(hash)) }

// finish forgets a message that has left the buffer.
func (b *eventBuffer) finish(hash [hashSize]byte) {
	delete(b.pending, hash)
	if b.handling != nil && b.handling.hash == hash {
		b.handling = nil
	}
	b.done = appendDone(b.done, hash, doneKnown)
}

// appendDone adds a hash to a list of the last n.
func appendDone(done []shortHash, hash [hashSize]byte, n int) []shortHash {
	return appendShort(done, short(hash), n)
}

func appendShort(done []shortHash, s shortHash, n int) []shortHash {
	if slices.Contains(done, s) {
		return done
	}
	if len(done) >= n {
		done = slices.Delete(done, 0, len(done)-n+1)
	}
	return append(done, s)
}

func newEventBuffer() eventBuffer {
	return eventBuffer{pending: make(map[[hashSize]byte]*pendingEvent)}
}

func bufferKey(hash [hashSize]byte) string {
	return kindBuffer + "#" + base64.RawURLEncoding.EncodeToString(hash[:])
}

// Message is a decrypted message on its way through the event handlers.
type Message struct {
	// EventID was made with the decryption and is the same over every
	// redelivery.
	EventID whatisup.EventID

	// Redelivered says that the message was decrypted before, by this owner or
	// an earlier one, so that its event may have reached the queues already.
	Redelivered bool

	hash [hashSize]byte
	part bool // of a message that carries several
	l    *link
}

// Part is for an event of another message that the one being handled carries:
// the phone answers a request for messages that could not be read with several
// of them in one (events.Message with an UnavailableRequestID). Each has an
// event id of its own, made from the carrier's and the message's id, and
// [Handle.Handled] logs each once. The carrier leaves the buffer when whatsmeow
// is through with all of them.
func (m Message) Part(id wa.MessageID) Message {
	h := sha256.New()
	h.Write(m.hash[:])
	h.Write([]byte(id))
	m.hash, m.part = [hashSize]byte(h.Sum(nil)), true
	// Still a version 7 id: the carrier's time, and the hash for randomness.
	if carrier, err := uuid.Parse(string(m.EventID)); err == nil {
		version, variant := carrier[6]&0xf0, carrier[8]&0xc0
		copy(carrier[6:], m.hash[:])
		carrier[6], carrier[8] = version|carrier[6]&0x0f, variant|carrier[8]&0x3f
		m.EventID = whatisup.EventID(carrier.String())
	}
	return m
}

// Handling returns the message that whatsmeow is handing to its event handlers
// at this moment; ok is false if none is. See the package's text for why this
// is sound: it must be called by the handler itself, on its goroutine.
func (h *Handle) Handling() (m Message, ok bool) {
	h.mu.Lock()
	l := h.link
	h.mu.Unlock()
	if l == nil {
		return Message{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.events.handling
	if p == nil || l.dead != nil {
		return Message{}, false
	}
	return Message{EventID: whatisup.EventID(p.eventID.String()), Redelivered: l.events.again, hash: p.hash, l: l}, true
}

// Log makes the rows that the log of events may have because of one message.
// Each put has the condition that nothing stands at its position, and asks for
// what does if it fails.
type Log interface {
	// Position takes the position of this moment.
	Position() whatisup.Position
	// Event is the row of the message's event.
	Event(at whatisup.Position) types.Put
	// Void is a row that readers pass over, and that keeps the event's out.
	Void(at whatisup.Position) types.Put
	// IsEvent tells a row that Event has made from one of Void's.
	IsEvent(row map[string]types.AttributeValue) bool
}

// handled is a message that leaves the buffer with a commit.
type handled struct {
	hash [hashSize]byte
	log  Log
	void whatisup.Position // where its event may have been put before; empty: nowhere
}

// Handled writes a message's event to the log, once, has send send it, and takes
// the message out of the buffer when both are done; see "Events" in the package's
// text. A second Handled of the same message, also after a redelivery, sends again,
// writes nothing and is no error. The first time both are done at once.
func (h *Handle) Handled(ctx context.Context, m Message, log Log, send func(context.Context) error) error {
	if m.l == nil {
		return ErrNoDevice
	}
	done := &handled{hash: m.hash, log: log}
	if !m.part {
		done.void = whatisup.Position(m.EventID)
	}
	if m.part || m.Redelivered {
		if err := send(ctx); err != nil {
			return err
		}
	} else {
		sent := make(chan error, 1)
		go func() { sent <- send(ctx) }()
		logged, err := m.l.putEvent(done)
		if err := errors.Join(err, <-sent); err != nil {
			return err
		}
		if logged {
			m.l.finishLater(m.hash)
			return nil
		}
	}
	if logged, err := m.l.awaitLog(ctx, done); err != nil {
		return err
	} else if logged {
		m.l.finishLater(m.hash)
		return nil
	}
	return m.l.atomically(ctx, func(_ context.Context, t *txn) error {
		m.l.mu.Lock()
		defer m.l.mu.Unlock()
		if m.l.events.isDone(m.hash) {
			return nil
		}
		if m.l.events.pending[m.hash] == nil && !m.part {
			return errUnknownMessage
		}
		t.handled = done
		return nil
	})
}

var errUnknownMessage = errors.New("devicestore: message is not in the event buffer")

// putEvent writes the event at the position that its id is, taken with the
// decryption: a plain put, at a quarter of a transaction's price. It answers
// false if that could not be done in time, or is not known to be: then the
// transaction settles it. Like a commit it keeps every other write of the device
// out, so that nothing of a link is under way once it is drained.
func (l *link) putEvent(m *handled) (logged bool, err error) {
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	if err := l.usable(); err != nil {
		return false, err
	}
	l.mu.Lock()
	pending := l.events.pending[m.hash] != nil
	l.mu.Unlock()
	left := time.Until(m.void.Time().Add(l.h.store.logWithin))
	if !pending || left <= 0 {
		return false, nil
	}
	err = l.put(context.Background(), min(left, putTimeout), m.log.Event(m.void))
	var refused *types.ConditionalCheckFailedException
	if err != nil && !(errors.As(err, &refused) && m.log.IsEvent(refused.Item)) {
		return false, l.usable()
	}
	return true, nil
}

// awaitLog closes the position where the event may have been put before, with a void,
// and says whether the event stands there. As long as the log takes no row it tries
// again, and the connection goes on. It ends with the caller's context, and with the
// link. An event that was put nowhere leaves nothing to close: a void is put at a new
// position then, and only if the log did not take the last row.
func (l *link) awaitLog(ctx context.Context, m *handled) (logged bool, err error) {
	l.mu.Lock()
	over := l.events.isDone(m.hash)
	l.mu.Unlock()
	at := m.void
	switch {
	case over || at == "" && !l.h.logDown.Load():
		return false, nil
	case at == "":
		at = m.log.Position()
	}
	pause := logPause
	for {
		logged, err := l.putVoid(ctx, m, at)
		if err == nil {
			l.h.logDown.Store(false)
			return logged, nil
		}
		if unusable := l.usable(); unusable != nil {
			return false, unusable
		}
		l.h.logDown.Store(true)
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
			pause = min(2*pause, lastLogPause)
		case <-ctx.Done():
			timer.Stop()
			return false, fmt.Errorf("devicestore: %w: %w", ctx.Err(), err)
		case <-l.h.ctx.Done():
			timer.Stop()
			return false, errors.Join(l.usable(), err)
		}
	}
}

// The time between two tries to write to a log that takes no rows.
const (
	logPause     = 100 * time.Millisecond
	lastLogPause = 10 * time.Second
)

// putVoid puts a void where nothing stands, and says whether an event does. Like a
// commit it keeps every other write of the device out.
func (l *link) putVoid(ctx context.Context, m *handled, at whatisup.Position) (logged bool, err error) {
	l.commitMu.Lock()
	defer l.commitMu.Unlock()
	if err := l.usable(); err != nil {
		return false, err
	}
	err = l.put(ctx, putTimeout, m.log.Void(at))
	if refused, ok := errors.AsType[*types.ConditionalCheckFailedException](err); ok {
		return m.log.IsEvent(refused.Item), nil // or a void, of somebody who died before the transaction
	}
	return false, err
}

// put is a plain put of a row of the log.
func (l *link) put(ctx context.Context, within time.Duration, put types.Put) error {
	_, err := retry(l.h, ctx, within, func(ctx context.Context) (*dynamodb.PutItemOutput, error) {
		return l.h.store.db.PutItem(ctx, &dynamodb.PutItemInput{
			TableName: put.TableName, Item: put.Item,
			ConditionExpression:                 put.ConditionExpression,
			ExpressionAttributeNames:            put.ExpressionAttributeNames,
			ExpressionAttributeValues:           put.ExpressionAttributeValues,
			ReturnValuesOnConditionCheckFailure: put.ReturnValuesOnConditionCheckFailure,
		})
	})
	return err
}

// finishLater forgets a message here and now, and in the table with the next
// commit, whatever it is for. It is not worth a commit of its own: a crash
// before that leaves a message that is settled at its redelivery, if there is
// one, and otherwise in nobody's way.
func (l *link) finishLater(hash [hashSize]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.events.pending[hash]
	if p == nil || l.dead != nil {
		return
	}
	l.events.finish(hash)
	l.events.finished = append(l.events.finished, finished{hash, p.row})
}

func (l *link) GetBufferedEvent(_ context.Context, hash [32]byte) (*store.BufferedEvent, error) {
	if err := l.usable(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events.handling = nil
	if p := l.events.pending[hash]; p != nil {
		l.events.handling, l.events.again = p, true
		return &store.BufferedEvent{Plaintext: p.plaintext, ServerTime: p.server, InsertTime: p.inserted}, nil
	}
	if l.events.isDone(hash) {
		return &store.BufferedEvent{}, nil
	}
	return nil, nil
}

func (l *link) PutBufferedEvent(ctx context.Context, hash [32]byte, plaintext []byte, serverTime time.Time) error {
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("devicestore: %w", err)
	}
	p := &pendingEvent{
		hash: hash, eventID: id, plaintext: append([]byte{}, plaintext...),
		server: time.Unix(serverTime.Unix(), 0), inserted: time.UnixMilli(time.Now().UnixMilli()),
	}
	return l.atomically(ctx, func(_ context.Context, t *txn) error {
		l.noteHistory(t, hash, plaintext)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.events.pending[hash] != nil {
			return errors.New("devicestore: event is in the buffer already")
		}
		t.buffer = p
		return nil
	})
}

// DoDecryptionTxn makes what one decryption changes one write: the session, the
// identity, the used pre-key and the plaintext with its event id.
func (l *link) DoDecryptionTxn(ctx context.Context, fn func(context.Context) error) error {
	var buffered *pendingEvent
	err := l.atomically(ctx, func(ctx context.Context, t *txn) error {
		t.buffer = nil
		err := fn(ctx)
		buffered = t.buffer
		return err
	})
	if err != nil || buffered == nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.events.handling = l.events.pending[buffered.hash]; l.events.handling != nil {
		l.events.again = false
	}
	return nil
}

// ClearBufferedEventPlaintext is called by whatsmeow after every handler that
// has not failed. After [Handle.Handled] there is nothing to do; otherwise the
// message needed no event of ours.
func (l *link) ClearBufferedEventPlaintext(_ context.Context, hash [32]byte) error {
	if err := l.usable(); err != nil {
		return err
	}
	l.finishLater(hash)
	return nil
}

// DeleteOldBufferedHashes has no rows to look for: they carry their expiry, and
// what the device row holds of them leaves with the next commit.
func (l *link) DeleteOldBufferedHashes(ctx context.Context) error {
	if err := l.usable(); err != nil {
		return err
	}
	oldest := time.Now().Add(-bufferLife)
	l.mu.Lock()
	var old [][hashSize]byte
	for hash, p := range l.events.pending {
		if p.inserted.Before(oldest) {
			old = append(old, hash)
		}
	}
	l.mu.Unlock()
	for _, hash := range old {
		if err := l.ClearBufferedEventPlaintext(ctx, hash); err != nil {
			return err
		}
	}
	return nil
}
