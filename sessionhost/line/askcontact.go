package line

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// checkContacts asks WhatsApp who has the numbers, in one question. WhatsApp alone
// normalises: the number that it answers may be spelt otherwise than the one asked.
func (l *Line) checkContacts(ctx context.Context, args whatisup.CheckArgs) (whatisup.CheckAnswer, error) {
	asked := make([]string, len(args.PhoneNumbers))
	for i, n := range args.PhoneNumbers {
		asked[i] = "+" + string(n)
	}
	answers, err := l.cli.IsOnWhatsApp(ctx, asked)
	if err != nil {
		return whatisup.CheckAnswer{}, err
	}
	of := make(map[whatisup.PhoneNumber]types.IsOnWhatsAppResponse, len(answers))
	for _, a := range answers {
		of[whatisup.PhoneNumber(strings.TrimPrefix(a.Query, "+"))] = a
	}
	var out whatisup.CheckAnswer
	for _, n := range args.PhoneNumbers {
		one := whatisup.CheckedNumber{Asked: n}
		if a, ok := of[n]; ok && a.IsIn {
			p := l.person(ctx, a.JID, a.PhoneNumber)
			one.Exists, one.PhoneNumber, one.LID = true, p.PhoneNumber, p.LID
		}
		out.Numbers = append(out.Numbers, one)
	}
	return out, nil
}

// listContacts lists whom the phone's address book and the messages so far have
// told of. It asks WhatsApp nothing.
func (l *Line) listContacts(ctx context.Context, args whatisup.PageArgs) (whatisup.Page, error) {
	all, err := l.device.Contacts.GetAllContacts(ctx)
	if err != nil {
		return whatisup.Page{}, err
	}
	known := make(map[whatisup.Address]whatisup.ContactWire, len(all))
	for jid, info := range all {
		if jid.Server != types.DefaultUserServer && jid.Server != types.HiddenUserServer {
			continue
		}
		c := contactOf(l.person(ctx, jid), info)
		// One person is one contact, whichever of the two addresses told of it.
		if other, ok := known[whatisup.Address(c.Chat)]; ok {
			c = merged(other, c)
		}
		known[whatisup.Address(c.Chat)] = c
	}
	list := make([]whatisup.ContactWire, 0, len(known))
	for _, c := range known {
		list = append(list, c)
	}
	return pageOf(list, args, func(c whatisup.ContactWire) string { return c.Chat }, func(c whatisup.ContactWire) any { return c })
}

func contactOf(p whatisup.Person, info types.ContactInfo) whatisup.ContactWire {
	name := some(info.FullName)
	if name == nil {
		name = some(info.FirstName)
	}
	return whatisup.ContactWire{
		Chat: string(p.Chat()), PersonWire: p.Wire(), Name: name, PushName: some(info.PushName), BusinessName: some(info.BusinessName),
	}
}

func merged(a, b whatisup.ContactWire) whatisup.ContactWire {
	for _, f := range []struct{ into, from **string }{
		{&a.PhoneNumber, &b.PhoneNumber}, {&a.LID, &b.LID}, {&a.Name, &b.Name}, {&a.PushName, &b.PushName}, {&a.BusinessName, &b.BusinessName},
	} {
		if *f.into == nil {
			*f.into = *f.from
		}
	}
	return a
}

// whois is the person behind an address, found at WhatsApp if need be.
func (l *Line) whois(ctx context.Context, a whatisup.Address) (whatisup.Person, error) {
	found, err := l.find(ctx, a)
	if err != nil {
		return whatisup.Person{}, err
	}
	if p, ok := found[a]; ok {
		return p, nil
	}
	return whatisup.Person{}, errNoContact
}

