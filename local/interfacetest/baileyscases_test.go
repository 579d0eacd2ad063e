package interfacetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"whatisup/local/whatsapp"
	"whatisup/shared/whatisup"
)

// chat is one chat of the two, seen from both ends.
type chat struct {
	*pair
	to, jid string // where we write to, and where Baileys does
	group   bool

	mine, theirs string // a text of each, which cases refer to
}

// letter is one case of what is sent. In it {mine} and {theirs} are ids of a text of ours
// and of Baileys', {picture} and the like are files as base64.
type letter struct {
	name string
	kind whatisup.BodyType
	send string // a body of ours, or a content of Baileys'
	more string // of ours: further fields; of Baileys': its options
	want string // what the other end has at least
	file string // that the other end can open; empty: none
	as   string // for whom it is no message: the event of ours; of ours, "edited" or "revoked"
	raw  bool   // Baileys has no call for it: send is the protocol's own message
}

// toBaileys are all bodies that the API sends, and what Baileys makes of them.
var toBaileys = []letter{
	{name: "text", kind: whatisup.BodyText, send: `{"type":"text","text":"héllo 🙂"}`, want: `{"conversation":"héllo 🙂"}`},
	{name: "mention", kind: whatisup.BodyText, send: `{"type":"text","text":"hi @{ours}","mentions":["{ours}"]}`, want: `{"extendedTextMessage":{"contextInfo":{"mentionedJid":["{baileys}"]}}}`},
	{name: "preview", kind: whatisup.BodyText, send: `{"type":"text","text":"see https://example.org","link_preview":{"url":"https://example.org","title":"Example"}}`, want: `{"extendedTextMessage":{"text":"see https://example.org","matchedText":"https://example.org","title":"Example"}}`},
	{name: "reply", kind: whatisup.BodyText, send: `{"type":"text","text":"an answer"}`, more: `,"reply_to":{"message_id":"{theirs}","from":"{ours}"}`, want: `{"extendedTextMessage":{"text":"an answer","contextInfo":{"stanzaId":"{theirs}","quotedMessage":{"conversation":"of Baileys"}}}}`},
	{name: "image", kind: whatisup.BodyImage, send: `{"type":"image","caption":"look","media_base64":"{picture}"}`, want: `{"imageMessage":{"caption":"look","mimetype":"image/jpeg"}}`, file: "picture"},
	{name: "view once", kind: whatisup.BodyImage, send: `{"type":"image","view_once":true,"media_base64":"{picture}"}`, want: `{"imageMessage":{"viewOnce":true}}`, file: "picture"},
	{name: "video", kind: whatisup.BodyVideo, send: `{"type":"video","caption":"a film","media_base64":"{film}"}`, want: `{"videoMessage":{"caption":"a film","seconds":3}}`, file: "film"},
	{name: "GIF", kind: whatisup.BodyVideo, send: `{"type":"video","gif":true,"media_base64":"{film}"}`, want: `{"videoMessage":{"gifPlayback":true}}`, file: "film"},
	{name: "video note", kind: whatisup.BodyVideo, send: `{"type":"video","note":true,"media_base64":"{round}"}`, want: `{"ptvMessage":{"seconds":4}}`},
	{name: "audio", kind: whatisup.BodyAudio, send: `{"type":"audio","media_base64":"{note}"}`, want: `{"audioMessage":{"seconds":3}}`, file: "note"},
	{name: "voice", kind: whatisup.BodyAudio, send: `{"type":"audio","voice":true,"media_base64":"{note}"}`, want: `{"audioMessage":{"ptt":true,"seconds":3}}`, file: "played"},
	{name: "document", kind: whatisup.BodyDocument, send: `{"type":"document","filename":"letter.bin","media_base64":"{letter}"}`, want: `{"documentMessage":{"fileName":"letter.bin"}}`, file: "letter"},
	{name: "sticker", kind: whatisup.BodySticker, send: `{"type":"sticker","media_base64":"{sticker}"}`, want: `{"stickerMessage":{"mimetype":"image/webp"}}`, file: "sticker"},
	{name: "location", kind: whatisup.BodyLocation, send: `{"type":"location","latitude":52.5,"longitude":13.4,"name":"Berlin"}`, want: `{"locationMessage":{"degreesLatitude":52.5,"degreesLongitude":13.4,"name":"Berlin"}}`},
	{name: "contact", kind: whatisup.BodyContacts, send: `{"type":"contacts","contacts":[{"name":"Eve","phone_numbers":["+4915133333333"]}]}`, want: `{"contactMessage":{"displayName":"Eve"}}`},
	{name: "contacts", kind: whatisup.BodyContacts, send: `{"type":"contacts","contacts":[{"name":"Eve","phone_numbers":["+4915133333333"]},{"name":"Bob","phone_numbers":["+4915144444444"]}]}`, want: `{"contactsArrayMessage":{"contacts":[{"displayName":"Eve"},{"displayName":"Bob"}]}}`},
	{name: "reaction", kind: whatisup.BodyReaction, send: `{"type":"reaction","target":{"message_id":"{theirs}","from":"{ours}"},"emoji":"👍"}`, want: `{"reactionMessage":{"text":"👍","key":{"id":"{theirs}"}}}`},
	{name: "reaction taken back", kind: whatisup.BodyReaction, send: `{"type":"reaction","target":{"message_id":"{theirs}","from":"{ours}"},"emoji":""}`, want: `{"reactionMessage":{"text":"","key":{"id":"{theirs}"}}}`},
	{name: "edit", kind: whatisup.BodyEdit, send: `{"type":"edit","target":"{mine}","text":"edited"}`, as: "edited"},
	{name: "revoke", kind: whatisup.BodyRevoke, send: `{"type":"revoke","target":"{mine}"}`, as: "revoked"},
}

