// Webhook endpoints and what was delivered to them.
import { act, alert, button, field, h, set, uniqueId } from "/dashboard/dom.js";
import { openDialog, showSecret } from "/dashboard/dialog.js";
import { dateTime, explain, meaningOr, t } from "/dashboard/strings.js";

const pageSize = 50;
const shownAtMost = 500;
const statuses = ["pending", "retrying", "success", "failed", "held"];

// samples check a signature, in the language that one uses.
const samples = {
  Node: `import { createHmac, timingSafeEqual } from "node:crypto";

// body: the bytes as they came; header: X-WhatIsUp-Signature
export function genuine(secret, header, body) {
  const parts = header.split(",").map((p) => p.split("="));
  const t = parts.find(([k]) => k === "t")[1];
  if (Math.abs(Date.now() / 1000 - t) > 300) return false;
  const want = createHmac("sha256", secret).update(t + ".").update(body).digest();
  return parts.some(([k, v]) => {
    const got = Buffer.from(v, "hex");
    return k === "v1" && got.length === want.length && timingSafeEqual(got, want);
  });
}`,
  Python: `import hashlib, hmac, time

# body: the bytes as they came; header: X-WhatIsUp-Signature
def genuine(secret, header, body):
    parts = [p.split("=", 1) for p in header.split(",")]
    t = dict(parts)["t"]
    if abs(time.time() - int(t)) > 300:
        return False
    want = hmac.new(secret.encode(), t.encode() + b"." + body, hashlib.sha256).hexdigest()
    return any(k == "v1" and hmac.compare_digest(v, want) for k, v in parts)`,
  Go: `// body: the bytes as they came; header: X-WhatIsUp-Signature
func genuine(secret, header string, body []byte) bool {
	var t string
	var ok bool
	for part := range strings.SplitSeq(header, ",") {
		k, v, _ := strings.Cut(part, "=")
		if k == "t" {
			t = v
		}
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(t + "."))
		mac.Write(body)
		got, _ := hex.DecodeString(v)
		ok = ok || k == "v1" && hmac.Equal(got, mac.Sum(nil))
	}
	at, err := strconv.ParseInt(t, 10, 64)
	return ok && err == nil && time.Since(time.Unix(at, 0)).Abs() < 5*time.Minute
}`,
  PHP: `// $body: the bytes as they came; $header: X-WhatIsUp-Signature
function genuine($secret, $header, $body) {
    $t = null; $ok = false;
    foreach (explode(",", $header) as $part) {
        [$k, $v] = explode("=", $part, 2);
        if ($k === "t") $t = $v;
        if ($k === "v1") $ok = hash_equals(hash_hmac("sha256", "$t.$body", $secret), $v) || $ok;
    }
    return $ok && abs(time() - (int) $t) < 300;
}`,
};

// signatureCheck shows how a receiver tells that a delivery is ours.
export function signatureCheck() {
  const code = h("pre", { tabindex: "0", role: "region", "aria-label": t("webhooks.check") }, samples.Node);
  const choice = h("select", { "aria-label": t("webhooks.language"), change: () => set(code, samples[choice.value]) },
    ...Object.keys(samples).map((name) => h("option", { value: name }, name)));
  return h("details", { class: "check-code" }, h("summary", null, t("webhooks.check")), choice, code);
}

export class Webhooks {
  #api;
  #store;
  #soon;

