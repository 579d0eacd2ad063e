package dashboardtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	gopng "image/png"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/tracing"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"whatisup/local"
)

// own waits until the newest message of ours that says text is in a state.
func (p *tab) own(text, state string) {
	p.Helper()
	p.await(fmt.Sprintf("%q is %s", text, state), fmt.Sprintf(
		`[...document.querySelectorAll(".thread .message[data-mine]")].some((m) => m.querySelector(".said")?.textContent === %s && m.querySelector(".tick-mark .unseen").textContent === %s)`,
		quote(text), quote(state)))
}

// conversation writes to somebody, is answered, and sees both ends.
func conversation(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	id := a.create("Desk")
	a.link(id, "15550102031")
	const somebody = "5511912345678"
	a.call("PUT", "/v1/sandbox/phones/"+somebody, map[string]any{"replies": "echo"}, nil)
	p := enter(t, b, s.API+"/#/instances/"+id, key)
	p.press("Open the conversations")
	p.awaitText(".people .note", "No messages yet")
	p.audit("conversations-empty")

	p.enter("Write to a number", "+55 11 91234-5678"+kb.Enter)
	p.awaitText(".thread h3", "+5511912345678")
	const hello = "Olá <b>there</b> & <img src=x onerror=alert(1)>"
	p.enter("Write a message", hello+kb.Enter)
	p.own(hello, "Read")
	p.awaitText(".screen", hello)
	p.await("the echo", `tester.text(".thread .message:not([data-mine]) .said") === `+quote(hello))
	p.awaitText(".people .reason", hello)

	// The phone writes.
	p.enter("Message from this phone", "Where are you?")
	p.press("Write as this phone")
	p.await("the question", `[...document.querySelectorAll(".thread .message:not([data-mine]) .said")].some((e) => e.textContent === "Where are you?")`)

	// It is answered as a reply, by keyboard.
	eval[bool](p, `([...document.querySelectorAll(".thread .message")].find((m) => m.querySelector(".said")?.textContent === "Where are you?").querySelector("summary").focus(), true)`)
	p.do(chromedp.KeyEvent(kb.Enter))
	p.awaitText(".fate dl", "Received")
	p.press("Reply")
	p.awaitText(".quote", "Reply to: Where are you?")
	p.do(chromedp.KeyEvent("In the office." + kb.Enter))
	p.own("In the office.", "Read")
	p.await("the quote", `[...document.querySelectorAll(".thread blockquote")].some((e) => e.textContent === "Where are you?")`)

	// What is done to a message shows on it.
	var sent struct {
		Data []struct {
			ID string `json:"message_id"`
		}
	}
	a.call("GET", "/v1/instances/"+id+"/messages?limit=1", nil, &sent)
	a.sandbox(id, "messages", map[string]any{"from": somebody, "body": map[string]any{"type": "reaction", "target": sent.Data[0].ID, "emoji": "👍"}})
	p.awaitText(".reactions", "👍")
	var theirs struct {
		ID string `json:"message_id"`
	}
	a.call("POST", "/v1/sandbox/instances/"+id+"/messages", map[string]any{"from": somebody, "text": "first words"}, &theirs)
	p.await("the first words", `document.querySelector(".window").textContent.includes("first words")`)
	a.sandbox(id, "messages", map[string]any{"from": somebody, "body": map[string]any{"type": "edit", "target": theirs.ID, "text": "second words"}})
	p.await("the second words", `document.querySelector(".window").textContent.includes("second words") && !document.querySelector(".window").textContent.includes("first words")`)
	a.sandbox(id, "messages", map[string]any{"from": somebody, "body": map[string]any{"type": "revoke", "target": theirs.ID}})
	p.await("nothing of it", `document.querySelector(".window").textContent.includes("This message was taken back.") && !document.querySelector(".window").textContent.includes("second words")`)
	p.audit("conversation")

	// Nobody reads until the phone is told to.
	p.press("How this phone behaves")
	p.pick("Reads messages", "manual")
	p.pick("Answers", "none")
	var behaviour struct{ Reads, Replies string }
	a.await("the behaviour", func() bool {
		a.call("GET", "/v1/sandbox/phones/"+somebody, nil, &behaviour)
		return behaviour.Reads == "manual" && behaviour.Replies == "none"
	})
	p.enter("Write a message", "Read me later"+kb.Enter)
	p.own("Read me later", "Delivered")
	p.press("Read it")
	p.own("Read me later", "Read")
	p.audit("phone")

	// Somebody who has no WhatsApp.
	a.call("PUT", "/v1/sandbox/phones/15550100000", map[string]any{"on_whatsapp": false}, nil)
	p.enter("Write to a number", "15550100000"+kb.Enter)
	p.enter("Write a message", "Anybody?"+kb.Enter)
	p.own("Anybody?", "Failed")
	p.awaitText(".bubble .problem", "This number is not on WhatsApp. Check the number.")
	p.audit("conversation-failed")

	// A new page has it all from the API.
	p.do(chromedp.Reload())
	p.await("the form", `document.activeElement.id === "key"`)
	p.do(chromedp.KeyEvent(key + kb.Enter))
	p.awaitText(".thread .said", "Anybody?")
	p.press("+5511912345678…")
	p.awaitText(".thread h3", "+5511912345678")
	p.await("what was said and done", `["Where are you?", "In the office.", "👍", "This message was taken back."].every((s) => document.querySelector(".window").textContent.includes(s)) && !document.querySelector(".window").textContent.includes("second words")`)
}