// fromBaileys are all kinds of messages that Baileys can make, and what we tell of them.
var fromBaileys = []letter{
	{name: "text", kind: whatisup.BodyText, send: `{"text":"héllo 🙂"}`, want: `{"type":"text","text":"héllo 🙂"}`},
	{name: "mention", kind: whatisup.BodyText, send: `{"text":"hi @{number}","mentions":["{number}@s.whatsapp.net"]}`, want: `{"type":"text","context":{"mentions":[{"phone_number":"{number}"}]}}`},
	{name: "reply", kind: whatisup.BodyText, send: `{"text":"an answer"}`, more: `{"quoted":{"$message":"{mine}"}}`, want: `{"type":"text","text":"an answer","context":{"message_id":"{mine}","type":"text","text":"of ours"}}`},
	{name: "forwarded", kind: whatisup.BodyText, send: `{"forward":{"$message":"{mine}"},"force":true}`, want: `{"type":"text","text":"of ours","context":{"forwarded":true}}`},
	{name: "image", kind: whatisup.BodyImage, send: `{"image":{"$bytes":"{picture}"},"caption":"look"}`, want: `{"type":"image","text":"look","body":{"caption":"look"}}`, file: "picture"},
	{name: "view once", kind: whatisup.BodyImage, send: `{"image":{"$bytes":"{picture}"},"viewOnce":true}`, want: `{"type":"image","body":{"view_once":true}}`, file: "picture"},
	{name: "video", kind: whatisup.BodyVideo, send: `{"video":{"$bytes":"{film}"},"caption":"a film"}`, want: `{"type":"video","text":"a film"}`, file: "film"},
	{name: "GIF", kind: whatisup.BodyVideo, send: `{"video":{"$bytes":"{film}"},"gifPlayback":true}`, want: `{"type":"video","body":{"gif":true}}`, file: "film"},
	{name: "video note", kind: whatisup.BodyVideo, send: `{"video":{"$bytes":"{round}"},"ptv":true}`, want: `{"type":"video","body":{"note":true}}`, file: "round"},
	{name: "audio", kind: whatisup.BodyAudio, send: `{"audio":{"$bytes":"{note}"},"mimetype":"audio/ogg; codecs=opus","seconds":3}`, want: `{"type":"audio","body":{"seconds":3}}`, file: "note"},
	{name: "voice", kind: whatisup.BodyAudio, send: `{"audio":{"$bytes":"{note}"},"ptt":true,"mimetype":"audio/ogg; codecs=opus","seconds":3}`, want: `{"type":"audio","body":{"voice":true}}`, file: "note"},
	{name: "document", kind: whatisup.BodyDocument, send: `{"document":{"$bytes":"{letter}"},"mimetype":"application/octet-stream","fileName":"letter.bin"}`, want: `{"type":"document","body":{"filename":"letter.bin"}}`, file: "letter"},
	{name: "sticker", kind: whatisup.BodySticker, send: `{"sticker":{"$bytes":"{sticker}"}}`, want: `{"type":"sticker"}`, file: "sticker"},
	{name: "location", kind: whatisup.BodyLocation, send: `{"location":{"degreesLatitude":52.5,"degreesLongitude":13.4,"name":"Berlin"}}`, want: `{"type":"location","body":{"latitude":52.5,"longitude":13.4,"name":"Berlin"}}`},
	{name: "live location", kind: whatisup.BodyLocation, raw: true, send: `{"liveLocationMessage":{"degreesLatitude":52.5,"degreesLongitude":13.4,"caption":"on my way"}}`, want: `{"type":"location","text":"on my way","body":{"live":true}}`},
	{name: "contact", kind: whatisup.BodyContacts, send: `{"contacts":{"contacts":[{"displayName":"Eve","vcard":"BEGIN:VCARD\nEND:VCARD"}]}}`, want: `{"type":"contacts","body":{"contacts":[{"name":"Eve"}]}}`},
	{name: "contacts", kind: whatisup.BodyContacts, send: `{"contacts":{"displayName":"2","contacts":[{"displayName":"Eve","vcard":"BEGIN:VCARD\nEND:VCARD"},{"displayName":"Bob","vcard":"BEGIN:VCARD\nEND:VCARD"}]}}`, want: `{"type":"contacts","body":{"contacts":[{"name":"Eve"},{"name":"Bob"}]}}`},
	{name: "poll", kind: whatisup.BodyPoll, send: `{"poll":{"name":"Which?","values":["a","b"],"selectableCount":1}}`, want: `{"type":"poll","body":{"question":"Which?","options":["a","b"],"selectable":1}}`},
	{name: "event", kind: whatisup.BodyEvent, send: `{"event":{"name":"dinner","startDate":{"$date":1800000000000}}}`, want: `{"type":"event","body":{"event":{"name":"dinner","starts_at":"2027-01-15T08:00:00.000Z"}}}`},
	{name: "album", kind: whatisup.BodyAlbum, send: `{"album":{"expectedImageCount":2,"expectedVideoCount":1}}`, want: `{"type":"album","body":{"album":{"images":2,"videos":1}}}`},
	{name: "invitation", kind: whatisup.BodyGroupInvite, raw: true, send: `{"groupInviteMessage":{"groupJid":"120363000000000001@g.us","groupName":"Choir","inviteCode":"abc","inviteExpiration":1800000000,"caption":"come"}}`, want: `{"type":"group_invite","text":"come","body":{"invite":{"group":"120363000000000001@g.us","subject":"Choir","code":"abc"}}}`},
	{name: "answer to a button", kind: whatisup.BodyInteractiveReply, send: `{"buttonReply":{"id":"yes","displayText":"Yes"},"type":"plain"}`, want: `{"type":"interactive_reply","body":{"reply":{"kind":"button","id":"yes","title":"Yes"}}}`},
	{name: "answer to a template", kind: whatisup.BodyInteractiveReply, send: `{"buttonReply":{"id":"yes","displayText":"Yes","index":1},"type":"template"}`, want: `{"type":"interactive_reply","body":{"reply":{"kind":"template","id":"yes","title":"Yes"}}}`},
	{name: "answer to a list", kind: whatisup.BodyInteractiveReply, send: `{"listReply":{"title":"Second","listType":1,"singleSelectReply":{"selectedRowId":"2"}}}`, want: `{"type":"interactive_reply","body":{"reply":{"kind":"list","id":"2","title":"Second"}}}`},
	{name: "buttons", kind: whatisup.BodyInteractive, raw: true, send: `{"buttonsMessage":{"contentText":"yes or no?","buttons":[{"buttonId":"yes","buttonText":{"displayText":"Yes"},"type":1}]}}`, want: `{"type":"interactive","text":"yes or no?","body":{"whatsapp_type":"buttonsMessage"}}`},
	{name: "product", kind: whatisup.BodyProduct, send: `{"product":{"productImage":{"$bytes":"{picture}"},"productId":"p1","title":"Tea"},"businessOwnerJid":"{number}@s.whatsapp.net","body":"buy it"}`, want: `{"type":"product","text":"buy it","body":{"product":{"id":"p1","title":"Tea"}}}`},
	{name: "order", kind: whatisup.BodyOrder, raw: true, send: `{"orderMessage":{"orderId":"17","orderTitle":"Tea","itemCount":2}}`, want: `{"type":"order","body":{"order":{"id":"17","title":"Tea","items":2}}}`},
	{name: "what nobody knows", kind: whatisup.BodyUnsupported, send: `{"requestPhoneNumber":true}`, want: `{"type":"unsupported","body":{"whatsapp_type":"requestPhoneNumberMessage"}}`},
	{name: "reaction", kind: whatisup.BodyReaction, as: "message.reaction", send: `{"react":{"text":"👍","key":{"$key":"{mine}"}}}`, want: `{"emoji":"👍","target":{"message_id":"{mine}","from_me":true}}`},
	{name: "reaction taken back", kind: whatisup.BodyReaction, as: "message.reaction", send: `{"react":{"text":"","key":{"$key":"{mine}"}}}`, want: `{"emoji":null,"target":{"message_id":"{mine}"}}`},
	{name: "edit", kind: whatisup.BodyEdit, as: "message.edited", send: `{"text":"edited","edit":{"$key":"{theirs}"}}`, want: `{"text":"edited","by_author":true,"target":{"message_id":"{theirs}"}}`},
	{name: "revoke", kind: whatisup.BodyRevoke, as: "message.revoked", send: `{"delete":{"$key":"{theirs}"}}`, want: `{"by_author":true,"target":{"message_id":"{theirs}"}}`},
}