  constructor({ api, store }) {
    this.#api = api;
    this.#store = store;
    const title = uniqueId("webhooks");
    this.heading = h("h2", { id: title, tabindex: "-1" }, t("webhooks.title"));
    this.problem = alert();
    this.endpoints = h("ul", { class: "cards", "aria-labelledby": title });
    this.note = h("p", { class: "note" }, t("webhooks.loading"));
    this.deliveries = new Deliveries({ api, store, endpoints: () => this.known ?? [] });
    this.element = h("div", { class: "whole" },
      h("section", { "aria-labelledby": title },
        h("header", { class: "title" }, this.heading, button("primary", t("webhooks.new"), () => this.#create())),
        this.problem, this.note, this.endpoints, signatureCheck()),
      this.deliveries.element);
    this.read();
  }

  async read() {
    try {
      const { data } = await this.#api.get("/v1/webhook-endpoints");
      this.known = data;
      set(this.problem, "");
      this.#draw();
    } catch (failure) {
      set(this.problem, explain(failure));
    }
    this.note.hidden = Boolean(this.known?.length) || this.problem.textContent !== "";
    set(this.note, t("webhooks.empty"));
    this.deliveries.choices();
    await this.deliveries.read();
  }

  // add: an event is about to be delivered.
  add(event) {
    clearTimeout(this.#soon);
    if (event.event === "webhook.disabled") this.read();
    else if (this.known?.length && this.#api.remaining > 20) this.#soon = setTimeout(() => this.deliveries.read(), 2000);
  }

  close() {
    clearTimeout(this.#soon);
  }

  focus() {
    this.heading.focus();
  }

  #draw() {
    const focused = document.activeElement?.dataset?.action;
    this.endpoints.replaceChildren(...this.known.map((e) => this.#card(e)));
    if (focused) (this.endpoints.querySelector(`[data-action="${focused}"]`) ?? this.heading).focus();
  }

  #card(e) {
    const result = h("p", { class: "result", role: "status" });
    const problem = alert();
    const run = (label, kind, work) => {
      const made = button(kind, label, () => act(made, async () => {
        set(result, "");
        set(problem, "");
        try {
          await work();
        } catch (failure) {
          set(problem, explain(failure));
        }
      }));
      made.dataset.action = `${e.id} ${label}`;
      return made;
    };
    const path = `/v1/webhook-endpoints/${e.id}`;
    const test = async () => {
      const { status, ms, error } = await this.#api.post(`${path}/test`);
      if (error) set(problem, t("webhooks.test.failed", { error, ms }));
      else set(result, t("webhooks.test.ok", { status, ms }));
      this.deliveries.read();
    };
    const bound = e.instance_id && (this.#store.names.get(e.instance_id) ?? e.instance_id);
    return h("li", { class: "card" },
      h("div", { class: "line" }, h("strong", { class: "url" }, e.url),
        h("span", { class: "badge", "data-status": { active: "connected", degraded: "connecting", disabled: "failed" }[e.status] ?? "pending" }, t(`endpoint.${e.status}`))),
      h("p", null, meaningOr(`endpoint.${e.status}.${e.disabled_reason}`, `endpoint.${e.status}.text`)),
      h("p", { class: "hint" }, [e.description, `${t("webhooks.events")}: ${e.events.join(", ")}`, bound && t("webhooks.only", { name: bound }), e.chat_types?.length ? `${t("webhooks.chats")}: ${e.chat_types.join(", ")}` : ""].filter(Boolean).join(" · ")),
      h("div", { class: "actions" },
        run(t("webhooks.test"), "", test),
        run(t(e.enabled ? "webhooks.disable" : "webhooks.enable"), "", async () => { await this.#api.patch(path, { enabled: !e.enabled }); await this.read(); }),
        run(t("webhooks.edit"), "quiet", () => this.#edit(e, path)),
        run(t("webhooks.replay"), "quiet", () => this.#replay(e, path)),
        run(t("webhooks.rotate"), "quiet", () => this.#rotate(e, path)),
        run(t("webhooks.delete"), "danger", () => this.#delete(e, path))),
      problem, result);
  }

  #fields(e = {}) {
    const url = h("input", { id: uniqueId("url"), type: "url", required: "", maxlength: "2048", autocomplete: "off", placeholder: "https://", value: e.url ?? "" });
    const events = h("input", { id: uniqueId("events"), required: "", autocomplete: "off", spellcheck: "false", value: (e.events ?? ["*"]).join(", ") });
    const description = h("input", { id: uniqueId("description"), maxlength: "200", autocomplete: "off", value: e.description ?? "" });
    return {
      url, body: [field(t("webhooks.url"), url, h("p", { class: "hint" }, t("webhooks.url.hint"))), field(t("webhooks.events"), events, h("p", { class: "hint" }, t("webhooks.events.hint"))), field(t("webhooks.description"), description)],
      value: () => ({ url: url.value.trim(), events: events.value.split(/[\s,]+/).filter(Boolean), description: description.value.trim() }),
    };
  }

  async #create() {
    const fields = this.#fields();
    const instance = instanceChoice(this.#store, t("webhooks.instance.all"));
    const made = await openDialog({
      title: t("webhooks.new"), body: [...fields.body, field(t("webhooks.instance"), instance)], focus: fields.url,
      actions: [{ label: t("webhooks.create"), kind: "primary", run: () => this.#api.post("/v1/webhook-endpoints", { ...fields.value(), ...(instance.value ? { instance_id: instance.value } : {}) }) }],
    });
    if (!made) return;
    await showSecret({ title: t("webhooks.secret"), text: t("webhooks.secret.text"), secret: made.signing_secret, more: signatureCheck() });
    await this.read();
  }

  async #edit(e, path) {
    const fields = this.#fields(e);
    if (await openDialog({
      title: t("webhooks.edit"), body: fields.body, focus: fields.url,
      actions: [{ label: t("detail.save"), kind: "primary", run: () => this.#api.patch(path, fields.value()) }],
    })) await this.read();
  }

  async #rotate(e, path) {
    const hours = h("input", { id: uniqueId("hours"), type: "number", min: "0", max: "168", value: "24", required: "" });
    const made = await openDialog({
      title: t("webhooks.rotate"), body: [h("p", null, t("webhooks.rotate.text")), field(t("webhooks.overlap"), hours)], focus: hours,
      actions: [{ label: t("webhooks.rotate"), kind: "primary", run: () => this.#api.post(`${path}/rotate-secret`, { overlap_hours: Number(hours.value) }) }],
    });
    if (made) await showSecret({ title: t("webhooks.secret"), text: t("webhooks.secret.text"), secret: made.signing_secret, more: signatureCheck() });
  }

  async #replay(e, path) {
    const local = (ms) => new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
    const time = (ms) => h("input", { id: uniqueId("time"), type: "datetime-local", required: "", value: local(ms) });
    const from = time(Date.now() - 3_600_000);
    const to = time(Date.now() + 60_000);
    const status = statusChoice(t("deliveries.any"));
    status.id = uniqueId("status");
    const answer = await openDialog({
      title: t("webhooks.replay"), body: [h("p", null, t("webhooks.replay.text")), field(t("webhooks.from"), from), field(t("webhooks.to"), to), field(t("deliveries.status"), status)], focus: from,
      actions: [{
        label: t("webhooks.replay"), kind: "primary",
        run: () => this.#api.post(`${path}/replay`, { from: new Date(from.value).toISOString(), to: new Date(to.value).toISOString(), ...(status.value ? { status: status.value } : {}) }),
      }],
    });
    if (answer) this.deliveries.say(t("webhooks.replayed", { count: answer.count }));
  }

  async #delete(e, path) {
    if (await openDialog({
      title: t("webhooks.delete.title"), body: [h("p", { class: "url" }, e.url), h("p", null, t("webhooks.delete.text"))],
      actions: [{ label: t("webhooks.delete"), kind: "danger", run: () => this.#api.delete(path) }],
    })) await this.read();
  }
}

export function instanceChoice(store, all, label) {
  return h("select", { id: uniqueId("instance"), ...(label ? { "aria-label": label } : {}) }, h("option", { value: "" }, all),
    ...[...store.instances.values()].map((i) => h("option", { value: i.id }, i.name)));
}

function statusChoice(all) {
  return h("select", null, h("option", { value: "" }, all), ...statuses.map((s) => h("option", { value: s }, t(`delivery.${s}`))));
}

// Deliveries is the list of what was sent where, and what came of it.
class Deliveries {
  #api;
  #cursor = null;
  #rows = new Map();
  #turn = 0;

  constructor({ api, store, endpoints }) {
    this.#api = api;
    this.endpoints = endpoints;
    const title = uniqueId("deliveries");
    this.status = statusChoice(t("deliveries.any"));
    this.status.setAttribute("aria-label", t("deliveries.status"));
    this.endpoint = h("select", { "aria-label": t("deliveries.endpoint") });
    this.instance = instanceChoice(store, t("webhooks.instance.all"), t("webhooks.instance"));
    this.event = h("input", { type: "search", "aria-label": t("deliveries.event"), placeholder: t("deliveries.event") });
    for (const input of [this.status, this.endpoint, this.instance, this.event]) input.addEventListener("change", () => this.#again());
    this.items = h("ol", { class: "events", "aria-labelledby": title });
    this.note = h("p", { class: "note", hidden: true }, t("deliveries.empty"));
    this.problem = alert();
    this.result = h("p", { class: "result", role: "status" });
    this.refresh = button("quiet", t("deliveries.refresh"), () => act(this.refresh, () => this.read()));
    this.older = button("quiet wide", t("log.more"), () => act(this.older, () => this.#page(this.#cursor)));
    this.older.hidden = true;
    this.element = h("section", { class: "card log", "aria-labelledby": title },
      h("div", { class: "title" }, h("h3", { id: title }, t("deliveries.title")), this.refresh),
      h("div", { class: "filters many" }, this.status, this.endpoint, this.instance, this.event),
      this.problem, this.result, this.items, this.note, this.older);
    this.choices();
  }

  choices() {
    const { value } = this.endpoint;
    this.endpoint.replaceChildren(h("option", { value: "" }, t("deliveries.all")), ...this.endpoints().map((e) => h("option", { value: e.id }, e.url)));
    this.endpoint.value = value;
    if (this.endpoint.selectedIndex < 0) this.endpoint.value = "";
  }

  say(text) {
    set(this.result, text);
    this.read();
  }

  // read reads the newest page anew; what was opened stays open.
  read() {
    return this.#page(null);
  }

  #again() {
    this.items.replaceChildren();
    this.#rows.clear();
    this.#cursor = null;
    return this.read();
  }

  async #page(cursor) {
    const turn = ++this.#turn;
    const query = new URLSearchParams({ limit: pageSize });
    const filters = { status: this.status.value, endpoint_id: this.endpoint.value, instance_id: this.instance.value, events: this.event.value.trim(), cursor };
    for (const [name, value] of Object.entries(filters)) if (value) query.set(name, value);
    try {
      const page = await this.#api.get(`/v1/webhook-deliveries?${query}`);
      if (turn !== this.#turn) return;
      const first = this.#rows.size === 0;
      for (const d of cursor ? page.data : page.data.toReversed()) {
        let row = this.#rows.get(d.id);
        if (!row) {
          this.#rows.set(d.id, row = new Delivery(d, { api: this.#api, replayed: () => this.read(), url: () => this.endpoints().find((e) => e.id === d.endpoint_id)?.url }));
          if (cursor) this.items.append(row.element);
          else this.items.prepend(row.element);
        }
        row.show(d);
      }
      if (cursor || first) this.#cursor = page.next_cursor;
      set(this.problem, "");
    } catch (failure) {
      set(this.problem, explain(failure));
    }
    this.note.hidden = this.#rows.size > 0 || this.problem.textContent !== "";
    this.older.hidden = !this.#cursor || this.#rows.size >= shownAtMost;
  }
}

class Delivery {
  #api;
  #shown = "";

  constructor(d, { api, replayed, url }) {
    this.#api = api;
    this.replayed = replayed;
    this.url = url;
    this.badge = h("span", { class: "badge" });
    this.what = h("span", { class: "what" });
    this.inside = h("div", { class: "inside" });
    this.details = h("details", { toggle: () => { if (this.details.open) this.#open(); } },
      h("summary", null, h("time", { datetime: d.created_at }, dateTime(d.created_at)), this.what, this.badge), this.inside);
    this.element = h("li", null, this.details);
  }

  show(d) {
    this.delivery = d;
    const line = [d.event, this.url() ?? d.endpoint_id, t("deliveries.attempts", { count: d.attempt_count }), d.last_error ?? d.last_response_status ?? "", d.replay_of ? t("deliveries.isreplay") : ""].filter(Boolean).join(" · ");
    set(this.what, line);
    set(this.badge, t(`delivery.${d.status}`));
    this.badge.dataset.status = { success: "connected", failed: "failed", retrying: "connecting", held: "disconnected" }[d.status] ?? "pending";
    if (this.details.open && this.#shown !== d.updated_at) this.#open();
  }

  async #open() {
    this.#shown = this.delivery.updated_at;
    try {
      this.#draw(await this.#api.get(`/v1/webhook-deliveries/${this.delivery.id}`));
    } catch (failure) {
      this.inside.replaceChildren(alert(explain(failure)));
    }
  }

  #draw(d) {
    const problem = alert();
    const replay = button("", t("deliveries.replay"), () => act(replay, async () => {
      try {
        await this.#api.post(`/v1/webhook-deliveries/${d.id}/replay`);
        await this.replayed();
      } catch (failure) {
        set(problem, explain(failure));
      }
    }));
    const had = this.inside.contains(document.activeElement);
    this.inside.replaceChildren(
      h("p", null, meaningOr(`delivery.${d.status}.text`, `delivery.${d.status}`), d.next_attempt_at ? ` ${t("deliveries.next", { time: dateTime(d.next_attempt_at) })}` : ""),
      h("ol", { class: "attempts" }, ...(d.attempts ?? []).map((a) => h("li", null,
        h("p", null, h("time", { datetime: a.at }, dateTime(a.at)), ` · ${a.ms} ms · ${a.status ?? a.error ?? "?"}`, a.status && a.error ? ` · ${a.error}` : ""),
        a.answer ? h("pre", { tabindex: "0", role: "region", "aria-label": t("deliveries.answer") }, a.answer) : ""))),
      replay, problem,
      h("pre", { tabindex: "0", role: "region", "aria-label": t("deliveries.payload") }, JSON.stringify(d.payload, null, 2)));
    if (had) replay.focus();
  }
}
