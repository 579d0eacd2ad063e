package dashboardtest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"whatisup/local"
	"whatisup/local/whatsapp"
	"whatisup/shared/qr/qrtest"
	"whatisup/shared/whatisup"
)

func TestDashboard(t *testing.T) {
	b := browser(t)
	s := stack(t)
	flows := []struct {
		name string
		run  func(*testing.T, context.Context, *local.Stack)
	}{
		{"CodesRunOut", codesRunOut}, // takes longest
		{"SignIn", signIn},
		{"Pair", pair},
		{"PairByCode", pairByCode},
		{"Life", life},
		{"Lost", lost},
		{"Foreign", foreign},
		{"Languages", languages},
		{"Reader", reader},
		{"Many", many},
		{"Crowded", crowded},
		{"Conversation", conversation},
		{"Chats", chats},
		{"File", file},
		{"Bucket", ofBucket},
		{"Received", received},
		{"Phones", phones},
		{"Kinds", kinds},
		{"Smooth", smooth},
		{"Webhooks", webhooks},
		{"Keys", keys},
		{"Parts", parts},
		{"FirstSteps", firstSteps},
		{"Unseen", unseen},
		{"LiveKey", liveKey},
		{"Elsewhere", elsewhere},
		{"Documentation", documentation},
		{"Pictures", pictures},
	}
	// They mostly wait, so more of them run at a time than there are processors.
	places := make(chan struct{}, 4)
	var all sync.WaitGroup
	for _, f := range flows {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			t.Run(f.name, func(t *testing.T) { f.run(t, b, s) })
		})
	}
	all.Wait()
	if n := axeRuns.Load(); n > 0 {
		t.Logf("axe looked %d times, %v in all", n, time.Duration(axeTook.Load()))
	}
}

// enter opens the page and signs in.
func enter(t *testing.T, browser context.Context, url, key string) *tab {
	t.Helper()
	p := open(t, browser, url)
	p.await("the form", `document.activeElement.id === "key"`)
	p.do(chromedp.KeyEvent(key + kb.Enter))
	p.awaitText(".list h2", "Instances")
	p.awaitText(".stream", "Live")
	p.await("the list", `document.querySelector(".rows li") || tester.text(".note").includes("no instance yet")`)
	return p
}

// status waits until the opened instance is in a state.
func (p *tab) status(word string) {
	p.Helper()
	p.awaitText(".detail .state .badge", word)
}

func signIn(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	p := open(t, b, s.API)
	p.await("the form", `document.activeElement.id === "key"`)
	p.awaitText(".signin form .hint", "test.key for the sandbox, live.key for real phones")
	for what, size := range eval[map[string]float64](p, `Object.fromEntries(["footer a", "#remember"].map((s) => [s, document.querySelector(s).getBoundingClientRect().height]))`) {
		if size < 24 {
			t.Errorf("%s is %v pixels high", what, size)
		}
	}
	p.audit("signin")

	p.do(chromedp.KeyEvent("abc" + kb.Enter))
	p.awaitText(".problem", "no API key")

	unknown, _ := whatisup.NewAPIKeyText(whatisup.Test, whatisup.NewKeyID())
	p.enter("API key", string(unknown)+kb.Enter)
	p.awaitText(".problem", "This API key does not exist")
	p.audit("signin-wrong-key")

	p.enter("API key", key[:len(key)-1]+kb.Enter)
	p.awaitText(".problem", "This API key is incomplete")

	// The key is in memory only: a reload forgets it.
	p.enter("API key", key+kb.Enter)
	p.awaitText(".stream", "Live")
	p.nowhere(key, false)
	p.audit("empty")
	p.do(chromedp.Reload())
	p.await("the form", `document.activeElement.id === "key"`)

	// On wish it stays with the tab.
	p.reach("Keep the key until this tab is closed")
	p.do(chromedp.KeyEvent(" "))
	p.enter("API key", key+kb.Enter)
	p.awaitText(".stream", "Live")
	p.nowhere(key, true)
	p.do(chromedp.Reload())
	p.awaitText(".stream", "Live")
	p.press("Sign out")
	p.await("the form", `document.activeElement.id === "key"`)
	p.nowhere(key, false)
}