// body puts into a case what it names.
func (c *chat) body(text string) string {
	for name, file := range c.named() {
		text = strings.ReplaceAll(text, "{"+name+"}", base64.StdEncoding.EncodeToString(file))
	}
	return strings.NewReplacer("{mine}", c.mine, "{theirs}", c.theirs, "{ours}", ours, "{number}", c.number, "{baileys}", c.own).Replace(text)
}

func (p *pair) named() map[string][]byte {
	return map[string][]byte{"picture": p.picture, "film": p.film, "round": p.round, "note": p.note, "played": p.played, "sticker": p.sticker, "letter": p.letter}
}

// judge goes through everything in this chat: first what we send, then what Baileys does.
// A text of each comes first, and is taken back last.
func (c *chat) judge(t *testing.T) {
	c.mine = c.post(t, c.to, `{"type":"text","text":"of ours"}`, "")
	c.does(t, "message", args{"id": c.mine}, nil)
	c.theirs = c.sends(t, c.jid, args{"text": "of Baileys"}, nil)
	c.event(t, "message.received", c.theirs)
	t.Run("poll of ours", c.ourPoll)
	t.Run("poll of Baileys", c.theirPoll)
	for i, l := range toBaileys {
		if i == len(toBaileys)-2 { // Baileys refers to our text before it is gone
			for _, l := range fromBaileys[:len(fromBaileys)-2] {
				t.Run("from Baileys/"+l.name, func(t *testing.T) { c.received(t, l) })
			}
		}
		t.Run("to Baileys/"+l.name, func(t *testing.T) { c.sent(t, l) })
	}
	for _, l := range fromBaileys[len(fromBaileys)-2:] {
		t.Run("from Baileys/"+l.name, func(t *testing.T) { c.received(t, l) })
	}
}

