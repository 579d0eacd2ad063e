// One message as people see it: what it says, its ticks, and what became of it.
import { act, button, h, icon } from "/dashboard/dom.js";
import { hereOf } from "/dashboard/files.js";
import { has, language, phone, t } from "/dashboard/strings.js";

const ticks = {
  scheduled: "M10 5v5l3 2M10 2.5a7.5 7.5 0 1 0 .01 0",
  queued: "M10 5v5l3 2M10 2.5a7.5 7.5 0 1 0 .01 0",
  sent: "M4 10.5 8.2 15 16 6",
  delivered: "M1.5 10.5 5.5 15 12 6M10 14l1 1 7.5-9",
  read: "M1.5 10.5 5.5 15 12 6M10 14l1 1 7.5-9",
  played: "M1.5 10.5 5.5 15 12 6M10 14l1 1 7.5-9",
  failed: "M10 5v6M10 14.5v.5M10 2.5a7.5 7.5 0 1 0 .01 0",
  expired: "M10 5v6M10 14.5v.5M10 2.5a7.5 7.5 0 1 0 .01 0",
  canceled: "M5 5l10 10M15 5 5 15",
};

const formats = new Map();

// at writes a time; the formats are kept, because making one takes long.
function at(ms, options) {
  const key = language + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(language, options));
  return formats.get(key).format(ms);
}

export const timeOf = (ms) => at(ms, { timeStyle: "short" });
export const dayOf = (ms) => at(ms, { weekday: "short", year: "numeric", month: "short", day: "numeric" });
export const exactly = (text) => at(Date.parse(text), { dateStyle: "medium", timeStyle: "medium" });

// whenOf is a time in a list, with its day.
export function whenOf(ms) {
  return at(ms, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}

// shortly is the same where there is little room: today's time, or the day.
export function shortly(ms) {
  return dayOf(ms) === dayOf(Date.now()) ? timeOf(ms) : at(ms, { day: "numeric", month: "short" });
}

export function who(person) {
  return person?.phone_number ? phone(person.phone_number) : person?.lid ?? person?.name ?? "?";
}

// size is a file's in a unit that people read.
export function size(bytes) {
  const [unit, of] = bytes >= 1 << 20 ? ["megabyte", 1 << 20] : bytes >= 1 << 10 ? ["kilobyte", 1 << 10] : ["byte", 1];
  return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 1 }).format(bytes / of);
}

// oneLine is a message in the list of conversations.
export function oneLine(item) {
  const { message: m } = item;
  if (item.revoked) return t("message.revoked");
  const text = item.edited ?? m.body?.text ?? m.text ?? m.body?.caption ?? "";
  if (m.type === "text") return text;
  return [typeName(m.type), extra(m) || text].filter(Boolean).join(": ");
}

function typeName(type) {
  return t(has(`type.${type}`) ? `type.${type}` : "type.unsupported", { type });
}

// extra is what a type says beside its text.
function extra({ type, body }) {
  if (!body) return "";
  switch (type) {
    case "location": return body.name ?? body.address ?? `${body.latitude}, ${body.longitude}`;
    case "contacts": return (body.contacts ?? []).map((c) => c.name).join(", ");
    case "poll": return body.question;
    case "reaction": return body.emoji || t("message.noemoji");
    case "edit": return body.text;
    case "document": return body.filename ?? "";
    case "event": return body.name ?? "";
    case "group_invite": return body.name ?? "";
    default: return "";
  }
}

// content is what stands in a message's bubble.
function content(item, bubble) {
  const { message: m } = item;
  if (item.revoked) return [h("p", { class: "faint" }, t("message.revoked"))];
  const body = m.body ?? {};
  const text = item.edited ?? body.text ?? body.caption ?? m.text ?? "";
  if (m.type === "text") return [h("p", { class: "said" }, text)];
  const parts = [h("p", { class: "kind" }, typeName(m.type), extra(m) && m.type !== "poll" ? `: ${extra(m)}` : "")];
  const media = m.media ?? bubble.file(body.media_id);
  if (media?.status === "failed") parts.push(h("p", { class: "faint" }, t("message.nofile")));
  else if (media?.url) parts.push(file(m.type, media));
  else if (media) parts.push(h("p", { class: "faint" }, t("message.fetching")));
  else if (body.media_id && m.direction === "out") {
    const show = button("quiet", t("message.show"), () => act(show, () => bubble.show(item)));
    parts.push(show);
  }
  const facts = [m.type === "document" ? "" : body.filename, body.mime_type, body.size ? size(body.size) : "", body.seconds ? `${body.seconds} s` : ""].filter(Boolean);
  if (facts.length && m.type !== "text") parts.push(h("p", { class: "faint" }, facts.join(" · ")));
  if (m.type === "poll") parts.push(poll(item, body));
  else if (text && text !== extra(m)) parts.push(h("p", { class: "said" }, text));
  return parts;
}

