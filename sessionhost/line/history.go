package line

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// After a device was linked the phone tells it where its history is. Of it we keep
// what sending and reading need: the account's salt and the tokens of its contacts,
// without which WhatsApp takes a first message for unwanted; which numbers belong to
// which LIDs; the names of groups; and the secrets of messages, under which their votes
// and edits are encrypted. The messages themselves are nobody's event and are not kept.
//
// It is read beside the connection and nothing waits for it. Where it is stands in the
// device store from before WhatsApp has the receipt, until it is read: so what a connection
// or a host did not come to the end of, the next one reads, from the beginning.
const (
	historyMost   = 16 << 20 // bytes of the file
	unpackedMost  = 128 << 20
	partMost      = 4 << 20 // of one conversation; a longer one is passed over
	secretsMost   = 2_000   // a history; each is a row
	secretsBefore = 90 * 24 * time.Hour
	historyWithin = 2 * time.Minute
	historyTries  = 5
)

// History is where a history is to be had.
type History struct {
	ID     string
	Notice []byte // an encoded waE2E.HistorySyncNotification
}

// readHistories begins to read those that were told of, each once a line.
func (l *Line) readHistories() {
	for _, h := range l.handler.Histories() {
		l.mu.Lock()
		begun := l.reading[h.ID]
		if l.reading == nil {
			l.reading = make(map[string]bool)
		}
		l.reading[h.ID] = true
		l.mu.Unlock()
		if begun {
			continue
		}
		l.handlers.Add(1)
		go func() {
			defer l.handlers.Done()
			if err := l.history(h); err != nil && l.ctx.Err() == nil {
				l.log.Warn("the history on the phone is not read", "error", redact(err).Error())
			}
		}()
	}
}

// history reads one, when it is its turn, and has it forgotten: when it is read, when it
// is not there any more, or when it was tried too often. Everything else the next
// connection tries again.
func (l *Line) history(h History) error {
	select {
	case l.histories <- struct{}{}:
		defer func() { <-l.histories }()
	case <-l.ctx.Done():
		return nil
	}
	ctx, cancel := context.WithTimeout(l.ctx, historyWithin)
	defer cancel()
	tries, err := l.handler.HistoryTried(ctx, h.ID)
	if err != nil {
		return err
	}
	n := new(waE2E.HistorySyncNotification)
	if err = proto.Unmarshal(h.Notice, n); err == nil && tries <= historyTries {
		err = l.readHistory(ctx, n)
		if err != nil && !isGone(err) && tries < historyTries {
			return err
		}
	}
	return errors.Join(err, l.handler.HistoryRead(ctx, h.ID))
}

func (l *Line) readHistory(ctx context.Context, n *waE2E.HistorySyncNotification) error {
	packed := n.GetInitialHistBootstrapInlinePayload()
	if packed == nil {
		f := &memory{most: historyMost}
		if err := l.cli.DownloadToFile(ctx, n, f); err != nil {
			return err
		}
		packed = f.b
	}
	unpacked, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	k := keeper{l: l, ctx: ctx, left: secretsMost, since: time.Now().Add(-secretsBefore)}
	if err := parts(io.LimitReader(unpacked, unpackedMost), k.take); err != nil {
		return err
	}
	k.keep()
	return ctx.Err()
}

