package dashboardtest

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// patience is how long anything may take that should happen at once; the
// machine may be busy.
const patience = 30 * time.Second

//go:embed helpers.js
var helpers string

// browser starts a Chromium with nothing of its user in it, or skips the test.
func browser(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("SKIPPED: no Chromium on this machine, so the dashboard was not tried in a browser (Debian: apt-get install chromium)")
	}
	flags := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("lang", "en-US"),
		chromedp.WindowSize(1280, 900),
	)
	if os.Geteuid() == 0 {
		flags = append(flags, chromedp.NoSandbox)
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), flags...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	// The browser lives as long as the context that it is started under.
	giveUp := time.AfterFunc(time.Minute, cancel)
	defer giveUp.Stop()
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("%s did not start: %v", path, err)
	}
	return ctx
}

// tab is one window of the browser, with a memory of its own.
type tab struct {
	*testing.T
	ctx context.Context

	mu        sync.Mutex
	complains []string
}

// open opens a window on a URL.
func open(t *testing.T, browser context.Context, url string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p := &tab{T: t, ctx: ctx}
	messages := chromedp.Console(ctx)
	var listening sync.WaitGroup
	listening.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			p.heard(m)
		}
	})
	t.Cleanup(listening.Wait)
	t.Cleanup(cancel) // ends it
	t.Cleanup(p.check)
	must(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: helpers})
	must(p, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	p.size(1280, 900)
	p.do(chromedp.Navigate(url))
	return p
}

// heard takes note of what the browser complains of. That an answer was an error
// it also says; those are the page's business, which has sentences for them.
func (p *tab) heard(m chromedp.ConsoleMessage) {
	if m.Type != chromedp.ConsoleError && m.Type != chromedp.ConsoleWarning && !m.IsException() || m.Source == "network" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.complains = append(p.complains, m.String())
}

// expectComplaint waits until the browser complains of what the test has brought
// about, and takes that complaint off the list. The console's messages come on a
// way of their own, some time after what they are about.
func (p *tab) expectComplaint(text string) {
	p.Helper()
	taken := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		before := len(p.complains)
		p.complains = slices.DeleteFunc(p.complains, func(c string) bool { return strings.Contains(c, text) })
		return len(p.complains) < before
	}

	deadline := time.Now().Add(patience)
	for !taken() {
		if time.Now().After(deadline) {
			p.Fatalf("not within %v: the browser complains of %q", patience, text)
		}
		select {
		case <-time.After(30 * time.Millisecond):
		case <-p.ctx.Done():
			p.Fatal(p.ctx.Err())
		}
	}
}

func (p *tab) check() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.complains {
		p.Errorf("the browser complains: %s", c)
	}
	if p.Failed() {
		p.Logf("the page said: %s", p.tryEval(`document.body.innerText`))
		p.picture("failed-" + strings.ReplaceAll(p.Name(), "/", "-"))
	}
}

func must[P, R any](p *tab, cmd cdp.Command[P, R], params P) R {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	r, err := chromedp.Call(ctx, cmd, params)
	if err != nil {
		p.Fatal(err)
	}
	return r
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.Fatal(err)
	}
}

// eval evaluates an expression in the page; a promise is waited for.
func eval[T any](p *tab, expression string) T {
	p.Helper()
	return evalWithin[T](p, patience, expression)
}

// evalWithin is eval of what may take longer, because it waits for many frames.
func evalWithin[T any](p *tab, limit time.Duration, expression string) T {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.Fatalf("%s: %v", expression, err)
	}
	return v
}

func (p *tab) tryEval(expression string) string {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		return err.Error()
	}
	return v
}

// await waits until a condition holds in the page.
func (p *tab) await(what, condition string) {
	p.Helper()
	p.awaitFor(patience, what, condition)
}

func (p *tab) awaitFor(limit time.Duration, what, condition string) {
	p.Helper()
	deadline := time.Now().Add(limit)
	for !eval[bool](p, "Boolean("+condition+")") {
		if time.Now().After(deadline) {
			p.Fatalf("not within %v: %s", limit, what)
		}
		select {
		case <-time.After(30 * time.Millisecond):
		case <-p.ctx.Done():
			p.Fatal(p.ctx.Err())
		}
	}
}

// awaitText waits until the first visible match of a selector says text.
func (p *tab) awaitText(selector, text string) {
	p.Helper()
	p.await(fmt.Sprintf("%s says %q", selector, text), fmt.Sprintf("tester.text(%s).includes(%s)", quote(selector), quote(text)))
}

func (p *tab) text(selector string) string {
	p.Helper()
	return eval[string](p, "tester.text("+quote(selector)+")")
}

func quote(s string) string {
	b, _ := json.Marshal(s) // a string marshals
	return string(b)
}

type focused struct {
	Name, Tag, Value string
	Ring             bool
}

func (p *tab) focus() focused {
	p.Helper()
	return eval[focused](p, "tester.focus()")
}

