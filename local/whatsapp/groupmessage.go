package whatsapp

import (
	"bytes"
	"context"
	"fmt"

	"go.mau.fi/libsignal/groups"
	grouprecord "go.mau.fi/libsignal/groups/state/record"
	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/protocol"
	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
)

// A message in a group is one ciphertext for all, made with a key of the sender
// for that group. The key goes to each device in a message of its own, encrypted
// as in a direct chat.

// groupRefusal is the error that a device's message to a group meets.
func (s *Server) groupRefusal(d *device, where place, n *Node) int {
	g, err := s.group(d.World, where.group)
	switch {
	case err != nil:
		return ackNotFound
	case g.role(d.Number) == "":
		return ackNotMember
	case g.Announce && !g.isAdmin(d.Number):
		return ackNotAllowed
	case g.lids() != (str(n, "addressing_mode") == "lid") && !g.Announcements:
		return ackStaleGroup
	}
	return 0
}

// fanOut takes a message to a group: to the phone and the linked devices of each
// member. Devices that the sender has not thought of get what is for all; they
// ask again for what they cannot read.
func (m *sending) fanOut() (hash string) {
	s := m.s
	parts := map[deviceName]addressed{}
	retry := !jidAttr(m.n, "participant").IsEmpty()
	for _, part := range addressedTo(m.n) {
		if p, ok := s.personOf(m.c.world, part.to); ok {
			parts[deviceName{p, part.to.Device}] = part
		}
	}
	if retry {
		for name, part := range parts {
			m.handTo(name, part)
		}
		return ""
	}
	g, err := s.group(m.c.world, m.where.group)
	if err != nil {
		return ""
	}
	var all []types.JID
	for _, p := range g.people() {
		for _, id := range s.allDevices(p) {
			name := deviceName{p, id}
			jid := s.memberJID(p, g.lids())
			jid.Device = id
			all = append(all, jid)
			if name == m.d.name() {
				continue
			}
			part, ok := parts[name]
			if !ok {
				part = addressed{to: jid}
			}
			m.handTo(name, part)
		}
	}
	if sent := str(m.n, "phash"); sent != "" && sent != participantHash(all) {
		return participantHash(all)
	}
	return ""
}

// allDevices lists a person's devices, the phone first.
func (s *Server) allDevices(p person) []uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deviceIDs(p)
}

// senderKeyName names the key of a sender for a group in a phone's store.
func senderKeyName(group string, sender deviceName) *protocol.SenderKeyName {
	return protocol.NewSenderKeyName(group, addressOf(sender))
}

// openGroup reads what came from a group: the sender's key, if it came along,
// and the message that was encrypted with it.
func (p *phone) openGroup(d *device, where place, n *Node, own []byte) ([]byte, error) {
	ctx, name := p.s.ctx, senderKeyName(where.group, d.name())
	builder := groups.NewGroupSessionBuilder(p, serializer)
	if own != nil {
		var m waE2E.Message
		if err := proto.Unmarshal(own, &m); err != nil {
			return nil, fmt.Errorf("%w: %v", errUnreadable, err)
		}
		if key := m.GetSenderKeyDistributionMessage().GetAxolotlSenderKeyDistributionMessage(); key != nil {
			parsed, err := protocol.NewSenderKeyDistributionMessageFromBytes(key, serializer.SenderKeyDistributionMessage)
			if err != nil {
				return nil, err
			}
			if err := builder.Process(ctx, name, parsed); err != nil {
				return nil, err
			}
		}
	}
	enc, ok := child(n, "enc")
	if !ok || str(enc, "type") != "skmsg" {
		return own, nil // sent again to this phone alone
	}
	sealed, _ := enc.Content.([]byte)
	parsed, err := protocol.NewSenderKeyMessageFromBytes(sealed, serializer.SenderKeyMessage)
	if err != nil {
		return nil, err
	}
	plain, err := groups.NewGroupCipher(builder, name, p).Decrypt(ctx, parsed)
	if err != nil {
		return nil, err
	}
	return unpad(plain)
}

// groupSealed is a message that a phone has encrypted for a group once, with
// the key for those who have not got it.
type groupSealed struct {
	key    []byte // the message that brings it
	sealed []byte
}

func (p *phone) sealOnce(ctx context.Context, m Message, chat types.JID) (groupSealed, error) {
	if done, ok := p.sealed[m.ID]; ok {
		return done, nil
	}
	name := senderKeyName(chat.String(), deviceName{person: p.p})
	builder := groups.NewGroupSessionBuilder(p, serializer)
	distribution, err := builder.Create(ctx, name)
	if err != nil {
		return groupSealed{}, err
	}
	key, err := proto.Marshal(&waE2E.Message{SenderKeyDistributionMessage: &waE2E.SenderKeyDistributionMessage{
		GroupID: proto.String(chat.String()), AxolotlSenderKeyDistributionMessage: distribution.Serialize(),
	}})
	if err != nil {
		return groupSealed{}, err
	}
	sealed, err := groups.NewGroupCipher(builder, name, p).Encrypt(ctx, pad(m.plain))
	if err != nil {
		return groupSealed{}, err
	}
	out := groupSealed{key: key, sealed: sealed.SignedSerialize()}
	p.sealed[m.ID] = out
	return out, nil
}

// sealForGroup makes a device's part of a message in a group: the sender's key
// and what is for all, or, for one that has asked again, everything in one.
func (p *phone) sealForGroup(ctx context.Context, d *device, m Message, chat types.JID, bundle *prekey.Bundle, retry int) ([]Node, error) {
	if m.way.list != "" {
		enc, err := p.encrypt(ctx, d.name(), m.plain, bundle)
		return []Node{enc}, err
	}
	once, err := p.sealOnce(ctx, m, chat)
	if err != nil {
		return nil, err
	}
	if retry > 0 {
		var whole, key waE2E.Message
		if proto.Unmarshal(m.plain, &whole) != nil || proto.Unmarshal(once.key, &key) != nil {
			return nil, errUnreadable
		}
		whole.SenderKeyDistributionMessage = key.SenderKeyDistributionMessage
		plain, err := proto.Marshal(&whole)
		if err != nil {
			return nil, err
		}
		enc, err := p.encrypt(ctx, d.name(), plain, bundle)
		return []Node{enc}, err
	}
	enc, err := p.encrypt(ctx, d.name(), once.key, bundle)
	if err != nil {
		return nil, err
	}
	return []Node{enc, {Tag: "enc", Attrs: Attrs{"v": "2", "type": "skmsg"}, Content: once.sealed}}, nil
}

// libsignal's store.SenderKey:

func (p *phone) senderKey(name *protocol.SenderKeyName) string {
	return string(keyOf(p.p.world, p.p.number, name.GroupID(), name.Sender().String()))
}

func (p *phone) StoreSenderKey(_ context.Context, name *protocol.SenderKeyName, record *grouprecord.SenderKey) error {
	p.senderKeys[p.senderKey(name)] = record.Serialize()
	return nil
}

func (p *phone) LoadSenderKey(_ context.Context, name *protocol.SenderKeyName) (*grouprecord.SenderKey, error) {
	key := p.senderKey(name)
	data, ok := p.senderKeys[key]
	if !ok {
		err := p.s.db.view(func(tx *tx) error {
			data = bytes.Clone(tx.Bucket(bucketSenderKeys).Get([]byte(key)))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(data) == 0 {
		return grouprecord.NewSenderKey(serializer.SenderKeyRecord, serializer.SenderKeyState), nil
	}
	return grouprecord.NewSenderKeyFromBytes(data, serializer.SenderKeyRecord, serializer.SenderKeyState)
}