// file shows a picture or a player where the browser may, else a link. Only an
// address of this deployment is followed.
function file(type, media) {
  const src = hereOf(media.url);
  const link = h("a", { href: src ?? (/^https?:/.test(media.url) ? media.url : null), target: "_blank", rel: "noopener noreferrer", class: "go" }, t("message.file"));
  if (!src) return link;
  if (type === "image" || type === "sticker") return h("img", { src, alt: typeName(type), loading: "lazy", class: "picture" });
  if (type === "audio" || type === "video") return h(type, { src, controls: "", preload: "none", "aria-label": typeName(type) });
  return link;
}

function poll(item, body) {
  const votes = [...item.votes.values()];
  return h("div", null, h("p", { class: "said" }, body.question),
    h("ul", { class: "poll" }, ...(body.options ?? []).map((option) => {
      const name = typeof option === "string" ? option : option?.name ?? "";
      const count = votes.filter((v) => v.some((o) => (typeof o === "string" ? o : o?.name) === name)).length;
      return h("li", null, name, " ", h("b", null, String(count)));
    })));
}

// state says in words where a message is; of one that failed, why and what to do.
export function state(m) {
  const status = t(`message.status.${m.status}`);
  return m.waiting_for && ["queued", "scheduled"].includes(m.status) && has(`wait.${m.waiting_for}`) ? `${status}: ${t(`wait.${m.waiting_for}`)}` : status;
}

function why(m) {
  if (!["failed", "expired"].includes(m.status)) return "";
  const parts = [];
  if (m.status === "expired") parts.push(t("message.expired"));
  if (m.error) parts.push(has(`failed.${m.error.code}`) ? t(`failed.${m.error.code}`) : m.error.message);
  if (m.error?.until) parts.push(t("message.until", { time: exactly(m.error.until) }));
  if (m.may_have_been_sent) parts.push(t("message.maybe"));
  return parts.join(" ");
}

const steps = ["scheduled", "queued", "sent", "delivered", "read", "played", "failed", "expired", "canceled"];

// Bubble draws messages of a conversation. opened are the keys of those whose
// details are shown.
export class Bubble {
  constructor({ group = () => false, reply, cancel, quote, file, show }) {
    Object.assign(this, { group, reply, cancel, quote, file, show });
    this.opened = new Set();
  }

  draw(item, before) {
    const { message: m, mine } = item;
    const newDay = !before || dayOf(before.at) !== dayOf(item.at);
    const out = m.direction === "out";
    const problem = out ? why(m) : "";
    const quoted = m.reply_to ? this.quote(m.reply_to) : m.context?.message_id ? m.context.text ?? typeName(m.context.type ?? "text") : "";
    const reactions = [...item.reactions.values()];
    const word = out ? state(m) : "";
    const tick = out && icon(ticks[m.status] ?? ticks.queued);
    const details = h("details", { class: "fate", open: this.opened.has(item.key) },
      h("summary", null,
        h("time", { datetime: new Date(item.at).toISOString() }, timeOf(item.at)),
        item.edited !== undefined && h("span", null, t("message.edited")),
        tick && h("span", { class: "tick-mark", "data-status": m.status, title: word }, tick, h("span", { class: "unseen" }, word))));
    const fill = () => {
      if (details.open) this.opened.add(item.key);
      else this.opened.delete(item.key);
      if (details.open && details.childElementCount === 1) details.append(this.#fate(item));
    };
    if (details.open) fill();
    details.addEventListener("toggle", fill);
    return h("li", { class: "message", "data-mine": mine ? "" : null },
      newDay && h("p", { class: "day" }, dayOf(item.at)),
      h("div", { class: "bubble" },
        !mine && this.group() && h("p", { class: "from" }, m.from?.name ?? who(m.from)),
        quoted && h("blockquote", null, quoted),
        m.context?.forwarded && h("p", { class: "faint" }, t("message.forwarded")),
        ...content(item, this),
        reactions.length > 0 && h("p", { class: "reactions" }, h("span", { class: "unseen" }, `${t("message.reactions")}: `), reactions.join(" ")),
        problem && h("p", { class: "problem" }, problem),
        details));
  }

  #fate(item) {
    const { message: m } = item;
    const out = m.direction === "out";
    const times = out
      ? steps.filter((s) => m.timeline?.[`${s}_at`]).map((s) => [t(`message.status.${s}`), m.timeline[`${s}_at`]])
      : [[t("message.sent"), m.sent_at], [t("message.received"), m.received_at]].filter(([, at]) => at);
    const waits = out && ["scheduled", "queued"].includes(m.status);
    const cancel = waits && button("quiet", t("message.cancel"), () => act(cancel, () => this.cancel(item)));
    return h("div", null,
      h("dl", null, ...times.flatMap(([name, at]) => [h("dt", null, name), h("dd", null, exactly(at))])),
      out && h("p", { class: "faint" }, fate(m)),
      h("p", { class: "faint" }, h("code", null, m.message_id)),
      this.reply && !item.revoked && button("quiet", t("message.reply"), () => this.reply(item)),
      cancel);
  }
}

// fate is a message's state; in a group, how many of its members have got it.
function fate(m) {
  const r = m.recipients;
  return r ? t("message.recipients", { total: r.total, delivered: r.delivered, read: r.read }) : state(m);
}
