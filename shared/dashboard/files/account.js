// API keys, limits and usage.
import { act, alert, button, field, h, set, uniqueId } from "/dashboard/dom.js";
import { openDialog, showSecret } from "/dashboard/dialog.js";
import { dateTime, explain, t } from "/dashboard/strings.js";
import { Usage } from "/dashboard/usage.js";
import { instanceChoice } from "/dashboard/webhooks.js";

export class Account {
  #api;
  #store;
  #cursor = null;

  constructor({ api, store }) {
    this.#api = api;
    this.#store = store;
    const title = uniqueId("keys");
    const limits = uniqueId("limits");
    this.heading = h("h2", { id: title, tabindex: "-1" }, t("keys.title"));
    this.problem = alert();
    this.keys = h("ul", { class: "cards", "aria-labelledby": title });
    this.note = h("p", { class: "note", hidden: true }, t("keys.empty"));
    this.more = button("quiet wide", t("list.more"), () => act(this.more, () => this.#page(this.#cursor)));
    this.more.hidden = true;
    this.limits = h("dl", { class: "facts" });
    this.refresh = button("quiet", t("deliveries.refresh"), () => act(this.refresh, () => this.#readLimits()));
    this.usage = new Usage({ api });
    this.element = h("div", { class: "whole" },
      h("section", { "aria-labelledby": title },
        h("header", { class: "title" }, this.heading, button("primary", t("keys.new"), () => this.#create())),
        h("p", { class: "hint" }, t("keys.text")), this.problem, this.keys, this.note, this.more),
      this.usage.element,
      h("section", { class: "card", "aria-labelledby": limits },
        h("div", { class: "title" }, h("h3", { id: limits }, t("limits.title")), this.refresh),
        h("p", { class: "hint" }, t("limits.text")), this.limits));
    this.read();
  }

  async read() {
    await Promise.all([this.#page(null), this.usage.read(), this.#readLimits()]);
  }

  add() {}

  close() {}

  focus() {
    this.heading.focus();
  }

  async #page(cursor) {
    const query = new URLSearchParams({ limit: 100 });
    if (cursor) query.set("cursor", cursor);
    try {
      const page = await this.#api.get(`/v1/api-keys?${query}`);
      if (!cursor) this.keys.replaceChildren();
      this.keys.append(...page.data.map((k) => this.#row(k)));
      this.#cursor = page.next_cursor ?? null;
      set(this.problem, "");
    } catch (failure) {
      set(this.problem, explain(failure));
    }
    this.more.hidden = !this.#cursor;
    this.note.hidden = this.keys.childElementCount > 0 || this.problem.textContent !== "";
  }

  async #readLimits() {
    const of = (name, l) => [h("div", null, h("dt", null, name), h("dd", null, t("limits.left", { remaining: l.remaining, limit: l.limit })))];
    try {
      const { per_customer: calls, sends } = await this.#api.get("/v1/limits");
      this.limits.replaceChildren(...of(t("limits.calls"), calls), ...(sends?.per_customer ? of(t("limits.sends"), sends.per_customer) : []));
    } catch (failure) {
      set(this.problem, explain(failure));
    }
  }

  #row(k) {
    const bound = k.instance_id && t("webhooks.only", { name: this.#store.names.get(k.instance_id) ?? k.instance_id });
    const facts = [bound, t("keys.made", { time: dateTime(k.created_at) }), k.last_used_at ? t("keys.used", { time: dateTime(k.last_used_at) }) : t("keys.unused"), k.expires_at && t("keys.expires", { time: dateTime(k.expires_at) })];
    return h("li", { class: "card" },
      h("div", { class: "line" }, h("strong", null, k.name), h("code", null, `${k.prefix}…`)),
      h("p", { class: "hint" }, facts.filter(Boolean).join(" · ")),
      h("div", { class: "actions" }, button("danger", t("keys.revoke"), () => this.#revoke(k))));
  }

  async #create() {
    const name = h("input", { id: uniqueId("name"), required: "", maxlength: "100", autocomplete: "off" });
    const instance = instanceChoice(this.#store, t("keys.whole"));
    const until = h("input", { id: uniqueId("until"), type: "datetime-local" });
    const made = await openDialog({
      title: t("keys.new"), body: [field(t("create.name"), name), field(t("keys.for"), instance), field(t("keys.until"), until)], focus: name,
      actions: [{
        label: t("keys.create"), kind: "primary",
        run: () => this.#api.post("/v1/api-keys", {
          name: name.value.trim(), ...(instance.value ? { instance_id: instance.value } : {}), ...(until.value ? { expires_at: new Date(until.value).toISOString() } : {}),
        }),
      }],
    });
    if (!made) return;
    await showSecret({ title: t("keys.secret"), text: t("keys.secret.text"), secret: made.secret });
    await this.#page(null);
  }

  async #revoke(k) {
    if (await openDialog({
      title: t("keys.revoke.title", { name: k.name }), body: [h("p", null, t("keys.revoke.text", { prefix: k.prefix }))],
      actions: [{ label: t("keys.revoke"), kind: "danger", run: () => this.#api.delete(`/v1/api-keys/${k.id}`) }],
    })) {
      this.heading.focus(); // the button goes away with its row
      await this.#page(null);
    }
  }
}
