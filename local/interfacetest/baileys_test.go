package interfacetest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"whatisup/local"
	"whatisup/local/localtest"
	"whatisup/local/whatsapp"
	"whatisup/shared/mediafile"
	"whatisup/shared/mediafile/mediafiletest"
	"whatisup/shared/whatisup"
)

// The phone that Baileys is linked to, and a third person.
const (
	ours   = "4915112345678"
	friend = "4915122222222"
)

// pair is an instance of ours at one end and Baileys, as its makers publish it, at the
// other. Neither is helped by its own phone: Baileys' is away, and ours reads nothing.
type pair struct {
	*localtest.Client
	t              *testing.T
	stack          *local.Stack
	id, number     string
	world          string
	own            string // Baileys' address, a LID
	in             io.Writer
	out            *bufio.Scanner
	note, played   []byte
	picture, film  []byte
	round, sticker []byte
	letter         []byte
}

func newPair(t *testing.T) *pair {
	t.Helper()
	judge := filepath.Join(localtest.Root(t), "local", "whatsapp", "testdata", "baileys")
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("SKIPPED: npm is not installed, so Baileys was no peer (Debian: apt-get install npm)")
	}
	if _, err := os.Stat(filepath.Join(judge, "node_modules", "baileys", "package.json")); err != nil {
		run(t, judge, "npm", "install", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
	}
	dir := t.TempDir()
	p := &pair{t: t, stack: localtest.Start(t, func(c *local.Config) { c.DataDir = dir })}
	p.Client = localtest.NewClient(t, p.stack.API, p.stack.Keys[whatisup.Test])
	i := p.Pair("judged")
	p.id, p.number = i.ID, *i.PhoneNumber
	p.world = p.customer()
	manual, away := "manual", true
	for number, b := range map[string]whatsapp.Behaviour{p.number: {Reads: &manual}, ours: {Offline: &away}} {
		if _, err := p.stack.Simulator.SetPhone(p.world, number, b); err != nil {
			t.Fatal(err)
		}
	}
	p.files()
	p.start(judge, filepath.Join(dir, "whatsapp", "ca.pem"))
	return p
}

func (p *pair) customer() string {
	var i struct {
		CustomerID string `json:"customer_id"`
	}
	p.Must(200, "GET", "/v1/instances/"+p.id, "", &i)
	return i.CustomerID
}

// start starts the one process of Baileys, which answers until the test ends.
func (p *pair) start(judge, ca string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	root := p.stack.Simulator.Root()
	peer := exec.CommandContext(ctx, "node", "peer.mjs")
	peer.Dir = judge
	peer.Env = append(os.Environ(), "SIMULATOR="+p.stack.Env["WHATSAPP_ENDPOINT"], "ROOT="+hex.EncodeToString(root[:]), "STATE="+p.t.TempDir(),
		"WORLD="+p.world, "NODE_EXTRA_CA_CERTS="+ca)
	var said bytes.Buffer
	peer.Stderr = &said
	in, err := peer.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := peer.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := peer.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		in.Close() //nolint:errcheck // its end is waited for
		err := peer.Wait()
		cancel()
		if err != nil || p.t.Failed() {
			p.t.Logf("Baileys ended: %v\n%s", err, said.String())
		}
	})
	p.in, p.out = in, bufio.NewScanner(out)
	p.out.Buffer(nil, 4<<20)
}

// args are those of what Baileys is told to do.
type args map[string]any

// does has Baileys do something, and decodes its answer.
func (p *pair) does(t *testing.T, what string, a args, into any) {
	t.Helper()
	told := args{"do": what}
	for name, v := range a {
		told[name] = v
	}
	line, err := json.Marshal(told)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	for p.out.Scan() {
		text, ours := strings.CutPrefix(p.out.Text(), "> ")
		if !ours {
			t.Logf("Baileys says: %s", p.out.Text())
			continue
		}
		var answer struct {
			OK    json.RawMessage `json:"ok"`
			Error string          `json:"error"`
		}
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if answer.Error != "" {
			t.Fatalf("%.500s: Baileys says %s", line, answer.Error)
		}
		if into != nil {
			if err := json.Unmarshal(answer.OK, into); err != nil {
				t.Fatalf("%v: %s", err, answer.OK)
			}
		}
		return
	}
	t.Fatalf("Baileys is gone: %v", p.out.Err())
}

