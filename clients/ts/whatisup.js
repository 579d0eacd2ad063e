// A client of the WhatIsUp API over fetch, for Node 20 and later, Deno, Bun and
// browsers, without dependencies. Its types are those of the OpenAPI document. It has
// the calls that most programs need, and in them what generated clients leave out: calls
// are repeated where that is safe, POSTs under an Idempotency-Key; streams resume; files
// are uploaded and waited for; signatures of webhooks are checked. request() makes every
// other call.
//
//   const api = new Client({ url: "http://localhost:8080", key: process.env.KEY });
//   const { id } = await api.createInstance({ name: "support line" });
//   const { raw } = await api.waitQR(id); // show it, and let the phone scan it
//   await api.waitStatus(id, "connected");
//   const { message_id } = await api.sendText(id, "+55 11 98765-4321", "Hello!");
//   await api.waitMessage(id, message_id, "delivered");

/**
 * @typedef {import("./api.js").components["schemas"]} Schemas
 * @typedef {Schemas["Instance"]} Instance
 * @typedef {Schemas["Message"]} Message
 * @typedef {Schemas["SendMessage"]} SendMessage
 * @typedef {Schemas["QRCode"]} QRCode
 * @typedef {Schemas["Media"]} Media
 * @typedef {Schemas["Event"] & {position?: string}} Event position: where a stream goes on after it
 * @typedef {{signal?: AbortSignal}} Options
 */

const attempts = 5;
const mostWait = 30_000;
const pollEvery = 200;
const silence = 40_000; // a comment comes every 15 s
const remembered = 1000; // ids of events, to drop what repeats around a reconnect

/** An error that the API answered. */
export class APIError extends Error {
  /**
   * @param {number} status
   * @param {{error?: {code?: string, message?: string, details?: Record<string, unknown>}, request_id?: string}} body
   * @param {number} retryAfter
   */
  constructor(status, body, retryAfter) {
    super(`${body.error?.message ?? `HTTP ${status}`} (${body.error?.code ?? "no code"}, ${body.request_id ?? ""})`);
    this.name = "APIError";
    this.status = status;
    this.code = body.error?.code ?? "";
    this.details = body.error?.details ?? {};
    this.requestId = body.request_id ?? "";
    this.retryAfter = retryAfter; // milliseconds
  }

  /** Whether the same call may succeed later, and may be repeated. */
  get mends() {
    if (this.status === 429) return this.code !== "pairing_throttled" && this.code !== "queue_full";
    if (this.status === 502 || this.status === 504) return true;
    if (this.status === 503) return this.code !== "outcome_unknown" && this.code !== "no_qr";
    return this.code === "idempotency_in_progress";
  }
}

export class Client {
  /** @param {{url: string, key: string, fetch?: typeof fetch}} settings url is the API's address, without /v1 */
  constructor({ url, key, fetch: given }) {
    this.url = url.replace(/\/+$/, "");
    this.key = key;
    this.fetch = given ?? ((input, init) => fetch(input, init));
  }

  /**
   * Makes one call and returns its answer. path begins with /v1. It is repeated, up to 5
   * times in all, when nothing or a refusal came back that time can mend; a POST is sent
   * under an Idempotency-Key, so it happens once.
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @param {Options & {idempotencyKey?: string}} [options]
   * @returns {Promise<any>}
   */
  async request(method, path, body, { signal, idempotencyKey = crypto.randomUUID() } = {}) {
    /** @type {Record<string, string>} */
    const headers = { Authorization: `Bearer ${this.key}`, Accept: "application/json" };
    if (method === "POST") headers["Idempotency-Key"] = idempotencyKey;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const text = body === undefined ? undefined : JSON.stringify(body);
    for (let n = 1; ; n++) {
      let wait = backoff(n);
      try {
        const answer = await this.fetch(this.url + path, { method, headers, body: text, signal });
        if (!answer.ok) throw await readError(answer);
        const said = await answer.text();
        return said === "" ? undefined : JSON.parse(said);
      } catch (problem) {
        if (problem instanceof APIError) {
          // The answer to the first DELETE was lost, and it had deleted.
          if (problem.status === 404 && method === "DELETE" && n > 1) return undefined;
          if (!problem.mends) throw problem;
          wait = Math.max(wait, problem.retryAfter);
        } else if (problem instanceof SyntaxError) {
          throw problem;
        }
        if (n === attempts || wait > mostWait) throw problem;
        signal?.throwIfAborted();
        await sleep(wait, signal);
      }
    }
  }

