// The simulated phone, for instances of the sandbox.
import { act, alert, button, field, h, set, uniqueId } from "/dashboard/dom.js";
import { hasNoLink } from "/dashboard/pairing.js";
import { explain, t } from "/dashboard/strings.js";

export const faults = ["drop", "replaced", "banned", "session_invalidated", "outdated", "unreachable", "silent", "passkey", "ack_lost", "ack_late", "retry_receipt", "media_gone"];

export class Phone {
  #api;
  #store;
  #id;

  constructor({ api, store, id }) {
    this.#api = api;
    this.#store = store;
    this.#id = id;
    const title = uniqueId("phone");
    const input = (props) => h("input", { id: uniqueId("phone"), autocomplete: "off", ...props });
    this.problem = alert();
    this.result = h("p", { class: "result", role: "status" });
    const number = this.number = input({ type: "tel", inputmode: "tel" });
    this.code = input({ placeholder: "XXXX-XXXX", maxlength: "9", spellcheck: "false" });
    const from = input({ type: "tel", inputmode: "tel", value: "15550001111" });
    const text = input({ value: "Hello!" });
    const fault = h("select", { id: uniqueId("phone") }, ...faults.map((f) => h("option", { value: f }, t(`fault.${f}`))));
    const seconds = input({ type: "number", min: "0", max: "3600", value: "30" });
    const theNumber = () => (number.value.trim() ? { phone_number: number.value.replace(/[\s().-]/g, "") } : {});

    this.scan = this.#button(t("phone.scan"), "scan", () => theNumber());
    this.enter = this.#button(t("phone.enter"), "enter-code", () => ({ code: this.code.value.trim(), ...theNumber() }));
    this.unlink = this.#button(t("phone.unlink"), "unlink", () => ({}));
    this.send = this.#button(t("phone.send"), "messages", () => ({ from: from.value.replace(/[\s().+-]/g, ""), text: text.value }));
    this.inject = this.#button(t("phone.inject"), "faults", () => ({ kind: fault.value, ...(seconds.value ? { seconds: Number(seconds.value) } : {}) }));

    this.scanning = h("div", { class: "tools" }, field(t("phone.number"), number), this.scan);
    this.typing = h("div", { class: "tools" }, field(t("phone.code"), this.code), this.enter);
    this.linked = h("div", { class: "tools" }, field(t("phone.from"), from), field(t("phone.message"), text), this.send, this.unlink);
    this.breaking = h("div", { class: "tools" }, field(t("phone.fault"), fault), field(t("phone.seconds"), seconds), this.inject);
    this.element = h("section", { class: "card phone", "aria-labelledby": title },
      h("h3", { id: title }, t("phone.title")), h("p", { class: "hint" }, t("phone.text")),
      this.scanning, this.typing, this.linked, this.breaking, this.problem, this.result);
    this.update();
  }

  #button(label, call, body) {
    const made = button("", label, () => act(made, async () => {
      set(this.problem, "");
      set(this.result, "");
      try {
        await this.#api.post(`/v1/sandbox/instances/${this.#id}/${call}`, body());
        set(this.result, t("phone.done"));
      } catch (failure) {
        set(this.problem, explain(failure));
      }
    }));
    return made;
  }

  // offer puts a pair code where the phone types it.
  offer(code, number) {
    this.code.value = code;
    this.number.value = number;
    this.typing.hidden = false;
  }

  update() {
    const i = this.#store.instances.get(this.#id);
    if (!i) return;
    const pairing = i.status === "qr" || i.status === "pending";
    this.scanning.hidden = !pairing;
    this.typing.hidden = !(pairing && this.code.value);
    if (!pairing) this.code.value = "";
    this.linked.hidden = hasNoLink(i);
  }
}
