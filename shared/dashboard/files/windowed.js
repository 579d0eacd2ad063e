// A long list of which only what can be seen is in the page.
import { h } from "/dashboard/dom.js";

const guess = 72; // pixels of a row that was never seen
const beyond = 600; // pixels above and below the window that are drawn too
const near = 48; // pixels from the end that still count as being there

// Windowed shows rows of any height. draw(item, before) makes a row's element,
// onTop is called when the first row comes into sight.
export class Windowed {
  #items = [];
  #rows = new Map(); // key: element in the page
  #heights = new Map(); // key: pixels, measured
  #tops = new Float64Array(1);
  #waiting = 0;
  #width = 0;
  #end = true; // its end was in sight, so it stays there
  #left = 0; // where it was scrolled to when it was last drawn
  #resized;
  #grown;

  constructor({ label, draw, onTop }) {
    this.draw = draw;
    this.onTop = onTop;
    this.rows = h("ol");
    this.element = h("div", { class: "window", tabindex: "0", role: "region", "aria-label": label }, this.rows);
    this.element.addEventListener("scroll", () => {
      this.#end = this.atEnd;
      this.#soon();
    }, { passive: true });
    this.#resized = new ResizeObserver(() => {
      if (this.element.clientWidth !== this.#width) this.#heights.clear();
      this.#width = this.element.clientWidth;
      this.#keep(() => {});
    });
    this.#resized.observe(this.element);
    // A row grows when its details are opened, or when its picture has come.
    this.#grown = new ResizeObserver((entries) => {
      const grown = entries.filter(({ target, borderBoxSize: [box] }) => target.isConnected && Math.abs((this.#heights.get(target.dataset.key) ?? 0) - box.blockSize) > 0.5);
      if (grown.length) this.#keep(() => { for (const { target, borderBoxSize: [box] } of grown) this.#heights.set(target.dataset.key, box.blockSize); });
    });
  }

  close() {
    this.#resized.disconnect();
    this.#grown.disconnect();
    cancelAnimationFrame(this.#waiting);
  }

  // show takes all items, in order, each with a key. Rows that are in sight stay
  // where they are, or the end stays in sight if it was.
  show(items, { toEnd = false } = {}) {
    this.#keep(() => { this.#items = items; }, toEnd);
  }

  // change draws the rows of some keys anew.
  change(keys) {
    this.#keep(() => {
      for (const key of keys) {
        this.#heights.delete(key);
        this.#remove(key);
      }
    });
  }

  get atEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    return scrollHeight - scrollTop - clientHeight < near;
  }

  #soon() {
    this.#waiting ||= requestAnimationFrame(() => {
      this.#waiting = 0;
      this.#keep(() => {});
    });
  }

  // keep changes something and draws, without moving what is in sight.
  #keep(change, toEnd = false) {
    // Somebody may have scrolled up, and the event of it is yet to come.
    const end = toEnd || (this.#end && this.element.scrollTop >= this.#left - 1);
    const first = this.#at(this.element.scrollTop);
    const key = this.#items[first]?.key;
    const offset = this.element.scrollTop - this.#tops[first];
    change();
    this.#measureTops();
    // Drawing measures, and what was measured moves the rest: twice is enough.
    for (let turn = 0; turn < 2; turn++) {
      if (end) this.element.scrollTop = this.element.scrollHeight;
      else if (key !== undefined) {
        const now = this.#items[first]?.key === key ? first : this.#items.findIndex((i) => i.key === key);
        const top = this.#tops[now] + offset;
        if (now >= 0 && Math.abs(top - this.element.scrollTop) > 1) this.element.scrollTop = top;
      }
      if (!this.#render()) break;
    }
    if (end) this.element.scrollTop = this.element.scrollHeight;
    this.#end = end;
    this.#left = this.element.scrollTop;
    if (this.element.scrollTop < beyond && this.#items.length) this.onTop?.();
  }

  #measureTops() {
    const n = this.#items.length;
    if (this.#tops.length !== n + 1) this.#tops = new Float64Array(n + 1);
    for (let i = 0; i < n; i++) this.#tops[i + 1] = this.#tops[i] + (this.#heights.get(this.#items[i].key) ?? guess);
  }

  // at is the index of the row at a height.
  #at(y) {
    let low = 0;
    let high = this.#items.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#tops[middle] <= y) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // render puts the rows in and near the window into the page, and says whether
  // one of them was measured for the first time.
  #render() {
    const n = this.#items.length;
    const { scrollTop, clientHeight } = this.element;
    const from = this.#at(scrollTop - beyond);
    const to = Math.min(n, this.#at(scrollTop + clientHeight + beyond) + 1);
    const wanted = new Set();
    for (let i = from; i < to; i++) wanted.add(this.#items[i].key);
    for (const key of this.#rows.keys()) if (!wanted.has(key)) this.#remove(key);
    const fresh = [];
    let next = this.rows.firstElementChild;
    for (let i = from; i < to; i++) {
      const item = this.#items[i];
      let row = this.#rows.get(item.key);
      if (!row) {
        row = this.draw(item, this.#items[i - 1]);
        row.dataset.key = item.key;
        this.#rows.set(item.key, row);
        this.#grown.observe(row);
      }
      row.setAttribute("aria-posinset", i + 1);
      row.setAttribute("aria-setsize", n);
      if (row === next) next = next.nextElementSibling;
      else this.rows.insertBefore(row, next);
      if (!this.#heights.has(item.key)) fresh.push([item.key, row]);
    }
    this.rows.style.paddingTop = `${this.#tops[from] ?? 0}px`;
    this.rows.style.paddingBottom = `${this.#tops[n] - this.#tops[to]}px`;
    let moved = false;
    for (const [key, row] of fresh) {
      const { height } = row.getBoundingClientRect();
      if (!height) continue; // not shown now
      this.#heights.set(key, height);
      moved = true;
    }
    if (moved) {
      this.#measureTops();
      this.rows.style.paddingTop = `${this.#tops[from] ?? 0}px`;
      this.rows.style.paddingBottom = `${this.#tops[n] - this.#tops[to]}px`;
    }
    return moved;
  }

  #remove(key) {
    const row = this.#rows.get(key);
    if (!row) return;
    // The focus must not be lost with a row that is scrolled out of sight.
    if (row.contains(document.activeElement)) this.element.focus({ preventScroll: true });
    this.#grown.unobserve(row);
    row.remove();
    this.#rows.delete(key);
  }
}
