// The other end of a conversation of the sandbox: what the simulated phone shows,
// how it behaves, and what its owner writes.
import { act, alert, button, field, h, set, uniqueId } from "/dashboard/dom.js";
import { oneLine, timeOf, whenOf } from "/dashboard/message.js";
import { explain, phone, t } from "/dashboard/strings.js";

const kinds = ["text", "image", "video", "audio", "document", "sticker", "location", "contacts", "poll"];
const pagesAtMost = 10;
const shownAtMost = 100;

// sample is a body of a kind; of a file, the simulator has one.
function sample(kind, text) {
  switch (kind) {
    case "text": return { type: kind, text };
    case "image": case "video": return { type: kind, ...(text ? { caption: text } : {}) };
    case "document": return { type: kind, filename: text || "document.pdf" };
    case "location": return { type: kind, latitude: 38.7223, longitude: -9.1393, ...(text ? { name: text } : {}) };
    case "contacts": return { type: kind, contacts: [{ name: text || "Ana", phone_numbers: ["351912345678"] }] };
    case "poll": return { type: kind, question: text || "?", options: ["1", "2", "3"], selectable: 1 };
    default: return { type: kind };
  }
}

export class PhoneView {
  #api;
  #store;
  #id;
  #number;
  #cursor = null; // where the last page begins
  #shown = new Map();
  #soon;
  #reading = false;
  #again = false;