  /**
   * @param {Schemas["CreateInstance"]} instance
   * @param {Options} [options]
   * @returns {Promise<Instance>}
   */
  createInstance(instance, options) {
    return this.request("POST", "/v1/instances", instance, options);
  }

  /** @param {string} id @param {Options} [options] @returns {Promise<Instance>} */
  instance(id, options) {
    return this.request("GET", instancePath(id), undefined, options);
  }

  /**
   * Lists the instances, newest first.
   * @param {Record<string, string>} [filter]
   * @param {Options} [options]
   * @returns {AsyncGenerator<Instance>}
   */
  instances(filter, options) {
    return this.list("/v1/instances", filter, options);
  }

  /** Unlinks the phone and deletes the instance. @param {string} id @param {Options} [options] @returns {Promise<void>} */
  deleteInstance(id, options) {
    return this.request("DELETE", instancePath(id), undefined, options);
  }

  /** Asks for the state and does not wait for it. @param {string} id @param {Options} [options] @returns {Promise<Schemas["StatusDetail"]>} */
  connect(id, options) {
    return this.request("POST", `${instancePath(id)}/connect`, undefined, options);
  }

  /** Closes the connection and keeps the link. @param {string} id @param {Options} [options] @returns {Promise<Schemas["StatusDetail"]>} */
  disconnect(id, options) {
    return this.request("POST", `${instancePath(id)}/disconnect`, undefined, options);
  }

  /** Gives the link up. @param {string} id @param {Options} [options] @returns {Promise<Schemas["StatusDetail"]>} */
  logout(id, options) {
    return this.request("POST", `${instancePath(id)}/logout`, undefined, options);
  }

  /** Has the simulated phone scan the code that is shown now. Only with a test key. @param {string} id @param {Options} [options] @returns {Promise<void>} */
  scan(id, options) {
    return this.request("POST", `/v1/sandbox/instances/${encodeURIComponent(id)}/scan`, undefined, options);
  }

  /**
   * Returns a code, and asks until there is one. An instance that has a link gives an
   * error with the code invalid_lifecycle_transition.
   * @param {string} id
   * @param {Options} [options]
   * @returns {Promise<QRCode>}
   */
  async waitQR(id, options) {
    for (;;) {
      try {
        return await this.request("GET", `${instancePath(id)}/qr`, undefined, options);
      } catch (problem) {
        if (!(problem instanceof APIError) || problem.code !== "no_qr") throw problem;
      }
      await sleep(1000, options?.signal);
    }
  }

  /**
   * Waits until the instance has the status. One that has failed, and was not to, is an
   * error.
   * @param {string} id
   * @param {Instance["status"]} status
   * @param {Options} [options]
   */
  async waitStatus(id, status, options) {
    for (;;) {
      const i = await this.instance(id, options);
      if (i.status === status) return i;
      if (i.status === "failed") throw new Error(`instance ${id} has failed: GET /v1/instances/{id}/status says why`);
      await sleep(pollEvery, options?.signal);
    }
  }

  /**
   * Stores a message to be sent, and does not wait for WhatsApp. idempotencyKey names the
   * message, for example the order that it tells of: two calls with one key send one
   * message, also from two processes.
   * @param {string} instance
   * @param {SendMessage} message
   * @param {Options & {idempotencyKey?: string}} [options]
   * @returns {Promise<Message>}
   */
  send(instance, message, options) {
    return this.request("POST", `${instancePath(instance)}/messages`, message, options);
  }

  /**
   * @param {string} instance
   * @param {string} to
   * @param {string} text
   * @param {Options & {idempotencyKey?: string}} [options]
   */
  sendText(instance, to, text, options) {
    return this.send(instance, { to, body: { type: "text", text } }, options);
  }

  /** @param {string} instance @param {string} id @param {Options} [options] @returns {Promise<Message>} */
  message(instance, id, options) {
    return this.request("GET", `${instancePath(instance)}/messages/${encodeURIComponent(id)}`, undefined, options);
  }

