// What the page knows: the instances read so far, kept true by events.
import { Failure } from "/dashboard/api.js";

const pageSize = 100;
const pageMost = 1000; // the API's

// Store fires "change" {id} for one instance, "removed" {id}, "list" when the
// set or its completeness changed, and "code" {id} for a new code to scan.
export class Store extends EventTarget {
  #api;
  #dirty = new Set();
  #reading = false;
  #syncs = 0;
  #syncing = 0;
  #meanwhile = []; // events that came while the list was being read

  constructor(api) {
    super();
    this.#api = api;
    this.instances = new Map();
    this.codes = new Map(); // id: {qr, expiresAt}
    this.cursor = null; // of the next page
    this.filter = ""; // a status, or empty
    this.names = new Map(); // of instances there are or were
    this.only = null; // the one instance that the key is bound to
  }

  // sync reads the first page anew and forgets what is not on it. An event that
  // comes meanwhile may be about an instance that only the page tells of.
  async sync() {
    this.#syncing++;
    try {
      await (this.only ? this.refresh(this.only) : this.#syncList());
    } finally {
      if (--this.#syncing === 0) for (const e of this.#meanwhile.splice(0)) this.apply(e);
    }
  }

  async #syncList() {
    const turn = ++this.#syncs;
    // As many as were shown: what somebody scrolled to does not go away.
    const shown = Math.ceil(this.instances.size / pageSize) * pageSize;
    const page = await this.#page(null, Math.min(Math.max(shown, pageSize), pageMost));
    if (turn !== this.#syncs) return;
    const known = this.instances;
    this.instances = new Map();
    for (const i of page.data) this.#put(i);
    for (const id of known.keys()) if (!this.instances.has(id)) this.#tell("removed", id, { forgotten: true });
    this.cursor = page.next_cursor ?? null;
    this.#tell("list");
  }

  // more reads the next page.
  async more() {
    if (!this.cursor) return;
    const turn = this.#syncs;
    const page = await this.#page(this.cursor);
    if (turn !== this.#syncs) return;
    for (const i of page.data) this.#put(i);
    this.cursor = page.next_cursor ?? null;
    this.#tell("list");
  }

  #page(cursor, limit = pageSize) {
    const query = new URLSearchParams({ include: "status", limit });
    if (cursor) query.set("cursor", cursor);
    if (this.filter) query.set("status", this.filter);
    return this.#api.get(`/v1/instances?${query}`);
  }

  #read(id) {
    return this.#api.get(`/v1/instances/${encodeURIComponent(id)}?include=status`);
  }

  // refresh reads one instance now.
  async refresh(id) {
    try {
      this.#put(await this.#read(id));
      this.#tell("list");
    } catch (failure) {
      if (failure instanceof Failure && failure.code === "instance_not_found") this.forget(id);
      else throw failure;
    }
  }

  // take puts an instance that a call has answered.
  take(instance) {
    const known = this.instances.get(instance.id);
    this.#put({ status_detail: known?.status_detail ?? plainDetail(instance, this.#api.mode), ...instance });
    this.#tell("list");
  }

  // takeDetail puts a status object that a call has answered.
  takeDetail(id, detail) {
    const i = this.instances.get(id);
    if (i) this.#put({ ...i, status: detail.status, status_detail: detail });
  }

  // apply takes an event. What an event does not say is read, at leisure.
  apply(event) {
    if (this.#syncing && this.#meanwhile.length < 1000) this.#meanwhile.push(event);
    const { event: name, instance_id: id, data, occurred_at: at } = event;
    if (name === "instance.created") {
      if (!this.instances.has(id)) {
        this.take(data);
        this.#soon(id);
      }
      return;
    }
    if (name === "instance.deleted") {
      this.forget(id);
      return;
    }
    if (name === "qr.updated") {
      this.takeCode(id, data);
    }
    const i = this.instances.get(id);
    if (!i) return; // not on the pages read so far
    if (Date.parse(at) < Date.parse(i.status_detail.since)) return; // older than what we know
    const become = (status, reason, more) => this.#put({
      ...i, ...more, status,
      status_detail: {
        ...i.status_detail, status, reason: reason ?? null,
        since: status === i.status ? i.status_detail.since : at,
        next_retry_at: null, qr_expires_at: data.expires_at ?? null,
      },
    });
    switch (name) {
      case "instance.connected":
        become("connected", null, { phone_number: data.phone_number, last_seen_at: at });
        break;
      case "instance.failed":
        become("failed", data.reason);
        break;
      case "qr.updated":
        become("qr", null);
        return;
      case "instance.updated":
        if (data.changed?.includes("status")) become(data.status, data.reason);
        break;
      case "instance.disconnected":
        if (data.reason === "logged_out") become("pending", data.reason, { phone_number: null });
        else become("disconnected", data.reason);
        break;
      default:
        return;
    }
    this.#soon(id);
  }

