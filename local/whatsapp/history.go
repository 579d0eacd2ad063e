package whatsapp

import (
	"bytes"
	"compress/zlib"
	"context"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
)

// maxHistory is how many of the newest messages of a phone its history has.
const maxHistory = 500

// actSync is a phone bringing its devices up to date, as phones do after they
// have linked one: its history with the account's salt, the people's tokens and
// both names, what people call themselves, and the key to the app state.
func (s *Server) actSync(_ context.Context, p person, a *Action) (Done, error) {
	if a.Name != "" {
		if _, err := s.changeProfile(p, func(profile *profile) { profile.Name = a.Name }); err != nil {
			return Done{}, err
		}
	}
	if name := s.profileOf(p).Name; name != "" {
		if err := s.change(p, appstate.BuildSettingPushName(name)); err != nil {
			return Done{}, err
		}
	}
	history, names, err := s.history(p)
	if err != nil {
		return Done{}, err
	}
	for _, d := range s.linkedTo(p) {
		for _, part := range []*waHistorySync.HistorySync{history, names} {
			if err := s.sendHistory(d, part); err != nil {
				return Done{}, err
			}
		}
		s.shareSyncKey(d)
	}
	return Done{}, nil
}

// history is what a phone shows, put together for a device.
func (s *Server) history(p person) (history, names *waHistorySync.HistorySync, err error) {
	rows, _, err := s.screen(p, ShownFilter{Limit: maxShown})
	if err != nil {
		return nil, nil, err
	}
	rows = rows[max(0, len(rows)-maxHistory):]
	salt := s.seed.bytes(p.label("salt"))
	history = &waHistorySync.HistorySync{
		SyncType: waHistorySync.HistorySync_INITIAL_BOOTSTRAP.Enum(), ChunkOrder: proto.Uint32(1), Progress: proto.Uint32(100), NctSalt: salt[:],
	}
	names = &waHistorySync.HistorySync{SyncType: waHistorySync.HistorySync_PUSH_NAME.Enum()}
	chats := map[string]*waHistorySync.Conversation{}
	for i := range rows {
		r := &rows[i]
		chat := chats[r.Chat]
		if chat == nil {
			chat = s.conversation(p, r.Chat)
			chats[r.Chat] = chat
			history.Conversations = append(history.Conversations, chat)
		}
		if m := s.historyMessage(p, r, chat.GetID()); m != nil {
			chat.Messages = append([]*waHistorySync.HistorySyncMsg{{Message: m, MsgOrderID: proto.Uint64(r.Position)}}, chat.Messages...)
		}
	}
	for name := range chats {
		if isGroupName(name) || name == statusName {
			continue
		}
		other := person{p.world, name}
		lid, number := s.lidOf(other, 0).String(), s.jidOf(other, 0).String()
		history.PhoneNumberToLidMappings = append(history.PhoneNumberToLidMappings, &waHistorySync.PhoneNumberToLIDMapping{LidJID: &lid, PnJID: &number})
		if called := s.profileOf(other).Name; called != "" {
			names.Pushnames = append(names.Pushnames, &waHistorySync.Pushname{ID: &lid, Pushname: &called})
		}
	}
	return history, names, nil
}

func (s *Server) conversation(p person, name string) *waHistorySync.Conversation {
	out := &waHistorySync.Conversation{ID: proto.String(name)}
	if g, err := s.group(p.world, name); err == nil {
		out.Name = proto.String(g.Subject)
	}
	if isGroupName(name) || name == statusName {
		return out
	}
	other := person{p.world, name}
	out.ID = proto.String(s.lidOf(other, 0).String())
	out.LidJID, out.PnJID = out.ID, proto.String(s.jidOf(other, 0).String())
	out.TcToken, out.TcTokenTimestamp = s.tokenOf(other, p), proto.Uint64(uint64(s.now().Unix()))
	return out
}

func (s *Server) historyMessage(p person, r *shownRecord, chat string) *waWeb.WebMessageInfo {
	content := new(waE2E.Message)
	if len(r.Plain) == 0 || proto.Unmarshal(r.Plain, content) != nil {
		return nil
	}
	key := &waCommon.MessageKey{RemoteJID: &chat, FromMe: proto.Bool(r.From == p.number), ID: &r.ID}
	if isGroupName(r.Chat) && r.From != p.number {
		key.Participant = proto.String(s.lidOf(person{p.world, r.From}, 0).String())
	}
	return &waWeb.WebMessageInfo{
		Key: key, Message: unwrapSent(content), MessageTimestamp: proto.Uint64(uint64(r.At.Unix())), MessageSecret: r.Secret, Participant: key.Participant,
		PushName: proto.String(nameOf(person{p.world, r.From})),
	}
}

// unwrapSent takes off what marks a message as sent from another device.
func unwrapSent(m *waE2E.Message) *waE2E.Message {
	if inner := m.GetDeviceSentMessage().GetMessage(); inner != nil {
		return inner
	}
	return m
}

// sendHistory puts a part of the history on the media host and tells a device.
func (s *Server) sendHistory(d *device, history *waHistorySync.HistorySync) error {
	plain, err := proto.Marshal(history)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	if _, err := w.Write(plain); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	u, err := s.putMedia(d.World, "md-msg-hist", packed.Bytes())
	if err != nil {
		return err
	}
	s.tellDevice(d, &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_HISTORY_SYNC_NOTIFICATION.Enum(),
		HistorySyncNotification: &waE2E.HistorySyncNotification{
			FileSHA256: u.hash, FileEncSHA256: u.sealed, FileLength: &u.size, MediaKey: u.key, DirectPath: &u.path,
			SyncType: waE2E.HistorySyncType(history.GetSyncType()).Enum(), ChunkOrder: proto.Uint32(history.GetChunkOrder()), Progress: proto.Uint32(100),
		},
	})
	return nil
}