// sends has Baileys send what its own library calls a content; id is the message's.
func (p *pair) sends(t *testing.T, to string, content any, options any) (id string) {
	t.Helper()
	p.does(t, "send", args{"to": to, "content": content, "options": options}, &id)
	return id
}

// letters of ours: post sends a body and returns the message's id.
func (p *pair) post(t *testing.T, to, body, more string) string {
	t.Helper()
	var m struct {
		ID string `json:"message_id"`
	}
	resp, b := p.Do("POST", "/v1/instances/"+p.id+"/messages", fmt.Sprintf(`{"to":%q,"body":%s%s}`, to, body, more))
	if resp.StatusCode != 202 {
		t.Fatalf("%.300s: %d %s", body, resp.StatusCode, b)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m.ID
}

// status waits until a message of ours is at least so far.
func (p *pair) status(t *testing.T, id string, want whatisup.MessageStatus) {
	t.Helper()
	var m struct{ Status whatisup.MessageStatus }
	localtest.Await(t, "message "+id+" is "+string(want), func() bool {
		p.Must(200, "GET", "/v1/instances/"+p.id+"/messages/"+id, "", &m)
		return m.Status.Rank() >= want.Rank()
	}, func() string { return string(m.Status) })
}

// event waits for the event that a message makes, and returns its data.
func (p *pair) event(t *testing.T, name, message string) map[string]any {
	t.Helper()
	var found map[string]any
	localtest.Await(t, name+" of "+message, func() bool {
		var page struct {
			Data []struct{ Data map[string]any }
		}
		p.Must(200, "GET", "/v1/event-log?limit=10&events="+name+"&instance_id="+p.id, "", &page) // newest first
		for _, e := range page.Data {
			if e.Data["message_id"] == message {
				found = e.Data
			}
		}
		return found != nil
	})
	return found
}

// holds says where a value lacks something of what is wanted: objects may have more.
func holds(got, want any, at string) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %v", cmp.Or(at, "it"), got)
		}
		for name, v := range w {
			if lack := holds(g[name], v, at+"."+name); lack != "" {
				return lack
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Sprintf("%s is %v", at, got)
		}
		for i := range w {
			if lack := holds(g[i], w[i], fmt.Sprintf("%s[%d]", at, i)); lack != "" {
				return lack
			}
		}
		return ""
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Sprintf("%s is %v, not %v", at, got, want)
	}
	return ""
}

// object reads JSON that a table has.
func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// files makes the files that are exchanged.
func (p *pair) files() {
	p.t.Helper()
	p.note, _ = mediafiletest.Note(120)
	var err error
	if p.played, err = io.ReadAll(mediafile.NewVoice(bytes.NewReader(p.note))); err != nil {
		p.t.Fatal(err)
	}
	var picture bytes.Buffer
	if err := jpeg.Encode(&picture, image.NewRGBA(image.Rect(0, 0, 300, 200)), nil); err != nil {
		p.t.Fatal(err)
	}
	p.picture = picture.Bytes()
	p.film, p.round = mediafiletest.Film(64, 36, 3, false, 3000), mediafiletest.Film(64, 64, 4, false, 3000)
	p.sticker = mediafiletest.WebP(512, 512, false)
	p.letter = bytes.Repeat([]byte("a letter of many pages\n"), 6000)
}

