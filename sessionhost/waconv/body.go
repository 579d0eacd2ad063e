package waconv

import (
	"math"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"

	"whatisup/shared/whatisup"
)

// bodyOf is the content of a message without wrappers, its text (the caption of a
// file), and what it stands in. What is not known has the type unsupported and
// WhatsApp's name.
func bodyOf(m *waE2E.Message, wrappers Wrappers) (body *whatisup.ReceivedBody, text string, context *waE2E.ContextInfo) {
	body = &whatisup.ReceivedBody{}
	body.ViewOnce = wrappers.ViewOnce()
	switch {
	case m.GetConversation() != "":
		text = m.GetConversation()
		body.Type, body.Text = whatisup.BodyText, text
	case m.GetExtendedTextMessage() != nil:
		text, context = extendedText(body, m.GetExtendedTextMessage())
	case m.GetImageMessage() != nil, m.GetVideoMessage() != nil, m.GetPtvMessage() != nil, m.GetAudioMessage() != nil,
		m.GetDocumentMessage() != nil, m.GetStickerMessage() != nil:
		text, context = fileOf(body, m)
	case m.GetLocationMessage() != nil, m.GetLiveLocationMessage() != nil:
		text, context = locationOf(body, m)
	case m.GetContactMessage() != nil, m.GetContactsArrayMessage() != nil:
		context = contactsOf(body, m)
	case pollOf(m) != nil:
		p := pollOf(m)
		text, context = p.GetName(), p.GetContextInfo()
		body.Type, body.Question = whatisup.BodyPoll, p.GetName()
		for _, o := range p.GetOptions() {
			body.Options = append(body.Options, o.GetOptionName())
		}
		n := int(p.GetSelectableOptionsCount())
		body.Selectable = &n
	case m.GetEventMessage() != nil:
		e := m.GetEventMessage()
		text, context = e.GetName(), e.GetContextInfo()
		body.Type = whatisup.BodyEvent
		body.Appointment = &whatisup.Appointment{
			Name: e.GetName(), Description: e.GetDescription(), Canceled: e.GetIsCanceled(), JoinLink: e.GetJoinLink(),
			StartsAt: unix(e.GetStartTime()), EndsAt: unix(e.GetEndTime()),
		}
	case m.GetAlbumMessage() != nil:
		a := m.GetAlbumMessage()
		context = a.GetContextInfo()
		body.Type = whatisup.BodyAlbum
		body.Album = &whatisup.Album{Images: int(a.GetExpectedImageCount()), Videos: int(a.GetExpectedVideoCount())}
	case m.GetGroupInviteMessage() != nil:
		i := m.GetGroupInviteMessage()
		text, context = i.GetCaption(), i.GetContextInfo()
		body.Type = whatisup.BodyGroupInvite
		body.Invite = &whatisup.GroupInvite{
			Group: i.GetGroupJID(), Subject: i.GetGroupName(), Code: i.GetInviteCode(), ExpiresAt: unix(i.GetInviteExpiration()),
		}
	case m.GetOrderMessage() != nil:
		o := m.GetOrderMessage()
		text, context = o.GetMessage(), o.GetContextInfo()
		body.Type = whatisup.BodyOrder
		body.Order = &whatisup.Order{ID: o.GetOrderID(), Title: o.GetOrderTitle(), Items: int(o.GetItemCount())}
	case m.GetProductMessage() != nil:
		p := m.GetProductMessage()
		text, context = p.GetBody(), p.GetContextInfo()
		body.Type = whatisup.BodyProduct
		body.Product = &whatisup.Product{ID: p.GetProduct().GetProductID(), Title: p.GetProduct().GetTitle(), URL: p.GetProduct().GetURL()}
	default:
		if text, context = replyOf(body, m); body.Type != "" {
			break
		}
		if text, context = interactiveOf(body, m); body.Type != "" {
			break
		}
		body.Type, body.WhatsAppType = whatisup.BodyUnsupported, nameOf(m)
	}
	return body, text, context
}

