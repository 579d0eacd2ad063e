// The list of instances.
import { act, alert, button, h, icon, icons, set, uniqueId } from "/dashboard/dom.js";
import { nameField, openDialog } from "/dashboard/dialog.js";
import { duration, explain, meaning, phone, t } from "/dashboard/strings.js";

export const statuses = ["pending", "qr", "connecting", "connected", "disconnected", "failed"];

// badge is a status as a coloured word.
export function badge() {
  const element = h("span", { class: "badge" });
  return {
    element,
    show(status) {
      set(element, t(`status.${status}`));
      element.dataset.status = status;
    },
  };
}

// List shows a store's instances, newest first. open is called with the instance
// that was created and whether it is to be paired at once.
export class List {
  #rows = new Map();
  #pending = false;
  #store;
  #api;

  constructor({ api, store, open }) {
    this.#api = api;
    this.#store = store;
    this.open = open;
    const title = uniqueId("list");
    const create = button("primary", icon(icons.plus), () => this.create());
    create.append(t("list.new"));
    this.search = h("input", { type: "search", placeholder: t("list.search"), "aria-label": t("list.search"), input: () => this.render() });
    this.status = h("select", { "aria-label": t("list.status"), change: () => this.#filter() },
      h("option", { value: "" }, t("list.all")), ...statuses.map((s) => h("option", { value: s }, t(`status.${s}`))));
    this.rows = h("ul", { class: "rows", "aria-labelledby": title });
    this.note = h("p", { class: "note" }, t("list.loading"));
    this.problem = alert();
    this.more = button("quiet wide", t("list.more"), () => this.#more());
    this.more.hidden = true;
    this.element = h("section", { class: "list", "aria-labelledby": title },
      h("header", null,
        h("h2", { id: title }, t("list.title")),
        !store.only && create),
      h("div", { class: "filters", hidden: Boolean(store.only) }, this.search, this.status),
      this.problem, this.rows, this.note, this.more);
  }

  // render brings rows in line with the store. Rows stay the same elements, so
  // that the focus stays where it is.
  render() {
    const wanted = [...this.#store.instances.values()].filter((i) => this.#matches(i)).sort((a, b) => (a.id < b.id ? 1 : -1));
    const ids = new Set(wanted.map((i) => i.id));
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue;
      row.element.remove();
      this.#rows.delete(id);
    }
    let before = this.rows.firstElementChild;
    for (const i of wanted) {
      let row = this.#rows.get(i.id);
      if (!row) this.#rows.set(i.id, row = new Row(i.id));
      row.show(i, this.#api.now());
      if (row.element === before) before = before.nextElementSibling;
      else this.rows.insertBefore(row.element, before);
    }
    this.more.hidden = !this.#store.cursor;
    this.note.hidden = wanted.length > 0;
    set(this.note, t(this.search.value || this.status.value ? "list.nomatch" : "list.empty"));
  }

  // update shows one instance anew.
  update(instance) {
    const row = this.#rows.get(instance.id);
    const matches = this.#matches(instance);
    if (row && matches) row.show(instance, this.#api.now());
    else if (row || matches) this.#renderSoon();
  }

  // renderSoon makes one of many: a page of the list comes instance by instance.
  #renderSoon() {
    if (this.#pending) return;
    this.#pending = true;
    queueMicrotask(() => {
      this.#pending = false;
      this.render();
    });
  }

  tick() {
    const now = this.#api.now();
    for (const row of this.#rows.values()) row.tick(now);
  }

  select(id) {
    for (const [rowId, row] of this.#rows) row.select(rowId === id);
  }

  focus(id) {
    (this.#rows.get(id)?.link ?? this.search).focus();
  }

  fail(failure) {
    set(this.problem, failure ? explain(failure) : "");
    if (failure) this.note.hidden = true;
  }

  #matches(i) {
    if (this.status.value && i.status !== this.status.value) return false;
    const text = this.search.value.trim().toLowerCase();
    if (!text) return true;
    return i.name.toLowerCase().includes(text) || i.id.includes(text) || (i.phone_number ?? "").includes(text.replace(/\D/g, "") || " ");
  }

  async #filter() {
    this.#store.filter = this.status.value;
    this.render();
    try {
      await this.#store.sync();
      this.fail(null);
    } catch (failure) {
      this.fail(failure);
    }
  }

  #more() {
    return act(this.more, async () => {
      try {
        await this.#store.more();
        this.fail(null);
      } catch (failure) {
        this.fail(failure);
      }
    });
  }

  // create asks for a name and makes an instance.
  async create() {
    const name = nameField();
    const create = async () => {
      const instance = await this.#api.post("/v1/instances", { name: name.input.value.trim() });
      this.#store.take(instance);
      return instance;
    };
    let pair = false;
    const instance = await openDialog({
      title: t("create.title"),
      body: [name.element],
      actions: [
        { label: t("create.pair"), kind: "primary", run: () => { pair = true; return create(); } },
        { label: t("create.only"), kind: "", run: () => { pair = false; return create(); } },
      ],
      focus: name.input,
    });
    if (instance) this.open(instance.id, pair);
  }
}

class Row {
  constructor(id) {
    this.badge = badge();
    this.name = h("strong");
    this.number = h("bdi", { class: "number" });
    this.since = h("span", { class: "since" });
    this.reason = h("span", { class: "reason" });
    this.link = h("a", { href: `#/instances/${id}` },
      h("span", { class: "line" }, this.name, this.badge.element),
      h("span", { class: "line" }, this.number, this.since),
      this.reason);
    this.element = h("li", null, this.link);
  }

  show(i, now) {
    set(this.name, i.name);
    set(this.number, phone(i.phone_number));
    this.badge.show(i.status);
    const { reason } = i.status_detail;
    set(this.reason, reason ? meaning(i.status, reason) : "");
    this.reason.hidden = !reason;
    this.from = Date.parse(i.status_detail.since);
    this.tick(now);
  }

  tick(now) {
    set(this.since, t("detail.for", { duration: duration(now - this.from) }));
  }

  select(on) {
    if (on) this.link.setAttribute("aria-current", "true");
    else this.link.removeAttribute("aria-current");
  }
}
