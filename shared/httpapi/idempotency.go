package httpapi

import (
	"context"
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

	"whatisup/shared/control"
	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

const (
	recordKept = 24 * time.Hour
	// claimFor is how long one call may take to run a request. It is longer than
	// any call waits.
	claimFor = 25 * time.Second
	// twinWait is how long a duplicate request waits for the first to finish.
	twinWait = 10 * time.Second
)

// claim is one call's hold on the record of its request. Its nil value is a
// request without an Idempotency-Key.
type claim struct {
	c         *call
	record    whatisup.Record
	aead      cipher.AEAD
	completed bool // the operation has written the record
}

// kept is an answer as it is sealed.
type kept struct {
	Status  int         `json:"status"`
	Headers [][2]string `json:"headers,omitempty"`
	Body    []byte      `json:"body,omitempty"`
	Type    string      `json:"type,omitempty"`
}

// idempotent runs a request, or answers what it was answered before. do gets
// the hold on the request's record, if it has one.
func (c *call) idempotent(b *input.Object, do func(*claim) (*answer, error)) (*answer, error) {
	name, err := idempotencyKey(c.r.Header)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return do(nil)
	}
	// Two requests are the same if they say the same, in whatever order and
	// spelling.
	same, err := input.Canonical(b.Raw)
	if err != nil {
		return nil, err
	}
	r, err := c.newClaim(name, same)
	if err != nil {
		return nil, err
	}
	var a *answer
	err = c.control.Wait(c.ctx, c.who(), c.now().Add(twinWait), false, func(ctx context.Context) (bool, error) {
		there, err := c.Store.Claim(ctx, r.record, c.now().Add(claimFor))
		switch {
		case err != nil:
			return false, err
		case there == nil:
			// A claim that is lost took longer than a claim lasts, and another
			// call has it now.
			a, err = r.run(do)
			return err == nil, ignore(err, whatisup.ErrClaimLost)
		case !hmac.Equal(there.Print, r.record.Print):
			return false, errIdemConflict
		case len(there.Answer) > 0:
			a, err = r.open(there.Answer)
			return true, err
		}
		return false, nil
	})
	if errors.Is(err, control.ErrOver) {
		return nil, errIdemInProgress
	}
	return a, err
}

func ignore(err, ignored error) error {
	if errors.Is(err, ignored) {
		return nil
	}
	return err
}

func idempotencyKey(h http.Header) (string, error) {
	values := h.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	name := strings.Join(values, ",")
	if !input.Printable(name, 255) {
		return "", input.Invalid(input.Problem{Field: "Idempotency-Key", Problem: "must be 1 to 255 printable ASCII characters"})
	}
	return name, nil
}

// newClaim derives everything about a record from the request. The seal's key
// comes from the caller's API key, which no table holds: only a caller who sends
// the same API key and Idempotency-Key again can read the record.
func (c *call) newClaim(name string, raw []byte) (*claim, error) {
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
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &claim{c: c, aead: aead, record: whatisup.Record{
		Key:       hex.EncodeToString(id.Sum(nil)),
		Claim:     uuid.NewString(),
		Print:     mac(whatisup.Secret(secret[32:]), string(raw)),
		ExpiresAt: c.now().Add(recordKept),
	}}, nil
}

// run runs the operation under the claim and keeps its answer, if it is of a kind
// that is kept.
func (r *claim) run(do func(*claim) (*answer, error)) (*answer, error) {
	r.completed = false
	a, err := do(r)
	if errors.Is(err, whatisup.ErrClaimLost) || r.completed {
		return a, err
	}

	// Only these 4xx come from the operation itself: whatever else can be wrong
	// was found before it began.
	decided := err == nil
	if e, ok := errors.AsType[*whatisup.Error](err); ok {
		status := e.Code.Status()
		decided = status >= 400 && status < 500 && status != http.StatusTooManyRequests && e.Code != whatisup.CodeIdempotencyInProgress
		if r.c.route.asks {
			// What time can mend is decided anew. A change with an unknown outcome is not
			// asked for again.
			decided = status == http.StatusBadRequest || e.Code == whatisup.CodeOutcomeUnknown
		}
	}
	if !decided {
		if err := r.c.Store.Abandon(r.c.ctx, r.record); err != nil {
			r.c.log.Warn("claim not given back", "error", err)
		}
		return nil, err
	}

	result := a
	if err != nil {
		result = errorAnswer(err, r.c.id)
	}
	record, sealErr := r.seal(result)
	if sealErr == nil {
		sealErr = r.c.Store.Complete(r.c.ctx, *record)
	}
	if sealErr != nil && !errors.Is(sealErr, whatisup.ErrClaimLost) {
		r.c.log.Warn("answer not kept", "error", sealErr)
	}
	return a, err
}

// sealed runs an operation that writes the request's record itself: the record
// of the answer that encode makes of the operation's result.
func sealed[R any](r *claim, encode func(R) *answer, do func(control.Seal[R]) (R, error)) (*answer, error) {
	var seal control.Seal[R]
	if r != nil {
		seal = func(result R) (*whatisup.Record, error) { return r.seal(encode(result)) }
	}
	result, err := do(seal)
	if err != nil {
		return nil, err
	}
	if r != nil {
		r.completed = true
	}
	return encode(result), nil
}

// seal is the record with an answer.
func (r *claim) seal(a *answer) (*whatisup.Record, error) {
	b, kind, err := a.encode()
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(kept{a.status, a.headers, b, kind})
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, r.aead.NonceSize())
	rand.Read(nonce)
	record := r.record
	record.Answer = r.aead.Seal(nonce, nonce, plain, []byte(record.Key))
	return &record, nil
}

// open is the first answer, given again.
func (r *claim) open(sealed []byte) (*answer, error) {
	if len(sealed) < r.aead.NonceSize() {
		return nil, errors.New("a kept answer is cut off")
	}
	plain, err := r.aead.Open(nil, sealed[:r.aead.NonceSize()], sealed[r.aead.NonceSize():], []byte(r.record.Key))
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

// change names the change that the request asks WhatsApp for. Every repetition of
// the request has the same one.
func (r *claim) change() whatisup.ChangeID {
	if r == nil {
		return whatisup.ChangeID(uuid.NewString())
	}
	return whatisup.ChangeID(uuid.NewSHA1(uuid.NameSpaceOID, []byte("change "+r.record.Key+string(r.record.Print))).String())
}

// command is the id of the command that the request causes. If the call dies,
// the next one that runs the request sends the same id.
func (r *claim) command() whatisup.CommandID {
	if r == nil {
		return whatisup.NewCommandID()
	}
	return whatisup.CommandID(uuid.NewSHA1(uuid.NameSpaceOID, []byte("command "+r.record.Key+string(r.record.Print))).String())
}
