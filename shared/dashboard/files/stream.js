// The event stream: Server-Sent Events read with fetch, because EventSource
// can't send an Authorization header.
import { Failure } from "/dashboard/api.js";

// frameLimit bounds what one frame may hold; an event's metadata is at most
// 16 KB, a code's picture a few.
const frameLimit = 1 << 20;

// Parser takes a stream of Server-Sent Events apart, as the HTML standard says.
export class Parser {
  #rest = "";
  #data = [];
  #event = "";
  lastId = "";
  retry = 0; // milliseconds, 0 until the server has said so

  // push takes the next piece and returns the frames that are complete:
  // {id, event, data}.
  push(text) {
    this.#rest += text;
    if (this.#rest.length > frameLimit) throw new RangeError("a frame is too long");
    const frames = [];
    for (;;) {
      const end = this.#rest.search(/[\r\n]/);
      if (end < 0) return frames;
      // A carriage return at the very end may be half of a line's end.
      const crlf = this.#rest[end] === "\r";
      if (crlf && end + 1 === this.#rest.length) return frames;
      const line = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + (crlf && this.#rest[end + 1] === "\n" ? 2 : 1));
      const frame = this.#line(line);
      if (frame) frames.push(frame);
    }
  }

  #line(line) {
    if (line === "") {
      const frame = this.#data.length ? { id: this.lastId, event: this.#event || "message", data: this.#data.join("\n") } : null;
      this.#data = [];
      this.#event = "";
      return frame;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return null; // a comment: a sign of life
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.lastId = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
    return null;
  }
}

// backoff is how long to wait before the nth try in a row, in milliseconds:
// doubling to half a minute, and any share of the upper half of it, so that
// pages that lost the same server don't come back together.
export function backoff(n, random = Math.random) {
  const most = Math.min(30_000, 1000 * 2 ** n);
  return most / 2 + random() * most / 2;
}

const silence = 40_000; // a comment comes every 15 s
const settled = 10_000; // a stream that lasted this long begins the count anew
const longest = 2 ** 31 - 1; // of a timer, in milliseconds
const remembered = 500; // event ids, to drop what repeats around a reconnect

// Stream keeps reading until it is stopped or the key is refused.
//   open(lastEventId, signal)  opens the stream: a Response, or throws a Failure
//   onEvent(envelope)          each event once
//   onState(state, failure, retryAt)  "connecting", "live", "waiting", "paused" or "refused"
//   onGap()                    the log no longer reaches back to our position
export class Stream {
  #stop = new AbortController();
  #wake = null;
  #resting = false;
  #attempt = null;
  #seen = new Set();

  constructor({ open, onEvent, onState, onGap }) {
    Object.assign(this, { open, onEvent, onState, onGap });
    this.lastId = "";
    this.retry = 0;
  }

  stop() {
    this.#stop.abort();
  }

  // rest ends the stream until wake, which goes on where it was. A browser has six
  // connections for all pages of one host, so pages that nobody sees hold none.
  rest() {
    this.#resting = true;
    this.#attempt?.abort();
    this.hurry();
  }

  wake() {
    this.#resting = false;
    this.hurry();
  }

  // hurry ends a wait for the next try.
  hurry() {
    this.#wake?.();
  }

  async run() {
    let tries = 0;
    while (!this.#stop.signal.aborted) {
      if (this.#resting) {
        this.onState("paused");
        await this.#pause(longest);
        continue;
      }
      this.onState("connecting");
      const began = Date.now();
      let failure = null;
      try {
        await this.#read();
      } catch (cause) {
        failure = cause instanceof Failure ? cause : new Failure({ code: "offline" });
      }
      if (this.#stop.signal.aborted) return;
      if (this.#resting) continue;
      if (failure?.status === 401 || failure?.status === 403) {
        this.onState("refused", failure);
        return;
      }
      if (failure?.code === "position_expired") {
        this.lastId = "";
        this.onGap();
        failure = null;
      }
      if (failure === null || Date.now() - began > settled) tries = 0;
      // A stream that ended as it should is opened again at once, or when its
      // server has said.
      let wait = failure === null ? (this.retry || 1000) * (0.5 + Math.random()) : backoff(tries++);
      wait = Math.min(Math.max(wait, (failure?.retryAfter ?? 0) * 1000), 300_000);
      if (failure) this.onState("waiting", failure, Date.now() + wait);
      await this.#pause(wait);
    }
  }

  #pause(wait) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#wake = null;
        this.#stop.signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, wait);
      this.#wake = done;
      this.#stop.signal.addEventListener("abort", done, { once: true });
    });
  }

  async #read() {
    const attempt = this.#attempt = new AbortController();
    const signal = AbortSignal.any([this.#stop.signal, attempt.signal]);
    let watchdog;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => attempt.abort(), silence);
    };
    alive();
    try {
      const response = await this.open(this.lastId, signal);
      if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
        throw new Failure({ code: "unknown", status: response.status });
      }
      this.onState("live");
      const parser = new Parser();
      parser.lastId = this.lastId;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        alive();
        for (const frame of parser.push(value)) this.#deliver(frame);
        this.lastId = parser.lastId;
        this.retry = Math.min(parser.retry, 60_000);
      }
    } finally {
      clearTimeout(watchdog);
      attempt.abort();
    }
  }

  #deliver(frame) {
    let event;
    try {
      event = JSON.parse(frame.data);
    } catch {
      return; // not an envelope: not for us
    }
    if (event?.event === "stream.opened") return; // only says where the stream begins
    if (typeof event?.event_id !== "string" || this.#seen.has(event.event_id)) return;
    this.#seen.add(event.event_id);
    if (this.#seen.size > remembered) this.#seen.delete(this.#seen.values().next().value);
    this.onEvent(event);
  }
}