// nowhere looks for the key in every place where it must not be.
func (p *tab) nowhere(key string, session bool) {
	p.Helper()
	places := eval[map[string]string](p, `({
		url: location.href, history: JSON.stringify(history.state), cookies: document.cookie,
		local: JSON.stringify(localStorage), session: JSON.stringify(sessionStorage), page: document.documentElement.outerHTML,
		requests: performance.getEntries().map((e) => e.name).join(" "),
	})`)
	for place, text := range places {
		if has := strings.Contains(text, key); has != (session && place == "session") {
			p.Errorf("key in %s: %v", place, has)
		}
	}
}

func pair(t *testing.T, b context.Context, s *local.Stack) {
	p := enter(t, b, s.API, customer(t, s))
	p.press("New instance")
	p.audit("create")
	p.do(chromedp.KeyEvent("Support line" + kb.Enter))

	p.await("a code", `tester.shown(document.querySelector("img.code"))`)
	p.status("Scan the code")
	if raw := qrtest.ReadURL(t, eval[string](p, `document.querySelector("img.code").src`)); !strings.HasPrefix(raw, "https://wa.me/settings/linked_devices#") {
		t.Errorf("the picture reads %q", raw)
	}
	p.awaitText(".countdown", "This code is good for")
	before := p.text(".countdown")
	p.await("the countdown", `tester.text(".countdown") !== `+quote(before))
	p.audit("code")

	// What is announced is remembered, because it is gone soon.
	eval[bool](p, `(window.said = [], new MutationObserver(() => said.push(document.getElementById("announcer").textContent))
		.observe(document.getElementById("announcer"), { childList: true, characterData: true, subtree: true }), true)`)
	p.enter("Number of the phone (optional)", "+1 555 010 2030")
	p.press("Scan the code")
	p.awaitText(".done", "+15550102030 is linked")
	p.status("Connected")
	p.awaitText(".rows a", "Connected")
	p.await("the announcement", `said.some((s) => s.startsWith("Support line: Connected"))`)
	p.awaitText(".events", "Linked and connected as +15550102030")
	p.audit("paired")
	p.press("Done")
	p.await("the focus on the name", `tester.focus().name === "Support line"`)

	// Somebody writes.
	p.enter("From number", "4915112345678")
	p.enter("Message", "<b>Olá</b> & goodbye")
	p.press("Send to this instance")
	p.awaitText(".events", "Message from +4915112345678: <b>Olá</b> & goodbye")
	p.audit("connected")

	// The device is removed on the phone, and the instance linked anew.
	p.press("Remove the device")
	p.status("Disconnected")
	p.awaitText(".detail .sentence", "The device was removed on the phone")
	p.audit("unlinked")
	p.await("the log's times have their day", `/^[A-Z][a-z]{2} \d+, /.test(tester.text(".log .events time"))`)
	p.press("Delete")
	p.awaitText("dialog", "the link to the phone is gone already")
	p.press("Cancel")
	p.press("Fetch the QR code")
	p.await("a code", `tester.shown(document.querySelector("img.code"))`)
	p.press("Stop pairing")
	p.status("Not linked")
}

func pairByCode(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	api{t, s.API, key}.create("Night shift")
	p := enter(t, b, s.API, key)
	p.press("Night shift…")
	p.status("Not linked")
	p.press("No camera? Link with a code")
	p.enter("Phone number, with country code", "12")
	p.press("Get a code")
	p.awaitText(".by-code .problem", "did not accept")
	p.enter("Phone number, with country code", "+55 11 91234-5678")
	p.press("Get a code")
	p.await("a pair code", `/^[A-Z0-9]{4}-[A-Z0-9]{4}$/.test(tester.text(".pair-code"))`)
	p.audit("pair-code")
	p.press("Type the code")
	p.awaitText(".done", "+5511912345678 is linked")
	p.status("Connected")
}

