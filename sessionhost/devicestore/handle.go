package devicestore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"go.mau.fi/whatsmeow/store"

	"whatisup/shared/seal"
	"whatisup/shared/whatisup"
)

// Handle is one instance's auth state in the hands of its owner, from adoption
// until it fails or is closed.
type Handle struct {
	store    *Store
	instance Instance
	fence    Fence
	ctx      context.Context
	cancel   context.CancelCauseFunc

	opened  time.Time
	logDown atomic.Bool // the log of events did not take the last row

	mu     sync.Mutex
	failed *failure
	link   *link // the current one, paired or not
	seen   bool  // what the device row lists to be swept is known
}

// Device is what [Handle.Load] found.
type Device struct {
	Store     *store.Device // with every store attached
	Link      whatisup.Link
	Confirmed bool // the first login has succeeded
}

// New returns an unpaired device for a link of this number, the generation of
// the pairing attempt. Nothing is stored before whatsmeow saves the paired
// device, and nothing is asked of table or KMS; [Handle.PrepareKey] does the
// latter while the connection is being dialled. The handle's previous device,
// if any, refuses everything from now on.
func (h *Handle) New(number whatisup.Link) *store.Device {
	l := newLink(h, number)
	if h.store.format == FormatLog {
		l.log = newLinkLog()
		l.hot.room = hotRowLimit
	}
	h.replace(l)
	return l.newDevice()
}

// PrepareKey fetches the data key for a device made by New, so that pairing
// doesn't wait for KMS. It is optional, may run beside everything else, and its
// error may be ignored: saving the device tries again.
func (h *Handle) PrepareKey(ctx context.Context) error {
	h.mu.Lock()
	l := h.link
	h.mu.Unlock()
	if l == nil {
		return ErrNoDevice
	}
	_, err := l.dataKey(ctx)
	return err
}

// Load returns the paired device, or [ErrNoDevice]. It costs two reads and one
// KMS call. The handle's previous device, if any, refuses everything from now
// on. With [ErrCorrupt] and [ErrLost] the device has its link's number alone.
func (h *Handle) Load(ctx context.Context) (*Device, error) {
	h.mu.Lock()
	old := h.link
	h.mu.Unlock()
	if old != nil {
		old.drain(ErrClosed)
	}
	row, found, err := h.readHead(ctx)
	if err != nil {
		return nil, err
	}
	if !found || row.epoch != h.fence.Epoch {
		return nil, h.fail(ErrFenced)
	}
	h.saw(row.sweep...)
	if !row.linked {
		return nil, ErrNoDevice
	}
	if row.format > formatKnown {
		return nil, fmt.Errorf("%w: link %d has format %d, this one knows %d", ErrNewerFormat, row.link, row.format, formatKnown)
	}
	key, err := h.openKey(ctx, row.wrapped)
	if err != nil {
		return unopened(row, err)
	}
	l := newLink(h, row.link)
	l.key, l.wrapped = key, row.wrapped
	l.commits, l.confirmed, l.stored = row.commits, row.confirmed, true
	var device *store.Device
	if row.format == formatLog {
		device, err = l.loadLog(ctx, row)
	} else {
		device, err = l.load(ctx, row)
	}
	if err != nil {
		return unopened(row, err)
	}
	h.replace(l)
	if err := l.reformat(ctx); err != nil {
		return nil, err
	}
	return &Device{Store: device, Link: row.link, Confirmed: row.confirmed}, nil
}

// unopened is Load's answer for a link that was not opened.
func unopened(row head, err error) (*Device, error) {
	if errors.Is(err, whatisup.ErrCorrupt) {
		return &Device{Link: row.link}, err
	}
	return nil, err
}

