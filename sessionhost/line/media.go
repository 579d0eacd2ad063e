package line

import (
	"context"
	"errors"
	"io"

	"go.mau.fi/whatsmeow"

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