// life is everything that can be done to a linked instance.
func life(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	id := a.create("Sales")
	a.link(id, "15550109999")
	other := a.create("Warehouse")
	p := enter(t, b, s.API+"/#/instances/"+id, key)
	p.status("Connected")

	p.press("Disconnect")
	p.status("Disconnected")
	p.awaitText(".detail .sentence", "Stopped on request")
	p.audit("stopped")
	p.press("Connect")
	p.status("Connected")

	p.press("Rename")
	p.enter("Name", "Sales & <i>Service</i>")
	p.press("Save")
	p.awaitText(".detail h2", "Sales & <i>Service</i>")
	p.awaitText(".rows a strong", "Warehouse") // newest first
	p.await("the new name in the list", `[...document.querySelectorAll(".rows strong")].some((e) => e.textContent === "Sales & <i>Service</i>")`)

	// Renamed, created and deleted elsewhere: it shows here.
	a.call("PATCH", "/v1/instances/"+other, map[string]any{"name": "Depot"}, nil)
	p.awaitText(".rows a strong", "Depot")
	a.call("DELETE", "/v1/instances/"+other, nil, nil)
	p.await("one row", `document.querySelectorAll(".rows li").length === 1`)
	a.create("Clinic")
	p.await("two rows", `document.querySelectorAll(".rows li").length === 2`)
	p.enter("Search name, number or id", "clin")
	p.await("one row", `document.querySelectorAll(".rows li").length === 1`)
	p.enter("Search name, number or id", kb.Backspace)
	p.await("two rows", `document.querySelectorAll(".rows li").length === 2`)
	p.pick("Status", "connected")
	p.awaitText(".rows a strong", "Sales")
	p.await("one row", `document.querySelectorAll(".rows li").length === 1`)
	p.pick("Status", "")

	// A fault of WhatsApp's.
	p.pick("Fault", "banned")
	p.enter("Seconds", "600")
	p.press("Break it")
	p.status("Failed")
	p.awaitText(".detail .sentence", "WhatsApp has banned this number")
	p.await("the next try", `/\(\d+ min\)|\(\d+ sec\)/.test(tester.text(".sentence + .hint"))`)
	p.audit("failed")

	p.press("Log out")
	p.awaitText("dialog", "The device disappears from the linked devices of +15550109999")
	p.audit("logout")
	p.do(chromedp.KeyEvent(kb.Escape))
	p.await("no dialog, and the focus where it was", `!document.querySelector("dialog") && tester.focus().name === "Log out"`)
	p.status("Failed")
	p.press("Log out")
	p.press("Log out")
	p.status("Not linked")
	p.awaitText(".detail .sentence", "logged out on request")
	p.await("no number", `tester.text(".state .number") === ""`)

	p.press("Delete")
	p.await("the focus on the harmless button", `tester.focus().name === "Cancel"`)
	p.awaitText("dialog", "the instance “Sales & <i>Service</i>” with its id and metadata")
	p.audit("delete")
	p.press("Cancel")
	p.press("Delete")
	p.press("Delete")
	p.awaitText("main .banner", "was deleted")
	p.await("one row", `document.querySelectorAll(".rows li").length === 1`)
	p.awaitText(".log h3", "Events of all instances")
	p.awaitText(".events", "Deleted")
	p.audit("overview")
}

// codesRunOut watches codes being replaced and then run out; the simulator gives
// two instead of six, so that it takes 40 s.
func codesRunOut(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	id := api{t, s.API, key}.create("Forgotten")
	if _, err := s.Simulator.Inject(whatsapp.Fault{Target: whatsapp.Target{Instance: id}, Kind: "refs", Count: 2}); err != nil {
		t.Fatal(err)
	}
	p := enter(t, b, s.API+"/#/instances/"+id, key)
	p.press("Fetch the QR code")
	p.await("a code", `tester.shown(document.querySelector("img.code"))`)
	first := eval[string](p, `document.querySelector("img.code").src`)
	p.awaitFor(2*patience, "the next code", `document.querySelector("img.code").src !== `+quote(first))
	p.await("a countdown that began anew", `Number(/\d+/.exec(tester.text(".countdown"))) > 12`)
	p.awaitFor(2*patience, "the end of the codes", `tester.text(".detail .sentence").includes("The codes ran out")`)
	p.await("no code", `!tester.shown(document.querySelector("img.code"))`)
	p.audit("codes-ran-out")
	p.press("Fetch a new QR code")
	p.await("a code", `tester.shown(document.querySelector("img.code"))`)
	if eval[string](p, `document.querySelector("img.code").src`) == first {
		t.Error("a dead code is shown again")
	}
}