func unix(seconds int64) whatisup.Time {
	if seconds <= 0 || seconds > 253402300799 { // the year 9999
		return whatisup.Time{}
	}
	return whatisup.At(time.Unix(seconds, 0))
}

func extendedText(body *whatisup.ReceivedBody, m *waE2E.ExtendedTextMessage) (string, *waE2E.ContextInfo) {
	body.Type, body.Text = whatisup.BodyText, m.GetText()
	if m.GetMatchedText() != "" && m.GetTitle() != "" {
		body.LinkPreview = &whatisup.LinkPreview{URL: m.GetMatchedText(), Title: m.GetTitle(), Description: m.GetDescription()}
	}
	return m.GetText(), m.GetContextInfo()
}

// fileOf reads what carries a file.
func fileOf(body *whatisup.ReceivedBody, m *waE2E.Message) (string, *waE2E.ContextInfo) {
	switch {
	case m.GetImageMessage() != nil:
		f := m.GetImageMessage()
		body.Type, body.MimeType, body.Size = whatisup.BodyImage, f.GetMimetype(), f.GetFileLength()
		body.Caption, body.Width, body.Height = f.GetCaption(), f.GetWidth(), f.GetHeight()
		body.ViewOnce = body.ViewOnce || f.GetViewOnce()
		return f.GetCaption(), f.GetContextInfo()
	case m.GetVideoMessage() != nil, m.GetPtvMessage() != nil:
		f := m.GetVideoMessage()
		if f == nil {
			f, body.Note = m.GetPtvMessage(), true
		}
		body.Type, body.MimeType, body.Size = whatisup.BodyVideo, f.GetMimetype(), f.GetFileLength()
		body.Caption, body.Width, body.Height, body.Seconds = f.GetCaption(), f.GetWidth(), f.GetHeight(), f.GetSeconds()
		body.GIF, body.ViewOnce = f.GetGifPlayback(), body.ViewOnce || f.GetViewOnce()
		return f.GetCaption(), f.GetContextInfo()
	case m.GetAudioMessage() != nil:
		f := m.GetAudioMessage()
		body.Type, body.MimeType, body.Size = whatisup.BodyAudio, f.GetMimetype(), f.GetFileLength()
		body.Voice, body.Seconds, body.ViewOnce = f.GetPTT(), f.GetSeconds(), body.ViewOnce || f.GetViewOnce()
		return "", f.GetContextInfo()
	case m.GetDocumentMessage() != nil:
		f := m.GetDocumentMessage()
		body.Type, body.MimeType, body.Size = whatisup.BodyDocument, f.GetMimetype(), f.GetFileLength()
		body.Caption, body.Filename = f.GetCaption(), f.GetFileName()
		return f.GetCaption(), f.GetContextInfo()
	}
	f := m.GetStickerMessage()
	body.Type, body.MimeType, body.Size = whatisup.BodySticker, f.GetMimetype(), f.GetFileLength()
	body.Width, body.Height, body.Animated = f.GetWidth(), f.GetHeight(), f.GetIsAnimated() || f.GetIsLottie()
	return "", f.GetContextInfo()
}

// locationOf reads a place. A sender may write any number, also those that JSON has
// no form for: what is no place on earth is not taken for one.
func locationOf(body *whatisup.ReceivedBody, m *waE2E.Message) (text string, context *waE2E.ContextInfo) {
	var latitude, longitude float64
	body.Type = whatisup.BodyLocation
	if l := m.GetLocationMessage(); l != nil {
		latitude, longitude, body.Name, body.Address, body.Live = l.GetDegreesLatitude(), l.GetDegreesLongitude(), l.GetName(), l.GetAddress(), l.GetIsLive()
		text, context = l.GetComment(), l.GetContextInfo()
	} else {
		l := m.GetLiveLocationMessage()
		latitude, longitude, body.Live = l.GetDegreesLatitude(), l.GetDegreesLongitude(), true
		text, context = l.GetCaption(), l.GetContextInfo()
	}
	if !(math.Abs(latitude) <= 90 && math.Abs(longitude) <= 180) {
		*body = whatisup.ReceivedBody{Body: whatisup.Body{Type: whatisup.BodyUnsupported}, WhatsAppType: nameOf(m)}
		return "", context
	}
	body.Latitude, body.Longitude = &latitude, &longitude
	return text, context
}

