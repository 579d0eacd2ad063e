// One instance: what it is, what can be done about it.
import { act, alert, button, h, icon, icons, set, uniqueId } from "/dashboard/dom.js";
import { nameField, openDialog } from "/dashboard/dialog.js";
import { badge } from "/dashboard/list.js";
import { Log } from "/dashboard/log.js";
import { hasNoLink, Pairing } from "/dashboard/pairing.js";
import { Phone } from "/dashboard/phone.js";
import { tools } from "/dashboard/tools.js";
import { dateTime, duration, explain, meaning, phone, t } from "/dashboard/strings.js";

export class Detail {
  #api;
  #store;
  #id;

  constructor({ api, store, id, live }) {
    this.#api = api;
    this.#store = store;
    this.#id = id;
    const title = uniqueId("detail");

    this.heading = h("h2", { id: title, tabindex: "-1" });
    this.rename = button("quiet", t("detail.rename"), () => this.#rename());
    this.badge = badge();
    this.since = h("span", { class: "since" });
    this.sentence = h("p", { class: "sentence" });
    this.problem = alert();

    this.connect = button("primary", t("detail.connect"), (e) => this.#do(e.currentTarget, "connect"));
    this.disconnect = button("", t("detail.disconnect"), (e) => this.#do(e.currentTarget, "disconnect"));
    this.logout = button("", t("detail.logout"), () => this.#logout());
    this.delete = button("danger", t("detail.delete"), () => this.#delete());

    this.number = h("bdi", { class: "number" });
    this.seen = h("span");
    this.retry = h("p", { class: "hint" });
    this.copied = h("span", { class: "hint", role: "status" });
    const copy = button("icon-only", icon(icons.copy), () => this.#copy());
    copy.setAttribute("aria-label", t("detail.copy"));
    const facts = h("dl", { class: "card facts" },
      h("div", null, h("dt", null, t("detail.seen")), h("dd", null, this.seen)),
      h("div", null, h("dt", null, t("detail.created")), h("dd", null, dateTime(this.#instance.created_at))),
      h("div", null, h("dt", null, t("detail.id")), h("dd", null, h("code", null, id), navigator.clipboard && copy, this.copied)));

    this.pairing = new Pairing({ api, store, id, live });
    this.pairing.onDone = () => this.heading.focus();
    this.phone = api.mode === "test" ? new Phone({ api, store, id }) : null;
    this.pairing.onPairCode = (code, number) => this.phone?.offer(code, number);
    this.log = new Log({ api, store, id });

    this.element = h("section", { class: "detail", "aria-labelledby": title },
      h("a", { class: "back", href: "#/" }, icon(icons.back), t("detail.back")),
      h("div", { class: "card head" },
        h("div", { class: "title" }, this.heading, this.rename),
        h("div", { class: "state" }, this.badge.element, this.since, this.number),
        this.sentence, this.retry,
        h("p", null, h("a", { class: "go", href: `#/instances/${id}/chats` }, t("detail.chats"))),
        h("div", { class: "actions" }, this.connect, this.disconnect, this.logout, this.delete),
        this.problem),
      this.pairing.element, this.phone?.element ?? "", facts, ...tools({ api, id }), this.log.element);
    this.update();
    this.log.read();
    if (this.#instance.status === "qr" && !store.codes.has(id)) this.pairing.fetch();
  }

  get #instance() {
    return this.#store.instances.get(this.#id);
  }

  get #path() {
    return `/v1/instances/${this.#id}`;
  }

  update() {
    const i = this.#instance;
    if (!i) return;
    const { reason, next_retry_at: retry } = i.status_detail;
    set(this.heading, i.name);
    this.badge.show(i.status);
    set(this.sentence, meaning(i.status, reason));
    set(this.number, i.phone_number ? phone(i.phone_number) : "");
    const noLink = hasNoLink(i);
    const attempt = i.status === "qr" || (i.status === "pending" && reason === "starting");
    const focused = document.activeElement;
    this.connect.hidden = !(retry || (["disconnected", "failed"].includes(i.status) && (!noLink || ["internal", "client_outdated"].includes(reason))));
    this.disconnect.hidden = !(["connected", "connecting"].includes(i.status) || attempt || (i.status === "disconnected" && reason === "network"));
    set(this.disconnect, t(attempt ? "detail.cancel" : "detail.disconnect"));
    this.logout.hidden = ["pending", "qr"].includes(i.status);
    this.pairing.update();
    this.phone?.update();
    // A button that is gone must not take the focus with it.
    if (this.element.contains(focused) && !focused.checkVisibility()) this.heading.focus();
    this.tick();
  }

  tick() {
    const i = this.#instance;
    if (!i) return;
    const now = this.#api.now();
    const { since, next_retry_at: retry } = i.status_detail;
    set(this.since, t("detail.for", { duration: duration(now - Date.parse(since)) }));
    const seen = i.status === "connected" ? t("detail.now") : i.last_seen_at ? dateTime(i.last_seen_at) : t("detail.never");
    set(this.seen, seen);
    this.retry.hidden = !retry;
    if (retry) {
      const left = Date.parse(retry) - now;
      set(this.retry, `${t("detail.retry")}: ${left > 0 ? `${dateTime(retry)} (${duration(left)})` : t("detail.now")}`);
    }
    this.pairing.tick();
  }

  #do(button, call) {
    return act(button, async () => {
      set(this.problem, "");
      try {
        this.#store.takeDetail(this.#id, await this.#api.post(`${this.#path}/${call}`));
      } catch (failure) {
        set(this.problem, explain(failure));
      }
    });
  }

  async #rename() {
    const name = nameField(this.#instance.name);
    await openDialog({
      title: t("detail.rename"),
      body: [name.element],
      actions: [{
        label: t("detail.save"), kind: "primary",
        run: async () => this.#store.take(await this.#api.patch(this.#path, { name: name.input.value.trim() })),
      }],
      focus: name.input,
    });
  }

  async #logout() {
    const { name, phone_number: number } = this.#instance;
    const losses = [t("logout.keys")];
    if (number) losses.unshift(t("logout.number", { phone: phone(number) }));
    await openDialog({
      title: t("logout.title", { name }),
      body: [h("p", null, t("logout.text")), h("ul", null, ...losses.map((l) => h("li", null, l))), h("p", { class: "hint" }, t("logout.kept"))],
      actions: [{
        label: t("detail.logout"), kind: "danger",
        run: async () => this.#store.takeDetail(this.#id, await this.#api.post(`${this.#path}/logout`)),
      }],
    });
  }

  async #delete() {
    const { name, phone_number: number, status, status_detail: { reason } } = this.#instance;
    // WhatsApp or the phone's owner ended the link.
    const unlinked = ["logout", "session_invalidated"].includes(reason);
    const linked = number && !unlinked && !["pending", "qr"].includes(status);
    const losses = [
      t("delete.instance", { name }),
      linked ? t("delete.link", { phone: phone(number) }) : t(unlinked ? "delete.unlinked" : "delete.nolink"),
      t("delete.apikeys"),
    ];
    await openDialog({
      title: t("delete.title", { name }),
      body: [h("p", null, t("delete.text")), h("ul", null, ...losses.map((l) => h("li", null, l))), h("p", { class: "hint" }, t("delete.kept"))],
      actions: [{
        label: t("detail.delete"), kind: "danger",
        run: async () => {
          await this.#api.delete(this.#path);
          this.#store.forget(this.#id);
        },
      }],
    });
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.#id);
      set(this.copied, t("detail.copied"));
      setTimeout(() => set(this.copied, ""), 3000);
    } catch { /* the id is there to be selected */ }
  }
}