// TestWithBaileys lets Baileys judge, from the other end of a chat, everything that messages
// are made of: what it sends is what we tell of, and what we send is what it has. What it
// does and the simulator refuses is the simulator's mistake.
func TestWithBaileys(t *testing.T) {
	wanted(t)
	t.Parallel()
	p := newPair(t)
	var qr string
	p.does(t, "open", nil, &qr)
	if _, err := p.stack.Simulator.ScanQR(t.Context(), p.world, qr, ours); err != nil {
		t.Fatal(err)
	}
	p.linked(t)

	direct := &chat{pair: p, to: ours, jid: p.number + "@s.whatsapp.net"}
	ok := t.Run("person", func(t *testing.T) { direct.judge(t) }) &&
		t.Run("receipts", direct.receipts) &&
		t.Run("disappearing", direct.disappearing) &&
		t.Run("group of ours", func(t *testing.T) { p.ourGroup(t).judge(t) }) &&
		t.Run("group of Baileys", func(t *testing.T) { p.theirGroup(t).texts(t) }) &&
		t.Run("reconnect", direct.reconnect) &&
		t.Run("logout", func(t *testing.T) { p.does(t, "logout", nil, nil); p.noDevice(t) }) &&
		t.Run("pair code", direct.code) &&
		t.Run("unlink", p.unlink)
	if !ok {
		t.Log("what follows on it was left out")
	}
}

// linked waits for the first login after a link.
func (p *pair) linked(t *testing.T) {
	t.Helper()
	var who struct{ LID string }
	p.does(t, "linked", nil, &who)
	p.own = who.LID
}

// texts go both ways.
func (c *chat) texts(t *testing.T) {
	var got map[string]any
	c.does(t, "message", args{"id": c.post(t, c.to, `{"type":"text","text":"to Baileys"}`, "")}, &got)
	if lack := holds(got["message"], object(t, `{"conversation":"to Baileys"}`), ""); lack != "" {
		t.Error(lack)
	}
	id := c.sends(t, c.jid, args{"text": "from Baileys"}, nil)
	if lack := holds(c.event(t, "message.received", id), object(t, `{"type":"text","text":"from Baileys","from":{"phone_number":"`+ours+`"}}`), ""); lack != "" {
		t.Error(lack)
	}
}

// receipts of ours come from Baileys alone, whose phone is away, and Baileys' from our API.
func (c *chat) receipts(t *testing.T) {
	id := c.post(t, c.to, `{"type":"text","text":"tell me"}`, "")
	c.status(t, id, whatisup.MessageDelivered)
	c.does(t, "read", args{"id": id}, nil)
	c.status(t, id, whatisup.MessageRead)
	voice := c.post(t, c.to, c.body(`{"type":"audio","voice":true,"media_base64":"{note}"}`), "")
	c.status(t, voice, whatisup.MessageDelivered)
	c.does(t, "played", args{"id": voice}, nil)
	c.status(t, voice, whatisup.MessagePlayed)

	theirs := c.sends(t, c.jid, args{"text": "tell me"}, nil)
	chat := c.event(t, "message.received", theirs)["chat"].(string)
	c.does(t, "update", args{"id": theirs, "status": 3}, nil) // delivered
	c.Must(204, "POST", "/v1/instances/"+c.id+"/chats/"+chat+"/read", fmt.Sprintf(`{"message_ids":[%q]}`, theirs), nil)
	c.does(t, "update", args{"id": theirs, "status": 4}, nil) // read
}

// disappearing: what we send disappears as Baileys has set it, and what Baileys sends says so.
func (c *chat) disappearing(t *testing.T) {
	timer := func(seconds int, want any) {
		t.Helper()
		c.sends(t, c.jid, args{"disappearingMessagesInChat": seconds}, nil)
		mark := c.sends(t, c.jid, args{"text": "so"}, args{"ephemeralExpiration": seconds})
		got := c.event(t, "message.received", mark)
		if lack := holds(got, map[string]any{"context": want}, ""); lack != "" {
			t.Errorf("from Baileys: %s", lack)
		}
		var m struct{ Message map[string]any }
		c.does(t, "message", args{"id": c.post(t, c.to, `{"type":"text","text":"gone soon"}`, "")}, &m)
		if seconds == 0 {
			if lack := holds(m.Message, object(t, `{"conversation":"gone soon"}`), ""); lack != "" {
				t.Errorf("to Baileys: %s", lack)
			}
			return
		}
		if lack := holds(m.Message, object(t, fmt.Sprintf(`{"extendedTextMessage":{"text":"gone soon","contextInfo":{"expiration":%d}}}`, seconds)), ""); lack != "" {
			t.Errorf("to Baileys: %s", lack)
		}
	}
	timer(604_800, map[string]any{"ephemeral_seconds": 604_800})
	timer(0, nil)
}