// openKey opens a data key. That KMS does not take the wrapped key for one of
// this instance is for good; everything else may be mended elsewhere.
func (h *Handle) openKey(ctx context.Context, wrapped []byte) (*seal.Key, error) {
	ctx, cancel := h.bound(ctx, h.store.readTimeout)
	defer cancel()
	key, err := h.store.keyring.Open(ctx, h.instance.owner(), wrapped)
	var forged *kmstypes.InvalidCiphertextException
	var other *kmstypes.IncorrectKeyException
	switch {
	case err == nil:
		return key, nil
	case errors.As(err, &forged) || errors.As(err, &other):
		return nil, fmt.Errorf("%w: wrapped key", ErrCorrupt)
	case h.usable() != nil:
		return nil, h.usable()
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// replace makes l the handle's link and retires the one before it.
func (h *Handle) replace(l *link) {
	h.mu.Lock()
	old := h.link
	h.link = l
	h.mu.Unlock()
	if old != nil {
		old.retire(ErrClosed)
	}
}

// Confirm records that the first login has succeeded. It costs one write the
// first time and nothing afterwards.
func (h *Handle) Confirm(ctx context.Context) error {
	l, err := h.current()
	if err != nil {
		return err
	}
	l.mu.Lock()
	confirmed := l.confirmed
	l.mu.Unlock()
	if confirmed {
		return nil
	}
	if l.isLog() {
		return l.confirmHead(ctx)
	}
	return l.commit(ctx, &change{confirm: true}, nil)
}

// current is the paired link.
func (h *Handle) current() (*link, error) {
	h.mu.Lock()
	l := h.link
	h.mu.Unlock()
	if err := h.usable(); err != nil {
		return nil, err
	}
	if l == nil {
		return nil, ErrNoDevice
	}
	return l, nil
}

// Wipe makes everything of the link unreadable, in one write: the device row
// loses the link and with it the only copy of the wrapped data key. The rows
// that nobody can read any more are removed later, by [Store.Run] or
// [Handle.Sweep]. Wiping a link that is wiped already is no error; a device
// row that belongs to a newer owner is [ErrFenced], one that holds another link
// is [ErrWiped], and nothing is touched.
//
// The link's device refuses everything from the moment of the call. Wipe works
// on a handle whose device was not loaded; after a failure, on a new one.
func (h *Handle) Wipe(ctx context.Context, number whatisup.Link) error {
	h.mu.Lock()
	l := h.link
	h.mu.Unlock()
	if l != nil && l.number == number {
		l.drain(store.ErrDeviceDeleted)
	}
	if l != nil && l.number == number && l.isLog() {
		l.mu.Lock()
		n := l.commits
		l.mu.Unlock()
		return h.wipeLog(ctx, number, n)
	}
	out, err := retry(h, ctx, h.store.commitTimeout, func(ctx context.Context) (*dynamodb.UpdateItemOutput, error) {
		return h.store.db.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName:           aws.String(h.store.table),
			Key:                 primaryKey(string(h.instance.ID), headSK),
			ReturnValues:        types.ReturnValueAllNew,
			UpdateExpression:    aws.String(wipeHead),
			ConditionExpression: aws.String(wipeable + " AND (attribute_not_exists(#format) OR #format <> :log)"),

			ExpressionAttributeNames:            wipeNames(),
			ExpressionAttributeValues:           h.wipeValues(number, true),
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
	})
	var refused *types.ConditionalCheckFailedException
	switch {
	case err == nil:
		h.saw(parseHead(out.Attributes).sweep...)
		return nil
	case errors.As(err, &refused):
		row := parseHead(refused.Item)
		switch {
		case len(refused.Item) == 0 || row.epoch != h.fence.Epoch:
			return ErrFenced
		case row.linked && row.link == number:
			return h.wipeLog(ctx, number, row.commits)
		case row.linked:
			return ErrWiped
		default:
			h.saw(row.sweep...)
			return nil
		}
	default:
		return err
	}
}

// What a wipe does to the device row, and what it requires.
const (
	wipeHead = "REMOVE #link, #key, #hot, #confirmed, #n, #mark, #format, #opened, #writer ADD #sweep :sweep"
	wipeable = "attribute_exists(pk) AND #epoch = :epoch AND #link = :link"
)

func wipeNames() map[string]string {
	return map[string]string{
		"#link": attrLink, "#key": attrKey, "#hot": attrHot, "#confirmed": attrConfirmed, "#n": attrCommits,
		"#mark": attrMark, "#format": attrFormat, "#opened": attrOpened, "#writer": attrWriter, "#sweep": attrSweep, "#epoch": attrEpoch,
	}
}

func (h *Handle) wipeValues(number whatisup.Link, log bool) map[string]types.AttributeValue {
	values := map[string]types.AttributeValue{
		":epoch": num(h.fence.Epoch),
		":link":  num(number),
		":sweep": &types.AttributeValueMemberNS{Value: []string{formatLink(number)}},
	}
	if log {
		values[":log"] = num(uint64(formatLog))
	}
	return values
}

// wipeLog wipes a link that is a log: with the device row its end is written, at
// the place of the entry that anybody would write next. n is the last one known.
func (h *Handle) wipeLog(ctx context.Context, number whatisup.Link, n uint64) error {
	l := newLink(h, number)
	for range beginTries {
		mark := make([]byte, 8)
		_, _ = rand.Read(mark) // never fails
		end := &logEntry{n: n + 1, epoch: h.fence.Epoch, mark: string(mark), end: true, expires: time.Now().Add(entryLife)}
		items := []types.TransactWriteItem{{Update: &types.Update{
			TableName:                           aws.String(h.store.table),
			Key:                                 primaryKey(string(h.instance.ID), headSK),
			UpdateExpression:                    aws.String(wipeHead),
			ConditionExpression:                 aws.String(wipeable),
			ExpressionAttributeNames:            wipeNames(),
			ExpressionAttributeValues:           h.wipeValues(number, false),
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		}}, {Put: &types.Put{
			TableName: aws.String(h.store.table), Item: end.item(l.pk), ConditionExpression: aws.String("attribute_not_exists(pk)"),
		}}}
		_, err := retry(h, ctx, h.store.commitTimeout, func(ctx context.Context) (*dynamodb.TransactWriteItemsOutput, error) {
			return h.store.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: items})
		})
		if err == nil {
			h.unseen() // the device row may list others
			h.store.sweepLater(h, false, number)
			return nil
		}
		var cancelled *types.TransactionCanceledException
		if !errors.As(err, &cancelled) || len(cancelled.CancellationReasons) != len(items) {
			return err
		}
		if r := cancelled.CancellationReasons[0]; code(r) == "ConditionalCheckFailed" {
			row := parseHead(r.Item)
			switch {
			case len(r.Item) == 0 || row.epoch != h.fence.Epoch:
				return ErrFenced
			case row.linked:
				return ErrWiped
			}
			h.saw(row.sweep...)
			return nil
		}
		// Somebody has written, or more was written than the device row knows of.
		entries, err := l.unfolded(ctx, n)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			continue
		}
		n = entries[len(entries)-1].n
	}
	return fmt.Errorf("%w: an earlier owner goes on writing", ErrUnavailable)
}