  /**
   * Lists messages, newest first; {direction: "any"} lists received ones too.
   * @param {string} instance
   * @param {Record<string, string>} [filter]
   * @param {Options} [options]
   * @returns {AsyncGenerator<Schemas["MessageOfEitherDirection"]>}
   */
  messages(instance, filter, options) {
    return this.list(`${instancePath(instance)}/messages`, filter, options);
  }

  /**
   * Waits until the message has the status or a later one. One that ends otherwise is an
   * error.
   * @param {string} instance
   * @param {string} id
   * @param {"queued" | "sent" | "delivered" | "read" | "played"} status
   * @param {Options} [options]
   */
  async waitMessage(instance, id, status, options) {
    const steps = ["scheduled", "queued", "sent", "delivered", "read", "played"];
    for (;;) {
      const m = await this.message(instance, id, options);
      const at = steps.indexOf(m.status);
      if (at >= steps.indexOf(status)) return m;
      if (at < 0) throw new Error(`message ${id} is ${m.status}: ${m.error?.message ?? ""} (${m.error?.code ?? "no code"})`);
      await sleep(pollEvery, options?.signal);
    }
  }

  /**
   * Gives a file to send, and waits until it is ready: its media_id then goes into a body.
   * @param {Blob} file
   * @param {{filename?: string, mimeType?: string} & Options} [options]
   * @returns {Promise<Media>}
   */
  async upload(file, { filename, mimeType = file.type, signal } = {}) {
    /** @type {Schemas["NewMedia"]} */
    const made = await this.request("POST", "/v1/media", { size: file.size, mime_type: mimeType, filename }, { signal });
    if (!made.upload) throw new Error("the API gave no form for the file");
    const form = new FormData();
    for (const [name, value] of Object.entries(made.upload.fields)) form.append(name, String(value));
    form.append("file", file, filename ?? "file");
    const answer = await this.fetch(made.upload.url, { method: "POST", body: form, signal });
    if (!answer.ok) throw new Error(`the upload was answered ${answer.status}: ${(await answer.text()).slice(0, 1000)}`);
    for (;;) {
      /** @type {Media} */
      const m = await this.request("GET", `/v1/media/${made.media_id}`, undefined, { signal });
      if (m.status === "ready") return m;
      if (m.status === "failed") throw new Error(`file ${m.media_id}: ${m.error?.message ?? "has failed"} (${m.error?.code ?? "no code"})`);
      await sleep(pollEvery, signal);
    }
  }

  /**
   * Reads a list page by page.
   * @param {string} path
   * @param {Record<string, string>} [filter]
   * @param {Options} [options]
   * @returns {AsyncGenerator<any>}
   */
  async *list(path, filter = {}, options) {
    const query = new URLSearchParams({ limit: "100", ...filter });
    for (;;) {
      const page = await this.request("GET", `${path}?${query}`, undefined, options);
      yield* page.data;
      if (!page.next_cursor) return;
      query.set("cursor", page.next_cursor);
    }
  }

  /**
   * Streams events as they happen, and reconnects and resumes without end and without
   * loss; what came twice is given once. It throws what time can't mend: a refused key, a
   * position that is no longer in the log. The first event is stream.opened, and what
   * happens after it is in the stream.
   * @param {{instance?: string, events?: string[], after?: string} & Options} [of] after: an event's position
   * @returns {AsyncGenerator<Event>}
   */
  async *events({ instance, events, after = "", signal } = {}) {
    const { events_url } = await this.request("GET", "/v1", undefined, { signal });
    const url = new URL(events_url ?? `${this.url}/v1/events`);
    if (instance) url.searchParams.set("instance_id", instance);
    if (events?.length) url.searchParams.set("events", events.join(","));
    /** @type {Set<string>} */
    const seen = new Set();
    let retry = 0;
    for (let failures = 0; ; ) {
      let wait = 0;
      try {
        for await (const frame of this.#frames(url, after, signal)) {
          failures = 0;
          retry = frame.retry || retry;
          if (!frame.data) continue;
          /** @type {Event} */
          const event = JSON.parse(frame.data);
          event.position = frame.id;
          after = frame.id || after;
          if (seen.has(event.event_id)) continue;
          seen.add(event.event_id);
          if (seen.size > remembered) seen.delete(/** @type {string} */ (seen.values().next().value));
          yield event;
        }
      } catch (problem) {
        signal?.throwIfAborted();
        if (problem instanceof APIError) {
          if (!problem.mends && problem.status < 500) throw problem;
          wait = problem.retryAfter;
        }
      }
      await sleep(Math.max(wait, retry, backoff(++failures)), signal);
    }
  }

