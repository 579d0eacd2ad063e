package dashboardtest

import (
	"bytes"
	"context"
	"image"
	"image/jpeg"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"whatisup/local"
)

// webhooks makes an endpoint, tests it, sees a delivery fail and repeats it.
func webhooks(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	var broken atomic.Bool
	var got atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			http.Error(w, "<b>broken</b>", http.StatusInternalServerError)
			return
		}
		if body, err := io.ReadAll(r.Body); err == nil && strings.Contains(string(body), "instance.created") {
			got.Add(1)
		}
	}))
	defer receiver.Close()
	p := enter(t, b, s.API, key)
	p.press("Webhooks")
	p.awaitText(".whole .note", "No endpoint yet")
	p.press("New endpoint")
	p.audit("webhook-new")
	p.do(chromedp.KeyEvent(receiver.URL + "/hook" + kb.Enter))
	p.awaitText("dialog h2", "Signing secret")
	secret := eval[string](p, `document.querySelector("dialog input").value`)
	if !strings.HasPrefix(secret, "whsec_") {
		t.Errorf("the secret shown is %q", secret)
	}
	p.audit("webhook-secret")
	p.press("I have kept it")
	p.awaitText(".cards .url", receiver.URL+"/hook")
	if eval[bool](p, `document.documentElement.outerHTML.includes(`+quote(secret)+`)`) {
		t.Error("the secret is still in the page")
	}
	p.press("Send a test")
	p.awaitText(".cards .result", "It answered 200")

	// One that fails, and then is delivered again.
	broken.Store(true)
	a.create("Born")
	p.await("a failure", `[...document.querySelectorAll(".events .what")].some((e) => e.textContent.startsWith("instance.created") && e.textContent.includes("500"))`)
	p.press("Send a test")
	p.awaitText(".cards .problem", "The test failed")
	broken.Store(false)
	eval[bool](p, `([...document.querySelectorAll(".events summary")].find((e) => e.textContent.includes("instance.created")).focus(), true)`)
	p.do(chromedp.KeyEvent(kb.Enter))
	p.awaitText(".attempts pre", "<b>broken</b>")
	p.audit("webhook-delivery")
	p.press("Deliver it again")
	p.await("the replay", `[...document.querySelectorAll(".events li")].some((e) => e.textContent.includes("replay") && e.querySelector(".badge").textContent === "Delivered") || (void [...document.querySelectorAll("button")].find((e) => e.textContent === "Read again").click(), false)`)
	if got.Load() == 0 {
		t.Error("nothing was received")
	}
	p.pick("State of the delivery", "held")
	p.await("none", `!document.querySelector(".events li")`)

	p.press("Disable")
	p.awaitText(".cards .badge", "Disabled")
	p.press("Enable")
	p.awaitText(".cards .badge", "Active")
	p.press("Delete")
	p.press("Delete")
	p.awaitText(".whole .note", "No endpoint yet")
}

// keys makes a key, which works, and revokes it. Beside them stands what was used.
func keys(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	id := a.create("Desk")
	a.link(id, "15550102035")
	for range 3 {
		a.sandbox(id, "messages", map[string]any{"from": "4915112345678", "text": "Are you there?"})
	}
	a.call("POST", "/v1/instances/"+id+"/messages", map[string]any{"to": "4915112345678", "body": map[string]any{"type": "text", "text": "Yes."}}, nil)
	p := enter(t, b, s.API, key)
	p.press("Keys and usage")
	p.awaitText(".facts", "of 2000")
	// What hosts count comes some seconds late.
	p.await("what was used", `(document.querySelector("[data-count=messages_in] b")?.textContent === "3" && document.querySelector("[data-count=messages_out] b").textContent === "1") ||
		(void document.querySelector(".usage button").click(), false)`)
	if says := eval[string](p, `document.querySelector("[data-count=messages_in] svg").getAttribute("aria-label")`); !strings.HasPrefix(says, "Received: 3 in all, ") {
		t.Errorf("the picture says %q", says)
	}
	if bars := eval[int](p, `[...document.querySelectorAll("[data-count=messages_in] rect")].filter((r) => r.getBoundingClientRect().height > 30).length`); bars < 1 {
		t.Error("no bar is to be seen")
	}
	p.press("The same as a table")
	p.await("the table", `[...document.querySelectorAll(".usage td")].some((c) => c.textContent === "3" && c.checkVisibility())`)
	eval[bool](p, `(document.querySelector(".usage").scrollIntoView(), true)`)
	p.audit("usage")
	p.press("New key")
	p.do(chromedp.KeyEvent("Billing" + kb.Enter))
	p.awaitText("dialog h2", "The new key")
	made := eval[string](p, `document.querySelector("dialog input").value`)
	api{t, s.API, made}.call("GET", "/v1/limits", nil, nil)
	p.press("I have kept it")
	p.await("the key", `[...document.querySelectorAll(".cards strong")].some((e) => e.textContent === "Billing")`)
	p.audit("keys")
	count := eval[int](p, `document.querySelectorAll(".cards li").length`)
	eval[bool](p, `([...document.querySelectorAll(".cards li")].find((e) => e.textContent.includes("Billing")).querySelector("button").focus(), true)`)
	p.do(chromedp.KeyEvent(kb.Enter))
	p.awaitText("dialog h2", "Revoke “Billing”?")
	p.press("Revoke")
	p.await("one less", `document.querySelectorAll(".cards li").length === `+string(rune('0'+count-1)))
}

