package devicestore

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/shared/seal"
)

// A row's value on its way to the table: compressed if that helps, sealed, and
// cut into pieces that fit an item. On the way back the pieces are joined
// before the whole is opened, so a torn or mixed value does not open.
const (
	compressFrom = 256       // smaller values gain nothing worth the time
	pieceSize    = 350 << 10 // an item may have 400 KB with its keys
	maxSealed    = 3 << 20   // a transaction may have 4 MB; room for its company
	maxPlain     = 16 << 20  // what a sealed value may inflate to
)

// The attributes of every row but the device row.
const (
	attrPK    = "pk"
	attrSK    = "sk"
	attrValue = "v"
	attrParts = "parts"
	attrTTL   = "ttl"
)

// The first byte of what is sealed.
const (
	plainStored  = 0
	plainDeflate = 1 // with dictionary
)

// dictionary is what deflate may refer back to: the words of libsignal's
// records, which are JSON. With it a session of 1.7 KB fits a row of one. It is
// part of the format and must not change; another one needs another number.
const dictionary = `{"SenderKeyStates":[{"Keys":[{"Iteration":0,"Seed":"` +
	`"}],"KeyID":0,"SenderChainKey":{"Iteration":0,"ChainKey":"` +
	`"},"SigningKeyPrivate":"","SigningKeyPublic":"` +
	`"PendingKeyExchange":{"Sequence":0,"LocalBaseKeyPublic":"","LocalBaseKeyPrivate":"","LocalRatchetKeyPublic":"",` +
	`"LocalRatchetKeyPrivate":"","LocalIdentityKeyPublic":"","LocalIdentityKeyPrivate":""},` +
	`"MessageKeys":[{"CipherKey":"","MacKey":"","IV":"","Index":` +
	`"PendingPreKey":{"PreKeyID":{"Value":,"IsEmpty":false},"SignedPreKeyID":1,"BaseKey":"B` +
	`{"SessionState":{"LocalIdentityPublic":"B","LocalRegistrationID":0,"NeedsRefresh":false,` +
	`"PendingKeyExchange":null,"PendingPreKey":null,"PreviousCounter":0,` +
	`"ReceiverChains":[{"SenderRatchetKeyPublic":"B=","SenderRatchetKeyPrivate":"","ChainKey":{"Key":"=","Index":0},"MessageKeys":[]},` +
	`],"RemoteIdentityPublic":"B","RemoteRegistrationID":,"RootKey":"=","SenderBaseKey":"B",` +
	`"SenderChain":{"SenderRatchetKeyPublic":"B","SenderRatchetKeyPrivate":"=","ChainKey":{"Key":"=","Index":0},"MessageKeys":[]},` +
	`"SessionVersion":3},"PreviousStates":[]}`

// packer compresses values. Its parts are large and are used again.
type packer struct {
	writers sync.Pool
	readers sync.Pool
}

// pack frames a value for sealing.
func (p *packer) pack(value []byte) []byte {
	if len(value) >= compressFrom {
		b := bytes.NewBuffer(make([]byte, 0, len(value)))
		b.WriteByte(plainDeflate)
		w, ok := p.writers.Get().(*flate.Writer)
		if ok {
			w.Reset(b) // keeps the dictionary
		} else {
			w, _ = flate.NewWriterDict(b, flate.DefaultCompression, []byte(dictionary)) // the level is a valid one
		}
		_, err := w.Write(value)
		if err = errors.Join(err, w.Close()); err == nil && b.Len() <= len(value) {
			p.writers.Put(w)
			return b.Bytes()
		}
		p.writers.Put(w)
	}
	return append([]byte{plainStored}, value...)
}

// unpack undoes pack.
func (p *packer) unpack(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, ErrCorrupt
	}
	switch b[0] {
	case plainStored:
		return b[1:], nil
	case plainDeflate:
		r, ok := p.readers.Get().(io.Reader)
		if ok {
			if err := r.(flate.Resetter).Reset(bytes.NewReader(b[1:]), []byte(dictionary)); err != nil {
				return nil, ErrCorrupt
			}
		} else {
			r = flate.NewReaderDict(bytes.NewReader(b[1:]), []byte(dictionary))
		}
		defer p.readers.Put(r)
		value, err := io.ReadAll(io.LimitReader(r, maxPlain+1))
		if err != nil || len(value) > maxPlain {
			return nil, ErrCorrupt
		}
		return value, nil
	default:
		return nil, ErrCorrupt
	}
}

