// Linking a phone: the code, its countdown, and what becomes of it.
import { act, alert, announce, button, field, h, icon, icons, set, uniqueId } from "/dashboard/dom.js";
import { duration, explain, phone, t } from "/dashboard/strings.js";

// hasNoLink says whether an instance in this state can be paired. What can't be
// told from the state, the API refuses.
export function hasNoLink({ status, status_detail: { reason, next_retry_at: retry } }) {
  switch (status) {
    case "pending":
    case "qr":
      return true;
    case "disconnected":
      return reason === "logout" || reason === "session_invalidated";
    case "failed":
      return !(reason === "banned" && retry);
    default:
      return false;
  }
}

// late is how long after a code's end the next one is waited for before the page
// asks what has become of it.
const late = 8000;

export class Pairing {
  #api;
  #store;
  #id;
  #code = null; // shown now
  #pairCode = null; // {code, expiresAt}
  #watched = false; // a pairing was seen here, so its success is shown here
  #asked = 0; // the code's end after which was asked
  #shown = false;
  #fetching = false;

  constructor({ api, store, id, live }) {
    this.#api = api;
    this.#store = store;
    this.#id = id;
    this.live = live; // says whether the stream is
    const title = uniqueId("pair");
    this.image = h("img", { class: "code", alt: t("pair.alt"), hidden: true });
    this.fetchButton = button("primary", t("pair.fetch"), () => this.fetch());
    const spinner = (text) => h("p", { class: "waiting" }, h("span", { class: "spinner", "aria-hidden": "true" }), h("span", null, text));
    this.waiting = spinner("");
    this.frame = h("div", { class: "frame" }, this.image, this.fetchButton, this.waiting);
    this.bar = h("progress", { max: "1", "aria-hidden": "true", hidden: true });
    this.countdown = h("p", { class: "countdown", role: "timer" });
    this.problem = alert();

    const number = h("input", { id: uniqueId("number"), type: "tel", inputmode: "tel", autocomplete: "off", required: "", placeholder: "+55 11 91234 5678" });
    this.number = number;
    this.getCode = h("button", { type: "submit" }, t("pair.code.get"));
    this.codeText = h("output", { class: "pair-code", for: number.id });
    this.codeNote = h("p", { class: "countdown", role: "timer" });
    this.codeHelp = h("p", { hidden: true }, t("pair.code.text"));
    this.codeProblem = alert();
    this.byCode = h("details", { class: "by-code" },
      h("summary", null, t("pair.code")),
      h("form", { submit: (e) => { e.preventDefault(); this.fetchPairCode(); } },
        field(t("pair.code.number"), number), this.getCode,
        this.codeProblem, this.codeHelp, this.codeText, this.codeNote));

    this.pairing = h("div", { class: "pairing" },
      h("div", { class: "scan" }, this.frame, this.bar, this.countdown),
      h("div", { class: "how" },
        h("ol", null, h("li", null, t("pair.step1")), h("li", null, t("pair.step2")), h("li", null, t("pair.step3"))),
        this.problem, this.byCode,
        api.mode === "live" && h("p", { class: "hint" }, t("pair.risk"))));
    this.linking = spinner(t("pair.scanned"));
    this.doneText = h("p");
    this.ok = button("", t("pair.done.ok"), () => { this.#watched = false; this.update(); this.onDone?.(); });
    this.done = h("div", { class: "done" }, h("span", { class: "tick" }, icon(icons.check)), h("div", null, h("strong", null, t("pair.done")), this.doneText), this.ok);
    this.title = h("h3", { id: title, tabindex: "-1" }, t("pair.title"));
    this.element = h("section", { class: "card", "aria-labelledby": title }, this.title, this.pairing, this.linking, this.done);
    this.update();
  }

  get #instance() {
    return this.#store.instances.get(this.#id);
  }

  // fetch starts a pairing, or shows the one that runs.
  fetch() {
    return act(this.fetchButton, async () => {
      this.#watched = this.#fetching = true;
      set(this.problem, "");
      this.update();
      try {
        const code = await this.#api.get(`/v1/instances/${this.#id}/qr`);
        this.#store.takeCode(this.#id, code);
      } catch (failure) {
        // Somebody scanned it meanwhile: that is what was wanted.
        if (failure.code !== "invalid_lifecycle_transition" || !["connecting", "connected"].includes(failure.details.status)) {
          set(this.problem, explain(failure));
        }
      }
      this.#fetching = false;
      // Without the stream nobody else tells.
      this.#store.refresh(this.#id).catch(() => {});
      this.update();
    });
  }

  fetchPairCode() {
    return act(this.getCode, async () => {
      set(this.codeProblem, "");
      if (!this.number.reportValidity()) return;
      this.#watched = true;
      try {
        const number = this.number.value.replace(/[\s().-]/g, "");
        const answer = await this.#api.post(`/v1/instances/${this.#id}/pair-code`, { phone_number: number });
        this.#pairCode = { code: answer.code, expiresAt: Date.parse(answer.expires_at) };
        set(this.codeText, answer.code);
        this.codeHelp.hidden = false;
        this.onPairCode?.(answer.code, number);
      } catch (failure) {
        set(this.codeProblem, explain(failure));
      }
      this.tick();
    });
  }

  #wait(text) {
    set(this.waiting.lastChild, text);
    this.waiting.hidden = !text;
    const hide = Boolean(text) || Boolean(this.#code);
    if (hide && document.activeElement === this.fetchButton) this.title.focus();
    this.fetchButton.hidden = hide;
  }

  // update follows the instance's state and the newest code.
  update() {
    const i = this.#instance;
    if (!i) return;
    const open = hasNoLink(i);
    const under = i.status === "qr" || (i.status === "pending" && i.status_detail.reason === "starting");
    if (under) this.#watched = true;
    const linking = this.#watched && i.status === "connecting";
    const linked = this.#watched && i.status === "connected";
    if (!open && !linking && !linked) this.#watched = false;
    const shown = open || linking || linked;
    this.element.hidden = !shown;
    this.pairing.hidden = !open;
    this.linking.hidden = !linking;
    this.done.hidden = !linked;
    if (linked) set(this.doneText, t("pair.done.text", { phone: phone(i.phone_number) }));
    if (!open) {
      this.#shown = false;
      this.#pairCode = null;
      this.number.value = "";
      set(this.codeText, "");
      set(this.codeNote, "");
      this.codeHelp.hidden = true;
      set(this.problem, "");
      set(this.codeProblem, "");
    }

    const code = open ? this.#store.codes.get(this.#id) ?? null : null;
    if (code !== this.#code) {
      const first = !this.#code && code;
      this.#code = code;
      if (code) {
        this.image.src = code.qr;
        set(this.problem, "");
      } else {
        this.image.removeAttribute("src");
      }
      if (first) announce(t("pair.shown"));
    }
    this.image.hidden = !code;
    set(this.fetchButton, t(this.#shown && !under ? "pair.again" : "pair.fetch"));
    if (code) this.#shown = true;
    const waits = this.#fetching || (under && !this.problem.textContent);
    this.#wait(!code && waits ? t("pair.waiting") : "");
    this.tick();
  }

  tick() {
    const now = this.#api.now();
    const code = this.#code;
    this.bar.hidden = !code;
    if (code) {
      const left = code.expiresAt - now;
      const over = left <= 0;
      this.image.classList.toggle("over", over);
      this.bar.value = over ? 0 : left / Math.max(code.expiresAt - code.shownAt, 1);
      set(this.countdown, over ? t("pair.next") : t("pair.countdown", { seconds: Math.ceil(left / 1000) }));
      this.#mend(code, left);
    } else {
      set(this.countdown, "");
    }
    const pairCode = this.#pairCode;
    if (pairCode) {
      const left = pairCode.expiresAt - now;
      this.codeText.classList.toggle("over", left <= 0);
      set(this.codeNote, left <= 0 ? t("pair.code.over") : t("pair.code.countdown", { seconds: Math.ceil(left / 1000) }));
    }
  }

  // mend asks once for what should have come: the next code, if there is no
  // stream to push it, else what has become of the instance.
  #mend(code, left) {
    if (left > (this.live() ? -late : 0) || this.#asked === code.expiresAt) return;
    this.#asked = code.expiresAt;
    if (this.live()) this.#store.refresh(this.#id).catch(() => {});
    else this.fetch();
  }
}
