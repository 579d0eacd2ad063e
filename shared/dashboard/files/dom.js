// Elements without markup: every string that reaches the page goes through
// textContent or an attribute.

// h makes an element. Of props, functions are listeners, booleans and the names
// in `properties` are set on the object, everything else is an attribute.
// Children that are null or false are left out.
const properties = new Set(["hidden", "disabled", "checked", "value", "htmlFor", "open", "textContent"]);

export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (properties.has(name)) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

// button, field and alert are the parts that every form has: a button of a kind,
// an input under its label, and where it says what went wrong.
export function button(kind, label, click) {
  return h("button", { type: "button", class: kind, click }, label);
}

export function field(label, input, ...more) {
  return h("div", { class: "field" }, h("label", { htmlFor: input.id }, label), input, ...more);
}

export function alert(text = "") {
  return h("p", { class: "problem", role: "alert" }, text);
}

// svg makes an element of a drawing.
export function svg(tag, props, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// icon draws one of the page's few line icons; it says nothing to a reader of
// the accessibility tree, whatever it stands in has a name.
export function icon(path) {
  return svg("svg", { viewBox: "0 0 20 20", class: "icon", "aria-hidden": "true" }, svg("path", { d: path }));
}

export const icons = {
  back: "M12 4 6 10l6 6",
  check: "M4 10.5 8.2 15 16 6",
  copy: "M7 7h9v9H7zM4 13V4h9",
  plus: "M10 4v12M4 10h12",
};

// set changes a text only if it differs, so that a reader isn't told twice.
export function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let count = 0;

// uniqueId names an element that a label or description refers to.
export function uniqueId(stem) {
  return `${stem}-${++count}`;
}

// announce says a sentence to those who listen to the page.
let announcing;
export function announce(text) {
  const region = document.getElementById("announcer");
  clearTimeout(announcing);
  region.textContent = "";
  // An empty moment in between, else the same sentence would not be said again.
  announcing = setTimeout(() => { region.textContent = text; }, 60);
}

// act runs what a button does, once at a time, without taking the focus away
// from it as `disabled` would.
export async function act(button, work) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  button.classList.add("busy");
  try {
    return await work();
  } finally {
    button.removeAttribute("aria-disabled");
    button.classList.remove("busy");
  }
}