// item is one item of a transaction, before it is one.
type item struct {
	key map[string]types.AttributeValue
	put map[string]types.AttributeValue // nil: delete
}

// partKey is the sort key of a continuation row.
func partKey(sk string, i int) string { return "~" + sk + "#" + strconv.Itoa(i) }

// rowItems returns the items that store the value of this commit, and how many
// continuation rows there are. Continuation rows of an earlier, longer value go.
func (p *packer) rowItems(key *seal.Key, at seal.Place, w *write, oldParts int, commit uint64) ([]item, int, error) {
	if w.value == nil {
		items := []item{{key: primaryKey(at.Partition, at.Key)}}
		for i := range oldParts {
			items = append(items, item{key: primaryKey(at.Partition, partKey(at.Key, i))})
		}
		return items, 0, nil
	}
	if len(w.value) > maxPlain {
		return nil, 0, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(w.value))
	}
	sealed := key.Seal(p.pack(w.value), at)
	if len(sealed) > maxSealed {
		return nil, 0, fmt.Errorf("%w: %d bytes sealed", ErrTooLarge, len(sealed))
	}
	first := sealed[:min(pieceSize, len(sealed))]
	rest := sealed[len(first):]
	put := primaryKey(at.Partition, at.Key)
	put[attrValue] = &types.AttributeValueMemberB{Value: first}
	put[attrAt] = num(commit)
	if !w.expires.IsZero() {
		put[attrTTL] = num(uint64(w.expires.Unix()))
	}
	items := []item{{key: primaryKey(at.Partition, at.Key), put: put}}
	parts := 0
	for ; len(rest) > 0; parts++ {
		piece := rest[:min(pieceSize, len(rest))]
		rest = rest[len(piece):]
		more := primaryKey(at.Partition, partKey(at.Key, parts))
		more[attrValue] = &types.AttributeValueMemberB{Value: piece}
		if !w.expires.IsZero() {
			more[attrTTL] = num(uint64(w.expires.Unix()))
		}
		items = append(items, item{key: primaryKey(at.Partition, partKey(at.Key, parts)), put: more})
	}
	if parts > 0 {
		put[attrParts] = num(uint64(parts))
	}
	for i := parts; i < oldParts; i++ {
		items = append(items, item{key: primaryKey(at.Partition, partKey(at.Key, i))})
	}
	return items, parts, nil
}

// openRow opens a value whose pieces have been joined.
func (p *packer) openRow(key *seal.Key, at seal.Place, sealed []byte) ([]byte, error) {
	plain, err := key.Open(sealed, at)
	if err != nil {
		return nil, fmt.Errorf("%w: row of kind %q", ErrCorrupt, at.Kind)
	}
	return p.unpack(plain)
}

// kindOf is the part of a sort key that names what a row is, for messages and
// as a part of the place it is sealed for.
func kindOf(sk string) string {
	for i := range len(sk) {
		if sk[i] == '#' {
			return sk[:i]
		}
	}
	return sk
}

func primaryKey(pk, sk string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{attrPK: str(pk), attrSK: str(sk)}
}

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func num[N ~uint64](n N) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatUint(uint64(n), 10)}
}

func stringAttr(item map[string]types.AttributeValue, name string) string {
	if v, ok := item[name].(*types.AttributeValueMemberS); ok {
		return v.Value
	}
	return ""
}

func bytesAttr(item map[string]types.AttributeValue, name string) []byte {
	if v, ok := item[name].(*types.AttributeValueMemberB); ok {
		return v.Value
	}
	return nil
}

// numberAttr returns 0, false for an attribute that is missing or no number.
func numberAttr(item map[string]types.AttributeValue, name string) (uint64, bool) {
	v, ok := item[name].(*types.AttributeValueMemberN)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(v.Value, 10, 64)
	return n, err == nil
}

// expired says whether a row's time is over, though it may still be there.
func expired(item map[string]types.AttributeValue, now time.Time) bool {
	ttl, ok := numberAttr(item, attrTTL)
	return ok && now.Unix() >= int64(ttl)
}