// reach goes to a control with Tab, as far as once around the page. A name that
// ends in … is the beginning of one.
func (p *tab) reach(name string) {
	p.Helper()
	var seen []string
	for range 300 {
		f := p.focus()
		if prefix, ok := strings.CutSuffix(name, "…"); f.Name == name || ok && strings.HasPrefix(f.Name, prefix) {
			if !f.Ring {
				p.Errorf("%q has the focus, and nobody can see it", name)
			}
			return
		}
		seen = append(seen, f.Name)
		p.do(chromedp.KeyEvent(kb.Tab))
	}
	p.Fatalf("Tab never comes to %q; it came to %q", name, slices.Compact(seen))
}

// press goes to a button or link and presses it.
func (p *tab) press(name string) {
	p.Helper()
	p.reach(name)
	p.do(chromedp.KeyEvent(kb.Enter))
}

// enter goes to a field and types.
func (p *tab) enter(name, text string) {
	p.Helper()
	p.reach(name)
	if p.focus().Value != "" {
		p.do(chromedp.KeyEvent("a", chromedp.KeyModifiers(chromedp.ModifierCtrl)), chromedp.KeyEvent(kb.Backspace))
	}
	p.do(chromedp.KeyEvent(text))
}

// pick goes to a choice and moves with the arrow keys to the option of a value.
func (p *tab) pick(name, value string) {
	p.Helper()
	p.reach(name)
	p.do(chromedp.KeyEvent(kb.Home))
	for range 20 {
		if p.focus().Value == value {
			return
		}
		p.do(chromedp.KeyEvent(kb.ArrowDown))
	}
	p.Fatalf("%q has no option %q", name, value)
}

func (p *tab) size(width, height int64) {
	p.Helper()
	must(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
}

func (p *tab) scheme(name string) {
	p.Helper()
	must(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

// interactive are the roles of things that can be used.
var interactive = []string{"button", "link", "textbox", "searchbox", "combobox", "checkbox", "spinbutton", "DisclosureTriangle", "dialog", "image", "list", "region", "timer"}

// audit looks at the page as it stands, light and dark, wide and narrow, and
// keeps a picture of it.
func (p *tab) audit(state string) {
	p.Helper()
	named := 0
	for _, n := range must(p, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if n.Ignored || n.Role == nil || !slices.Contains(interactive, axText(n.Role)) {
			continue
		}
		switch role := axText(n.Role); {
		case axText(n.Name) != "":
			named++
		case role == "list" || role == "timer" || role == "region": // their content is their name
		default:
			p.Errorf("%s: a %s has no name in the accessibility tree (node %d)", state, role, n.BackendDOMNodeID)
		}
	}
	if named < 3 { // a dialog with two buttons
		p.Errorf("%s: only %d controls in the accessibility tree", state, named)
	}
	for _, scheme := range []string{"light", "dark"} {
		p.scheme(scheme)
		got := eval[struct {
			Found   []string
			Checked int
		}](p, "tester.pale()")
		if got.Checked < 8 {
			p.Errorf("%s: only %d texts were looked at", state, got.Checked)
		}
		for _, f := range got.Found {
			p.Errorf("%s, %s: contrast %s", state, scheme, f)
		}
		p.picture(state + "-" + scheme)
		p.axe(state, scheme)
	}
	p.size(360, 740)
	for _, w := range eval[[]string](p, "tester.wide()") {
		p.Errorf("%s: runs over the edge of a narrow window: %s", state, w)
	}
	p.axe(state+", narrow", "dark")
	p.scheme("light")
	p.picture(state + "-narrow")
	p.axe(state+", narrow", "light")
	p.size(1280, 900)
	for _, w := range eval[[]string](p, "tester.wide()") {
		p.Errorf("%s: runs over the window's edge: %s", state, w)
	}
}

// axeRuns and axeTook are how often axe-core has looked, and how long that took, in
// nanoseconds.
var axeRuns, axeTook atomic.Int64

// axe has axe-core look at the page, if AXE names its file, as `make test` does where
// there is npm. In the dark, only the colours are others.
func (p *tab) axe(state, scheme string) {
	p.Helper()
	file := os.Getenv("AXE")
	if file == "" {
		return
	}
	if !eval[bool](p, "Boolean(window.axe)") {
		source, err := os.ReadFile(file)
		if err != nil {
			p.Fatal(err)
		}
		eval[bool](p, string(source)+"; true")
	}
	options := "{}"
	if scheme == "dark" {
		options = `{ runOnly: ["color-contrast"] }`
	}
	began := time.Now()
	defer func() {
		axeRuns.Add(1)
		axeTook.Add(int64(time.Since(began)))
	}()
	for _, v := range eval[[]string](p, `axe.run(document, `+options+`).then(({ violations }) => violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.html.slice(0, 120))))`) {
		p.Errorf("%s, %s: axe: %s", state, scheme, v)
	}
}

func axText(v *accessibility.Value) string {
	var s string
	if v == nil || json.Unmarshal(v.Value, &s) != nil {
		return ""
	}
	return s
}

// picture keeps a screenshot, if somebody asked for them.
func (p *tab) picture(name string) {
	p.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)
	}
	if err != nil {
		p.Logf("no picture of %s: %v", name, err)
	}
}
