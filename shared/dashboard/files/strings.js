// What the page says, in the language of who reads it.

export const languages = { en: "English", es: "Español", pt: "Português" };

let strings = {};
export let language = "en";

// preferred is the language chosen here before, else the browser's first that we
// have.
export function preferred() {
  let chosen = "";
  try {
    chosen = localStorage.getItem("whatisup.language") ?? "";
  } catch { /* storage may be forbidden */ }
  for (const tag of [chosen, ...navigator.languages]) {
    const short = tag.toLowerCase().split("-")[0];
    if (short in languages) return short;
  }
  return "en";
}

export async function speak(code) {
  const response = await fetch(`/dashboard/${code}.json`);
  if (!response.ok) throw new Error(`no strings: HTTP ${response.status}`);
  strings = await response.json();
  language = code;
  document.documentElement.lang = code;
}

export function choose(code) {
  try {
    localStorage.setItem("whatisup.language", code);
  } catch { /* then it is chosen for now only */ }
}

// t is the string of a key, with {names} filled in.
export function t(key, values = {}) {
  const text = strings[key];
  if (text === undefined) return key;
  return text.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}

export function has(key) {
  return key in strings;
}

// meaningOr is the first of two strings that there is.
export function meaningOr(key, other) {
  return t(has(key) ? key : other);
}

// meaning explains a status and its reason.
export function meaning(status, reason) {
  if (!reason) return has(`meaning.${status}`) ? t(`meaning.${status}`) : t(`status.${status}`);
  if (has(`meaning.${status}.${reason}`)) return t(`meaning.${status}.${reason}`);
  // Events name a reason without its status.
  const other = Object.keys(strings).find((k) => k.startsWith("meaning.") && k.endsWith(`.${reason}`));
  return other ? strings[other] : reason;
}

// explain says what went wrong with a call and what to do about it.
export function explain(failure) {
  if (failure?.name !== "Failure") return t("error.unknown", { status: "?" });
  const parts = [t(has(`error.${failure.code}`) ? `error.${failure.code}` : "error.unknown", { status: failure.status })];
  const { details } = failure;
  if (failure.code === "invalid_lifecycle_transition") {
    if (details.status) parts.push(meaning(details.status, details.reason));
    if (has(`error.resolve.${details.resolve}`)) parts.push(t(`error.resolve.${details.resolve}`));
  }
  // Of a refusal, the cause is WhatsApp's code, or it is the API's and in words only.
  if (failure.code === "rejected") parts.push(`(${details.whatsapp_code ?? failure.message})`);
  if (Array.isArray(details.fields)) parts.push(...details.fields.map((f) => `(${f.field} ${f.problem})`));
  // What comes with a time says with it what to do.
  if (failure.retryAfter > 0) parts.push(t("error.retry", { seconds: failure.retryAfter }));
  if (failure.status >= 500 && failure.requestId) parts.push(t("error.request", { id: failure.requestId }));
  return parts.join(" ");
}

// phone is a number as people write it.
export function phone(number) {
  return number ? `+${number}` : t("list.nonumber");
}

const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

// duration is a length of time in its largest unit, as in "3 min".
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [unit, size] = units.find(([, s]) => seconds >= s) ?? units[3];
  return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short" }).format(Math.floor(seconds / size));
}

export function dateTime(text) {
  return new Date(text).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });
}
