package line

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"whatisup/sessionhost/waconv"
	"whatisup/shared/whatisup"
)

// ErrNoAnswer: something was sent to WhatsApp, and no answer came. A change may
// have been made or not.
var ErrNoAnswer = errors.New("WhatsApp has not answered")

var (
	errNotConnected = whatisup.NewError(whatisup.CodeNotConnected, "The instance is not connected.")
	errRejected     = whatisup.NewError(whatisup.CodeRejected, "WhatsApp refused this.")
	errNoGroup      = whatisup.NewError(whatisup.CodeGroupNotFound, "There is no such group.")
	errNoContact    = whatisup.NewError(whatisup.CodeContactNotFound, "There is no such contact.")
	errNotInGroup   = whatisup.NewError(whatisup.CodeNotInGroup, "The instance is not a member of the group.")
	errNotAllowed   = whatisup.NewError(whatisup.CodeNotAllowedInGroup, "The instance may not do this in the group: only its admins may.")
	errTooLarge     = whatisup.NewError(whatisup.CodeRejected, "WhatsApp's answer is too large to be passed on.")
	errNoName       = whatisup.NewError(whatisup.CodeRejected, "The phone has not told its name yet, without which no presence can be shown. Set a name in the profile.")
	errNoKeys       = whatisup.NewError(whatisup.CodeRejected, "The phone has not shared the keys of its settings yet, without which the name can't be changed. It does so within minutes of linking.")
	errBadArguments = whatisup.NewError(whatisup.CodeInvalidRequest, "The command's arguments can't be read.")
)

// asks are the commands that ask WhatsApp something, or change something there.
var asks = map[whatisup.CommandKind]func(*Line, context.Context, json.RawMessage) (any, error){
	whatisup.ContactsCheck:     ask((*Line).checkContacts),
	whatisup.ContactsList:      ask((*Line).listContacts),
	whatisup.ContactGet:        ask((*Line).contact),
	whatisup.ProfileGet:        ask((*Line).profile),
	whatisup.ProfileUpdate:     ask((*Line).updateProfile),
	whatisup.BlocksList:        ask((*Line).listBlocks),
	whatisup.BlockSet:          ask((*Line).setBlock),
	whatisup.GroupsList:        ask((*Line).listGroups),
	whatisup.GroupCreate:       ask((*Line).createGroup),
	whatisup.GroupGet:          ask((*Line).group),
	whatisup.GroupUpdate:       ask((*Line).updateGroup),
	whatisup.GroupLeave:        ask((*Line).leaveGroup),
	whatisup.GroupParticipants: ask((*Line).changeMembers),
	whatisup.GroupInviteGet:    ask((*Line).inviteLink),
	whatisup.GroupInviteRenew:  ask((*Line).renewInviteLink),
	whatisup.GroupJoin:         ask((*Line).joinGroup),
	whatisup.ChatRead:          ask((*Line).markRead),
	whatisup.ChatTyping:        ask((*Line).showTyping),
	whatisup.PresenceSet:       ask((*Line).setPresence),
	whatisup.PresenceSubscribe: ask((*Line).subscribe),
}

func ask[A, R any](do func(*Line, context.Context, A) (R, error)) func(*Line, context.Context, json.RawMessage) (any, error) {
	return func(l *Line, ctx context.Context, raw json.RawMessage) (any, error) {
		var args A
		if err := json.Unmarshal(raw, &args); err != nil {
			return nil, errBadArguments.Because(err)
		}
		return do(l, ctx, args)
	}
}