// sent sends a body of ours, and looks at what Baileys has.
func (c *chat) sent(t *testing.T, l letter) {
	id := c.post(t, c.to, c.body(l.send), c.body(l.more))
	switch l.as {
	case "edited":
		c.does(t, "update", args{"id": c.mine, "text": "edited"}, nil)
		return
	case "revoked":
		c.does(t, "update", args{"id": c.mine, "gone": true}, nil)
		return
	}
	var got struct{ Message map[string]any }
	c.does(t, "message", args{"id": id}, &got)
	if lack := holds(got.Message, object(t, c.body(l.want)), ""); lack != "" {
		b, _ := json.Marshal(got.Message)
		t.Errorf("%s; Baileys has %.1000s", lack, b)
	}
	if l.file == "" {
		return
	}
	var file []byte
	if c.does(t, "file", args{"id": id}, &file); !bytes.Equal(file, c.named()[l.file]) {
		t.Errorf("Baileys has %d bytes of %d", len(file), len(c.named()[l.file]))
	}
}

// received has Baileys send something, and looks at the event.
func (c *chat) received(t *testing.T, l letter) {
	var id string
	if content := object(t, c.body(l.send)); l.raw {
		c.does(t, "relay", args{"to": c.jid, "message": content}, &id)
	} else if l.more != "" {
		id = c.sends(t, c.jid, content, object(t, c.body(l.more)))
	} else {
		id = c.sends(t, c.jid, content, nil)
	}
	name := "message.received"
	if l.as != "" {
		name = l.as
	}
	got := c.event(t, name, id)
	if lack := holds(got, object(t, c.body(l.want)), ""); lack != "" {
		b, _ := json.Marshal(got)
		t.Errorf("%s; the event is %s", lack, b)
	}
	if from, _ := got["from"].(map[string]any); from["phone_number"] != ours {
		t.Errorf("it is from %v", from)
	}
	if l.file == "" {
		return
	}
	media := c.event(t, "message.media_ready", id)["media"].(map[string]any)
	resp, err := http.Get(media["url"].(string))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	file, err := io.ReadAll(resp.Body)
	if want := c.named()[l.file]; err != nil || !bytes.Equal(file, want) {
		t.Errorf("%s: %d bytes of %d, %v", resp.Status, len(file), len(want), err)
	}
}