// parts hands over those parts of a history that are kept, one at a time: a whole one
// may be many times larger than its file. Longer parts are passed over.
func parts(r io.Reader, take func(*waHistorySync.HistorySync) error) error {
	in := bufio.NewReader(r)
	for {
		tag, err := binary.ReadUvarint(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var skip int64
		switch number, kind := protowire.DecodeTag(tag); kind {
		case protowire.VarintType:
			_, err = binary.ReadUvarint(in)
		case protowire.Fixed32Type:
			skip = 4
		case protowire.Fixed64Type:
			skip = 8
		case protowire.BytesType:
			var size uint64
			if size, err = binary.ReadUvarint(in); err != nil {
				return err
			}
			switch number {
			// conversations, globalSettings, phoneNumberToLidMappings, companionMetaNonce, nctSalt
			case 2, 8, 15, 16, 19:
				if size <= partMost {
					part := protowire.AppendVarint(protowire.AppendTag(nil, number, kind), size)
					at := len(part)
					part = append(part, make([]byte, size)...)
					if _, err := io.ReadFull(in, part[at:]); err != nil {
						return err
					}
					h := new(waHistorySync.HistorySync)
					if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(part, h); err != nil {
						return err
					}
					if err := take(h); err != nil {
						return err
					}
					continue
				}
			}
			if size > unpackedMost {
				return errHistory
			}
			skip = int64(size)
		default:
			err = errHistory
		}
		if err == nil {
			_, err = io.CopyN(io.Discard, in, skip)
		}
		if err != nil {
			return err
		}
	}
}

var errHistory = errors.New("no history")

// keeper stores what is kept, some at a time. It has the library do it, as if it had
// read the history itself.
type keeper struct {
	l     *Line
	ctx   context.Context
	since time.Time
	left  int // secrets that may still be kept
	kept  waHistorySync.HistorySync
}

func (k *keeper) take(part *waHistorySync.HistorySync) error {
	for _, c := range part.GetConversations() {
		if j, err := types.ParseJID(c.GetID()); err == nil && j.Server == types.GroupServer {
			k.l.groupNamed(j, c.GetName())
		}
		k.kept.Conversations = append(k.kept.Conversations, k.conversation(c))
	}
	part.Conversations = nil
	proto.Merge(&k.kept, part)
	if len(k.kept.GetConversations())+len(k.kept.GetPhoneNumberToLidMappings()) >= 200 {
		k.keep()
	}
	return k.ctx.Err()
}

// conversation is a conversation without what is not kept.
func (k *keeper) conversation(c *waHistorySync.Conversation) *waHistorySync.Conversation {
	out := &waHistorySync.Conversation{
		ID: c.ID, TcToken: c.TcToken, TcTokenTimestamp: c.TcTokenTimestamp, TcTokenSenderTimestamp: c.TcTokenSenderTimestamp,
	}
	for _, m := range c.GetMessages() {
		w := m.GetMessage()
		if k.left > 0 && len(w.GetMessageSecret()) > 0 && time.Unix(int64(w.GetMessageTimestamp()), 0).After(k.since) {
			w.Message = nil
			out.Messages = append(out.Messages, m)
			k.left--
		}
	}
	return out
}

// keep stores what was gathered.
func (k *keeper) keep() {
	do, kept := k.l.internals(), &k.kept
	if len(kept.GetNctSalt()) > 0 {
		if err := do.StoreNCTSalt(k.ctx, kept.GetNctSalt()); err != nil {
			k.l.log.Warn("the account's salt is not kept", "error", redact(err).Error())
		}
	}
	if m := kept.GetPhoneNumberToLidMappings(); len(m) > 0 {
		do.StoreHistoricalPNLIDMappings(k.ctx, m)
	}
	if c := kept.GetConversations(); len(c) > 0 {
		do.StoreHistoricalMessageSecrets(k.ctx, c)
	}
	if kept.GlobalSettings != nil {
		do.StoreGlobalSettings(k.ctx, kept.GlobalSettings)
	}
	if kept.CompanionMetaNonce != nil {
		do.StoreCompanionMetaNonce(k.ctx, kept.GetCompanionMetaNonce())
	}
	proto.Reset(kept)
}

// memory is a file of bounded size in memory, for the library's download.
type memory struct {
	b    []byte
	at   int64
	most int64
}

var _ whatsmeow.File = (*memory)(nil)

func (m *memory) Read(p []byte) (int, error) {
	n, err := m.ReadAt(p, m.at)
	m.at += int64(n)
	return n, err
}

func (m *memory) Write(p []byte) (int, error) {
	n, err := m.WriteAt(p, m.at)
	m.at += int64(n)
	return n, err
}

func (m *memory) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 || at >= int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(p, m.b[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	end := at + int64(len(p))
	if at < 0 || end > m.most {
		return 0, fs.ErrInvalid
	}
	if grow := end - int64(len(m.b)); grow > 0 {
		m.b = append(m.b, make([]byte, grow)...)
	}
	return copy(m.b[at:], p), nil
}

func (m *memory) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += m.at
	case io.SeekEnd:
		offset += int64(len(m.b))
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	m.at = offset
	return offset, nil
}

func (m *memory) Truncate(size int64) error {
	if size < 0 || size > int64(len(m.b)) {
		return fs.ErrInvalid
	}
	m.b = m.b[:size]
	return nil
}

func (m *memory) Stat() (os.FileInfo, error) { return fileInfo(len(m.b)), nil }

// fileInfo is the size of a file in memory.
type fileInfo int64

func (i fileInfo) Name() string     { return "" }
func (i fileInfo) Size() int64      { return int64(i) }
func (fileInfo) Mode() os.FileMode  { return 0o600 }
func (fileInfo) ModTime() time.Time { return time.Time{} }
func (fileInfo) IsDir() bool        { return false }
func (fileInfo) Sys() any           { return nil }