// Remove takes the instance's device row away, when the instance is deleted.
// First it sweeps what is left of wiped links; a link that is not wiped is
// [ErrUnfinished]. Every write of this package requires the row, so from then on
// all of them fail.
func (h *Handle) Remove(ctx context.Context) error {
	err := h.remove(ctx)
	if !errors.Is(err, ErrUnfinished) {
		return err
	}
	if err := h.Sweep(ctx); err != nil {
		return err
	}
	return h.remove(ctx)
}

func (h *Handle) remove(ctx context.Context) error {
	_, err := retry(h, ctx, h.store.commitTimeout, func(ctx context.Context) (*dynamodb.DeleteItemOutput, error) {
		return h.store.db.DeleteItem(ctx, &dynamodb.DeleteItemInput{
			TableName:           aws.String(h.store.table),
			Key:                 primaryKey(string(h.instance.ID), headSK),
			ConditionExpression: aws.String("attribute_not_exists(pk) OR (#epoch = :epoch AND attribute_not_exists(#link) AND attribute_not_exists(#sweep))"),
			ExpressionAttributeNames: map[string]string{
				"#link": attrLink, "#sweep": attrSweep, "#epoch": attrEpoch,
			},
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":epoch": num(h.fence.Epoch),
			},
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
	})
	var refused *types.ConditionalCheckFailedException
	if !errors.As(err, &refused) {
		return err
	}
	row := parseHead(refused.Item)
	if row.epoch != h.fence.Epoch {
		return ErrFenced
	}
	h.saw(row.sweep...)
	return ErrUnfinished
}

// Close ends the handle: what was staged is written if the fence still holds,
// and every later operation is refused. It does not wipe anything.
func (h *Handle) Close(ctx context.Context) error {
	h.mu.Lock()
	l := h.link
	h.mu.Unlock()
	var err error
	if l != nil && h.usable() == nil {
		err = l.flush(ctx)
		if err == nil && l.usable() == nil && l.isLog() {
			err = l.foldAll(ctx, true)
		}
		l.drain(ErrClosed)
	}
	h.unseen()
	h.cancel(ErrClosed)
	h.store.forget(h)
	return err
}

// fail ends the handle because of err: the connection is closed first, then
// everything that runs is cancelled, then the caches go. It returns what the
// failing operation returns. Only the first failure counts.
func (h *Handle) fail(err error) error {
	h.mu.Lock()
	if h.failed != nil {
		f := h.failed
		h.mu.Unlock()
		return f
	}
	f := &failure{cause: err}
	h.failed = f
	l := h.link
	h.mu.Unlock()

	if h.fence.Fail != nil {
		h.fence.Fail(err)
	}
	h.cancel(err)
	if l != nil {
		l.retire(f)
	}
	h.store.forget(h)
	return f
}

// usable says why nothing can be done any more, or nil.
func (h *Handle) usable() error {
	h.mu.Lock()
	f := h.failed
	h.mu.Unlock()
	if f != nil {
		return f
	}
	if h.ctx.Err() != nil {
		return &failure{cause: ErrClosed}
	}
	return nil
}

// Err is why the handle has failed, or nil.
func (h *Handle) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil {
		return nil
	}
	return h.failed.cause
}

