// The public API, as a browser calls it.

// Failure is every way in which a call can fail. Its code is one of the API's,
// or one of the page's own: "offline" (no answer) and "unknown" (an answer that
// is not the API's).
export class Failure extends Error {
  constructor({ code, status = 0, message = "", details = {}, requestId = "", retryAfter = 0 }) {
    super(message || code);
    this.name = "Failure";
    Object.assign(this, { code, status, details, requestId, retryAfter });
  }
}

// callTimeout is longer than the longest call, which waits ten seconds for a
// code.
const callTimeout = 20_000;

// slowAfter is when a call is said to have no answer yet; some wait ten seconds
// for WhatsApp.
const slowAfter = 12_000;

export class API {
  #key;
  #slow = 0; // calls that have waited long

  constructor(key) {
    this.#key = key;
    this.remaining = Infinity; // tokens left, as the newest answer said
    this.clockAhead = 0; // milliseconds that the server's clock is ahead of ours
    this.eventsURL = new URL("/v1/events", location.origin);
  }

  get mode() {
    return this.#key.startsWith("wiu_test_") ? "test" : "live";
  }

  // now is the server's time, in milliseconds: what it says expires then.
  now() {
    return Date.now() + this.clockAhead;
  }

  // discover learns where the event stream is.
  async discover() {
    const root = await this.get("/v1");
    if (typeof root?.events_url !== "string") return;
    const url = new URL(root.events_url, location.origin);
    if (url.origin === location.origin || url.protocol === "https:") this.eventsURL = url;
  }

  get(path, options) {
    return this.#call("GET", path, undefined, options);
  }

  // post asks a second time if no answer came; the Idempotency-Key sees to it
  // that nothing happens twice.
  post(path, body = {}, options) {
    return this.#call("POST", path, body, options);
  }

  patch(path, body) {
    return this.#call("PATCH", path, body);
  }

  put(path, body) {
    return this.#call("PUT", path, body);
  }

  delete(path) {
    return this.#call("DELETE", path);
  }

  // stream opens the event stream. The signal ends it.
  async stream(lastEventId, signal) {
    const headers = { Authorization: `Bearer ${this.#key}`, Accept: "text/event-stream" };
    if (lastEventId) headers["Last-Event-ID"] = lastEventId;
    return this.#fetch(this.eventsURL, { headers, signal });
  }

  async #call(method, path, body, { signal } = {}) {
    const headers = { Authorization: `Bearer ${this.#key}`, Accept: "application/json" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (method === "POST") headers["Idempotency-Key"] = randomId();
    for (let repeated = method !== "POST"; ; repeated = true) {
      let late = false;
      const slow = setTimeout(() => {
        late = true;
        this.#slow++;
        this.onSlow?.(true);
      }, slowAfter);
      const timeout = AbortSignal.timeout(callTimeout);
      try {
        const response = await this.#fetch(path, {
          method, headers,
          body: body === undefined ? undefined : JSON.stringify(body),
          signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
        });
        return response.status === 204 ? null : await response.json();
      } catch (cause) {
        if (signal?.aborted) throw cause;
        const failure = cause instanceof Failure ? cause : new Failure({ code: "offline" });
        if (repeated || failure.code !== "offline") throw failure;
        await new Promise((resolve) => setTimeout(resolve, 500 + Math.random() * 1000));
      } finally {
        clearTimeout(slow);
        if (late && --this.#slow === 0) this.onSlow?.(false);
      }
    }
  }

  async #fetch(url, options) {
    let response;
    try {
      response = await fetch(url, { credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer", redirect: "error", ...options });
    } catch (cause) {
      if (options.signal?.aborted && options.signal.reason?.name !== "TimeoutError") throw cause;
      throw new Failure({ code: "offline" });
    }
    this.#note(response.headers);
    if (response.ok) return response;
    throw await failure(response);
  }

  #note(headers) {
    const date = Date.parse(headers.get("Date") ?? "");
    // The header has whole seconds; a smaller difference is none.
    if (!Number.isNaN(date)) this.clockAhead = Math.abs(date - Date.now()) > 2500 ? date - Date.now() : 0;
    const remaining = headers.get("X-RateLimit-Remaining");
    if (remaining !== null) this.remaining = Number(remaining);
  }
}

// failure reads an error answer. API Gateway answers a few errors in a form of
// its own.
async function failure(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  const requestId = response.headers.get("X-Request-Id") ?? "";
  let error;
  try {
    error = (await response.json()).error;
  } catch {
    error = undefined;
  }
  if (typeof error?.code === "string") {
    return new Failure({ ...error, details: error.details ?? {}, status: response.status, requestId, retryAfter });
  }
  const code = response.status === 429 ? "rate_limited" : "unknown";
  return new Failure({ code, status: response.status, requestId, retryAfter });
}

// randomId is not crypto.randomUUID because that one is missing on plain http.
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}