  takeCode(id, data) {
    const expiresAt = Date.parse(data.expires_at);
    if (!data.qr?.startsWith("data:image/png;base64,") || Number.isNaN(expiresAt)) return;
    const known = this.codes.get(id);
    if (known && known.expiresAt > expiresAt) return;
    this.codes.set(id, { qr: data.qr, expiresAt, shownAt: this.#api.now() });
    this.#tell("code", id);
  }

  #put(instance) {
    const known = this.instances.get(instance.id);
    this.instances.set(instance.id, instance);
    this.names.set(instance.id, instance.name);
    if (!mayShowCode(instance, known)) this.codes.delete(instance.id);
    this.#tell("change", instance.id, { known, instance });
  }

  // nameOf is the name of an event's instance, also of one that is gone if an
  // event told it.
  nameOf({ instance_id: id, data }) {
    if (typeof data?.name === "string" && !this.names.has(id)) this.names.set(id, data.name);
    return this.names.get(id) ?? null;
  }

  // forget takes an instance that is deleted out.
  forget(id) {
    this.#dirty.delete(id);
    this.codes.delete(id);
    const known = this.instances.get(id);
    if (!this.instances.delete(id)) return;
    this.#tell("removed", id, { known });
    this.#tell("list");
  }

  #tell(type, id, more) {
    this.dispatchEvent(new CustomEvent(type, { detail: { id, ...more } }));
  }

  // soon reads an instance that an event was about. Reading costs the customer
  // tokens, so it is one at a time and slower the fewer are left; and when many
  // changed at once the list says it in one call.
  #soon(id) {
    this.#dirty.add(id);
    if (!this.#reading) this.#drain();
  }

  async #drain() {
    this.#reading = true;
    try {
      while (this.#dirty.size) {
        const scarce = this.#api.remaining < 20;
        await pause(scarce ? 10_000 : this.#dirty.size > 5 ? 3000 : 250);
        const ids = [...this.#dirty];
        this.#dirty.clear();
        try {
          if (ids.length > (scarce ? 1 : 5)) await this.sync();
          else for (const id of ids) await this.refresh(id);
        } catch (failure) {
          if (!(failure instanceof Failure) || failure.code !== "rate_limited") return; // the next sync brings it
          for (const id of ids) this.#dirty.add(id);
          await pause(Math.max(failure.retryAfter, 5) * 1000);
        }
      }
    } finally {
      this.#reading = false;
    }
  }
}

// mayShowCode says whether a code that is known can still be one: an answer may
// bring it before the event that the status is "qr", but what was "qr" and is
// not any more has no code.
function mayShowCode(instance, known) {
  if (instance.status === "qr") return true;
  const reason = instance.status_detail.reason;
  return instance.status === "pending" && known?.status !== "qr" && (!reason || reason === "starting");
}

// plainDetail stands for the status object where an answer has none.
function plainDetail(instance, mode) {
  return { status: instance.status, reason: null, since: instance.updated_at, next_retry_at: null, qr_expires_at: null, mode };
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