// Ask runs one of [whatisup.Asks] and returns its answer as JSON. A refusal is a
// [whatisup.Error] and names nobody; ErrNoAnswer means that nobody knows what has
// become of it. It ends with ctx, which may end at any time.
func (l *Line) Ask(ctx context.Context, kind whatisup.CommandKind, args json.RawMessage) (json.RawMessage, error) {
	do := asks[kind]
	if do == nil {
		return nil, errBadArguments
	}
	answer, err := do(l, ctx, args)
	if err != nil {
		return nil, refusal(err)
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	if len(b) > whatisup.MaxAnswer {
		return nil, errTooLarge
	}
	return b, nil
}

// refusal is what an error of the library means for who asked.
func refusal(err error) error {
	if e, ok := errors.AsType[*whatisup.Error](err); ok {
		return e
	}
	if errors.Is(err, whatsmeow.ErrNotConnected) {
		return errNotConnected // nothing was sent
	}
	if errors.Is(err, whatsmeow.ErrNoPushName) {
		return errNoName
	}
	if e, ok := errors.AsType[*whatsmeow.IQError](err); ok && e.Code != 0 {
		return errRejected.With("whatsapp_code", e.Code)
	}
	return ErrNoAnswer
}

// ofGroup is an error of a question about a group, or of a change of one.
func ofGroup(err error) error {
	switch {
	case errors.Is(err, whatsmeow.ErrIQNotFound):
		return errNoGroup
	case errors.Is(err, whatsmeow.ErrIQForbidden):
		return errNotInGroup
	case errors.Is(err, whatsmeow.ErrIQNotAuthorized):
		return errNotAllowed
	}
	return err
}

// person is everything that the auth state knows of whom the addresses name.
func (l *Line) person(ctx context.Context, jids ...types.JID) whatisup.Person {
	return waconv.Person(func(j types.JID) types.JID {
		var other types.JID
		if j.Server == types.DefaultUserServer {
			other, _ = l.device.LIDs.GetLIDForPN(ctx, j)
		} else {
			other, _ = l.device.LIDs.GetPNForLID(ctx, j)
		}
		return other
	}, "", jids...)
}

// find asks WhatsApp, in one question, for those of the addresses that are numbers
// whose LID is not known. Who is missing in the answer is not on WhatsApp.
func (l *Line) find(ctx context.Context, addresses ...whatisup.Address) (map[whatisup.Address]whatisup.Person, error) {
	found := make(map[whatisup.Address]whatisup.Person, len(addresses))
	var unknown []whatisup.PhoneNumber
	for _, a := range addresses {
		p := l.person(ctx, waconv.JIDOf(a))
		if p.LID != "" {
			found[a] = p
		} else if n, ok := a.Number(); ok && !slices.Contains(unknown, n) {
			unknown = append(unknown, n)
		}
	}
	for some := range slices.Chunk(unknown, whatisup.CheckedMost) {
		answer, err := l.checkContacts(ctx, whatisup.CheckArgs{PhoneNumbers: some})
		if err != nil {
			return nil, err
		}
		for _, n := range answer.Numbers {
			if n.Exists {
				found[whatisup.NumberAddress(n.Asked)] = whatisup.Person{PhoneNumber: n.PhoneNumber, LID: n.LID}
			}
		}
	}
	return found, nil
}

// jidOf is the address under which WhatsApp is asked about a person.
func jidOf(p whatisup.Person) types.JID { return waconv.JIDOf(p.Chat()) }

// pageOf cuts a page out of a whole list, which is sorted by place first. It is
// short where the answer would become too large.
func pageOf[T any](list []T, args whatisup.PageArgs, place func(T) string, show func(T) any) (whatisup.Page, error) {
	slices.SortFunc(list, func(a, b T) int { return cmp.Compare(place(a), place(b)) })
	page := whatisup.Page{Data: []any{}}
	size, last := 0, ""
	for _, one := range list {
		at := place(one)
		if at <= args.After {
			continue
		}
		b, err := json.Marshal(show(one))
		if err != nil {
			return page, err
		}
		size += len(b) + 1
		if len(page.Data) == args.Limit || size > whatisup.MaxAnswer-1<<10 {
			page.Next = last
			break
		}
		page.Data, last = append(page.Data, json.RawMessage(b)), at
	}
	return page, nil
}

// some is a text as JSON shows it: null where there is none.
func some(s string) *string {
	if s = strings.TrimSpace(s); s == "" {
		return nil
	}
	return &s
}