// lost shuts the door between page and API, and opens it again.
func lost(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	id := a.create("Delivery")
	a.link(id, "15550107777")
	d := newDoor(t, strings.TrimPrefix(s.API, "http://"))
	p := enter(t, b, d.URL+"/#/instances/"+id, key)
	p.status("Connected")

	d.Shut()
	p.awaitText(".stream", "Not live")
	p.awaitText(".banner", "Live updates are interrupted")
	p.press("Disconnect")
	p.awaitText(".detail .problem", "The API does not answer")
	p.audit("lost")
	a.sandbox(id, "unlink", map[string]any{}) // nobody tells the page
	a.awaitStatus(id, "disconnected")
	gone := a.create("Born meanwhile")
	a.call("DELETE", "/v1/instances/"+gone, nil, nil)
	kept := a.create("Night desk")

	p.reach("Try now")
	d.Open()
	p.do(chromedp.KeyEvent(kb.Enter)) // unless it has tried by itself just now
	p.awaitText(".stream", "Live")
	p.status("Disconnected")
	p.awaitText(".detail .sentence", "The device was removed on the phone")
	p.await("the focus somewhere", `document.activeElement !== document.body`)
	p.await("both instances", `document.querySelectorAll(".rows li").length === 2`)
	// The stream resumed where it was: the log has it all, each once.
	p.await("the event", `document.querySelector(".events").textContent.split("removed on the phone").length === 2`)
	a.call("DELETE", "/v1/instances/"+kept, nil, nil)
	p.await("one row", `document.querySelectorAll(".rows li").length === 1`)
}

// foreign: two customers, each with a page; and one page for both, one after the
// other.
func foreign(t *testing.T, b context.Context, s *local.Stack) {
	mine, theirs := customer(t, s), customer(t, s)
	a, z := api{t, s.API, mine}, api{t, s.API, theirs}
	a.create("Mine")
	id := z.create("Theirs")
	p, q := enter(t, b, s.API, mine), enter(t, b, s.API, theirs)
	a.create("Mine too")
	z.create("Theirs too")
	p.awaitText(".events", "Mine too")
	q.awaitText(".events", "Theirs too")
	for _, page := range []*tab{p, q} {
		page.await("two rows", `document.querySelectorAll(".rows li").length === 2`)
	}
	if text := eval[string](p, `document.body.innerText`); strings.Contains(text, "Theirs") {
		t.Error("one customer's page shows the other's instances")
	}

	// An address of the other's leads nowhere.
	p.do(chromedp.Navigate(s.API + "/#/instances/" + id))
	p.await("the overview", `location.hash === "#/" && tester.text(".log h3") === "Events of all instances"`)

	p.press("Sign out")
	p.await("the form", `document.activeElement.id === "key"`)
	p.do(chromedp.KeyEvent(theirs + kb.Enter))
	p.await("the other's rows", `document.querySelectorAll(".rows li").length === 2`)
	if text := eval[string](p, `document.body.innerText`); strings.Contains(text, "Mine") {
		t.Error("what one customer saw is there for the next")
	}

	// A key for one instance only.
	var bound struct {
		Secret string `json:"secret"`
	}
	z.call("POST", "/v1/api-keys", map[string]any{"name": "one", "instance_id": id}, &bound)
	p.press("Sign out")
	p.await("the form", `document.activeElement.id === "key"`)
	p.do(chromedp.KeyEvent(bound.Secret + kb.Enter))
	p.awaitText(".detail h2", "Theirs")
	p.awaitText(".stream", "Live")
	p.press("Fetch the QR code")
	p.await("a code", `tester.shown(document.querySelector("img.code"))`)
	z.sandbox(id, "scan", map[string]any{})
	p.status("Connected")
}

