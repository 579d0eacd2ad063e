package transfer

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"whatisup/sessionhost/mediacrypt"
	"whatisup/shared/mediafile"
	"whatisup/shared/whatisup"
)

// Conn is a connection to WhatsApp that is logged in.
type Conn interface {
	// GetFile begins to read an encrypted file: ErrNotFound if WhatsApp has it no more.
	// The size is -1 if the media host does not say it.
	GetFile(ctx context.Context, o *whatisup.MediaOrigin) (body io.ReadCloser, size int64, err error)
	// AskFile has the phone put the file there again, and returns its path: ErrNotFound
	// if the phone has not got it either, or does not answer.
	AskFile(ctx context.Context, o *whatisup.MediaOrigin) (directPath string, err error)
}

// Tell stores an event of the instance, and sends it to the queues.
type Tell func(ctx context.Context, name whatisup.EventName, id whatisup.EventID, data any) error

const (
	// stallsAfter is how long a media host may send nothing.
	stallsAfter = 30 * time.Second
	// asksFor is how long the phone may take to put a file there again.
	asksFor = 40 * time.Second
	// triesFor is for how long a file is tried that can't be fetched for now, from its
	// message on; one that is fetched later is tried triesLater times.
	triesFor, triesLater = 24 * time.Hour, 8
	// againAfter is the longest pause between two tries.
	againAfter = time.Minute
	// pending is how many files of a host may wait, pendingEach how many of them may be
	// one customer's. What is more is found again by the look through the shard.
	pending, pendingEach = 1000, 250
	// rowsWithin bounds the writes of one row.
	rowsWithin = 15 * time.Second
)

// task is a received file that is to be fetched.
type task struct {
	up   context.Context // ends with the connection
	conn Conn
	tell Tell
	ref  whatisup.Ref
	id   whatisup.MediaID
}

// Keep stores the row of a received file, if there is none.
func (d *Desk) Keep(ctx context.Context, m *whatisup.Media) error {
	_, err := d.c.Rows.PutMedia(ctx, m)
	return err
}

// Kept is how long received files are kept.
func (d *Desk) Kept() time.Duration { return d.c.Kept }

// Wire is a file as events show it.
func (d *Desk) Wire(m *whatisup.Media) whatisup.MediaWire { return m.Wire(d.c.Links.URL(m)) }

// Remove removes the objects of an instance that was deleted.
func (d *Desk) Remove(ctx context.Context, r whatisup.Ref) error {
	for _, class := range []whatisup.ObjectClass{whatisup.ClassWeek, whatisup.ClassMonth} {
		if err := d.c.Objects.DeleteAll(ctx, class.ObjectPrefix(r.Mode, r.Customer, r.ID)); err != nil {
			return err
		}
	}
	return nil
}

// Fetch has received files fetched over a connection, as long as it lasts. It waits for
// nothing. A file that is being fetched already is left alone.
func (d *Desk) Fetch(up context.Context, conn Conn, tell Tell, r whatisup.Ref, ids ...whatisup.MediaID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		if before := d.tasks[id]; before != nil && before.up.Err() == nil || len(d.tasks) >= pending || d.waiting[r.Customer] >= pendingEach {
			continue
		}
		t := &task{up, conn, tell, r, id}
		d.tasks[id] = t
		d.waiting[r.Customer]++
		d.wg.Go(func() {
			d.run(t)
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.waiting[r.Customer]--; d.waiting[r.Customer] == 0 {
				delete(d.waiting, r.Customer)
			}
			if d.tasks[id] == t {
				delete(d.tasks, id)
			}
		})
	}
}

// run tries a file until something has become of it, or the connection ends.
func (d *Desk) run(t *task) {
	for try := 1; t.up.Err() == nil; try++ {
		over, err := d.try(t, try)
		if over || t.up.Err() != nil {
			return
		}
		if err != nil {
			d.c.Log.Warn("a received file is not fetched yet", "instance_id", string(t.ref.ID), "media_id", string(t.id), "error", err.Error())
		}
		pause := min(time.Second<<min(try, 10), againAfter)
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-timer.C:
		case <-t.up.Done():
			timer.Stop()
		}
	}
}