// ourPoll: Baileys votes, changes its mind, and is told by name.
func (c *chat) ourPoll(t *testing.T) {
	id := c.post(t, c.to, `{"type":"poll","question":"Which?","options":["a","b","c"],"selectable":2}`, "")
	var got struct{ Message map[string]any }
	c.does(t, "message", args{"id": id}, &got)
	want := `{"pollCreationMessage":{"name":"Which?","selectableOptionsCount":2,"options":[{"optionName":"a"},{"optionName":"b"},{"optionName":"c"}]}}`
	if lack := holds(got.Message, object(t, want), ""); lack != "" {
		t.Error(lack)
	}
	for _, options := range [][]string{{"a", "c"}, {"b"}, {}} {
		var vote string
		c.does(t, "vote", args{"to": c.jid, "poll": id, "options": options}, &vote)
		wanted, _ := json.Marshal(options)
		if lack := holds(c.event(t, "poll.voted", vote), object(t, fmt.Sprintf(`{"options":%s,"target":{"message_id":%q}}`, wanted, id)), ""); lack != "" {
			t.Errorf("a vote for %v: %s", options, lack)
		}
	}
}

// theirPoll: our number's phone votes in it. Baileys can read the vote, and so can we. The
// API itself has no votes.
func (c *chat) theirPoll(t *testing.T) {
	id := c.sends(t, c.jid, args{"poll": args{"name": "When?", "values": []string{"now", "later"}, "selectableCount": 0}}, nil)
	got := c.event(t, "message.received", id)
	if lack := holds(got, object(t, `{"type":"poll","body":{"question":"When?","options":["now","later"]}}`), ""); lack != "" {
		t.Error(lack)
	}
	vote := whatsapp.Action{World: c.world, PhoneNumber: c.number, Kind: "vote", MessageID: id, From: ours, Options: []string{"later"}}
	if c.group {
		vote.Group = c.to
	} else {
		vote.To = ours
	}
	done, err := c.stack.Simulator.Act(t.Context(), vote)
	if err != nil {
		t.Fatal(err)
	}
	var chosen [][]byte
	c.does(t, "chosen", args{"id": done.MessageID, "poll": id}, &chosen)
	if hash := sha256.Sum256([]byte("later")); len(chosen) != 1 || !bytes.Equal(chosen[0], hash[:]) {
		t.Errorf("Baileys reads a vote for %x", chosen)
	}
	if lack := holds(c.event(t, "poll.voted", done.MessageID), object(t, `{"options":["later"],"from_me":true,"target":{"message_id":"`+id+`"}}`), ""); lack != "" {
		t.Error(lack)
	}
}
