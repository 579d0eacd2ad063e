package httpapi

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"whatisup/shared/whatisup"
)

const (
	onceKept = 24 * time.Hour
	// claimFor is how long one call may take to carry a request out; it is
	// longer than any call waits.
	claimFor = 15 * time.Second
	// twinWait is how long a call waits for the one that is at work.
	twinWait = 10 * time.Second
)

// once is one call's hold on the record of its request. Its nil value is a
// request without an Idempotency-Key.
type once struct {
	c         *call
	record    whatisup.Once
	seal      cipher.AEAD // nil: of an integration command, which has no answer
	completed bool        // a transaction that was tried carried the answer
}

// kept is an answer as it is sealed.
type kept struct {
	Status  int         `json:"status"`
	Headers [][2]string `json:"headers,omitempty"`
	Body    []byte      `json:"body,omitempty"`
	Type    string      `json:"type,omitempty"`
}

// once carries a request out, or answers what it was answered before. do gets
// the record to complete in its transaction, if it has one.
func (c *call) once(b *body, do func(*once) (*answer, error)) (*answer, error) {
	name, err := idempotencyKey(c.r.Header)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return do(nil)
	}
	o, err := c.newOnce(name, b.raw)
	if err != nil {
		return nil, err
	}
	deadline := c.now().Add(twinWait)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		there, err := c.Store.Claim(c.ctx, o.record, c.now().Add(claimFor))
		if err != nil {
			return nil, err
		}
		if there == nil {
			a, err := o.carryOut(do)
			if !errors.Is(err, whatisup.ErrClaimLost) {
				return a, err
			}
			continue // it took longer than a claim lasts; another call has it
		}
		if !hmac.Equal(there.Print, o.record.Print) {
			return nil, errIdemConflict
		}
		if len(there.Answer) > 0 {
			return o.open(there.Answer)
		}
		if !c.now().Add(wait).Before(deadline) {
			return nil, errIdemInProgress
		}
		if err := sleep(c.ctx, wait); err != nil {
			return nil, err
		}
	}
}

func idempotencyKey(h http.Header) (string, error) {
	values := h.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	name := strings.Join(values, ",")
	if !printable(name, 255) {
		return "", invalid(field{"Idempotency-Key", "must be 1 to 255 printable ASCII characters"})
	}
	return name, nil
}

// newOnce derives everything about a record from the request. The seal's key
// comes from the caller's bearer key, which no table holds: the record is
// readable to nobody but a caller who sends the same again.
func (c *call) newOnce(name string, raw []byte) (*once, error) {
	id := sha256.New()
	for _, part := range []string{string(c.customer()), string(c.mode()), c.r.Method, c.r.URL.Path, name} {
		sum := sha256.Sum256([]byte(part)) // so that no two lists of parts look alike
		id.Write(sum[:])
	}
	secret, err := hkdf.Key(sha256.New, []byte(c.caller.text), []byte(name), "whatisup idempotency", 64)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret[:32])
	if err != nil {
		return nil, err
	}
	seal, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &once{c: c, seal: seal, record: whatisup.Once{
		Key:       hex.EncodeToString(id.Sum(nil)),
		Claim:     uuid.NewString(),
		Print:     mac(whatisup.Secret(secret[32:]), string(raw)),
		ExpiresAt: c.now().Add(onceKept),
	}}, nil
}

// carryOut runs the operation under the claim and keeps its answer, if it is of
// a kind that is kept.
func (o *once) carryOut(do func(*once) (*answer, error)) (*answer, error) {
	o.completed = false
	a, err := do(o)
	if errors.Is(err, whatisup.ErrClaimLost) {
		return nil, err
	}
	if err == nil && o.completed {
		return a, nil
	}
	// Only these 4xx come from the operation itself: whatever else can be wrong
	// was found before it began.
	decided := err == nil
	if e, ok := errors.AsType[*whatisup.Error](err); ok {
		status := e.Code.Status()
		decided = status >= 400 && status < 500 && status != http.StatusTooManyRequests && e.Code != whatisup.CodeIdempotencyInProgress
	}
	if !decided {
		if err := o.c.Store.Abandon(o.c.ctx, o.record); err != nil {
			o.c.log.Warn("claim not given back", "error", err)
		}
		return nil, err
	}
	result := a
	if err != nil {
		result = errorAnswer(err, o.c.id)
	}
	record, sealErr := o.with(result)
	if sealErr == nil {
		sealErr = o.c.Store.Complete(o.c.ctx, *record)
	}
	if sealErr != nil && !errors.Is(sealErr, whatisup.ErrClaimLost) {
		o.c.log.Warn("answer not kept", "error", sealErr)
	}
	return a, err
}

// with is the record with an answer, for the operation's transaction; nil
// without an Idempotency-Key.
func (o *once) with(a *answer) (*whatisup.Once, error) {
	if o == nil {
		return nil, nil
	}
	record := o.record
	if o.seal == nil { // nobody asks for the answer again, only whether there is one
		o.completed = true
		record.Answer = []byte{1}
		return &record, nil
	}
	b, kind, err := a.encode()
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(kept{a.status, a.headers, b, kind})
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, o.seal.NonceSize())
	rand.Read(nonce)
	o.completed = true
	record.Answer = o.seal.Seal(nonce, nonce, plain, []byte(record.Key))
	return &record, nil
}

// open is the first answer, given again.
func (o *once) open(sealed []byte) (*answer, error) {
	if len(sealed) < o.seal.NonceSize() {
		return nil, errors.New("a kept answer is cut off")
	}
	plain, err := o.seal.Open(nil, sealed[:o.seal.NonceSize()], sealed[o.seal.NonceSize():], []byte(o.record.Key))
	if err != nil {
		return nil, errors.New("a kept answer can't be opened")
	}
	var k kept
	if err := json.Unmarshal(plain, &k); err != nil {
		return nil, err
	}
	a := &answer{status: k.Status, headers: k.Headers, raw: k.Body, kind: k.Type}
	return a.set("Idempotency-Replayed", "true"), nil
}

// command is the id of the command that the request causes: the same one if a
// call that died is carried out by the next.
func (o *once) command() whatisup.CommandID {
	if o == nil {
		return whatisup.NewCommandID()
	}
	return whatisup.CommandID(uuid.NewSHA1(uuid.NameSpaceOID, []byte("command "+o.record.Key+string(o.record.Print))).String())
}