func contactsOf(body *whatisup.ReceivedBody, m *waE2E.Message) *waE2E.ContextInfo {
	body.Type = whatisup.BodyContacts
	if c := m.GetContactMessage(); c != nil {
		body.Contacts = []whatisup.Contact{{Name: c.GetDisplayName(), VCard: c.GetVcard()}}
		return c.GetContextInfo()
	}
	all := m.GetContactsArrayMessage()
	for _, c := range all.GetContacts() {
		body.Contacts = append(body.Contacts, whatisup.Contact{Name: c.GetDisplayName(), VCard: c.GetVcard()})
	}
	return all.GetContextInfo()
}

// pollOf is the poll of a message, of whatever version.
func pollOf(m *waE2E.Message) *waE2E.PollCreationMessage {
	for _, p := range []*waE2E.PollCreationMessage{
		m.GetPollCreationMessage(), m.GetPollCreationMessageV2(), m.GetPollCreationMessageV3(),
		m.GetPollCreationMessageV5(), m.GetPollCreationMessageV6(),
	} {
		if p != nil {
			return p
		}
	}
	return nil
}

// replyOf reads answers to what a business sent.
func replyOf(body *whatisup.ReceivedBody, m *waE2E.Message) (string, *waE2E.ContextInfo) {
	var reply *whatisup.Reply
	var context *waE2E.ContextInfo
	switch {
	case m.GetButtonsResponseMessage() != nil:
		b := m.GetButtonsResponseMessage()
		reply, context = &whatisup.Reply{Kind: "button", ID: b.GetSelectedButtonID(), Title: b.GetSelectedDisplayText()}, b.GetContextInfo()
	case m.GetListResponseMessage() != nil:
		l := m.GetListResponseMessage()
		reply, context = &whatisup.Reply{Kind: "list", ID: l.GetSingleSelectReply().GetSelectedRowID(), Title: l.GetTitle()}, l.GetContextInfo()
	case m.GetTemplateButtonReplyMessage() != nil:
		t := m.GetTemplateButtonReplyMessage()
		reply, context = &whatisup.Reply{Kind: "template", ID: t.GetSelectedID(), Title: t.GetSelectedDisplayText()}, t.GetContextInfo()
	case m.GetInteractiveResponseMessage() != nil:
		reply, context = nativeFlow(m.GetInteractiveResponseMessage()), m.GetInteractiveResponseMessage().GetContextInfo()
	default:
		return "", nil
	}
	body.Type, body.Reply = whatisup.BodyInteractiveReply, reply
	return reply.Title, context
}

// interactiveOf reads the text of what a business sends with buttons or lists.
func interactiveOf(body *whatisup.ReceivedBody, m *waE2E.Message) (text string, context *waE2E.ContextInfo) {
	switch {
	case m.GetButtonsMessage() != nil:
		text, context = m.GetButtonsMessage().GetContentText(), m.GetButtonsMessage().GetContextInfo()
	case m.GetListMessage() != nil:
		text, context = m.GetListMessage().GetDescription(), m.GetListMessage().GetContextInfo()
	case m.GetTemplateMessage() != nil:
		t := m.GetTemplateMessage()
		text, context = t.GetHydratedTemplate().GetHydratedContentText(), t.GetContextInfo()
	case m.GetInteractiveMessage() != nil:
		text, context = m.GetInteractiveMessage().GetBody().GetText(), m.GetInteractiveMessage().GetContextInfo()
	case m.GetHighlyStructuredMessage() != nil:
		text = m.GetHighlyStructuredMessage().GetHydratedHsm().GetHydratedTemplate().GetHydratedContentText()
	default:
		return "", nil
	}
	body.Type, body.WhatsAppType = whatisup.BodyInteractive, nameOf(m)
	return text, context
}
