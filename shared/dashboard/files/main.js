// The page: who is signed in, what is open, and what the stream says.
import { announce, button, h, set } from "/dashboard/dom.js";
import { Account } from "/dashboard/account.js";
import { Conversations } from "/dashboard/conversations.js";
import { Detail } from "/dashboard/instance.js";
import { List } from "/dashboard/list.js";
import { Log } from "/dashboard/log.js";
import { enter, forgetKey, keptKey, signIn } from "/dashboard/signin.js";
import { Phones } from "/dashboard/phones.js";
import { Store } from "/dashboard/store.js";
import { Stream } from "/dashboard/stream.js";
import { FirstSteps } from "/dashboard/firststeps.js";
import { choose, explain, language, languages, meaning, preferred, speak, t } from "/dashboard/strings.js";
import { Webhooks } from "/dashboard/webhooks.js";

const page = document.getElementById("page");

// pages are those that the bar leads to, beside the instances.
const pages = { webhooks: Webhooks, account: Account, phones: Phones };

function decode(text) {
  try {
    return text ? decodeURIComponent(text) : null;
  } catch {
    return null;
  }
}

// staleAfter is how old what is shown may be when somebody looks again.
const staleAfter = 30_000;

// hiddenFor is how long the page is out of sight before it stops listening.
const hiddenFor = 5000;

// Session is everything between signing in and signing out.
class Session {
  #stream;
  #ticking;
  #synced = 0;
  #state = { state: "connecting" };
  #gone = "";
  #hiding;