// parts are what there is beside an instance's state.
func parts(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	id := a.create("Desk")
	a.link(id, "15550102033")
	a.call("PUT", "/v1/sandbox/phones/15550100001", map[string]any{"on_whatsapp": false}, nil)
	a.call("POST", "/v1/instances/"+id+"/groups", map[string]any{"subject": "Night shift", "participants": []string{"4915112345678"}}, nil)
	p := enter(t, b, s.API+"/#/instances/"+id, key)
	p.press("How it came to this state")
	p.awaitText(".timeline", "Linked and connected as +15550102033")
	p.press("Settings")
	p.reach("Reject calls")
	p.do(chromedp.KeyEvent(" "))
	p.press("Save")
	p.awaitText(".part .result", "Saved.")
	var settings struct {
		Reject bool `json:"reject_calls"`
		Read   bool `json:"read_on_receive"`
	}
	a.call("GET", "/v1/instances/"+id+"/settings", nil, &settings)
	if !settings.Reject || settings.Read {
		t.Errorf("the settings are %+v", settings)
	}
	p.press("Check numbers")
	p.enter("Phone numbers, one a line", "4915112345678, 15550100001")
	p.press("Ask WhatsApp")
	p.await("both answers", `["4915112345678: on WhatsApp as +4915112345678", "15550100001: not on WhatsApp"].every((s) => document.querySelector(".detail").textContent.includes(s))`)
	p.press("Groups")
	p.await("the group", `document.querySelector(".detail").textContent.includes("Night shift")`)
	p.press("Night shift…")
	p.await("the members, ours as the one that made the group", `(() => {
		const text = document.querySelector(".group ul")?.textContent ?? "";
		return ["+4915112345678", "member", "+15550102033", "owner"].every((s) => text.includes(s)) && /LID \d+/.test(text);
	})()`)
	p.press("Show the invitation link")
	p.awaitText(".group .url", "https://chat.whatsapp.com/")
	p.audit("groups")

	var face bytes.Buffer
	if err := jpeg.Encode(&face, image.NewGray(image.Rect(0, 0, 96, 96)), nil); err != nil {
		t.Fatal(err)
	}
	a.call("POST", "/v1/sandbox/phones/15550102033/actions", map[string]any{"kind": "profile", "picture_base64": face.Bytes()}, nil)
	p.press("Profile")
	p.await("the picture", `document.querySelector(".detail img.face")?.naturalWidth === 96`)
	p.enter("About", "Open until six")
	p.press("Save")
	p.await("it is saved", `[...document.querySelectorAll(".part .result")].filter((e) => e.textContent === "Saved.").length === 2`)
	var profile struct{ About string }
	a.call("GET", "/v1/instances/"+id+"/profile", nil, &profile)
	if profile.About != "Open until six" {
		t.Errorf("the profile is %+v", profile)
	}
	// A simulated phone shares its keys only when it is told to.
	p.enter("Name that others see", "Reception")
	p.press("Save")
	p.awaitText(".part .problem", "WhatsApp refused. (The phone has not shared the keys")

	blocked := func() int {
		var page struct{ Data []struct{} }
		a.call("GET", "/v1/instances/"+id+"/blocks", nil, &page)
		return len(page.Data)
	}
	p.press("Blocked contacts")
	p.await("nobody", `document.querySelector(".detail").textContent.includes("Nobody is blocked.")`)
	p.enter("Number to block", "+49 151 12345678"+kb.Enter)
	p.await("somebody", `document.querySelector(".part .line button")?.textContent === "Unblock"`)
	if n := blocked(); n != 1 {
		t.Errorf("%d are blocked", n)
	}
	p.audit("parts")
	p.press("Unblock: +4915112345678")
	p.await("nobody again", `document.querySelector(".detail").textContent.includes("Nobody is blocked.")`)
	if n := blocked(); n != 0 {
		t.Errorf("%d are still blocked", n)
	}

	p.press("Leave the group")
	p.awaitText("dialog", "Leave “Night shift”?")
	p.press("Leave the group")
	p.await("no group", `document.querySelector(".detail").textContent.includes("This account is in no group.")`)
	p.pick("Events shown", "instance.created")
	p.await("one event", `document.querySelectorAll(".log .events li").length === 1`)
}

