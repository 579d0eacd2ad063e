// The conversations of one instance: who wrote, what was said, and what is sent
// from here.
import { act, alert, button, field, h, icon, icons, set, uniqueId } from "/dashboard/dom.js";
import { bodyOf, kindOf, largest } from "/dashboard/files.js";
import { badge } from "/dashboard/list.js";
import { Chats } from "/dashboard/chats.js";
import { Bubble, oneLine, shortly, size, state } from "/dashboard/message.js";
import { PhoneView } from "/dashboard/phoneview.js";
import { explain, phone, t } from "/dashboard/strings.js";
import { Windowed } from "/dashboard/windowed.js";

// shownAtMost bounds the list of conversations; a search finds the others.
const shownAtMost = 200;

export function chatPath(id, key) {
  return `#/instances/${id}/chats${key ? `/${encodeURIComponent(key)}` : ""}`;
}

export class Conversations {
  #api;
  #store;
  #chats;
  #thread = null;
  #rows = new Map();
  #drawing = false;

  constructor({ api, store, id }) {
    this.#api = api;
    this.#store = store;
    this.id = id;
    this.#chats = new Chats({ api, id });
    this.#chats.addEventListener("list", () => this.#drawSoon());
    this.#chats.addEventListener("chat", (e) => this.#thread?.changed(e.detail));
    const title = uniqueId("chats");
    this.heading = h("h2", { id: title, tabindex: "-1" });
    this.badge = badge();
    this.search = h("input", { type: "search", placeholder: t("chats.search"), "aria-label": t("chats.search"), input: () => this.#draw() });
    const to = h("input", { id: uniqueId("to"), type: "tel", inputmode: "tel", required: "", autocomplete: "off", placeholder: "+55 11 91234 5678" });
    this.rows = h("ul", { class: "rows", "aria-label": t("chats.title") });
    this.note = h("p", { class: "note" }, t("chats.loading"));
    this.problem = alert();
    this.more = button("quiet wide", t("chats.more"), () => act(this.more, () => this.#try(() => this.#chats.older())));
    this.more.hidden = true;
    this.middle = h("div", { class: "thread-place" }, h("p", { class: "note" }, t("chats.choose")));
    this.element = h("section", { class: "chats", "aria-labelledby": title },
      h("header", { class: "title" },
        h("a", { class: "back always", href: `#/instances/${id}` }, icon(icons.back), t("chats.back")),
        this.heading, this.badge.element),
      h("div", { class: "panes" },
        h("div", { class: "pane people" },
          h("form", { class: "new-chat", submit: (e) => { e.preventDefault(); this.#begin(to); } },
            field(t("chats.new"), to), h("button", { type: "submit" }, t("chats.open"))),
          this.search, this.problem, this.rows, this.note, this.more),
        this.middle));
    this.update();
    this.read();
  }

  // read brings everything that was missed.
  read() {
    return this.#try(() => this.#chats.read());
  }

  async #try(work) {
    try {
      await work();
      set(this.problem, "");
    } catch (failure) {
      set(this.problem, explain(failure));
    }
  }

  #begin(to) {
    const digits = to.value.replace(/[^\d]/g, "");
    if (!digits) return;
    to.value = "";
    location.hash = chatPath(this.id, digits);
  }

  // choose shows the conversation of a key, or none.
  choose(key) {
    if ((this.#thread?.chat.key ?? null) === key) return;
    this.#thread?.close();
    this.#thread = key ? new Thread({ api: this.#api, store: this.#store, id: this.id, chats: this.#chats, chat: this.#chats.open(key) }) : null;
    this.middle.replaceChildren(this.#thread?.element ?? h("p", { class: "note" }, t("chats.choose")));
    this.element.dataset.view = key ? "thread" : "people";
    this.#thread?.start();
    this.#draw();
  }

  update() {
    const i = this.#store.instances.get(this.id);
    if (!i) return;
    set(this.heading, t("chats.of", { name: i.name }));
    this.badge.show(i.status);
  }

  add(event) {
    this.#chats.apply(event);
  }

  close() {
    this.#thread?.close();
  }

  focus() {
    (this.#thread?.heading ?? this.heading).focus();
  }

  #drawSoon() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#draw();
    });
  }

  #draw() {
    const text = this.search.value.trim().toLowerCase();
    const digits = text.replace(/\D/g, "");
    const wanted = [...this.#chats.all.values()]
      .filter((c) => c.items.length || c === this.#thread?.chat)
      .filter((c) => !text || (c.name ?? "").toLowerCase().includes(text) || (digits && c.key.includes(digits)))
      .sort((a, b) => last(b) - last(a)).slice(0, shownAtMost);
    const kept = new Set(wanted.map((c) => c.key));
    for (const [key, row] of this.#rows) {
      if (kept.has(key)) continue;
      row.element.remove();
      this.#rows.delete(key);
    }
    let next = this.rows.firstElementChild;
    for (const chat of wanted) {
      let row = this.#rows.get(chat.key);
      if (!row) this.#rows.set(chat.key, row = new ChatRow(this.id, chat));
      row.show(chat, chat === this.#thread?.chat);
      if (row.element === next) next = next.nextElementSibling;
      else this.rows.insertBefore(row.element, next);
    }
    this.#thread?.show();
    this.note.hidden = wanted.length > 0 || this.problem.textContent !== "";
    set(this.note, t(text ? "chats.nomatch" : "chats.empty"));
    this.more.hidden = !this.#chats.more;
  }
}

function last(chat) {
  return chat.items.at(-1)?.at ?? Infinity;
}

export function chatName(chat) {
  if (chat.type === "group") return chat.name ?? t("chats.group");
  return /^\d+$/.test(chat.key) ? phone(chat.key) : chat.name ?? chat.key;
}

class ChatRow {
  constructor(id, chat) {
    this.name = h("strong");
    this.alias = h("span", { class: "faint" });
    this.when = h("time", { class: "since" });
    this.text = h("span", { class: "reason" });
    this.unread = h("span", { class: "unread" });
    this.link = h("a", { href: chatPath(id, chat.key) },
      h("span", { class: "line" }, this.name, this.when),
      h("span", { class: "line" }, this.text, this.unread));
    this.element = h("li", null, this.link);
  }

  show(chat, current) {
    const item = chat.items.at(-1);
    set(this.name, chatName(chat));
    set(this.when, item ? shortly(item.at) : "");
    const failed = item?.message.direction === "out" && ["failed", "expired"].includes(item.message.status);
    set(this.text, !item ? "" : failed ? state(item.message) : `${item.mine ? `${t("chats.you")}: ` : ""}${oneLine(item)}`);
    this.text.classList.toggle("bad", failed);
    set(this.unread, chat.unread ? String(chat.unread) : "");
    this.unread.hidden = !chat.unread;
    if (chat.unread) this.unread.setAttribute("aria-label", t("chats.unread", { count: chat.unread }));
    if (current) this.link.setAttribute("aria-current", "true");
    else this.link.removeAttribute("aria-current");
  }
}

// Thread is one conversation: its messages and the box to write.
class Thread {
  #api;
  #file = null; // that goes with the next message
  #chats;
  #store;
  #id;
  #replyTo = null;
  #changed = new Set(); // keys to draw anew
  #added = false;
  #drawing = 0;
  #reading = false;
  #more = true;

  constructor({ api, store, id, chats, chat }) {
    this.#api = api;
    this.#chats = chats;
    this.#store = store;
    this.#id = id;
    this.chat = chat;
    this.alias = h("span", { class: "faint" });
    this.markRead = button("quiet", t("chats.markread"), () => act(this.markRead, () => this.#try(() => chats.markRead(chat))));
    const title = uniqueId("thread");
    this.heading = h("h3", { id: title, tabindex: "-1" }, chatName(chat));
    this.bubble = new Bubble({
      group: () => chat.type === "group",
      reply: (item) => this.#reply(item),
      cancel: (item) => this.#try(() => chats.cancel(chat, item)),
      file: (id) => chats.files.get(id),
      show: (item) => this.#try(() => chats.showFile(chat, item)),
      quote: (target) => {
        const item = chat.byId.get(typeof target === "string" ? target : target.message_id);
        return item ? oneLine(item) : "";
      },
    });
    this.window = new Windowed({ label: t("chats.messages"), draw: (item, before) => this.bubble.draw(item, before), onTop: () => this.#older() });
    this.note = h("p", { class: "note" }, t("chats.loading"));
    this.problem = alert();
    this.quote = h("p", { class: "quote", hidden: true }, h("span"), button("quiet", t("message.noreply"), () => this.#reply(null)));
    this.text = h("textarea", {
      id: uniqueId("text"), rows: "2", maxlength: "65536", "aria-label": t("chats.write"), placeholder: t("chats.write"),
      keydown: (e) => {
        if (e.key !== "Enter" || e.shiftKey || e.isComposing) return;
        e.preventDefault();
        this.#send();
      },
    });
    this.file = h("input", { type: "file", tabindex: "-1", hidden: true, "aria-label": t("chats.file"), change: () => this.#attach(this.file.files[0] ?? null) });
    this.attach = button("", t("chats.file"), () => this.file.click());
    this.attached = h("p", { class: "quote", hidden: true }, h("span"), button("quiet", t("chats.nofile"), () => this.#attach(null)));
    this.sendButton = h("button", { type: "submit", class: "primary" }, t("chats.send"));
    this.phone = api.mode === "test" && chat.type === "direct" && /^\d+$/.test(chat.key) ? new PhoneView({ api, store, id, number: chat.key }) : null;
    this.element = h("div", { class: "both" },
      h("section", { class: "pane thread", "aria-labelledby": title },
        h("header", { class: "title" }, h("a", { class: "back", href: chatPath(id) }, icon(icons.back), t("chats.title")), this.heading, this.alias, h("span", { class: "grow" }), this.markRead),
        this.note, this.window.element, this.problem, this.quote, this.attached,
        h("form", { class: "composer", submit: (e) => { e.preventDefault(); this.#send(); } }, this.file, this.text, this.attach, this.sendButton),
        h("p", { class: "hint" }, t("chats.enter"))),
      this.phone?.element);
  }

  start() {
    this.show();
    this.window.show(this.chat.items, { toEnd: true });
    this.#older();
    this.phone?.read();
  }

  close() {
    cancelAnimationFrame(this.#drawing);
    this.window.close();
    this.phone?.close();
  }

  changed({ chat, keys, added }) {
    if (chat !== this.chat) return;
    for (const key of keys) this.#changed.add(key);
    this.#added ||= added;
    // Once for all that come in a burst.
    this.#drawing ||= requestAnimationFrame(() => this.#draw());
  }

  // show tells what the list of conversations knows.
  show() {
    set(this.heading, chatName(this.chat));
    set(this.alias, this.chat.type === "direct" ? this.chat.name ?? "" : "");
    if (!this.chat.unread && document.activeElement === this.markRead) this.text.focus();
    this.markRead.hidden = !this.chat.unread;
  }

  #draw() {
    this.#drawing = 0;
    this.window.change(this.#changed);
    this.#changed.clear();
    if (this.#added) this.window.show(this.chat.items.slice());
    this.#added = false;
    this.note.hidden = this.chat.items.length > 0;
    this.show();
    this.phone?.readSoon();
  }

  async #older() {
    if (this.#reading || !this.#more) return;
    this.#reading = true;
    await this.#try(async () => { this.#more = await this.#chats.readOlder(this.chat); });
    this.#reading = false;
    set(this.note, t("chats.none"));
    this.note.hidden = this.chat.items.length > 0;
  }

  async #try(work) {
    try {
      await work();
      set(this.problem, "");
      return true;
    } catch (failure) {
      set(this.problem, explain(failure));
      return false;
    }
  }

  #reply(item) {
    this.#replyTo = item;
    this.quote.hidden = !item;
    if (item) set(this.quote.firstChild, t("message.replying", { text: oneLine(item).slice(0, 120) }));
    this.text.focus();
  }

  // attach takes a file that goes with the next message, or none.
  #attach(file) {
    if (!file) this.file.value = "";
    const tooLarge = file && file.size > largest;
    set(this.problem, tooLarge ? t("chats.toolarge", { size: size(largest) }) : "");
    this.#file = tooLarge ? null : file;
    this.attached.hidden = !this.#file;
    if (this.#file) set(this.attached.firstChild, `${t(`type.${kindOf(file)}`)}: ${file.name} · ${size(file.size)}`);
    this.text.focus();
  }

  // bodies are what is to be sent: a file with the text below it, or after it where the
  // kind of file has no text.
  async #bodies(file, text) {
    if (!file) return [{ type: "text", text }];
    const body = await bodyOf(this.#api, file, text.trim(), this.#chats.files);
    return body.caption || !text.trim() ? [body] : [body, { type: "text", text }];
  }

  #send() {
    const { value } = this.text;
    if (!value.trim() && !this.#file) return;
    return act(this.sendButton, async () => {
      const { message: m, mine } = this.#replyTo ?? { message: null };
      const from = m?.from?.phone_number ?? m?.from?.lid;
      const target = m && (mine || !from ? m.message_id : { message_id: m.message_id, from });
      const sent = await this.#try(async () => {
        for (const body of await this.#bodies(this.#file, value)) {
          await this.#chats.send(this.chat, body, target);
          if (body.type !== "text") this.#attach(null); // it does not go again if the text fails
        }
      });
      if (!sent) return;
      if (this.text.value.trim() === value.trim()) this.text.value = "";
      this.#attach(null);
      this.#reply(null);
      this.window.show(this.chat.items.slice(), { toEnd: true });
    });
  }
}
