// The first thing seen: where the key goes.
import { API } from "/dashboard/api.js";
import { act, alert, field, h, set } from "/dashboard/dom.js";
import { explain, t } from "/dashboard/strings.js";

const kept = "whatisup.key";

// slowAfter is how long somebody who signs in is left without a word.
const slowAfter = 5000;

// keptKey is the key that this tab was asked to keep.
export function keptKey() {
  try {
    return sessionStorage.getItem(kept);
  } catch {
    return null;
  }
}

function keep(key) {
  try {
    if (key) sessionStorage.setItem(kept, key);
    else sessionStorage.removeItem(kept);
  } catch { /* then it is kept in memory only */ }
}

export function forgetKey() {
  keep(null);
}

// enter tries a key. It resolves to {api, only}; only is the one instance of a
// key that is bound to one, and askInstance is asked for it if the log doesn't
// tell.
export async function enter(key, askInstance) {
  const api = new API(key);
  await api.discover();
  try {
    await api.get("/v1/instances?limit=1");
    return { api, only: null };
  } catch (failure) {
    if (failure.code !== "instance_scoped_key") throw failure;
  }
  const log = await api.get("/v1/events?limit=1");
  const only = log.data[0]?.instance_id ?? await askInstance();
  await api.get(`/v1/instances/${encodeURIComponent(only)}`);
  return { api, only };
}

// signIn shows the form and resolves to what enter does.
export function signIn(page, { problem: first = "" } = {}) {
  return new Promise((resolve) => {
    const key = h("input", {
      id: "key", name: "key", type: "password", required: "", autocomplete: "off",
      spellcheck: "false", "aria-describedby": "key-hint",
    });
    const remember = h("input", { id: "remember", type: "checkbox" });
    const instance = h("input", { id: "bound", autocomplete: "off", spellcheck: "false" });
    const bound = field(t("signin.instance"), instance, h("p", { class: "hint" }, t("signin.bound")));
    bound.hidden = true;
    const problem = alert(first);
    const open = h("button", { type: "submit", class: "primary" }, t("signin.open"));

    const submit = (e) => {
      e.preventDefault();
      act(open, async () => {
        set(problem, "");
        const text = key.value.trim();
        if (!/^wiu_(live|test)_\w+$/.test(text)) {
          set(problem, t("signin.form"));
          key.focus();
          return;
        }
        const slow = setTimeout(() => set(problem, t("api.slow")), slowAfter);
        try {
          const entered = await enter(text, async () => {
            if (instance.value.trim()) return instance.value.trim();
            bound.hidden = false;
            instance.focus();
            throw null;
          });
          keep(remember.checked ? text : null);
          clearTimeout(slow);
          resolve(entered);
        } catch (failure) {
          clearTimeout(slow);
          if (failure === null) return; // the form asks for more
          set(problem, explain(failure));
          if (bound.hidden) key.focus();
        }
      });
    };

    const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
    page.replaceChildren(h("main", { class: "signin" },
      h("form", { class: "card", submit, novalidate: "" },
        h("img", { class: "mark", src: "/dashboard/icon.svg", alt: "" }),
        h("h1", null, t("signin.title")),
        h("p", { id: "key-hint" }, t("signin.text")),
        field(t("signin.key"), key),
        h("div", { class: "check" }, remember, h("label", { htmlFor: "remember" }, t("signin.keep"))),
        bound, problem, open,
        h("p", { class: "hint" }, t(local ? "signin.local" : "signin.nokey")))));
    key.focus();
  });
}