  constructor({ api, only }) {
    this.api = api;
    this.store = new Store(api);
    api.onSlow = (slow) => {
      if (slow) this.#say(t("api.slow"), "warning");
      else if (this.#gone === t("api.slow")) this.#say("");
    };
    this.store.only = only;
    for (const type of ["change", "code", "list", "removed"]) this.store.addEventListener(type, (e) => this.#changed(type, e.detail));
    this.listen = (e) => this.#browser(e);
    window.addEventListener("hashchange", this.listen);
    window.addEventListener("online", this.listen);
    document.addEventListener("visibilitychange", this.listen);
  }

  // run lasts until the key is refused or somebody signs out, and tells why.
  async run() {
    this.build();
    const stream = this.#stream = new Stream({
      open: (lastId, signal) => this.api.stream(lastId, signal),
      onEvent: (event) => this.#event(event),
      onState: (state, failure, retryAt) => this.#live(state, failure, retryAt),
      onGap: () => { this.#synced = 0; },
    });
    this.#ticking = setInterval(() => this.#tick(), 1000);
    const left = new Promise((resolve) => { this.leave = resolve; });
    const refused = stream.run().then(() => this.#state.failure ?? null);
    const why = await Promise.race([left, refused]);
    stream.stop();
    clearInterval(this.#ticking);
    clearTimeout(this.#hiding);
    window.removeEventListener("hashchange", this.listen);
    window.removeEventListener("online", this.listen);
    document.removeEventListener("visibilitychange", this.listen);
    for (const dialog of document.querySelectorAll("dialog")) dialog.close();
    this.over = true;
    return why;
  }

  // build makes the page; again when the language changes.
  build() {
    const { api, store } = this;
    this.state = h("span", { class: "stream" });
    this.retry = button("quiet", t("stream.retry"), () => this.#stream.hurry());
    this.banner = h("p", { class: "banner", hidden: !this.#gone }, this.#gone);
    this.list = new List({ api, store, open: (id, pair) => this.#open(id, pair) });
    this.right = h("div", { class: "right" });
    this.columns = h("div", { class: "columns" }, this.list.element, this.right);
    this.main = h("main", null, this.banner, this.columns);
    this.view?.close();
    this.view = null;
    // A key of one instance opens that one only.
    this.nav = !store.only && h("nav", { "aria-label": t("nav.title") }, ...["instances", ...Object.keys(pages)].filter((name) => this.#has(name)).map((name) =>
      h("a", { href: name === "instances" ? "#/" : `#/${name}`, "data-page": name }, t(`nav.${name}`))));
    page.replaceChildren(
      h("header", { class: "bar" },
        h("a", { class: "brand", href: "#/" }, h("img", { src: "/dashboard/icon.svg", alt: "" }), h("h1", null, "WhatIsUp")),
        h("span", { class: "mode", "data-mode": api.mode }, t(`app.mode.${api.mode}`)),
        this.nav,
        h("span", { class: "grow" }),
        this.state, this.retry,
        languageChoice(() => this.build()),
        button("quiet", t("app.signout"), () => this.leave(null))),
      this.main, footer());
    if (this.#synced) this.list.render();
    this.detail = this.overview = this.first = null;
    this.#route();
    this.#live(this.#state.state, this.#state.failure, this.#state.retryAt);
  }

  // route is what the address names: a page, and of an instance what of it.
  get #address() {
    const parts = location.hash.replace(/^#\/?/, "").split("/");
    const only = this.store.only;
    if (!only && parts[0] in pages && this.#has(parts[0])) return { page: parts[0], id: null, key: decode(parts[1]) };
    const id = only ?? (parts[0] === "instances" && /^[0-9a-f-]{36}$/.test(parts[1] ?? "") ? parts[1] : null);
    if (id && parts[1] === id && parts[2] === "chats") return { page: "chats", id, key: decode(parts[3]) };
    return { page: "instances", id };
  }

  // has says whether there is a page: the simulated phones are the sandbox's.
  #has(page) {
    return page !== "phones" || this.api.mode === "test";
  }

  get #selected() {
    return this.#address.id;
  }

  // route shows what the address names.
  #route({ moved = false } = {}) {
    const { page, id, key } = this.#address;
    const known = id && this.store.instances.has(id);
    if (id && !known && this.#synced) {
      // Not on the pages read so far, or gone.
      this.store.refresh(id).then(() => { if (!this.store.instances.has(id)) location.hash = "#/"; }, () => {});
    }
    for (const link of this.nav ? this.nav.children : []) {
      if (link.dataset.page === page || (link.dataset.page === "instances" && page === "chats")) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (page !== "instances" && (known || !id)) {
      this.#whole(page, id, key, moved);
      return;
    }
    if (this.view) {
      this.view.close();
      this.view = null;
      this.main.replaceChildren(this.banner, this.columns);
    }
    const before = this.detail?.id ?? null;
    const shown = known ? id : null;
    if (shown !== before || !this.right.firstChild) {
      this.detail = shown ? new Detail({ api: this.api, store: this.store, id: shown, live: () => this.#state.state === "live" }) : null;
      if (this.detail) this.detail.id = shown;
      this.overview = shown ? null : new Log({ api: this.api, store: this.store });
      this.first = shown || this.store.only ? null : new FirstSteps({ api: this.api, store: this.store, create: () => this.list.create() });
      this.right.replaceChildren(...[this.first, this.detail, this.overview].filter(Boolean).map((part) => part.element));
      if (this.first && this.#synced) this.first.read();
      if (this.overview && this.#synced) this.overview.read();
    }
    this.columns.dataset.view = shown ? "detail" : "list";
    this.list.select(shown);
    if (moved) {
      if (this.detail) this.detail.heading.focus();
      else this.list.focus(before);
    }
  }

  // whole shows a page that takes the whole width.
  #whole(page, id, key, moved) {
    const name = page + (id ?? "");
    const fresh = this.view?.name !== name;
    if (fresh) {
      this.view?.close();
      this.view = page === "chats" ? new Conversations({ api: this.api, store: this.store, id }) : new pages[page]({ api: this.api, store: this.store });
      this.view.name = name;
      this.detail = this.overview = this.first = null;
      this.right.replaceChildren();
      this.main.replaceChildren(this.banner, this.view.element);
    }
    this.view.choose?.(key ?? null);
    if (moved) this.view.focus();
  }

  #open(id, pair) {
    const path = `#/instances/${id}`;
    if (location.hash === path) return;
    history.pushState(null, "", path);
    this.#route({ moved: true });
    if (pair) this.detail?.pairing.fetch();
  }

  #browser(e) {
    if (e.type === "hashchange") {
      if (this.#gone) this.#say("");
      this.#route({ moved: true });
    } else if (e.type === "online") {
      this.#stream.hurry();
    } else if (document.hidden) {
      this.#hiding = setTimeout(() => this.#stream.rest(), hiddenFor);
    } else {
      clearTimeout(this.#hiding);
      this.#stream.wake();
      if (this.#state.state === "live" && Date.now() - this.#synced > staleAfter) this.#sync();
    }
  }

  async #sync() {
    const first = !this.#synced;
    this.#synced = Date.now();
    try {
      await this.store.sync();
      this.list.fail(null);
      if (first) {
        this.#route();
        this.overview?.read();
        this.first?.read();
      }
    } catch (failure) {
      if (first) this.#synced = 0;
      this.list.fail(failure);
      setTimeout(() => {
        if (!this.over && this.#state.state === "live") this.#sync();
      }, Math.max(failure.retryAfter ?? 0, 10) * 1000);
    }
  }

  #event(event) {
    try {
      this.store.apply(event);
      this.overview?.add(event);
      this.detail?.log.add(event);
      this.view?.add(event);
      this.first?.add(event);
    } catch (error) {
      console.error(error); // of an event that is not as promised; the next one may be
    }
  }

  #changed(type, { id, known, instance, forgotten }) {
    if (type === "list") {
      this.list.render();
      this.list.select(this.detail?.id);
      return;
    }
    if (type === "change") {
      this.list.update(instance);
      if (known && (known.status !== instance.status || known.status_detail.reason !== instance.status_detail.reason)) {
        announce(`${instance.name}: ${t(`status.${instance.status}`)}. ${meaning(instance.status, instance.status_detail.reason)}`);
      }
    }
    if (id !== this.#selected) return;
    if (type === "removed") {
      if (forgotten) { // only not on the first page any more
        this.store.refresh(id).catch(() => {});
        return;
      }
      this.#say(t("detail.gone", { name: known.name }));
      history.replaceState(null, "", "#/");
      this.#route({ moved: true });
    } else if (this.detail?.id === id) {
      this.detail.update();
    } else if (this.view) {
      this.view.update?.();
    } else {
      this.#route();
    }
  }

  // say tells something that has no other place, for all to see and hear.
  #say(text, kind = "") {
    this.#gone = text;
    this.banner.dataset.kind = kind;
    set(this.banner, text);
    this.banner.hidden = !text;
    if (text) announce(text);
  }

  #live(state, failure, retryAt) {
    const was = this.#state.state;
    // While it tries again, what the last try came to stays to be read.
    if (state === "connecting" && was === "waiting") return;
    this.#state = { state, failure, retryAt };
    this.state.dataset.state = state;
    if (state === "live" && document.activeElement === this.retry) (this.view?.heading ?? this.detail?.heading ?? this.list.search).focus();
    this.retry.hidden = state !== "waiting";
    if (state === "live") {
      this.list.fail(null);
      if (was === "waiting") this.#say(t("stream.back"));
      if (was !== "live" || !this.#synced) this.#sync();
      if (was !== "live" && this.#synced) this.view?.read();
      setTimeout(() => { if (this.#gone === t("stream.back")) this.#say(""); }, 4000);
    } else if (state === "waiting") {
      if (was !== "waiting") this.#say(`${t("stream.lost")} ${explain(failure)}`, "warning");
      if (!this.#synced) this.#sync();
    }
    this.#tick();
  }

  #tick() {
    const { state, retryAt } = this.#state;
    // The count is not for the ears: only the change of state is announced.
    const text = state === "waiting"
      ? t("stream.waiting", { seconds: Math.max(0, Math.ceil((retryAt - Date.now()) / 1000)) })
      : t({ live: "stream.live", paused: "stream.paused" }[state] ?? "stream.connecting");
    set(this.state, text);
    if (document.hidden) return;
    this.list.tick();
    this.detail?.tick();
    this.view?.tick?.();
  }
}

function languageChoice(changed) {
  return h("select", {
    class: "quiet", "aria-label": t("app.language"),
    change: async (e) => {
      const code = e.currentTarget.value;
      await speak(code);
      choose(code);
      changed();
      document.querySelector(`select[aria-label="${t("app.language")}"]`)?.focus();
    },
  }, ...Object.entries(languages).map(([code, name]) => h("option", { value: code, lang: code, selected: code === language ? "" : null }, name)));
}

function footer() {
  return h("footer", null, h("span", null, t("app.about")), h("a", { href: "/docs", target: "_blank", rel: "noopener" }, t("app.docs")));
}

async function main() {
  await speak(preferred());
  let problem = "";
  for (let key = keptKey(); ; key = null) {
    let entered = null;
    if (key) {
      try {
        entered = await enter(key, () => { throw null; });
      } catch (failure) {
        if (failure) problem = explain(failure);
        if (failure?.status === 401) forgetKey();
      }
    }
    entered ??= await new Promise((resolve) => {
      const show = (text) => {
        const host = h("div");
        page.replaceChildren(h("header", { class: "bar bare" }, h("span", { class: "grow" }), languageChoice(() => show(""))), host, footer());
        signIn(host, { problem: text }).then(resolve);
      };
      show(problem);
    });
    problem = "";
    const failure = await new Session(entered).run();
    forgetKey();
    history.replaceState(null, "", location.pathname);
    if (failure) problem = explain(failure);
  }
}

main().catch((error) => {
  page.textContent = `This page could not be started: ${error.message}`;
});
