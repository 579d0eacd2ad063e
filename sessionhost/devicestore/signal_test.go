package devicestore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/session"
	"go.mau.fi/libsignal/signalerror"
	"go.mau.fi/libsignal/util/optional"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/util/keys"

	local "whatisup/local/aws"
	"whatisup/shared/whatisup"
)

var serializer = store.SignalProtobufSerializer

// memory is the store of somebody else's device: sessions and identities, with
// no care for anything.
type memory struct {
	store.NoopStore
	mu         sync.Mutex
	sessions   map[string][]byte
	identities map[string][32]byte
}

func (m *memory) PutIdentity(_ context.Context, a string, key [32]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.identities[a] = key
	return nil
}
func (m *memory) IsTrustedIdentity(context.Context, string, [32]byte) (bool, error) { return true, nil }
func (m *memory) GetSession(_ context.Context, a string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[a], nil
}
func (m *memory) HasSession(_ context.Context, a string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[a] != nil, nil
}
func (m *memory) PutSession(_ context.Context, a string, s []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions[a] = s
	return nil
}

// peer is somebody else's device, which talks to ours.
type peer struct {
	t       *testing.T
	address *protocol.SignalAddress // its own, as we see it
	ours    *protocol.SignalAddress
	device  *store.Device

	mu   sync.Mutex          // the peer does one thing at a time
	used map[string]struct{} // ratchet keys and chain indices that we have used
}

func newPeer(t *testing.T, n int, ours *store.Device) *peer {
	mem := &memory{sessions: make(map[string][]byte), identities: make(map[string][32]byte)}
	d := &store.Device{NoiseKey: keys.NewKeyPair(), IdentityKey: keys.NewKeyPair(), RegistrationID: uint32(n)}
	d.SignedPreKey = d.IdentityKey.CreateSignedPreKey(1)
	d.Identities, d.Sessions, d.PreKeys = mem, mem, mem
	return &peer{
		t: t, device: d, ours: ours.LID.SignalAddress(),
		address: protocol.NewSignalAddress(fmt.Sprintf("77000%d_1", n), 0),
		used:    make(map[string]struct{}),
	}
}

// meet begins a session towards our device, with one of its pre-keys.
func (p *peer) meet(ours *store.Device, one *keys.PreKey) {
	p.t.Helper()
	bundle := prekey.NewBundle(ours.RegistrationID, 0,
		optional.NewOptionalUint32(one.KeyID), ours.SignedPreKey.KeyID,
		ecc.NewDjbECPublicKey(*one.Pub), ecc.NewDjbECPublicKey(*ours.SignedPreKey.Pub), *ours.SignedPreKey.Signature,
		identity.NewKey(ecc.NewDjbECPublicKey(*ours.IdentityKey.Pub)))
	b := session.NewBuilderFromSignal(p.device, p.ours, serializer)
	if err := b.ProcessBundle(p.t.Context(), bundle); err != nil {
		p.t.Fatal(err)
	}
}

// encrypt returns a message to us.
func (p *peer) encrypt(text string) ciphertext {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := session.NewBuilderFromSignal(p.device, p.ours, serializer)
	msg, err := session.NewCipher(b, p.ours).Encrypt(context.Background(), []byte(text))
	if err != nil {
		p.t.Error(err)
		return ciphertext{}
	}
	return ciphertext{from: p.address, body: msg.Serialize(), preKey: msg.Type() == protocol.PREKEY_TYPE}
}

// decrypt reads a message of ours, and complains about a chain index that was
// used before.
func (p *peer) decrypt(body []byte) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	msg, err := protocol.NewSignalMessageFromBytes(body, serializer.SignalMessage)
	if err != nil {
		return "", err
	}
	key := fmt.Sprintf("%x %d", msg.SenderRatchetKey().Serialize(), msg.Counter())
	if _, ok := p.used[key]; ok {
		return "", fmt.Errorf("chain index %d is used a second time", msg.Counter())
	}
	p.used[key] = struct{}{}
	b := session.NewBuilderFromSignal(p.device, p.ours, serializer)
	plain, err := session.NewCipher(b, p.ours).Decrypt(context.Background(), msg)
	return string(plain), err
}

type ciphertext struct {
	from   *protocol.SignalAddress
	body   []byte
	preKey bool
}