// languages visits every page in each language but English, which the other flows do.
func languages(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	id := a.create("Recepción")
	a.link(id, "34612345678")
	a.sandbox(id, "messages", map[string]any{"from": "4915112345678", "text": "42"})
	a.call("POST", "/v1/instances/"+id+"/groups", map[string]any{"subject": "42", "participants": []string{"4915112345678"}}, nil)
	var endpoint struct{ ID string }
	a.call("POST", "/v1/webhook-endpoints", map[string]any{"url": "http://127.0.0.1:9/", "events": []string{"call.offered"}}, &endpoint)
	p := enter(t, b, s.API, key)
	for _, l := range []struct{ code, from, title, connected string }{
		{"es", "Language", "Instancias", "Conectada"},
		{"pt", "Idioma", "Instâncias", "Conectada"},
	} {
		p.pick(l.from, l.code)
		p.awaitText(".list h2", l.title)
		p.awaitText(".rows .badge", l.connected)
		p.await("the page's language", `document.documentElement.lang === `+quote(l.code))
		p.spoken(l.code + "-list")
		p.press("Recepción…")
		p.awaitText(".detail .state .badge", l.connected)
		p.audit("connected-" + l.code)
		for part, shows := range []string{".timeline", "input[type=checkbox]", "textarea", ".group", "input[maxlength='139']", "input[type=tel]"} {
			at := fmt.Sprintf(`document.querySelectorAll(".part")[%d]`, part)
			eval[bool](p, at+`.open = true`)
			p.await(shows, at+`.querySelector(`+quote(shows)+`)`)
		}
		eval[bool](p, `document.querySelector(".group").open = true`)
		p.await("the members", `document.querySelectorAll(".group li").length === 2`)
		p.spoken(l.code + "-parts")
		for _, page := range []struct{ path, shows string }{
			{"/instances/" + id + "/chats", ".people .rows li"},
			{"/instances/" + id + "/chats/4915112345678", ".thread .said"},
			{"/webhooks", ".cards li"},
			{"/account", "[data-count=messages_in] svg"},
			{"/phones", ".people .rows li"},
			{"/phones/4915112345678", ".phone-view .said"},
		} {
			eval[bool](p, `(location.hash = `+quote(page.path)+`, true)`)
			p.await(page.path, `document.querySelector(`+quote(page.shows)+`)`)
			eval[bool](p, `(document.querySelectorAll("main details").forEach((d) => { d.open = true; }), true)`)
			p.spoken(l.code + strings.ReplaceAll(strings.ReplaceAll(page.path, id, "id"), "/", "-"))
		}
		eval[bool](p, `(location.hash = "/", true)`)
		p.awaitText(".list h2", l.title)
	}
	p.do(chromedp.Reload())
	p.awaitText(".signin h1", "Vincule um telefone") // the choice is remembered
	p.audit("signin-pt")
}

// spoken looks at a page in its language: no key in place of a sentence, no blank left
// unfilled, nothing over the edge of a telephone's window.
func (p *tab) spoken(state string) {
	p.Helper()
	for _, raw := range eval[[]string](p, `tester.raw()`) {
		p.Errorf("%s: the page says %q", state, raw)
	}
	p.picture(state)
	p.size(360, 740)
	for _, w := range eval[[]string](p, "tester.wide()") {
		p.Errorf("%s: runs over the edge of a narrow window: %s", state, w)
	}
	p.picture(state + "-narrow")
	p.axe(state+", narrow", "light")
	p.size(1280, 900)
}

