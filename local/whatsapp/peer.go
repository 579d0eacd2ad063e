package whatsapp

import (
	"strconv"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waWeb"
)

// peerMessage answers what a device asks of its own phone.
func (s *Server) peerMessage(d *device, a arrival) {
	var m waE2E.Message
	if proto.Unmarshal(a.plain, &m) != nil {
		return
	}
	request := m.GetProtocolMessage().GetPeerDataOperationRequestMessage()
	switch {
	case m.GetProtocolMessage().GetAppStateSyncKeyRequest() != nil:
		s.shareSyncKey(d)
	case request.GetPeerDataOperationRequestType() == waE2E.PeerDataOperationRequestType_PLACEHOLDER_MESSAGE_RESEND:
		s.resendPlaceholders(d, a.id, request)
	}
}

// resendPlaceholders gives a device the messages that it cannot read. The phone
// does so only for those that no device can: the others come from their sender.
func (s *Server) resendPlaceholders(d *device, request string, m *waE2E.PeerDataOperationRequestMessage) {
	var results []*waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult
	for _, asked := range m.GetPlaceholderMessageResendRequest() {
		r, ok := s.placeholder(d.person(), asked.GetMessageKey())
		if !ok {
			continue
		}
		var content waE2E.Message
		if proto.Unmarshal(r.Plain, &content) != nil {
			continue
		}
		whole, err := proto.Marshal(&waWeb.WebMessageInfo{
			Key: asked.GetMessageKey(), Message: &content, MessageTimestamp: proto.Uint64(uint64(r.At.Unix())), PushName: proto.String(nameOf(person{d.World, r.From})),
		})
		if err != nil {
			continue
		}
		results = append(results, &waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult{
			PlaceholderMessageResendResponse: &waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult_PlaceholderMessageResendResponse{WebMessageInfoBytes: whole},
		})
	}
	if len(results) == 0 {
		return
	}
	s.tellDevice(d, &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE.Enum(),
		PeerDataOperationRequestResponseMessage: &waE2E.PeerDataOperationRequestResponseMessage{
			PeerDataOperationRequestType: waE2E.PeerDataOperationRequestType_PLACEHOLDER_MESSAGE_RESEND.Enum(),
			StanzaID:                     &request,
			PeerDataOperationResult:      results,
		},
	})
}

func (s *Server) placeholder(at person, key *waCommon.MessageKey) (shownRecord, bool) {
	rows, _, err := s.screen(at, ShownFilter{ID: key.GetID(), Limit: 1})
	if err != nil || len(rows) == 0 {
		return shownRecord{}, false
	}
	m, ok := s.messages.get(at.world, rows[0].From, key.GetID())
	return rows[0], ok && m.way.spoilt
}

// tellDevice is a phone telling one of its devices something.
func (s *Server) tellDevice(d *device, m *waE2E.ProtocolMessage) {
	plain, err := proto.Marshal(&waE2E.Message{ProtocolMessage: m})
	if err != nil {
		return
	}
	err = s.withPhone(d.person(), func(p *phone) error {
		enc, err := p.encrypt(s.ctx, d.name(), plain, nil)
		if err != nil {
			return err
		}
		o := outbox{s: s}
		o.with(p.commit)
		if err := o.put(d, Node{Tag: "message", Attrs: Attrs{
			"from": s.jidOf(d.person(), 0), "id": newID("3A"), "type": "text", "category": "peer",
			"t": strconv.FormatInt(s.now().Unix(), 10), "sender_lid": s.lidOf(d.person(), 0),
		}, Content: []Node{enc}}); err != nil {
			return err
		}
		return o.flush()
	})
	if err != nil {
		s.log.Error("a phone cannot tell its device something", "error", err)
	}
}