// await waits until the API says what is expected.
func (a api) await(what string, holds func() bool) {
	a.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			a.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// chats: the list has every conversation with its name, its last message and what is
// unread, before a single conversation was read.
func chats(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	id := a.create("Desk")
	a.link(id, "15550102036")
	var group struct{ Chat string }
	a.call("POST", "/v1/instances/"+id+"/groups", map[string]any{"subject": "Night shift", "participants": []string{"4915112345678"}}, &group)
	for _, m := range []map[string]any{
		{"from": "34612345678", "text": "Are you there?"},
		{"from": "34612345678", "text": "Hello?"},
		{"from": "4915112345678", "group": group.Chat, "body": map[string]any{"type": "text", "text": "Who has the key?"}},
	} {
		a.sandbox(id, "messages", m)
	}
	list := func(number string) (unread int) {
		var page struct {
			Data []struct {
				Phone  string `json:"phone_number"`
				Unread int
			}
		}
		a.call("GET", "/v1/instances/"+id+"/chats", nil, &page)
		for _, c := range page.Data {
			if c.Phone == number {
				return c.Unread
			}
		}
		return -1
	}
	a.await("the messages", func() bool { return list("34612345678") == 2 })
	p := enter(t, b, s.API+"/#/instances/"+id+"/chats", key)
	p.await("the group with its name", `[...document.querySelectorAll(".people li")].some((e) => e.textContent.includes("Night shift") && e.textContent.includes("Who has the key?"))`)
	p.await("what is unread", `[...document.querySelectorAll(".people li")].some((e) => e.textContent.includes("+34612345678") && e.textContent.includes("Hello?") && e.querySelector(".unread").textContent === "2")`)
	p.audit("chats")
	p.press("+34612345678…")
	p.awaitText(".thread .said", "Are you there?")
	p.press("Mark as read")
	p.await("nothing is unread there", `[...document.querySelectorAll(".people li")].some((e) => e.textContent.includes("+34612345678") && e.querySelector(".unread").hidden)`)
	if n := list("34612345678"); n != 0 {
		t.Errorf("the API counts %d as unread", n)
	}
	// What comes next is unread again, and what is written on the phone is not.
	a.sandbox(id, "messages", map[string]any{"from": "34612345678", "text": "Still there?"})
	p.await("one is unread", `[...document.querySelectorAll(".unread")].some((e) => e.textContent === "1" && e.closest("a").textContent.includes("Still there?"))`)
}

// file sends a picture that somebody chooses, with a text below it, and shows it; and one
// that is too large is refused at once.
func file(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	id := a.create("Desk")
	a.link(id, "15550102037")
	p := enter(t, b, s.API+"/#/instances/"+id+"/chats/34612345678", key)
	p.awaitText(".thread .note", "No messages with this person yet")
	picture := filepath.Join(t.TempDir(), "holiday.png")
	var png bytes.Buffer
	if err := gopng.Encode(&png, image.NewGray(image.Rect(0, 0, 400, 300))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(picture, png.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	p.reach("File")
	p.choose(".thread input[type=file]", picture)
	p.awaitText(".quote", "Picture: holiday.png")
	p.audit("file-chosen")
	p.enter("Write a message", "The harbour"+kb.Enter)
	p.own("The harbour", "Read")
	p.await("the picture itself", `(() => { const i = document.querySelector(".thread [data-mine] img"); i?.scrollIntoView(); return i?.complete && i.naturalWidth === 400; })()`)
	p.audit("file-sent")
	var shown struct{ Data []struct{ Type, Text string } }
	a.call("GET", "/v1/sandbox/phones/34612345678/messages", nil, &shown)
	if len(shown.Data) != 1 || shown.Data[0].Type != "image" || shown.Data[0].Text != "The harbour" {
		t.Errorf("the phone shows %+v", shown.Data)
	}

	p.await("an empty box", `document.querySelector(".thread textarea").value === "" && [...document.querySelectorAll(".quote")].every((e) => e.hidden)`)

	// Another page asks for the picture when somebody wants it.
	p.do(chromedp.Reload())
	p.await("the form", `document.activeElement.id === "key"`)
	p.do(chromedp.KeyEvent(key + kb.Enter))
	p.awaitText(".thread .said", "The harbour")
	p.press("Show the file")
	p.await("the picture again", `document.querySelector(".thread [data-mine] img")?.naturalWidth === 400`)

	// A document keeps its name.
	plan := filepath.Join(t.TempDir(), "plan.txt")
	if err := os.WriteFile(plan, []byte("Monday: nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.choose(".thread input[type=file]", plan)
	p.awaitText(".quote", "Document: plan.txt")
	p.press("Send")
	p.awaitText(".thread [data-mine]:last-child .kind", "Document: plan.txt")

	huge := filepath.Join(t.TempDir(), "huge.bin")
	f, err := os.Create(huge)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(200<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	p.choose(".thread input[type=file]", huge)
	p.awaitText(".thread .problem", "This file is too large")
}

// received shows the files that somebody sends once they are fetched: a picture, and
// players that get what they ask for.
func received(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	id := a.create("Desk")
	a.link(id, "15550102039")
	p := enter(t, b, s.API+"/#/instances/"+id+"/chats/34612345678", key)
	p.awaitText(".thread .note", "No messages with this person yet")
	var picture bytes.Buffer
	if err := gopng.Encode(&picture, image.NewGray(image.Rect(0, 0, 320, 240))); err != nil {
		t.Fatal(err)
	}
	for _, body := range []map[string]any{
		{"type": "image", "caption": "The harbour", "media_base64": picture.Bytes()},
		{"type": "audio", "voice": true}, // and what has no file is a sample
		{"type": "video"},
	} {
		a.sandbox(id, "messages", map[string]any{"from": "34612345678", "body": body})
	}
	p.await("the picture", `(() => { const i = document.querySelector(".thread .message:not([data-mine]) img"); i?.scrollIntoView(); return i?.complete && i.naturalWidth === 320; })()`)
	for _, player := range []string{"audio", "video"} {
		p.await("a player", `document.querySelector(".thread .message:not([data-mine]) `+player+`")?.controls`)
		if got := eval[string](p, `fetch(document.querySelector(".thread `+player+`").src).then(async (r) => r.status + " " + r.headers.get("Content-Type").split("/")[0] + " " + ((await r.arrayBuffer()).byteLength > 0))`); got != "200 "+player+" true" {
			t.Errorf("the file of the %s: %s", player, got)
		}
	}
	p.audit("received")

	// It is there after a reload too, from the list of messages.
	p.do(chromedp.Reload())
	p.await("the form", `document.activeElement.id === "key"`)
	p.do(chromedp.KeyEvent(key + kb.Enter))
	p.await("the picture again", `(() => { const i = document.querySelector(".thread .message:not([data-mine]) img"); i?.scrollIntoView(); return i?.complete && i.naturalWidth === 320; })()`)
}

// choose gives files to a field, as the browser's own dialog does.
func (p *tab) choose(selector string, files ...string) {
	p.Helper()
	document := must(p, dom.GetDocument, dom.GetDocumentParams{})
	node := must(p, dom.QuerySelector, dom.QuerySelectorParams{NodeID: document.Root.NodeID, Selector: selector})
	must(p, dom.SetFileInputFiles, dom.SetFileInputFilesParams{NodeID: node.NodeID, Files: files})
}

// phones: who there is in the sandbox, how they behave, and what they show beside ours.
func phones(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	id := a.create("Desk")
	a.link(id, "15550102038")
	a.sandbox(id, "messages", map[string]any{"from": "34612345678", "text": "Are you there?"})
	a.call("PUT", "/v1/sandbox/phones/4915112345678", map[string]any{"offline": true, "replies": "echo"}, nil)
	p := enter(t, b, s.API, key)
	p.press("Phones")
	p.await("both phones", `["+34612345678Reads at once, answers nothing", "+4915112345678Offline · Answers: The same text"].every((s) => [...document.querySelectorAll(".people li")].some((e) => e.textContent === s))`)
	p.audit("phones")
	p.press("+34612345678…")
	p.awaitText(".phone-view .said", "Are you there?")
	p.press("How this phone behaves")
	p.pick("Reads messages", "manual")
	p.await("the list says it", `[...document.querySelectorAll(".people li")].some((e) => e.textContent === "+34612345678Reads messages: When told to")`)
	p.enter("Message from this phone", "Hello?"+kb.Enter)
	p.await("it shows", `[...document.querySelectorAll(".phone-view .said")].some((e) => e.textContent === "Hello?")`)
	p.audit("phone-of-somebody")
	p.press("Show both ends")
	p.await("ours", `[...document.querySelectorAll(".thread .said")].some((e) => e.textContent === "Hello?")`)
	p.press("Phones")
	p.enter("Open a number", "+55 11 91234-5678"+kb.Enter)
	p.awaitText(".phone-view h3", "Phone +5511912345678")
}

// kinds: a message of every kind that people send has a line that says what it is.
func kinds(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	id := a.create("Desk")
	a.link(id, "15550102032")
	p := enter(t, b, s.API+"/#/instances/"+id+"/chats/4915112345678", key)
	p.awaitText(".thread .note", "No messages with this person yet")
	for _, k := range []struct {
		body map[string]any
		says string
	}{
		{map[string]any{"type": "image", "caption": "a cat"}, "Picture"},
		{map[string]any{"type": "video"}, "Video"},
		{map[string]any{"type": "audio"}, "Audio"},
		{map[string]any{"type": "document", "filename": "plan.pdf"}, "Document: plan.pdf"},
		{map[string]any{"type": "sticker"}, "Sticker"},
		{map[string]any{"type": "location", "latitude": 1.5, "longitude": -2.5, "name": "The harbour"}, "Location: The harbour"},
		{map[string]any{"type": "contacts", "contacts": []any{map[string]any{"name": "Ana", "phone_numbers": []string{"351912345678"}}}}, "Contact: Ana"},
		{map[string]any{"type": "poll", "question": "Lunch?", "options": []string{"Yes", "No"}}, "Poll"},
	} {
		a.sandbox(id, "messages", map[string]any{"from": "4915112345678", "body": k.body})
		p.await(k.says, `[...document.querySelectorAll(".thread .kind")].at(-1)?.textContent === `+quote(k.says))
	}
	p.awaitText(".poll", "Yes 0")
	p.audit("kinds")
}

// smooth scrolls through ten thousand messages. What is held is how many rows are in the
// page at once; how long the tasks took, in the processor's time, is the machine's too and
// is told only. A task of 50 ms would be a stutter.
func smooth(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	id := api{t, s.API, key}.create("Archive")
	p := open(t, b, s.API)
	p.await("the form", `document.activeElement.id === "key"`)
	eval[bool](p, `(async () => {
		const { API } = await import("/dashboard/api.js");
		const { Store } = await import("/dashboard/store.js");
		const { Conversations } = await import("/dashboard/conversations.js");
		const api = new API(`+quote(key)+`), store = new Store(api), id = `+quote(id)+`;
		await store.refresh(id);
		const view = window.view = new Conversations({ api, store, id });
		const main = document.createElement("main");
		main.append(view.element);
		document.getElementById("page").replaceChildren(main);
		view.choose("447700900123");
		window.write = (n) => {
			const text = "Message " + n + " " + "one word more ".repeat(n * 7919 % 40);
			const person = { phone_number: "447700900123", lid: null };
			view.add({ event: "message.received", instance_id: id, data: {
				message_id: "M" + n, chat: "447700900123@s.whatsapp.net", chat_type: "direct", ...person, from: person, type: "text", text, body: { type: "text", text },
				received_at: new Date(Date.now() - 1e8 + n * 5000).toISOString(),
			} });
		};
		return true;
	})()`)
	for n := 0; n < 10_000; n += 250 {
		eval[bool](p, fmt.Sprintf(`(async () => {
			for (let n = %d; n < %d; n++) write(n);
			await new Promise(requestAnimationFrame);
			return true;
		})()`, n, n+250))
	}
	p.await("the newest message", `document.querySelector(".window ol")?.lastElementChild?.textContent.includes("Message 9999 ")`)

	tasks := p.record(func() {
		got := evalWithin[struct {
			Most, Frames int
			First, Last  string
		}](p, 4*time.Minute, `(async () => {
			performance.mark("scroll-begin");
			const area = document.querySelector(".window"), frame = () => new Promise(requestAnimationFrame), out = { most: 0, frames: 0 };
			while (area.scrollTop > 0 && out.frames < 5000) {
				area.scrollTop -= 4000;
				await frame();
				out.frames++;
				out.most = Math.max(out.most, area.querySelectorAll("li").length);
			}
			out.first = area.querySelector("ol").firstElementChild.textContent;
			for (let n = 0; n < 20; n++) {
				write(10_000 + n);
				await frame();
			}
			area.scrollTop = area.scrollHeight;
			for (let n = 0; n < 10; n++) await frame();
			out.last = area.querySelector("ol").lastElementChild.textContent;
			performance.mark("scroll-end");
			return out;
		})()`)
		if !strings.Contains(got.First, "Message 0 ") || !strings.Contains(got.Last, "Message 10019 ") {
			t.Errorf("at the top is %q, at the end %q", got.First, got.Last)
		}
		if got.Most > 100 {
			t.Errorf("%d rows are in the page at once", got.Most)
		}
		t.Logf("%d frames, at most %d rows", got.Frames, got.Most)
	})
	longest := time.Duration(0)
	for _, took := range tasks {
		longest = max(longest, took)
	}
	t.Logf("%d tasks, the longest took %v", len(tasks), longest)
	if len(tasks) < 100 {
		t.Errorf("only %d tasks were recorded", len(tasks))
	}
}

// record runs work and returns how long the page's tasks took between the marks
// scroll-begin and scroll-end that it sets.
func (p *tab) record(work func()) []time.Duration {
	p.Helper()
	var mu sync.Mutex
	var raw [][]byte
	done := make(chan struct{})
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Minute)
	defer cancel()
	err := chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *tracing.EventDataCollected:
			mu.Lock()
			defer mu.Unlock()
			for _, v := range ev.Value {
				raw = append(raw, append([]byte(nil), v...))
			}
		case *tracing.EventTracingComplete:
			close(done)
		}
	})
	if err != nil {
		p.Fatal(err)
	}
	must(p, tracing.Start, tracing.StartParams{TraceConfig: &tracing.TraceConfig{
		IncludedCategories: []string{"toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline", "blink.user_timing"},
	}})
	work()
	must(p, tracing.End, cdp.Empty{})
	select {
	case <-done:
	case <-ctx.Done():
		p.Fatal("the browser's record does not come")
	}
	type entry struct {
		Name      string  `json:"name"`
		Process   int     `json:"pid"`
		Thread    int     `json:"tid"`
		At        float64 `json:"ts"`   // microseconds
		Processor float64 `json:"tdur"` // microseconds
	}
	mu.Lock()
	defer mu.Unlock()
	var all []entry
	var begin, end entry
	for _, r := range raw {
		var e entry
		if json.Unmarshal(r, &e) != nil {
			continue
		}
		switch e.Name {
		case "scroll-begin":
			begin = e
		case "scroll-end":
			end = e
		}
		all = append(all, e)
	}
	if begin.Process == 0 || end.Process != begin.Process {
		p.Fatalf("the record of %d entries lacks the marks", len(raw))
	}
	var took []time.Duration
	for _, e := range all {
		if strings.HasSuffix(e.Name, "RunTask") && e.Process == begin.Process && e.Thread == begin.Thread && e.At >= begin.At && e.At <= end.At {
			took = append(took, time.Duration(e.Processor)*time.Microsecond)
		}
	}
	return took
}