func (h *Handle) readHead(ctx context.Context) (head, bool, error) {
	out, err := retry(h, ctx, h.store.readTimeout, func(ctx context.Context) (*dynamodb.GetItemOutput, error) {
		return h.store.db.GetItem(ctx, &dynamodb.GetItemInput{
			TableName:      aws.String(h.store.table),
			Key:            primaryKey(string(h.instance.ID), headSK),
			ConsistentRead: aws.Bool(true),
		})
	})
	if err != nil {
		return head{}, false, err
	}
	return parseHead(out.Item), len(out.Item) > 0, nil
}

// maintain is the handle's share of [Store.Run].
func (h *Handle) maintain(ctx context.Context, now time.Time) {
	if h.usable() != nil {
		h.store.forget(h)
		return
	}
	h.mu.Lock()
	l := h.link
	h.mu.Unlock()
	if now.Sub(h.opened) >= peekAfter {
		h.unseen()
	}
	if l != nil {
		l.maintain(ctx, now)
	}
}

// linkPartition is the partition key of a link's rows.
func linkPartition(i Instance, number whatisup.Link) string {
	return string(i.ID) + "#" + formatLink(number)
}

func formatLink(n whatisup.Link) string { return strconv.FormatUint(uint64(n), 10) }

func parseLink(s string) (whatisup.Link, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return whatisup.Link(n), err == nil
}

// dataKey is the link's key, made on first use. One call at a time asks KMS.
func (l *link) dataKey(ctx context.Context) (*seal.Key, error) {
	l.keyMu.Lock()
	defer l.keyMu.Unlock()
	if l.key != nil {
		return l.key, nil
	}
	ctx, cancel := l.h.bound(ctx, l.h.store.commitTimeout)
	defer cancel()
	key, wrapped, err := l.h.store.keyring.Generate(ctx, l.h.instance.owner())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	l.key, l.wrapped = key, wrapped
	return key, nil
}