// ourGroup is a group that the API makes, of Baileys and a third person.
func (p *pair) ourGroup(t *testing.T) *chat {
	t.Helper()
	var g struct{ Chat string }
	p.Must(201, "POST", "/v1/instances/"+p.id+"/groups", fmt.Sprintf(`{"subject":"Ours","participants":[%q,%q]}`, ours, friend), &g)
	p.does(t, "into", args{"group": g.Chat}, nil)
	return &chat{pair: p, to: g.Chat, jid: g.Chat, group: true}
}

// theirGroup is a group that Baileys makes.
func (p *pair) theirGroup(t *testing.T) *chat {
	t.Helper()
	var id string
	p.does(t, "group", args{"subject": "Theirs", "members": []string{p.number + "@s.whatsapp.net", friend + "@s.whatsapp.net"}}, &id)
	localtest.Await(t, "the API knows of "+id, func() bool {
		var page struct {
			Data []struct{ Data struct{ Chat string } }
		}
		p.Must(200, "GET", "/v1/event-log?events=group.created&instance_id="+p.id, "", &page)
		for _, e := range page.Data {
			if e.Data.Chat == id {
				return true
			}
		}
		return false
	})
	var n int
	if p.does(t, "members", args{"group": id}, &n); n != 3 {
		t.Errorf("Baileys finds %d members in its group", n)
	}
	return &chat{pair: p, to: id, jid: id, group: true}
}

// reconnect: what was sent while Baileys was away comes when it is back.
func (c *chat) reconnect(t *testing.T) {
	c.does(t, "leave", nil, nil)
	id := c.post(t, c.to, `{"type":"text","text":"while away"}`, "")
	c.status(t, id, whatisup.MessageSent)
	c.does(t, "back", nil, nil)
	var m struct{ Message map[string]any }
	c.does(t, "message", args{"id": id}, &m)
	if lack := holds(m.Message, object(t, `{"conversation":"while away"}`), ""); lack != "" {
		t.Error(lack)
	}
	c.status(t, id, whatisup.MessageDelivered)
	c.texts(t)
}

// noDevice waits until Baileys' phone has no linked device.
func (p *pair) noDevice(t *testing.T) {
	t.Helper()
	localtest.Await(t, "Baileys is unlinked", func() bool { return len(p.stack.Simulator.Devices(p.world)) == 1 })
}

// code links Baileys by a code that is typed into the phone.
func (c *chat) code(t *testing.T) {
	c.does(t, "open", nil, nil)
	var code string
	c.does(t, "code", args{"number": ours}, &code)
	localtest.Await(t, "the code is typed", func() bool { // Baileys gives it out before it has told the server
		_, err := c.stack.Simulator.EnterCode(t.Context(), c.world, code, ours)
		if err != nil && whatsapp.ErrorCode(err) != "nothing_to_enter" {
			t.Fatal(err)
		}
		return err == nil
	})
	c.linked(t)
	// That the person has another device now, WhatsApp says with the ack of a message to
	// the devices before; the next one goes to it.
	c.status(t, c.post(t, c.to, `{"type":"text","text":"who is there?"}`, ""), whatisup.MessageSent)
	c.texts(t)
}

// unlink: the phone removes Baileys.
func (p *pair) unlink(t *testing.T) {
	if n, err := p.stack.Simulator.Unlink(whatsapp.Target{World: p.world, PhoneNumber: ours}); n != 1 || err != nil {
		t.Fatalf("%d devices, %v", n, err)
	}
	p.does(t, "unlinked", nil, nil)
}
