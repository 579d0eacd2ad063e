// What the tests ask the page. Not part of it.
window.tester = (() => {
  const shown = (e) => e !== null && e.checkVisibility({ visibilityProperty: true }) && e.getClientRects().length > 0;

  // name is what a control is called.
  const name = (e) => {
    if (!e || e === document.body) return "";
    const label = e.getAttribute("aria-label") ?? (e.labels?.length ? [...e.labels].map((l) => l.textContent).join(" ") : null);
    return (label ?? e.textContent).trim().replace(/\s+/g, " ");
  };

  const focus = () => {
    const e = document.activeElement;
    const style = getComputedStyle(e);
    return { name: name(e), tag: e.tagName.toLowerCase(), value: e.value ?? "", ring: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 };
  };

  const text = (selector) => {
    const e = [...document.querySelectorAll(selector)].find(shown);
    return e ? e.textContent.trim().replace(/\s+/g, " ") : "";
  };

  // Colours are given back by a canvas, whatever way they were written.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const luminance = (c) => {
    const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const ground = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) {
      const c = rgba(getComputedStyle(at).backgroundColor);
      if (c[3] > 0) layers.push(c);
      if (c[3] === 1 || at.tagName === "DIALOG") break;
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };

  // pale lists texts that are hard to read.
  const pale = () => {
    const found = [];
    let checked = 0;
    const check = (e, colour, what) => {
      checked++;
      const behind = ground(e);
      const ratio = contrast(over(rgba(colour), behind), behind);
      if (ratio < 4.5) found.push(`${ratio.toFixed(2)}: ${what.slice(0, 60)}`);
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let n = walker.nextNode(); n; n = walker.nextNode()) {
      const e = n.parentElement;
      if (!n.data.trim() || !shown(e) || e.closest("noscript, script, .unseen")) continue;
      check(e, getComputedStyle(e).color, n.data.trim());
    }
    for (const e of document.querySelectorAll("input, select")) {
      if (!shown(e) || e.type === "checkbox") continue;
      check(e, getComputedStyle(e).color, `value of ${name(e)}`);
      if (e.placeholder) check(e, getComputedStyle(e, "::placeholder").color, `placeholder of ${name(e)}`);
    }
    return { found, checked };
  };

  // wide lists what runs over the window's right edge.
  const wide = () => {
    if (document.documentElement.scrollWidth <= innerWidth) return [];
    return [...document.querySelectorAll("body *")].filter((e) => shown(e) && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 90)).slice(0, 5);
  };

  // raw lists what is the key of a string, or has a blank that nobody filled in.
  const raw = async () => {
    const keys = new Set(Object.keys(await (await fetch("/dashboard/en.json")).json()));
    // Some keys are called as events are, whose names are not translated.
    for (const name of (await import("/dashboard/log.js")).eventNames) keys.delete(name);
    const said = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let n = walker.nextNode(); n; n = walker.nextNode()) {
      if (!n.parentElement.closest("noscript, script, pre")) said.push(n.data);
    }
    for (const e of document.querySelectorAll("[aria-label], [placeholder], [title], [alt]")) {
      for (const name of ["aria-label", "placeholder", "title", "alt"]) said.push(e.getAttribute(name) ?? "");
    }
    return said.filter((s) => /\{\w+\}/.test(s) || s.split(/[\s:·,()]+/).some((word) => keys.has(word.replace(/[.!?]$/, ""))));
  };

  return { name, focus, text, pale, wide, raw, shown };
})();