// firstSteps goes from the key to the first webhook, by what the page shows alone.
func firstSteps(t *testing.T, b context.Context, s *local.Stack) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	defer receiver.Close()
	p := enter(t, b, s.API, customer(t, s))
	done := func(n string) {
		p.await(n+" steps done", `document.querySelectorAll(".first li[data-done]").length === `+n)
	}
	done("1")
	p.press("Create an instance: it stands for one WhatsApp number.")
	p.do(chromedp.KeyEvent("Desk" + kb.Enter))
	p.await("a code", `tester.shown(document.querySelector("img.code"))`)
	p.press("Scan the code")
	p.awaitText(".done", "is linked")
	p.press("Done")
	p.press("Instances")
	done("3")
	p.audit("first-steps")
	p.press("Write a first message in its conversations…")
	p.awaitText(".people .note", "No messages yet")
	p.audit("first-conversation")
	p.enter("Write to a number", "+55 11 91234-5678"+kb.Enter)
	p.awaitText(".thread h3", "+5511912345678")
	p.enter("Write a message", "Hello"+kb.Enter)
	p.own("Hello", "Read")
	p.press("Instances")
	done("4")
	p.press("Add a webhook endpoint, so that your program hears what happens.")
	p.awaitText(".whole h2", "Webhook endpoints")
	p.press("New endpoint")
	p.do(chromedp.KeyEvent(receiver.URL + kb.Enter))
	p.awaitText("dialog h2", "Signing secret")
	p.press("I have kept it")
	p.press("Send a test")
	p.awaitText(".cards .result", "It answered 200")
	p.press("Instances")
	p.await("no steps left", `document.querySelector(".list") && !tester.shown(document.querySelector(".first"))`)
}

// unseen: a page that nobody sees holds no stream, and goes on when it is seen
// again; a call without an answer is not met with silence.
func unseen(t *testing.T, b context.Context, s *local.Stack) {
	key := customer(t, s)
	a := api{t, s.API, key}
	p := enter(t, b, s.API, key)
	see := func(hidden string) {
		eval[bool](p, `(Object.defineProperty(document, "hidden", { configurable: true, get: () => `+hidden+` }), document.dispatchEvent(new Event("visibilitychange")), true)`)
	}
	see("true")
	p.awaitText(".stream", "Paused while the page is hidden")
	a.create("Born unseen")
	// As many streams as a customer may have: the page holds none of them.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range 10 {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.API+"/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("a stream: %v", answer.Status)
		}
	}
	cancel()
	see("false")
	p.await("the stream", `tester.text(".stream") === "Live" || (void [...document.querySelectorAll("button")].find((e) => e.textContent === "Try now").click(), false)`)
	p.awaitText(".rows strong", "Born unseen")

	p.press("Sign out")
	p.await("the form", `document.activeElement.id === "key"`)
	eval[bool](p, `(window.fetch = () => new Promise(() => {}), true)`)
	p.do(chromedp.KeyEvent(key + kb.Enter))
	p.awaitText(".signin .problem", "The API has not answered yet")
}