  constructor({ api, store, id, number, changed = () => {} }) {
    this.behaved = changed;
    this.#api = api;
    this.#store = store;
    this.#id = id;
    this.#number = number;
    const title = uniqueId("phone");
    this.items = h("ol");
    this.note = h("p", { class: "note" }, t("phones.empty"));
    this.problem = alert();
    const choice = (name, values) => h("select", { id: uniqueId("behaviour"), change: () => this.#behave() },
      ...values.map((v) => h("option", { value: v ?? "" }, t(`phones.${name}.${v ?? "none"}`))));
    const check = () => h("input", { id: uniqueId("behaviour"), type: "checkbox", change: () => this.#behave() });
    this.reads = choice("reads", ["auto", "manual", "never"]);
    this.replies = choice("replies", ["none", "echo"]);
    this.restricts = choice("restricts", [null, "reachout", "new_chats"]);
    this.offline = check();
    this.known = check();
    this.kind = h("select", { id: uniqueId("kind") }, ...kinds.map((k) => h("option", { value: k }, t(`type.${k}`))));
    this.text = h("input", { id: uniqueId("say"), autocomplete: "off" });
    this.write = h("button", { type: "submit" }, t("phones.write"));
    const checked = (input, label) => h("div", { class: "check" }, input, h("label", { htmlFor: input.id }, label));
    this.element = h("section", { class: "pane phone-view", "aria-labelledby": title },
      h("h3", { id: title, tabindex: "-1" }, t("phones.title", { phone: phone(number) })),
      h("p", { class: "hint" }, t("phones.text")),
      h("div", { class: "screen", tabindex: "0", role: "region", "aria-label": t("phones.screen") }, this.items, this.note),
      h("form", { class: "tools", submit: (e) => { e.preventDefault(); this.#say(); } },
        field(t("phones.kind"), this.kind), field(t("phones.say"), this.text), this.write),
      this.problem,
      h("details", { class: "behaviour" }, h("summary", null, t("phones.behaviour")),
        h("div", { class: "fields" },
          field(t("phones.reads"), this.reads), field(t("phones.replies"), this.replies), field(t("phones.restricts"), this.restricts),
          checked(this.offline, t("phones.offline")), checked(this.known, t("phones.known")))));
  }

  get #path() {
    return `/v1/sandbox/phones/${this.#number}`;
  }

  close() {
    clearTimeout(this.#soon);
    this.closed = true;
  }

  // readSoon reads once for many events; the receipts follow a message closely.
  readSoon() {
    clearTimeout(this.#soon);
    this.#soon = setTimeout(() => this.read(), 400);
  }

  async read() {
    if (this.closed) return;
    this.#again = true;
    if (this.#reading) return;
    this.#reading = true;
    try {
      while (this.#again) {
        this.#again = false;
        await this.#readOnce();
      }
      set(this.problem, "");
    } catch (failure) {
      set(this.problem, explain(failure));
    }
    this.#reading = false;
  }

  async #readOnce() {
    if (!this.behaviour) this.#show(await this.#api.get(this.#path));
    const ours = this.#store.instances.get(this.#id)?.phone_number;
    for (let page = 0; page < pagesAtMost; page++) {
      const query = { limit: 200 };
      if (ours) query.chat = ours;
      if (this.#cursor) query.cursor = this.#cursor;
      const answer = await this.#api.get(`${this.#path}/messages?${new URLSearchParams(query)}`);
      for (const m of answer.data) this.#shown.set(m.message_id, m);
      if (!answer.next_cursor) break;
      this.#cursor = answer.next_cursor;
    }
    this.#draw();
  }

  #show(behaviour) {
    this.behaviour = behaviour;
    this.reads.value = behaviour.reads;
    this.replies.value = behaviour.replies;
    this.restricts.value = behaviour.restricts ?? "";
    this.offline.checked = behaviour.offline;
    this.known.checked = behaviour.on_whatsapp;
  }

  async #behave() {
    try {
      this.#show(await this.#api.put(this.#path, {
        reads: this.reads.value, replies: this.replies.value, restricts: this.restricts.value || null,
        offline: this.offline.checked, on_whatsapp: this.known.checked,
      }));
      set(this.problem, "");
      this.readSoon();
      this.behaved();
    } catch (failure) {
      set(this.problem, explain(failure));
    }
  }

  #draw() {
    const all = [...this.#shown.values()].slice(-shownAtMost);
    const screen = this.items.parentElement;
    const end = screen.scrollHeight - screen.scrollTop - screen.clientHeight < 60;
    const had = document.activeElement?.dataset?.read;
    this.items.replaceChildren(...all.map((m) => this.#item(m)));
    this.note.hidden = all.length > 0;
    if (end) screen.scrollTop = screen.scrollHeight;
    if (had) (this.items.querySelector("[data-read]") ?? screen).focus();
  }

  #item(m) {
    const mine = m.from === this.#number;
    const item = { message: m, revoked: Boolean(m.revoked_at) };
    const at = Date.parse(m.at);
    let read = null;
    if (!mine && !m.read_at) {
      read = button("quiet", t("phones.read"), () => act(read, () => this.#act({ kind: "read", message_id: m.message_id })));
      read.dataset.read = m.message_id;
    }
    return h("li", { class: "message", "data-mine": mine ? "" : null }, h("div", { class: "bubble" },
      h("p", { class: "said" }, oneLine(item)),
      h("p", { class: "faint" }, h("time", { datetime: m.at, title: whenOf(at) }, whenOf(at)),
        m.edited_at ? ` · ${t("message.edited")}` : "",
        m.read_at ? ` · ${t("phones.readat", { time: timeOf(Date.parse(m.read_at)) })}` : "", read)));
  }

  async #act(body) {
    try {
      await this.#api.post(`${this.#path}/actions`, { instance_id: this.#id, ...body });
      set(this.problem, "");
      await this.read();
    } catch (failure) {
      set(this.problem, explain(failure));
    }
  }

  #say() {
    const kind = this.kind.value;
    const text = this.text.value.trim();
    if (kind === "text" && !text) {
      this.text.focus();
      return;
    }
    return act(this.write, async () => {
      try {
        await this.#api.post(`/v1/sandbox/instances/${this.#id}/messages`, { from: this.#number, body: sample(kind, text) });
        this.text.value = "";
        set(this.problem, "");
        await this.read();
      } catch (failure) {
        set(this.problem, explain(failure));
      }
    });
  }
}
