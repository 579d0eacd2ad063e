// The simulated phones of the sandbox: who they are, how they behave, and what each
// shows of its conversation with an instance.
import { act, alert, button, field, h, set, uniqueId } from "/dashboard/dom.js";
import { chatPath } from "/dashboard/conversations.js";
import { PhoneView } from "/dashboard/phoneview.js";
import { explain, phone, t } from "/dashboard/strings.js";

const pageSize = 100;

function pathOf(number) {
  return `#/phones/${encodeURIComponent(number)}`;
}

// behaviour is what is special about a phone, in a line.
function behaviour(p) {
  const said = [];
  if (!p.on_whatsapp) said.push(t("phones.notknown"));
  if (p.offline) said.push(t("phones.offline"));
  if (p.reads !== "auto") said.push(`${t("phones.reads")}: ${t(`phones.reads.${p.reads}`)}`);
  if (p.replies !== "none") said.push(`${t("phones.replies")}: ${t(`phones.replies.${p.replies}`)}`);
  if (p.restricts) said.push(`${t("phones.restricts")}: ${t(`phones.restricts.${p.restricts}`)}`);
  return said.join(" · ") || t("phones.usual");
}

export class Phones {
  #api;
  #store;
  #cursor = null;
  #number = null;
  #view = null;
  #soon;

  constructor({ api, store }) {
    this.#api = api;
    this.#store = store;
    const title = uniqueId("phones");
    this.heading = h("h2", { id: title, tabindex: "-1" }, t("phones.all"));
    const number = h("input", { id: uniqueId("number"), type: "tel", inputmode: "tel", required: "", autocomplete: "off", placeholder: "+55 11 91234 5678" });
    this.problem = alert();
    this.rows = h("ul", { class: "rows", "aria-labelledby": title });
    this.note = h("p", { class: "note", hidden: true }, t("phones.nobody"));
    this.more = button("quiet wide", t("list.more"), () => act(this.more, () => this.#page(this.#cursor)));
    this.more.hidden = true;
    this.with = h("select", { id: uniqueId("with"), change: () => this.#beside() });
    this.both = h("a", { class: "go" }, t("phones.both"));
    this.choice = h("div", { class: "beside" }, field(t("phones.with"), this.with), this.both);
    this.place = h("div");
    this.right = h("div", { class: "right" }, this.choice, this.place);
    this.element = h("section", { class: "chats", "aria-labelledby": title },
      h("header", { class: "title" }, this.heading),
      h("p", { class: "hint" }, t("phones.about")),
      h("div", { class: "panes" },
        h("div", { class: "pane people" },
          h("form", { class: "new-chat", submit: (e) => { e.preventDefault(); this.#open(number); } },
            field(t("phones.number"), number), h("button", { type: "submit" }, t("phones.open"))),
          this.problem, this.rows, this.note, this.more),
        this.right));
    this.choose(null);
    this.read();
  }

  read() {
    return this.#page(null);
  }

  // add is told of every event: somebody may have written, and a phone be new.
  add({ event }) {
    if (!event.startsWith("message.")) return;
    this.#view?.readSoon();
    clearTimeout(this.#soon);
    this.#soon = setTimeout(() => this.read(), 2000);
  }

  close() {
    clearTimeout(this.#soon);
    this.#view?.close();
  }

  focus() {
    (this.element.querySelector(".phone-view h3") ?? this.heading).focus();
  }

  // choose shows the phone of a number, or none.
  choose(number) {
    this.#number = number && /^\d{7,15}$/.test(number) ? number : null;
    const linked = [...this.#store.instances.values()].filter((i) => i.phone_number && i.phone_number !== this.#number);
    this.with.replaceChildren(...linked.map((i) => h("option", { value: i.id }, `${i.name} (${phone(i.phone_number)})`)));
    this.choice.hidden = !this.#number || linked.length === 0;
    this.element.dataset.view = this.#number ? "thread" : "people";
    for (const row of this.rows.querySelectorAll("a")) this.#mark(row);
    this.#beside();
  }

  #mark(row) {
    if (row.dataset.number === this.#number) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }

  // beside shows the phone with the instance that was chosen.
  #beside() {
    this.#view?.close();
    this.#view = null;
    const back = h("a", { class: "back", href: "#/phones" }, t("phones.all"));
    if (!this.#number) {
      this.place.replaceChildren(h("p", { class: "note" }, t("phones.choose")));
      return;
    }
    if (!this.with.value) {
      this.place.replaceChildren(back, h("p", { class: "note" }, t("phones.nolink")));
      return;
    }
    this.both.href = chatPath(this.with.value, this.#number);
    this.#view = new PhoneView({ api: this.#api, store: this.#store, id: this.with.value, number: this.#number, changed: () => this.read() });
    this.place.replaceChildren(back, this.#view.element);
    this.#view.read();
  }

  #open(input) {
    const digits = input.value.replace(/\D/g, "");
    if (!digits) return;
    input.value = "";
    location.hash = pathOf(digits);
  }

  async #page(cursor) {
    const query = new URLSearchParams({ limit: pageSize });
    if (cursor) query.set("cursor", cursor);
    try {
      const page = await this.#api.get(`/v1/sandbox/phones?${query}`);
      const had = document.activeElement?.dataset?.number;
      if (!cursor) this.rows.replaceChildren();
      this.rows.append(...page.data.map((p) => this.#row(p)));
      if (had) this.rows.querySelector(`[data-number="${had}"]`)?.focus();
      this.#cursor = page.next_cursor;
      set(this.problem, "");
    } catch (failure) {
      set(this.problem, explain(failure));
    }
    this.more.hidden = !this.#cursor;
    this.note.hidden = this.rows.childElementCount > 0 || this.problem.textContent !== "";
  }

  #row(p) {
    const link = h("a", { href: pathOf(p.phone_number), "data-number": p.phone_number },
      h("strong", null, phone(p.phone_number)), h("span", { class: "faint" }, behaviour(p)));
    this.#mark(link);
    return h("li", null, link);
  }
}
