// What to do first, for who comes for the first time: from the key to the first
// webhook. Done steps are ticked by what is there, not by what was pressed.
import { button, h, icon, icons, uniqueId } from "/dashboard/dom.js";
import { t } from "/dashboard/strings.js";

const hidden = "whatisup.first-steps-hidden";

export class FirstSteps {
  #api;
  #store;
  #wrote = false;
  #webhook = false;
  #reading = false;

  constructor({ api, store, create }) {
    this.#api = api;
    this.#store = store;
    this.create = create;
    const title = uniqueId("first");
    this.steps = h("ol");
    this.element = h("section", { class: "card first", "aria-labelledby": title, hidden: true },
      h("h3", { id: title }, t("first.title")), this.steps,
      button("quiet", t("first.hide"), () => {
        try {
          localStorage.setItem(hidden, "yes");
        } catch { /* then they are hidden for now only */ }
        this.over = true;
        this.element.hidden = true;
        document.querySelector(".list input")?.focus();
      }));
    try {
      this.over = localStorage.getItem(hidden) !== null;
    } catch { /* then they are shown */ }
  }

  // read asks what is there already.
  async read() {
    if (this.over || this.#reading) return;
    this.#reading = true;
    try {
      const { data } = await this.#api.get("/v1/webhook-endpoints");
      this.#webhook = data.length > 0;
      if (!this.#wrote) {
        const log = await this.#api.get("/v1/event-log?events=message.status&limit=1");
        this.#wrote = log.data.length > 0;
      }
    } catch { /* the steps are a help; what can't be read is not ticked */ }
    this.#reading = false;
    this.#draw();
  }

  add({ event }) {
    if (this.over) return;
    if (event === "message.status") this.#wrote = true;
    if (event.startsWith("instance.") || event === "message.status") this.#draw();
  }

  #draw() {
    const all = [...this.#store.instances.values()];
    const newest = all[0];
    const linked = all.find((i) => i.phone_number);
    const link = (href, text) => h("a", { href }, text);
    // In the sandbox the phones are simulated, which somebody who comes new has to know.
    const sandbox = this.#api.mode === "test";
    const scan = t(sandbox ? "first.scan.test" : "first.scan");
    const message = t(sandbox ? "first.message.test" : "first.message");
    const steps = [
      [true, t("first.key")],
      [all.length > 0, button("link", t("first.create"), () => this.create())],
      [Boolean(linked), newest ? link(`#/instances/${newest.id}`, scan) : scan],
      [this.#wrote, linked ? link(`#/instances/${linked.id}/chats`, message) : message],
      [this.#webhook, link("#/webhooks", t("first.webhook"))],
    ];
    this.element.hidden = Boolean(this.over) || steps.every(([done]) => done);
    const focused = this.steps.contains(document.activeElement);
    this.steps.replaceChildren(...steps.map(([done, what]) => h("li", { "data-done": done ? "" : null }, what, done && icon(icons.check), done && h("span", { class: "unseen" }, t("first.done")))));
    if (focused) this.steps.querySelector("a, button")?.focus();
  }
}