// contact asks WhatsApp for what it shows of a person.
func (l *Line) contact(ctx context.Context, args whatisup.ContactArgs) (whatisup.ContactDetails, error) {
	var out whatisup.ContactDetails
	p, err := l.whois(ctx, args.Contact)
	if err != nil {
		return out, err
	}
	about, picture, exists, err := l.shownOf(ctx, p)
	if err != nil {
		return out, err
	}
	if !exists {
		return out, errNoContact
	}
	if out.Pictured, err = l.pictured(ctx, jidOf(p), picture); err != nil {
		return out, err
	}
	var info types.ContactInfo
	for _, j := range []types.JID{jidOf(p), waconv.JIDOf(whatisup.NumberAddress(p.PhoneNumber))} {
		if j.User == "" {
			continue
		}
		if more, err := l.device.Contacts.GetContact(ctx, j); err == nil && more.Found {
			info = joined(info, more)
		}
	}
	out.ContactWire, out.About = contactOf(p, info), about
	out.Business, err = l.business(ctx, p)
	return out, err
}

func joined(a, b types.ContactInfo) types.ContactInfo {
	for _, f := range []struct{ into, from *string }{
		{&a.FullName, &b.FullName}, {&a.FirstName, &b.FirstName}, {&a.PushName, &b.PushName}, {&a.BusinessName, &b.BusinessName},
	} {
		if *f.into == "" {
			*f.into = *f.from
		}
	}
	return a
}

// shownOf is what a person lets the number see. The picture's id is empty if there is
// none, or if it is hidden.
func (l *Line) shownOf(ctx context.Context, p whatisup.Person) (about *string, picture string, exists bool, err error) {
	answers, err := l.cli.GetUserInfo(ctx, []types.JID{jidOf(p)})
	if err != nil {
		return nil, "", false, err
	}
	info, ok := answers[jidOf(p)]
	if !ok {
		return nil, "", false, nil
	}
	return some(info.Status), info.PictureID, len(info.Devices) > 0 || info.Status != "" || info.PictureID != "", nil
}

// business is what a business tells of itself; nil for anybody else.
func (l *Line) business(ctx context.Context, p whatisup.Person) (*whatisup.BusinessProfile, error) {
	b, err := l.cli.GetBusinessProfile(ctx, jidOf(p))
	if err != nil {
		if errors.Is(refusal(err), ErrNoAnswer) && ctx.Err() != nil {
			return nil, err
		}
		return nil, nil // WhatsApp has none, in one of several forms
	}
	if b.Address == "" && b.Email == "" && len(b.Categories) == 0 {
		return nil, nil
	}
	out := &whatisup.BusinessProfile{Address: b.Address, Email: b.Email, Categories: []string{}}
	for _, c := range b.Categories {
		out.Categories = append(out.Categories, c.Name)
	}
	return out, nil
}

// own is the number itself.
func (l *Line) own(ctx context.Context) whatisup.Person {
	return l.person(ctx, l.device.GetLID().ToNonAD(), l.device.GetJID().ToNonAD())
}

func (l *Line) profile(ctx context.Context, _ whatisup.NoArgs) (whatisup.Profile, error) {
	p := l.own(ctx)
	out := whatisup.Profile{PersonWire: p.Wire(), Name: l.device.PushName}
	about, picture, _, err := l.shownOf(ctx, p)
	if err != nil {
		return out, err
	}
	out.About = about
	out.Pictured, err = l.pictured(ctx, jidOf(p), picture)
	return out, err
}

// updateProfile makes the changes one after the other, as updateGroup does.
func (l *Line) updateProfile(ctx context.Context, args whatisup.ProfileArgs) (whatisup.Profile, error) {
	picture, err := l.pictureFile(ctx, args.Picture)
	if err != nil {
		return whatisup.Profile{}, err
	}
	err = inSteps(refusal, []step{
		{"about", args.About != nil, func() error { return l.cli.SetStatusMessage(ctx, types.SetStatusInput{Text: args.About}) }},
		{"name", args.Name != nil && *args.Name != l.device.PushName, func() error { return l.setName(ctx, *args.Name) }},
		{"picture", args.Picture != nil, func() error { return l.setPicture(ctx, types.EmptyJID, picture) }},
	}...)
	if err != nil {
		return whatisup.Profile{}, err
	}
	return l.profile(ctx, whatisup.NoArgs{})
}