// try does what is left to do for a file, and says whether that is nothing.
func (d *Desk) try(t *task, number int) (over bool, err error) {
	m, done, err := d.fetch(t)
	var why *unfit
	switch {
	case err == nil && m == nil, errors.Is(err, errDeleted):
		return true, nil
	case errors.Is(err, errNotThere):
		return d.askAgain(t, m)
	case errors.As(err, &why):
		return d.end(t, m, failed(m, why.text), why.kind)
	case err != nil && m != nil && number >= triesLater && (isPicture(m) || d.c.Now().Sub(m.CreatedAt) > triesFor):
		return d.end(t, m, failed(m, "WhatsApp's media host did not give the file."), "unreachable")
	case err != nil:
		return false, err
	case done == nil:
		err := d.told(t, m)
		return err == nil, err
	}
	return d.end(t, m, done, "ready")
}

var (
	// errNotThere: WhatsApp's media host has the file no more.
	errNotThere = errors.New("the file is not on the media host")
	// errDeleted: the instance was deleted while its file was fetched.
	errDeleted = errors.New("the instance was deleted")
)

// unfit is a file that is not taken, in words for the customer.
type unfit struct{ kind, text string }

func (u *unfit) Error() string { return u.text }

var (
	errNotIt    = &unfit{"mismatch", "The file is not what its message says of it."}
	errTooLarge = &unfit{"too_large", "The file has more than 100 MB."}
	errGone     = &unfit{"gone", "WhatsApp does not have the file any more, and the phone did not give it again."}

	errNoPicture       = &unfit{"mismatch", "What WhatsApp gave is no picture."}
	errPictureTooLarge = &unfit{"too_large", "The picture has more than 5 MB."}
	errPictureGone     = &unfit{"gone", "The picture was changed or removed since, or is hidden by now."}
)

func failed(m *whatisup.Media, text string) *whatisup.Media {
	f := *m
	f.Status, f.Error, f.Key = whatisup.MediaFailed, because(whatisup.MediaUnavailable, text), ""
	return &f
}

// fetch reads the row and fetches the file, if that is to be done. Without a row there
// is nothing to do. With one, and neither done nor an error, its event is to be told.
func (d *Desk) fetch(t *task) (m, done *whatisup.Media, err error) {
	give, err := d.take(t.up, t.ref.Customer)
	if err != nil {
		return nil, nil, err
	}
	defer give()
	defer func() { // strangers have written the file
		if p := recover(); p != nil {
			d.c.Log.Error("a received file made its reader panic", "media_id", string(t.id), "stack", string(debug.Stack()))
			done, err = nil, errNotIt
		}
	}()
	m, err = d.c.Rows.Media(t.up, t.ref.Customer, t.ref.Mode, t.id)
	switch {
	case errors.Is(err, whatisup.ErrNotFound): // deleted, or its time is over
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	case m.Untold:
		return m, nil, nil
	case m.Status != whatisup.MediaFetching || m.Origin == nil:
		return nil, nil, nil
	}
	done, err = d.carry(t, m)
	return m, done, err
}

// carry takes the file from WhatsApp into the bucket.
func (d *Desk) carry(t *task, m *whatisup.Media) (*whatisup.Media, error) {
	if m.Origin.Size > whatisup.MediaMost {
		return nil, errTooLarge
	}
	ctx, cancel := context.WithTimeout(t.up, within)
	defer cancel()
	body, size, err := t.conn.GetFile(ctx, m.Origin)
	switch {
	case errors.Is(err, whatisup.ErrNotFound) && isPicture(m):
		return nil, errPictureGone
	case errors.Is(err, whatisup.ErrNotFound):
		return nil, errNotThere
	case err != nil:
		return nil, err
	}
	defer body.Close()
	stall := time.AfterFunc(stallsAfter, cancel)
	defer stall.Stop()
	opener, err := open(m, &watched{body, stall}, size)
	if err != nil {
		return nil, err
	}

	buffer := d.buffers.Get().(*[]byte)
	defer d.buffers.Put(buffer)
	class := whatisup.ClassWeek
	if m.ExpiresAt.Sub(m.CreatedAt) > whatisup.MediaKept {
		class = whatisup.ClassMonth
	}
	key := class.ObjectKey(m, "_"+string(whatisup.NewMediaID())) // a try of its own
	out := d.c.Objects.Writer(ctx, key, *buffer)
	defer func() {
		if err := out.Abort(); err != nil {
			d.c.Log.Warn("an unfinished upload is left to the bucket", "media_id", string(m.ID), "error", err.Error())
		}
	}()
	info, err := mediafile.Inspect(io.TeeReader(opener, out))
	switch {
	case errors.Is(err, mediacrypt.ErrTooLong):
		return nil, errTooLarge
	case errors.Is(err, mediacrypt.ErrMismatch):
		return nil, errNotIt
	case err != nil:
		return nil, err
	}
	if err := opener.fits(info); err != nil {
		return nil, err
	}
	err = out.Commit()
	if err == nil {
		err = d.wanted(t)
	}
	if err != nil { // also after an error the object may be there
		d.drop(t, key)
		return nil, err
	}

	sum, length := opener.Sum()
	done := *m
	done.Status, done.Key, done.Size, done.SHA256 = whatisup.MediaReady, key, length, sum
	done.MimeType, done.Facts.Voice = info.TypeOver(m.MimeType), info.Opus
	if info.Width > 0 {
		done.Facts.Width, done.Facts.Height = info.Width, info.Height
	}
	if info.Seconds > 0 {
		done.Facts.Seconds = info.Seconds
	}
	return &done, nil
}