  /**
   * @param {URL} url
   * @param {string} after
   * @param {AbortSignal} [signal]
   */
  async *#frames(url, after, signal) {
    const end = new AbortController();
    let watchdog = setTimeout(() => end.abort(), silence);
    try {
      /** @type {Record<string, string>} */
      const headers = { Authorization: `Bearer ${this.key}`, Accept: "text/event-stream" };
      if (after) headers["Last-Event-ID"] = after;
      const signals = signal ? AbortSignal.any([signal, end.signal]) : end.signal;
      const answer = await this.fetch(url, { headers, signal: signals });
      if (!answer.ok || !answer.body) throw await readError(answer);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      let frame = { id: "", data: "", retry: 0 };
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(watchdog);
        watchdog = setTimeout(() => end.abort(), silence);
        const lines = (rest + value).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          if (line === "") {
            yield frame;
            frame = { id: "", data: "", retry: 0 };
            continue;
          }
          const colon = line.indexOf(":");
          const text = line.slice(colon + 1).replace(/^ /, "");
          const name = line.slice(0, colon);
          if (name === "id") frame.id = text;
          else if (name === "data") frame.data += (frame.data && "\n") + text;
          else if (name === "retry") frame.retry = Math.min(Number(text) || 0, 60_000);
        }
      }
    } finally {
      clearTimeout(watchdog);
      end.abort();
    }
  }
}

/**
 * Checks the signature of a request to your endpoint and returns its event, or throws.
 * body is the request's, unchanged; secret is the endpoint's signing_secret. Drop an event
 * whose event_id you have seen.
 * @param {string} secret
 * @param {string | null | undefined} signature the header X-WhatIsUp-Signature
 * @param {string | Uint8Array} body
 * @param {number} [now] milliseconds
 * @returns {Promise<Event>}
 */
export async function webhook(secret, signature, body, now = Date.now()) {
  const bytes = new TextEncoder();
  const [stamp, ...signatures] = (signature ?? "").split(",");
  const unix = /^t=(\d+)$/.exec(stamp)?.[1];
  const text = typeof body === "string" ? bytes.encode(body) : body;
  if (unix !== undefined && Math.abs(now - Number(unix) * 1000) <= 5 * 60_000) {
    const key = await crypto.subtle.importKey("raw", bytes.encode(secret), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
    const signed = new Uint8Array([...bytes.encode(`${unix}.`), ...text]);
    for (const one of signatures) {
      const hex = /^v1=((?:[0-9a-f]{2})+)$/.exec(one)?.[1];
      const mac = Uint8Array.from(hex?.match(/../g) ?? [], (pair) => parseInt(pair, 16));
      // verify takes the same time whatever the bytes are.
      if (await crypto.subtle.verify("HMAC", key, mac, signed)) return JSON.parse(new TextDecoder().decode(text));
    }
  }
  throw new Error("the signature of the webhook does not fit");
}

/** @param {string} id */
const instancePath = (id) => `/v1/instances/${encodeURIComponent(id)}`;

// backoff doubles, with jitter, so that clients that failed together don't return together.
/** @param {number} n */
function backoff(n) {
  const most = Math.min(250 * 2 ** (n - 1), mostWait);
  return most / 2 + (Math.random() * most) / 2;
}

/** @param {Response} answer */
async function readError(answer) {
  let body = {};
  try {
    body = await answer.json();
  } catch {
    // not ours: a proxy's
  }
  return new APIError(answer.status, body, 1000 * (Number(answer.headers.get("Retry-After")) || 0));
}

/** @param {number} ms @param {AbortSignal} [signal] @returns {Promise<void>} */
function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
