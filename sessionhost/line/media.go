package line

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/shared/whatisup"
)

// mediaTypes are the library's names of the kinds of files.
var mediaTypes = map[whatisup.BodyType]whatsmeow.MediaType{
	whatisup.BodyImage: whatsmeow.MediaImage, whatisup.BodySticker: whatsmeow.MediaImage, whatisup.BodyVideo: whatsmeow.MediaVideo,
	whatisup.BodyAudio: whatsmeow.MediaAudio, whatisup.BodyDocument: whatsmeow.MediaDocument,
}

// PutFile uploads an encrypted file to WhatsApp's media host, as a stream.
func (l *Line) PutFile(ctx context.Context, kind whatisup.BodyType, sealed io.Reader, size int64, hash []byte) (url, directPath string, err error) {
	t, ok := mediaTypes[kind]
	if !ok {
		return "", "", errors.New("no kind of file")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(l.ctx, cancel) // the upload ends with the connection
	defer stop()
	var answer whatsmeow.UploadResponse
	// The stream can't be read again: whoever has it tries once more.
	err = l.internals().RawUpload(ctx, sealed, uint64(size), hash, t, false, &answer)
	if err == nil && answer.DirectPath == "" {
		err = errors.New("the media host answered without a path")
	}
	return answer.URL, answer.DirectPath, redact(err)
}

// mmsTypes are the media host's names of the kinds of files.
var mmsTypes = map[whatisup.BodyType]string{
	whatisup.BodyImage: "image", whatisup.BodySticker: "image", whatisup.BodyVideo: "video", whatisup.BodyAudio: "audio", whatisup.BodyDocument: "document",
}

// GetFile begins to read an encrypted file from WhatsApp's media host, whose name
// WhatsApp's server gives: the sender chooses the path alone. A picture is not encrypted.
func (l *Line) GetFile(ctx context.Context, o *whatisup.MediaOrigin) (body io.ReadCloser, size int64, err error) {
	if o.Picture != "" {
		return l.getPicture(ctx, o.Chat, o.Picture)
	}
	if !strings.HasPrefix(o.DirectPath, "/") {
		return nil, 0, whatisup.ErrNotFound
	}
	internals := l.internals()
	hosts, err := internals.RefreshMediaConn(ctx, false)
	if err != nil {
		return nil, 0, redact(err)
	}
	mark := "?"
	if strings.Contains(o.DirectPath, "?") {
		mark = "&"
	}
	tail := o.DirectPath + mark + "hash=" + base64.URLEncoding.EncodeToString(o.Sealed) + "&mms-type=" + mmsTypes[o.Kind] + "&__wa-mms="
	err = errNoAnswer
	for _, host := range hosts.Hosts {
		var answer *http.Response
		answer, err = internals.DoMediaDownloadRequest(ctx, "https://"+host.Hostname+tail)
		if err == nil {
			return answer.Body, answer.ContentLength, nil
		}
		if isGone(err) {
			return nil, 0, whatisup.ErrNotFound
		}
	}
	return nil, 0, redact(err)
}

// isGone says whether the media host has not got the file any more.
func isGone(err error) bool {
	refused, ok := errors.AsType[whatsmeow.DownloadHTTPError](err)
	return ok && refused.StatusCode/100 == 4 && refused.StatusCode != http.StatusTooManyRequests
}

// AskFile has the phone put the file of a message on the media host again. What the
// phone has not got, or does not answer in time, is ErrNotFound.
func (l *Line) AskFile(ctx context.Context, o *whatisup.MediaOrigin) (directPath string, err error) {
	chat, err := types.ParseJID(o.ChatJID)
	if err != nil {
		return "", whatisup.ErrNotFound
	}
	sender, err := types.ParseJID(o.SenderJID)
	if err != nil {
		return "", whatisup.ErrNotFound
	}
	answers := make(chan *events.MediaRetry, 1)
	key := retryKey{chat.ToNonAD(), string(o.MessageID)}
	l.mu.Lock()
	if l.retries == nil {
		l.retries = make(map[retryKey]chan *events.MediaRetry)
	}
	l.retries[key] = answers
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.retries[key] == answers {
			delete(l.retries, key)
		}
	}()

	err = l.cli.SendMediaRetryReceipt(ctx, &types.MessageInfo{
		ID:            string(o.MessageID),
		MessageSource: types.MessageSource{Chat: chat, Sender: sender, IsFromMe: o.FromMe, IsGroup: chat.Server == types.GroupServer},
	}, o.Key)
	if err != nil {
		return "", redact(err)
	}
	select {
	case e := <-answers:
		again, err := whatsmeow.DecryptMediaRetryNotification(e, o.Key)
		if err != nil || again.GetResult() != waMmsRetry.MediaRetryNotification_SUCCESS || !strings.HasPrefix(again.GetDirectPath(), "/") {
			return "", whatisup.ErrNotFound
		}
		return again.GetDirectPath(), nil
	case <-ctx.Done():
		return "", whatisup.ErrNotFound
	case <-l.ctx.Done():
		return "", l.ctx.Err()
	}
}

// retryKey names a message whose file the phone was asked for.
type retryKey struct {
	chat types.JID
	id   string
}

// retried hands the phone's answer to whoever waits for it.
func (l *Line) retried(e *events.MediaRetry) {
	l.mu.Lock()
	answers := l.retries[retryKey{e.ChatID.ToNonAD(), e.MessageID}]
	l.mu.Unlock()
	select {
	case answers <- e:
	default: // nobody waits
	}
}
