package control

import (
	"context"
	"errors"

	"whatisup/shared/whatisup"
)

// PictureFile is the file of a picture that WhatsApp shows an instance. Nothing is
// fetched before its URL is used: the call costs a read, and a write when the picture is
// new to the instance. A file that could not be fetched is tried anew, as WhatsApp
// has just told that it is there.
func (c *Control) PictureFile(ctx context.Context, i *whatisup.Instance, of whatisup.Address, picture string) (*whatisup.Media, error) {
	fresh := whatisup.PictureMedia(refOf(i), of, picture, c.Now(), c.MediaKept)
	found, err := c.Store.Media(ctx, fresh.Customer, fresh.Mode, fresh.ID)
	switch {
	case errors.Is(err, whatisup.ErrNotFound):
		if found, err = c.Store.PutMedia(ctx, fresh); found == nil && err == nil {
			return fresh, nil
		}
	case err == nil && found.Status == whatisup.MediaFailed:
		err = c.Store.ChangeMedia(ctx, fresh, whatisup.MediaFailed)
		if err == nil {
			return fresh, nil
		}
		if errors.Is(err, whatisup.ErrConflict) || errors.Is(err, whatisup.ErrNotFound) {
			return c.reread(ctx, fresh)
		}
	}
	return found, err
}

// PictureToSet checks a file that is to become a picture. Field is where the caller
// has named it.
func (c *Control) PictureToSet(ctx context.Context, who Caller, field, id string) (*whatisup.SetPicture, error) {
	m, err := c.media(ctx, who, id)
	if errors.Is(err, ErrMediaNotFound) {
		return nil, errNoMedia(field)
	}
	if err != nil {
		return nil, err
	}
	switch m.Status {
	case whatisup.MediaReady:
	case whatisup.MediaFailed:
		return nil, whatisup.NewError(whatisup.CodeUnsupportedMedia, "The file has failed and can't be used: "+m.Error.Message)
	default:
		return nil, ErrMediaNotReady
	}
	if text := m.NoPicture(); text != "" {
		return nil, whatisup.NewError(whatisup.CodeUnsupportedMedia, text)
	}
	return &whatisup.SetPicture{Media: m.ID}, nil
}