func (l *Line) setName(ctx context.Context, name string) error {
	if key, err := l.device.AppStateKeys.GetLatestAppStateSyncKeyID(ctx); err != nil {
		return err
	} else if key == nil {
		return errNoKeys
	}
	if err := l.cli.SendAppState(ctx, appstate.BuildSettingPushName(name)); err != nil {
		return err
	}
	l.device.PushName = name
	return l.device.Save(ctx)
}

func (l *Line) listBlocks(ctx context.Context, args whatisup.PageArgs) (whatisup.Page, error) {
	list, err := l.cli.GetBlocklist(ctx)
	if err != nil {
		return whatisup.Page{}, err
	}
	show := func(j types.JID) whatisup.Blocked {
		p := l.person(ctx, j)
		return whatisup.Blocked{Chat: string(p.Chat()), PersonWire: p.Wire()}
	}
	return pageOf(list.JIDs, args, func(j types.JID) string { return show(j).Chat }, func(j types.JID) any { return show(j) })
}

func (l *Line) setBlock(ctx context.Context, args whatisup.BlockArgs) (whatisup.Nothing, error) {
	p, err := l.whois(ctx, args.Contact)
	if err != nil {
		return whatisup.Nothing{}, err
	}
	action := events.BlocklistChangeActionUnblock
	if args.Blocked {
		action = events.BlocklistChangeActionBlock
	}
	_, err = l.cli.UpdateBlocklist(ctx, jidOf(p), action)
	return whatisup.Nothing{}, err
}

// markRead tells the senders that their messages were read, and the number's other
// devices that they need not show them any more.
func (l *Line) markRead(ctx context.Context, args whatisup.ReadArgs) (whatisup.Nothing, error) {
	chat := waconv.JIDOf(args.Chat)
	if !args.Chat.IsGroup() {
		p, err := l.whois(ctx, args.Chat)
		if err != nil {
			return whatisup.Nothing{}, err
		}
		chat = jidOf(p)
	}
	var order []whatisup.Address
	by := map[whatisup.Address][]types.MessageID{}
	for _, m := range args.Messages {
		if by[m.From] == nil {
			order = append(order, m.From)
		}
		by[m.From] = append(by[m.From], m.MessageID)
	}
	for _, from := range order { // a receipt is for one sender
		var sender types.JID
		if args.Chat.IsGroup() {
			p := l.person(ctx, waconv.JIDOf(from))
			sender = jidOf(p)
		}
		if err := l.cli.MarkRead(ctx, by[from], time.Now(), chat, sender); err != nil {
			return whatisup.Nothing{}, err
		}
	}
	return whatisup.Nothing{}, nil
}

func (l *Line) showTyping(ctx context.Context, args whatisup.TypingArgs) (whatisup.Nothing, error) {
	chat := waconv.JIDOf(args.Chat)
	if !args.Chat.IsGroup() {
		p, err := l.whois(ctx, args.Chat)
		if err != nil {
			return whatisup.Nothing{}, err
		}
		chat = jidOf(p)
	}
	state, media := types.ChatPresenceComposing, types.ChatPresenceMediaText
	switch args.State {
	case whatisup.Recording:
		media = types.ChatPresenceMediaAudio
	case whatisup.Paused:
		state = types.ChatPresencePaused
	}
	return whatisup.Nothing{}, l.cli.SendChatPresence(ctx, chat, state, media)
}

func (l *Line) setPresence(ctx context.Context, args whatisup.PresenceArgs) (whatisup.Nothing, error) {
	state := types.PresenceUnavailable
	if args.State == whatisup.Available {
		state = types.PresenceAvailable
	}
	return whatisup.Nothing{}, l.cli.SendPresence(ctx, state)
}

func (l *Line) subscribe(ctx context.Context, args whatisup.ContactArgs) (whatisup.Nothing, error) {
	p, err := l.whois(ctx, args.Contact)
	if err != nil {
		return whatisup.Nothing{}, err
	}
	return whatisup.Nothing{}, l.cli.SubscribePresence(ctx, jidOf(p))
}
