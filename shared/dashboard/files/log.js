// The event log: what there was, and what comes.
import { act, alert, button, h, set, uniqueId } from "/dashboard/dom.js";
import { whenOf } from "/dashboard/message.js";
import { dateTime, explain, has, meaning, phone, t } from "/dashboard/strings.js";

const pageSize = 50;
const shownAtMost = 500;

// eventNames are those that one can filter by.
export const eventNames = [
  "instance.created", "instance.deleted", "instance.updated", "instance.connected", "instance.disconnected", "instance.failed", "instance.restricted",
  "qr.updated", "message.received", "message.status", "message.echo", "message.updated", "message.edited", "message.revoked", "message.reaction", "poll.voted",
  "message.media_ready", "message.media_failed", "media.ready", "media.failed",
  "group.created", "group.updated", "group.participant_added", "group.participant_removed", "group.admin_promoted", "group.admin_demoted",
  "contact.updated", "presence.updated", "call.offered", "call.ended",
  "webhook.disabled", "command.refused",
];

// describe is an event in one sentence or two.
export function describe({ event, data }) {
  switch (event) {
    case "instance.connected":
      return t(data.link === "new" ? "event.instance.connected.new" : "event.instance.connected.resumed", { phone: phone(data.phone_number) });
    case "instance.disconnected": {
      const key = `event.instance.disconnected.${data.initiator}`;
      return `${t(has(key) ? key : "event.instance.disconnected")}. ${meaning("disconnected", data.reason)}`;
    }
    case "instance.failed":
      return `${t("event.instance.failed")}. ${meaning("failed", data.reason)}`;
    case "instance.updated":
      if (data.changed?.includes("status")) {
        return `${t("event.instance.updated.status", { status: t(`status.${data.status}`) })}. ${meaning(data.status, data.reason)}`;
      }
      return t("event.instance.updated", { changed: (data.changed ?? []).map((c) => (has(`changed.${c}`) ? t(`changed.${c}`) : c)).join(", ") });
    case "message.received": {
      const from = data.from?.phone_number ? phone(data.from.phone_number) : data.from?.lid ?? data.chat;
      return `${t("event.message.received", { from })}: ${data.text ?? t("event.message.other", { type: data.type })}`;
    }
    case "message.status":
      return `${t("event.message.status")}: ${t(`message.status.${data.status}`)}`;
    case "command.refused":
      return `${t("event.command.refused", { command: data.command })}. ${data.error?.message ?? ""}`;
    default:
      return has(`event.${event}`) ? t(`event.${event}`) : event;
  }
}

// Log shows the events of one instance, or of all with their instances' names.
export class Log {
  #api;
  #store;
  #id;
  #ids = new Set();
  #cursor = null;

  constructor({ api, store, id = null }) {
    this.#api = api;
    this.#store = store;
    this.#id = id;
    const title = uniqueId("log");
    this.items = h("ol", { class: "events", "aria-labelledby": title });
    this.note = h("p", { class: "note", hidden: true }, t("log.empty"));
    this.problem = alert();
    this.older = button("quiet wide", t("log.more"), () => this.read());
    this.older.hidden = true;
    this.filter = h("select", { "aria-label": t("log.filter"), change: () => this.#again() },
      h("option", { value: "" }, t("log.every")), ...eventNames.map((name) => h("option", { value: name }, name)));
    this.element = h("section", { class: "card log", "aria-labelledby": title },
      h("div", { class: "title" }, h("h3", { id: title }, t(id ? "log.title" : "log.all")), this.filter), this.problem, this.items, this.note, this.older);
  }

  // read adds the next page of older events.
  read() {
    return act(this.older, async () => {
      const query = new URLSearchParams({ limit: pageSize });
      if (this.#id) query.set("instance_id", this.#id);
      if (this.#cursor) query.set("cursor", this.#cursor);
      const wanted = this.filter.value;
      if (wanted) query.set("events", wanted);
      try {
        const page = await this.#api.get(`/v1/event-log?${query}`);
        if (wanted !== this.filter.value) return;
        for (const event of page.data) if (this.#once(event)) this.items.append(this.#item(event));
        this.#cursor = page.next_cursor ?? null;
        set(this.problem, "");
      } catch (failure) {
        set(this.problem, explain(failure));
      }
      this.#settle();
    });
  }

  // again begins anew with another filter.
  async #again() {
    this.items.replaceChildren();
    this.#ids.clear();
    this.#cursor = null;
    this.older.removeAttribute("aria-disabled"); // a page that is under way is of the old filter
    await this.read();
  }

  // add puts an event that has just come on top.
  add(event) {
    if (this.#id && event.instance_id !== this.#id) return;
    if (this.filter.value && event.event !== this.filter.value) return;
    if (!this.#once(event)) return;
    this.items.prepend(this.#item(event));
    this.#settle();
  }

  #settle() {
    while (this.items.childElementCount > shownAtMost) this.items.lastElementChild.remove();
    this.note.hidden = this.items.childElementCount > 0 || this.problem.textContent !== "";
    this.older.hidden = !this.#cursor || this.items.childElementCount >= shownAtMost;
  }

  #once(event) {
    if (this.#ids.has(event.event_id)) return false;
    this.#ids.add(event.event_id);
    return true;
  }

  #item(event) {
    const name = this.#id ? null : this.#store.nameOf(event);
    const json = h("pre", { tabindex: "0", role: "region", "aria-label": t("log.details") });
    const details = h("details", { toggle: () => { if (details.open) set(json, JSON.stringify(event, short, 2)); } },
      h("summary", null,
        h("time", { datetime: event.occurred_at, title: dateTime(event.occurred_at) }, whenOf(Date.parse(event.occurred_at))),
        h("span", { class: "what" }, name && h("strong", null, name), name && " ", describe(event))),
      json);
    return h("li", null, details);
  }
}

// short leaves out the picture of a code, and cuts what is very long.
function short(key, value) {
  return typeof value === "string" && value.length > 600 ? `${value.slice(0, 60)}…` : value;
}