// receive does what whatsmeow does with a message that arrives: the same calls
// in the same order. It returns nil for one to be acknowledged. handle is the
// event handler.
func receive(ctx context.Context, d *store.Device, c ciphertext, handle func(text string) error) error {
	hasher := sha256.New()
	hasher.Write(c.body)
	hasher.Write([]byte("\x00" + c.from.String() + "\x00\x00"))
	hash := [32]byte(hasher.Sum(nil))
	buffered, err := d.EventBuffer.GetBufferedEvent(ctx, hash)
	if err != nil {
		return err
	}
	var plain []byte
	switch {
	case buffered != nil && buffered.Plaintext == nil:
		return nil // processed before
	case buffered != nil:
		plain = buffered.Plaintext
	default:
		cipher := session.NewCipher(session.NewBuilderFromSignal(d, c.from, serializer), c.from)
		err := d.EventBuffer.DoDecryptionTxn(ctx, func(ctx context.Context) error {
			var err error
			if c.preKey {
				msg, err := protocol.NewPreKeySignalMessageFromBytes(c.body, serializer.PreKeySignalMessage, serializer.SignalMessage)
				if err != nil {
					return err
				}
				plain, err = cipher.DecryptMessage(ctx, msg)
				if err != nil {
					return err
				}
			} else {
				msg, err := protocol.NewSignalMessageFromBytes(c.body, serializer.SignalMessage)
				if err != nil {
					return err
				}
				plain, err = cipher.Decrypt(ctx, msg)
				if err != nil {
					return err
				}
			}
			if err != nil {
				return err
			}
			return d.EventBuffer.PutBufferedEvent(ctx, hash, plain, time.Unix(1_800_000_000, 0))
		})
		if errors.Is(err, signalerror.ErrOldCounter) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	if err := handle(string(plain)); err != nil {
		return err
	}
	return d.EventBuffer.ClearBufferedEventPlaintext(ctx, hash)
}

// send does what whatsmeow does to send to one device, and returns what leaves.
func send(ctx context.Context, d *store.Device, to *protocol.SignalAddress, text string) ([]byte, error) {
	_, ctx, err := d.WithCachedSessions(ctx, []string{to.String()})
	if err != nil {
		return nil, err
	}
	msg, err := session.NewCipher(session.NewBuilderFromSignal(d, to, serializer), to).Encrypt(ctx, []byte(text))
	if err != nil {
		return nil, err
	}
	if err := d.PutCachedSessions(ctx); err != nil {
		return nil, err
	}
	return msg.Serialize(), nil
}

// resend does what whatsmeow does to answer a retry receipt: without the cache,
// and beside other sends.
func resend(ctx context.Context, d *store.Device, to *protocol.SignalAddress, text string) ([]byte, error) {
	msg, err := session.NewCipher(session.NewBuilderFromSignal(d, to, serializer), to).Encrypt(ctx, []byte(text))
	if err != nil {
		return nil, err
	}
	return msg.Serialize(), nil
}

// logOf is what the log has of a message.
func (h *host) logOf(m Message, text string) Log {
	return logRows{string(h.instance.ID), string(m.EventID), text}
}

type logRows struct{ instance, id, text string }

func (r logRows) Position() whatisup.Position { return whatisup.NewPosition() }

func (r logRows) Event(at whatisup.Position) types.Put {
	p := r.Void(at)
	p.Item["event_id"], p.Item["text"] = str(r.id), str(r.text)
	return p
}

func (r logRows) Void(at whatisup.Position) types.Put {
	return types.Put{
		TableName: aws.String(logTable), Item: primaryKey(r.instance, string(at)), ConditionExpression: aws.String("attribute_not_exists(pk)"),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
}

func (r logRows) IsEvent(row map[string]types.AttributeValue) bool {
	return stringAttr(row, "event_id") == r.id
}

// logged reads the log: event ids and texts in order.
func (b *bench) logged() (ids, texts []string) {
	b.t.Helper()
	p := dynamodb.NewQueryPaginator(b.db, &dynamodb.QueryInput{
		TableName: aws.String(logTable), ConsistentRead: aws.Bool(true), KeyConditionExpression: aws.String("pk = :pk"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":pk": str(string(b.instance.ID))},
	})
	for p.HasMorePages() {
		page, err := p.NextPage(context.Background())
		if err != nil {
			b.t.Fatal(err)
		}
		for _, item := range page.Items {
			if id := stringAttr(item, "event_id"); id != "" { // no void
				ids, texts = append(ids, id), append(texts, stringAttr(item, "text"))
			}
		}
	}
	return ids, texts
}

// Both sides begin a session before they hear of the other's, and then use the
// two of them in turns: each message can be read.
func TestBothBeginASession(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	device := b.open(1).pair(t, 1)
	pre, err := device.PreKeys.GetOrGenPreKeys(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, 1, device)
	handled := 0
	heard := func(c ciphertext) {
		t.Helper()
		if err := receive(t.Context(), device, c, func(string) error { handled++; return nil }); err != nil {
			t.Fatalf("we can't read message %d: %v", handled+1, err)
		}
	}
	say := func(text string) []byte {
		t.Helper()
		body, err := send(t.Context(), device, p.address, text)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}

	p.meet(device, pre[0])
	theirs := p.encrypt("on their session")
	if err := session.NewBuilderFromSignal(device, p.address, serializer).ProcessBundle(t.Context(), prekey.NewBundle(
		p.device.RegistrationID, 0, optional.NewEmptyUint32(), p.device.SignedPreKey.KeyID, nil,
		ecc.NewDjbECPublicKey(*p.device.SignedPreKey.Pub), *p.device.SignedPreKey.Signature,
		identity.NewKey(ecc.NewDjbECPublicKey(*p.device.IdentityKey.Pub)))); err != nil {
		t.Fatal(err)
	}
	ours := say("on our session")

	heard(theirs)               // we go over to theirs,
	onTheirs := say("on yours") // as this shows
	first, err := protocol.NewPreKeySignalMessageFromBytes(ours, serializer.PreKeySignalMessage, serializer.SignalMessage)
	if err != nil {
		t.Fatal(err)
	}
	cipher := session.NewCipher(session.NewBuilderFromSignal(p.device, p.ours, serializer), p.ours)
	if _, err := cipher.DecryptMessage(t.Context(), first); err != nil { // they go over to ours,
		t.Fatal(err)
	}
	heard(p.encrypt("on yours"))                   // and we, hearing this, back to it;
	if _, err := p.decrypt(onTheirs); err != nil { // they too:
		t.Fatal(err)
	}
	heard(p.encrypt("on ours")) // this is on theirs, which was tried in vain
	heard(p.encrypt("and again"))
}

// messages is how many messages the long tests exchange.
func messages(short int) int {
	if n, err := strconv.Atoi(os.Getenv("DEVICESTORE_MESSAGES")); err == nil {
		return n
	}
	return short
}

// The host dies before or after any write, with every message, and another one
// takes over; the server delivers again what was not acknowledged. No message is
// lost, none is in the log twice, each keeps its event id, and no pre-key id is
// given out twice.
func TestKilledAroundEveryWrite(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	epoch := whatisup.Epoch(1)
	h := b.open(epoch)
	device := h.pair(t, 1)
	pre, err := device.PreKeys.GetOrGenPreKeys(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	given := make(map[uint32]bool)
	for _, k := range pre {
		given[k.KeyID] = true
	}
	if err := device.PreKeys.MarkPreKeysAsUploaded(t.Context(), 60); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	peers := make([]*peer, 5)
	for i := range peers {
		peers[i] = newPeer(t, i, device)
		peers[i].meet(device, pre[i])
	}

	var want []string
	sent := make(map[string]string) // text → event id as it went to the queue
	n, kills := messages(60), 0
	for i := range n {
		p := peers[r.IntN(len(peers))]
		text := fmt.Sprintf("message %d", i)
		if r.IntN(10) == 0 {
			text += hex.EncodeToString(junk(r, 1000)) // one that has a buffer row of its own
		}
		c := p.encrypt(text)
		want = append(want, text)

		for try := 0; ; try++ {
			if try < 3 && i > 0 { // the host will die at this write, or not at all
				at, behind := r.IntN(4), r.IntN(2) == 0
				h.die(at, behind)
			}
			err := receive(t.Context(), device, c, func(text string) error {
				m, ok := h.Handling()
				if !ok {
					return errors.New("nothing is being handled")
				}
				if before, ok := sent[text]; ok && before != string(m.EventID) {
					t.Errorf("message %d has event ids %s and %s", i, before, m.EventID)
				}
				if _, ok := sent[text]; ok != m.Redelivered && ok {
					t.Errorf("message %d: redelivered=%v", i, m.Redelivered)
				}
				sent[text] = string(m.EventID)
				return h.Handled(t.Context(), m, h.logOf(m, text), unsent)
			})
			if err == nil && r.IntN(10) > 0 {
				break // acknowledged
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Fatalf("message %d: %v", i, err)
			}
			kills++
			epoch++
			h = b.open(epoch)
			device = h.load(t)
			if try > 10 {
				t.Fatalf("message %d is not received: %v", i, err)
			}
		}
		if r.IntN(8) == 0 { // pre-keys are uploaded, the host dying around that too
			h.die(r.IntN(2), r.IntN(2) == 0)
			more, err := device.PreKeys.GetOrGenPreKeys(t.Context(), uint32(1+r.IntN(9)))
			if err == nil {
				err = device.PreKeys.MarkPreKeysAsUploaded(t.Context(), more[len(more)-1].KeyID)
			}
			for _, k := range more {
				if given[k.KeyID] && err == nil {
					t.Errorf("pre-key %d is given out twice", k.KeyID)
				}
				given[k.KeyID] = given[k.KeyID] || err == nil
			}
			if err != nil {
				epoch++
				h = b.open(epoch)
				device = h.load(t)
			}
		}
	}
	ids, texts := b.logged()
	if fmt.Sprint(texts) != fmt.Sprint(want) {
		t.Errorf("the log has %d of %d messages, or in another order", len(texts), len(want))
	}
	seen := make(map[string]bool)
	for i, id := range ids {
		if seen[id] || sent[texts[i]] != id {
			t.Errorf("event id %s: twice or not the one that was sent", id)
		}
		seen[id] = true
	}
	if kills < n/4 {
		t.Errorf("only %d of %d messages met a dying host", kills, n)
	}
	// What a dead host left in the buffer after the acknowledgement is in the log.
	h.rec.hook(nil, nil)
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	h = b.open(epoch + 1)
	h.load(t)
	left := len(h.link.events.pending)
	for _, p := range h.link.events.pending {
		if !seen[p.eventID.String()] {
			t.Error("a message that is not in the log is left in the buffer")
		}
	}
	if size := itemSize(b.head()); size > 1024 {
		t.Errorf("the device row has %d bytes", size)
	}
	t.Logf("%d messages, %d deaths, %d messages left behind", n, kills, left)
}

var errDead = errors.New("the process has died")

// dieAt lets a number of requests pass, and then none any more: the first of
// those is not made, or is made and its answer never seen.
func dieAt(n int, behind bool) (before func(string) error, after func(string, error) error) {
	dead := &deniedError{errDead}
	var mu sync.Mutex
	before = func(string) error {
		mu.Lock()
		defer mu.Unlock()
		if n < 0 || n == 0 && !behind {
			n = -1
			return dead
		}
		n--
		return nil
	}
	after = func(_ string, err error) error {
		mu.Lock()
		defer mu.Unlock()
		if n < 0 {
			return dead
		}
		return err
	}
	return before, after
}

// die has the host die at a write: dieAt, and whatever waits there ends.
func (h *host) die(n int, behind bool) {
	before, after := dieAt(n, behind)
	over := sync.OnceFunc(func() { go h.fail(&deniedError{errDead}) })
	h.rec.hook(func(op string) error {
		err := before(op)
		if err != nil {
			over()
		}
		return err
	}, func(op string, err error) error {
		was := err
		if err = after(op, err); err != was {
			over()
		}
		return err
	})
}

// deniedError is an error that is not tried again.
type deniedError struct{ error }

func (*deniedError) ErrorCode() string             { return "AccessDeniedException" }
func (*deniedError) ErrorMessage() string          { return "dead" }
func (*deniedError) ErrorFault() smithy.ErrorFault { return smithy.FaultClient }

// Both directions on one address at once, with slow commits, sends and resends
// beside each other: nothing undecryptable, no chain index used twice, nothing
// lost.
func TestBothDirections(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	h := b.open(1)
	device := h.pair(t, 1)
	pre, err := device.PreKeys.GetOrGenPreKeys(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, 1, device)
	p.meet(device, pre[0])
	handled := 0
	handle := func(want string) func(string) error {
		return func(text string) error {
			if text != want {
				return fmt.Errorf("got %q, want %q", text, want)
			}
			m, ok := h.Handling()
			if !ok {
				return errors.New("nothing is being handled")
			}
			handled++
			return h.Handled(t.Context(), m, h.logOf(m, text), unsent)
		}
	}
	if err := receive(t.Context(), device, p.encrypt("hello"), handle("hello")); err != nil {
		t.Fatal(err)
	}
	if err := b.cloud.Inject(local.Fault{Kind: local.Latency, Service: "dynamodb", Operation: "TransactWriteItems", Probability: 0.3, Delay: 2 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}

	n := messages(240) / 2
	var stale int
	var mu sync.Mutex
	transmit := func(kind string, encrypt func(context.Context, *store.Device, *protocol.SignalAddress, string) ([]byte, error)) {
		for i := range n / 2 {
			text := fmt.Sprintf("%s %d", kind, i)
			var body []byte
			for {
				var err error
				body, err = encrypt(t.Context(), device, p.address, text)
				if errors.Is(err, ErrStale) {
					mu.Lock()
					stale++
					mu.Unlock()
					continue // the caller repeats
				}
				if err != nil {
					t.Errorf("%s: %v", text, err)
					return
				}
				break
			}
			if got, err := p.decrypt(body); err != nil || got != text {
				t.Errorf("%s arrives as %q, %v", text, got, err)
				return
			}
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { transmit("send", send) })
	wg.Go(func() { transmit("resend", resend) })
	wg.Go(func() {
		for i := range n {
			text := fmt.Sprintf("receive %d", i)
			if err := receive(t.Context(), device, p.encrypt(text), handle(text)); err != nil {
				t.Errorf("%s: %v", text, err)
				return
			}
		}
	})
	wg.Wait()
	if handled != n+1 || h.Err() != nil {
		t.Errorf("%d of %d handled; %v", handled, n+1, h.Err())
	}
	t.Logf("%d messages, %d encryptions repeated", 2*n, stale)
}