// wanted looks, once an object can be read, whether its instance was deleted meanwhile:
// errDeleted. What can be read before this look is removed with the instance; what came
// later is removed by whoever looks.
func (d *Desk) wanted(t *task) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.up), rowsWithin)
	defer cancel()
	_, err := d.c.Rows.Instance(ctx, t.ref.Customer, t.ref.Mode, t.ref.ID)
	if errors.Is(err, whatisup.ErrNotFound) {
		return errDeleted
	}
	return err
}

// drop removes an object that no row names.
func (d *Desk) drop(t *task, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.up), rowsWithin)
	defer cancel()
	if err := d.c.Objects.Delete(ctx, key); err != nil {
		d.c.Log.Warn("an object that no row names is left to the bucket", "media_id", string(t.id), "error", err.Error())
	}
}

// watched ends what stands still.
type watched struct {
	io.Reader
	stall *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	w.stall.Reset(stallsAfter)
	n, err := w.Reader.Read(p)
	w.stall.Stop() // the bucket has its own time
	return n, err
}

// askAgain has the phone put a file there again that WhatsApp has no more. It holds no
// slot meanwhile.
func (d *Desk) askAgain(t *task, m *whatisup.Media) (over bool, err error) {
	if m.Origin.Asked {
		return d.end(t, m, failed(m, errGone.text), errGone.kind)
	}
	ctx, cancel := context.WithTimeout(t.up, asksFor)
	defer cancel()
	path, err := t.conn.AskFile(ctx, m.Origin)
	switch {
	case t.up.Err() != nil:
		return false, err
	case errors.Is(err, whatisup.ErrNotFound):
		return d.end(t, m, failed(m, errGone.text), errGone.kind)
	case err != nil:
		return false, err
	}
	again, origin := *m, *m.Origin
	origin.DirectPath, origin.Asked = path, true
	again.Origin = &origin
	return false, d.change(t, &again, m.Status)
}

// end stores what has become of a file, and tells it.
func (d *Desk) end(t *task, was, m *whatisup.Media, outcome string) (over bool, err error) {
	m.Untold = !isPicture(m) // whoever wants a picture waits for it
	err = d.change(t, m, was.Status)
	switch {
	case errors.Is(err, whatisup.ErrConflict), errors.Is(err, whatisup.ErrNotFound):
		if m.Key != "" { // another was first, or the file was deleted
			d.drop(t, m.Key)
		}
		return true, nil
	case err != nil:
		return false, err // it may be stored all the same: the row tells
	}
	d.c.Metrics.File(outcome)
	if !m.Untold {
		return true, nil
	}
	err = d.told(t, m)
	return err == nil, err
}

// told tells the event of a file, and notes that it was told. What fails here is done by
// whoever finds the row.
func (d *Desk) told(t *task, m *whatisup.Media) error {
	name := whatisup.MessageMediaReady
	if m.Status == whatisup.MediaFailed {
		name = whatisup.MessageMediaFailed
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.up), rowsWithin)
	defer cancel()
	data := whatisup.MediaData{MessageID: m.Origin.MessageID, Chat: string(m.Origin.Chat), From: m.Origin.From.From(), Media: d.Wire(m)}
	if err := t.tell(ctx, name, whatisup.MediaEventID(m.ID, m.Status), data); err != nil {
		return err
	}
	told := *m
	told.Untold = false
	if err := d.change(t, &told, m.Status); err != nil && !errors.Is(err, whatisup.ErrNotFound) {
		return err
	}
	return nil
}

func (d *Desk) change(t *task, m *whatisup.Media, was whatisup.MediaStatus) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.up), rowsWithin)
	defer cancel()
	return d.c.Rows.ChangeMedia(ctx, m, was)
}
