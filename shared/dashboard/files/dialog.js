// Dialogs: the browser's own, which keep the focus inside and give it back.
import { act, alert, button, field, h, set, uniqueId } from "/dashboard/dom.js";
import { explain, t } from "/dashboard/strings.js";

// openDialog shows a dialog and resolves when it is closed. Actions are
// {label, kind, run}; run may fail, which the dialog then shows, staying open.
// Where nothing is to be typed, the focus begins on the button that does
// nothing.
export function openDialog({ title, body, actions, focus }) {
  const titleId = uniqueId("dialog");
  const problem = alert();
  return new Promise((resolve) => {
    const cancel = button("quiet", t("dialog.cancel"), () => dialog.close());
    const buttons = actions.map(({ label, kind, run }, n) => h("button", {
      type: n === 0 && focus ? "submit" : "button", class: kind,
      click: (e) => {
        e.preventDefault();
        if (focus && !form.reportValidity()) return;
        act(e.currentTarget, async () => {
          set(problem, "");
          try {
            const result = await run();
            dialog.close();
            resolve(result ?? true);
          } catch (failure) {
            set(problem, explain(failure));
          }
        });
      },
    }, label));
    const form = h("form", { submit: (e) => e.preventDefault() },
      h("h2", { id: titleId }, title), ...body, problem,
      h("div", { class: "actions" }, ...buttons, cancel));
    const dialog = h("dialog", { "aria-labelledby": titleId, close: () => { dialog.remove(); resolve(null); } }, form);
    document.body.append(dialog);
    dialog.showModal();
    (focus ?? cancel).focus();
  });
}

// showSecret shows what is shown only once, until somebody says to have kept it.
export function showSecret({ title, text, secret, more = "" }) {
  const titleId = uniqueId("dialog");
  const box = h("input", { id: uniqueId("secret"), readonly: "", value: secret, spellcheck: "false", autocomplete: "off" });
  const copied = h("p", { class: "result", role: "status" });
  return new Promise((resolve) => {
    const kept = button("primary", t("secret.kept"), () => dialog.close());
    const copy = navigator.clipboard && button("", t("secret.copy"), async () => {
      try {
        await navigator.clipboard.writeText(secret);
        set(copied, t("detail.copied"));
      } catch {
        box.select();
      }
    });
    const dialog = h("dialog", { "aria-labelledby": titleId, close: () => { dialog.remove(); resolve(); } },
      h("form", { submit: (e) => e.preventDefault() },
        h("h2", { id: titleId }, title), field(text, box), copied, more, h("div", { class: "actions" }, kept, copy)));
    document.body.append(dialog);
    dialog.showModal();
    box.focus();
    box.select();
  });
}

// nameField is the field for an instance's name.
export function nameField(value = "") {
  const input = h("input", { id: uniqueId("name"), required: "", maxlength: "200", autocomplete: "off", value });
  return { input, element: field(t("create.name"), input, h("p", { class: "hint" }, t("create.hint"))) };
}