// documentation fits a telephone's window and a desk's, and its parameters' names stay
// whole.
func documentation(t *testing.T, b context.Context, s *local.Stack) {
	p := open(t, b, s.API+"/docs")
	p.await("the reference", `document.querySelectorAll("section, article").length > 30`)
	for _, width := range []int64{375, 1280} {
		p.size(width, 812)
		for _, w := range eval[[]string](p, "tester.wide()") {
			t.Errorf("at %d pixels: runs over the window's edge: %s", width, w)
		}
		p.picture(fmt.Sprintf("docs-%d", width))
		eval[bool](p, `([...document.querySelectorAll("h2, h3")].find((e) => e.textContent.includes("List messages")).scrollIntoView(), true)`)
		p.picture(fmt.Sprintf("docs-%d-reference", width))
		for _, name := range eval[[]string](p, `[...document.querySelectorAll("td:first-child code, dt code")].filter((e) => e.getClientRects().length > 1).map((e) => e.textContent)`) {
			t.Errorf("at %d pixels: the name %s is broken in two", width, name)
		}
	}
}

// reader tries what reads the stream by itself: frames cut anywhere, every line
// end, and waits that stay within bounds.
func reader(t *testing.T, b context.Context, s *local.Stack) {
	p := open(t, b, s.API)
	const stream = ": hello\\r\\n\\r\\nid: 1\\nevent: a\\ndata: {\\ndata: }\\n\\nretry: 2500\\rid: 2\\rdata:x\\r\\rid: 3\\n\\nevent: no data\\n\\nid: 4\\ndata\\n\\ndata: é😀\\n\\ndata: not yet"
	got := eval[string](p, `(async () => {
		const { Parser } = await import("/dashboard/stream.js");
		const text = "`+stream+`";
		const runs = [];
		for (let size = 1; size <= text.length; size++) {
			const parser = new Parser(), frames = [];
			for (let at = 0; at < text.length; at += size) frames.push(...parser.push(text.slice(at, at + size)));
			runs.push(JSON.stringify([frames, parser.lastId, parser.retry]));
		}
		return [...new Set(runs)].join("\n");
	})()`)
	const want = `[[{"id":"1","event":"a","data":"{\n}"},{"id":"2","event":"message","data":"x"},{"id":"4","event":"message","data":""},{"id":"4","event":"message","data":"é😀"}],"4",2500]`
	if got != want {
		t.Errorf("however it is cut, it should read\n%s\nand reads\n%s", want, got)
	}
	if eval[bool](p, `import("/dashboard/stream.js").then(({ Parser }) => { try { new Parser().push("data: " + "x".repeat(2 << 20)); return true; } catch { return false; } })`) {
		t.Error("a frame without end is kept")
	}
	waits := eval[[][]float64](p, `import("/dashboard/stream.js").then(({ backoff }) => Array.from({ length: 40 }, (_, n) => [backoff(n, () => 0), backoff(n, () => 1)]))`)
	for n, w := range waits {
		if w[0] < 500 || w[1] > 30_000 || w[0] >= w[1] || n > 0 && (w[0] < waits[n-1][0] || w[1] < waits[n-1][1]) {
			t.Errorf("try %d waits %v to %v ms", n, w[0], w[1])
		}
	}
}

