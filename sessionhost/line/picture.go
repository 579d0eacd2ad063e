package line

import (
	"context"
	"errors"
	"io"
	"strings"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

var errNoURL = errors.New("WhatsApp names no https address of the picture")

// pictured is the picture of a person. Whether there is none, or it is hidden, is asked
// only where no id of one was told.
func (l *Line) pictured(ctx context.Context, jid types.JID, id string) (whatisup.Pictured, error) {
	if id != "" {
		return whatisup.Pictured{Picture: &whatisup.Picture{ID: id}, State: whatisup.PictureShown}, nil
	}
	return l.pictureOf(ctx, jid, false)
}

// pictureOf asks WhatsApp for the picture of a person or a group.
func (l *Line) pictureOf(ctx context.Context, jid types.JID, community bool) (whatisup.Pictured, error) {
	info, err := l.cli.GetProfilePictureInfo(ctx, jid, &whatsmeow.GetProfilePictureParams{IsCommunity: community})
	switch {
	case err == nil && info != nil && info.ID != "":
		return whatisup.Pictured{Picture: &whatisup.Picture{ID: info.ID}, State: whatisup.PictureShown}, nil
	case errors.Is(err, whatsmeow.ErrProfilePictureNotSet):
		return whatisup.Pictured{State: whatisup.PictureNone}, nil
	case errors.Is(err, whatsmeow.ErrProfilePictureUnauthorized):
		return whatisup.Pictured{State: whatisup.PictureHidden}, nil
	}
	if refused, ok := errors.AsType[*whatsmeow.IQError](err); err == nil || ok && refused.Code != 0 {
		return whatisup.Pictured{State: whatisup.PictureUnknown}, nil // the rest of the answer is worth more
	}
	return whatisup.Pictured{}, err
}

// getPicture begins to read a picture: ErrNotFound if it was changed or removed since,
// or is hidden by now. Its address is the one that WhatsApp's server gives at this moment.
func (l *Line) getPicture(ctx context.Context, of whatisup.Address, id string) (body io.ReadCloser, size int64, err error) {
	params := &whatsmeow.GetProfilePictureParams{}
	jid := waconv.JIDOf(of)
	if of.IsGroup() {
		group, err := l.Group(ctx, jid)
		if errors.Is(err, ErrNotInGroup) {
			return nil, 0, whatisup.ErrNotFound
		}
		if err != nil {
			return nil, 0, err
		}
		params.IsCommunity = group.Community
	}
	info, err := l.cli.GetProfilePictureInfo(ctx, jid, params)
	switch {
	case err != nil:
		return nil, 0, goneOr(err)
	case info == nil || info.ID != id:
		return nil, 0, whatisup.ErrNotFound
	case !strings.HasPrefix(info.URL, "https://"):
		return nil, 0, errNoURL
	}
	answer, err := l.internals().DoMediaDownloadRequest(ctx, info.URL)
	if isGone(err) {
		return nil, 0, whatisup.ErrNotFound
	}
	if err != nil {
		return nil, 0, redact(err)
	}
	return answer.Body, answer.ContentLength, nil
}

// goneOr is ErrNotFound for what can't be seen any more.
func goneOr(err error) error {
	if errors.Is(err, whatsmeow.ErrProfilePictureNotSet) || errors.Is(err, whatsmeow.ErrProfilePictureUnauthorized) {
		return whatisup.ErrNotFound
	}
	return redact(err)
}

// pictureFile reads the file that is to be a picture, nil if there is none to read.
func (l *Line) pictureFile(ctx context.Context, p *whatisup.SetPicture) ([]byte, error) {
	if p == nil || p.Media == "" {
		return nil, nil
	}
	return l.file(ctx, p.Media, whatisup.SetPictureMost)
}

// setPicture sets the picture of a group, or with an empty address the number's own. Nil
// removes it.
func (l *Line) setPicture(ctx context.Context, of types.JID, picture []byte) error {
	_, err := l.cli.SetGroupPhoto(ctx, of, picture)
	return err
}