// many: a list longer than a page.
func many(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	var creating sync.WaitGroup
	for range 8 {
		creating.Go(func() {
			for range 12 {
				if err := a.try("POST", "/v1/instances", map[string]any{"name": "Line"}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	creating.Wait()
	for n := 96; n < 104; n++ {
		a.create(fmt.Sprintf("Line %03d", n))
	}
	p := enter(t, b, s.API, key)
	p.await("a page", `document.querySelectorAll(".rows li").length === 100`)
	p.awaitText(".rows strong", "Line 103") // newest first
	p.press("Show more")
	p.await("all", `document.querySelectorAll(".rows li").length === 104 && !tester.text(".list .wide")`)
	a.create("Line 104")
	p.awaitText(".rows strong", "Line 104")
	p.await("all and one", `document.querySelectorAll(".rows li").length === 105`)
}

// crowded: as many streams as a customer may have are open already. The page
// says so, works without, and listens when there is room.
func crowded(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	id := a.create("Front desk")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var others []*http.Response
	for range 10 {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.API+"/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		answer, err := http.DefaultClient.Do(r)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("a stream: %v, %v", answer, err)
		}
		others = append(others, answer)
	}
	p := open(t, b, s.API+"/#/instances/"+id)
	p.await("the form", `document.activeElement.id === "key"`)
	p.do(chromedp.KeyEvent(key + kb.Enter))
	p.awaitText(".banner", "has reached its limit of pages")
	p.status("Not linked")
	p.press("Fetch the QR code")
	p.await("a code", `tester.shown(document.querySelector("img.code"))`)
	p.status("Scan the code")
	p.audit("crowded")
	cancel()
	for _, o := range others {
		o.Body.Close()
	}
	p.reach("Try now")
	p.await("room for a stream", `tester.text(".stream") === "Live" || (document.activeElement.click(), false)`)
	a.sandbox(id, "scan", map[string]any{})
	p.status("Connected")
}

// liveKey: a key for real phones, on a stack that has none.
func liveKey(t *testing.T, b context.Context, s *local.Stack) {
	p := enter(t, b, s.API, s.Keys[whatisup.Live])
	p.awaitText(".mode", "Real WhatsApp")
	p.press("New instance")
	p.do(chromedp.KeyEvent("Reception" + kb.Enter))
	p.awaitText(".detail .hint", "Unofficial clients are against WhatsApp's terms")
	p.awaitText(".pairing .problem", "No session host is running for this instance")
	p.awaitText(".pairing .problem", "Try again in 10 s. Request id: req_")
	p.reach("Fetch the QR code")
	if p.text(".phone") != "" {
		t.Error("a simulated phone for a real instance")
	}
	p.audit("live")
}

// elsewhere: on AWS the stream has an origin of its own. Here it is the same
// stack under its other name; the page's policy and the stream's answers to the
// browser must allow it, and the policy nothing else.
func elsewhere(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	p := open(t, b, strings.Replace(s.API, "127.0.0.1", "localhost", 1))
	p.await("the form", `document.activeElement.id === "key"`)
	listen := func(url string) string {
		return eval[string](p, `(async () => {
			const { API } = await import("/dashboard/api.js");
			const api = new API(`+quote(key)+`), end = new AbortController();
			api.eventsURL = new URL(`+quote(url)+`);
			try {
				const response = await api.stream("", end.signal);
				const { value } = await response.body.pipeThrough(new TextDecoderStream()).getReader().read();
				return value;
			} catch (failure) {
				return failure.code;
			} finally {
				end.abort();
			}
		})()`)
	}
	if got := listen(s.API + "/v1/events"); !strings.HasPrefix(got, "retry:") {
		t.Errorf("the stream under its own origin says %q", got)
	}
	if got := listen("http://127.0.0.2:9/v1/events"); got != "offline" {
		t.Errorf("another host says %q", got)
	}
	p.expectComplaint("Content Security Policy")
}

// pictures makes those of the README, if pictures are asked for.
func pictures(t *testing.T, b context.Context, s *local.Stack) {
	if os.Getenv("SCREENSHOTS") == "" {
		t.Skip("no pictures asked for: SCREENSHOTS is not set")
	}
	key := customer(t, s)
	a := api{t, s.API, key}
	a.create("Warehouse")
	clinic := a.create("Clinic reminders")
	a.link(clinic, "34612345678")
	a.call("POST", "/v1/instances/"+clinic+"/disconnect", nil, nil)
	sales := a.create("Sales Lisbon")
	a.link(sales, "351912345678")
	a.sandbox(sales, "unlink", map[string]any{})
	a.link(a.create("Deliveries"), "5511912345678")
	p := enter(t, b, s.API, key)
	p.size(1280, 800)
	p.press("New instance")
	p.do(chromedp.KeyEvent("Support line" + kb.Enter))
	p.await("a code", `tester.shown(document.querySelector("img.code"))`)
	p.awaitText(".rows li:nth-child(3) .badge", "Disconnected")
	p.await("the countdown", `Number(/\d+/.exec(tester.text(".countdown"))) <= 57`)
	p.picture("readme-pairing")
	p.enter("Number of the phone (optional)", "5511987654321")
	p.press("Scan the code")
	p.awaitText(".done", "is linked")
	p.scheme("dark")
	p.picture("readme-connected")
}
