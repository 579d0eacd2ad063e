// The conversations of one instance, as the API's chats, messages and events tell them.

const pageSize = 200;
const chatsAtOnce = 100;

// most bounds what one conversation holds in memory; what is older is in the API.
const most = 20_000;

// An event of one of these changes a message that was there before.
const changes = ["message.edited", "message.revoked", "message.reaction", "poll.voted"];

// A message is known by who wrote it and its id: the sender chooses the id.
function keyOf(sender, id) {
  return `${sender ?? "?"}/${id}`;
}

// personKey names a person: by number where that is known.
export function personKey(person) {
  return person?.phone_number ?? (person?.lid ? `${person.lid.replace(/@lid$/, "")}@lid` : null);
}

// How far a message is: that only rises, and a receipt lifts what had failed.
const ranks = ["scheduled", "queued", "canceled", "expired", "failed", "sent", "delivered", "read", "played"];

// later joins two states of a message. An answer may come after the events that tell of
// what followed it.
function later(known, told) {
  const stale = ranks.indexOf(told.status) < ranks.indexOf(known.status);
  return stale ? { ...told, ...known } : { ...known, ...told };
}

// Chats fires "list" when the conversations or their order changed, and "chat"
// {key, keys, added} for the messages of one: keys are those that changed.
export class Chats extends EventTarget {
  #api;
  #id;
  #lids = new Map(); // lid: number, of people of whom both are known
  #pending = new Map(); // changes to messages that are not read yet
  #cursor = null;
  #naming = false;

  constructor({ api, id }) {
    super();
    this.#api = api;
    this.#id = id;
    this.all = new Map(); // key: chat
    this.files = new Map(); // media_id: what is known of own files
    this.more = false; // there are older conversations
  }

  get #path() {
    return `/v1/instances/${this.#id}/messages`;
  }

  // read reads the conversations with the newest messages, and what happened to
  // messages; again, it brings what was missed.
  async read() {
    await this.#listed(null);
    for (const chat of this.all.values()) if (chat.cursor !== undefined) this.#take((await this.#page({ chat: chat.key })).data, chat);
    const log = await this.#api.get(`/v1/event-log?${new URLSearchParams({ instance_id: this.#id, events: changes, limit: 500 })}`);
    for (const event of log.data.reverse()) this.apply(event);
    this.#tell("list");
    this.#nameGroups();
  }

  // older reads the next page of conversations.
  async older() {
    await this.#listed(this.#cursor);
    this.#tell("list");
    this.#nameGroups();
  }

  async #listed(cursor) {
    const query = { limit: chatsAtOnce };
    if (cursor) query.cursor = cursor;
    const page = await this.#api.get(`/v1/instances/${this.#id}/chats?${new URLSearchParams(query)}`);
    for (const listed of page.data) {
      this.#learn(listed);
      const chat = this.open(this.#chatKey(listed));
      this.#take([listed.last_message], chat);
      chat.name = listed.name ?? chat.name;
      chat.unread = listed.unread;
    }
    if (cursor || this.#cursor === null) this.#cursor = page.next_cursor;
    this.more = Boolean(this.#cursor);
  }

  // nameGroups asks WhatsApp what groups are called, if there is one without a
  // name. Where nobody is connected to ask, they go without.
  async #nameGroups() {
    if (this.#naming || ![...this.all.values()].some((c) => c.type === "group" && !c.name)) return;
    this.#naming = true;
    try {
      const { data } = await this.#api.get(`/v1/instances/${this.#id}/groups?limit=1000`);
      for (const g of data) {
        const chat = this.all.get(g.chat);
        if (chat) chat.name = g.subject;
      }
      this.#tell("list");
    } catch { /* not connected */ }
    this.#naming = false;
  }

  // markRead tells the others that what they wrote was read.
  async markRead(chat) {
    await this.#api.post(`/v1/instances/${this.#id}/chats/${encodeURIComponent(chat.key)}/read`, {});
    chat.unread = 0;
    this.#tell("list");
  }

  // open is the conversation of a key, made if there is none yet.
  open(key) {
    let chat = this.all.get(key);
    if (!chat) {
      chat = { key, type: key.endsWith("@g.us") ? "group" : "direct", name: null, items: [], byKey: new Map(), byId: new Map(), cursor: undefined, unread: 0 };
      this.all.set(key, chat);
    }
    return chat;
  }

  // readOlder reads the next page of one conversation, and says whether there is
  // more.
  async readOlder(chat) {
    if (chat.cursor === null || chat.items.length >= most) return false;
    const query = { chat: chat.key };
    if (chat.cursor) query.cursor = chat.cursor;
    const page = await this.#page(query);
    chat.cursor = page.next_cursor;
    this.#take(page.data, chat);
    return chat.cursor !== null;
  }

  #page(query) {
    return this.#api.get(`${this.#path}?${new URLSearchParams({ direction: "any", limit: pageSize, ...query })}`);
  }

  // send sends a body, and shows it as the answer says it.
  async send(chat, body, replyTo) {
    const message = await this.#api.post(this.#path, { to: chat.key, body, ...(replyTo ? { reply_to: replyTo } : {}) });
    // The answer does not say what it replies to.
    this.#take([{ ...message, ...(replyTo ? { reply_to: replyTo } : {}) }], chat);
  }

  // showFile finds where the file of an own message is.
  async showFile(chat, item) {
    const id = item.message.body.media_id;
    this.files.set(id, await this.#api.get(`/v1/media/${encodeURIComponent(id)}`));
    this.#tell("chat", { chat, keys: [item.key] });
  }

  async cancel(chat, item) {
    this.#take([await this.#api.delete(`${this.#path}/${encodeURIComponent(item.message.message_id)}`)], chat);
  }

  // apply takes an event of the stream.
  apply(event) {
    if (event.instance_id !== this.#id) return;
    const { event: name, data } = event;
    if (name === "message.received" || name === "message.echo" || name === "message.updated") {
      const fromMe = data.from_me ?? name === "message.echo";
      this.#take([{ direction: "in", ...data, from_me: fromMe }], null, name !== "message.updated");
    } else if (name === "message.status") {
      this.#status(data);
    } else if (changes.includes(name)) {
      this.#change(event);
    } else if (name === "message.media_ready" || name === "message.media_failed") {
      this.#filed(data);
    } else if (name === "contact.updated") {
      this.#learn(data);
    }
  }

  // status moves an own message; one that another program sent is read.
  async #status(data) {
    const chat = this.all.get(this.#chatKey(data));
    const item = chat?.byKey.get(keyOf("me", data.message_id));
    if (item) {
      item.message = later(item.message, data);
      this.#tell("chat", { chat, keys: [item.key] });
      this.#tell("list");
      return;
    }
    try {
      this.#take([await this.#api.get(`${this.#path}/${encodeURIComponent(data.message_id)}`)]);
    } catch { /* the next reading of the list brings it */ }
  }

  // filed notes what became of the file of a message.
  #filed({ message_id: id, chat: of, media }) {
    for (const chat of this.all.values()) {
      const item = chat.byId.get(id);
      if (item?.message.chat !== of) continue;
      item.message = { ...item.message, media };
      this.#tell("chat", { chat, keys: [item.key] });
    }
  }

  #learn({ phone_number: number, lid }) {
    if (!number || !lid || this.#lids.get(lid) === number) return;
    this.#lids.set(lid, number);
    // What was shown under the lid goes to the number's conversation.
    const before = this.all.get(`${lid}@lid`);
    if (!before) return;
    this.all.delete(before.key);
    this.#take(before.items.map((i) => i.message));
  }

  #chatKey(m) {
    if (m.chat_type === "group" || m.chat.endsWith("@g.us")) return m.chat;
    const person = m.direction === "out" ? m.recipient : m.phone_number || m.lid || m.from_me ? m : m.from;
    const lid = person?.lid ?? (m.chat.endsWith("@lid") ? m.chat.slice(0, -4) : null);
    return person?.phone_number ?? this.#lids.get(lid) ?? (m.chat.endsWith("@s.whatsapp.net") ? m.chat.split("@")[0] : m.chat);
  }

  // take puts messages where they belong. open is the conversation that they
  // were read for, live says that they have just come.
  #take(messages, open = null, live = false) {
    const touched = new Map();
    for (const m of messages) {
      if (m.direction === "out") this.#learn(m.recipient ?? {});
      else this.#learn(m);
      const chat = open ?? this.open(this.#chatKey(m));
      const mine = m.direction === "out" || m.from_me;
      const key = keyOf(mine ? "me" : personKey(m.from), m.message_id);
      const at = Date.parse(m.received_at ?? m.created_at);
      let item = chat.byKey.get(key);
      if (!touched.has(chat)) touched.set(chat, { keys: [], added: false });
      if (item) {
        item.message = later(item.message, m);
      } else {
        item = { key, at, mine, message: m, reactions: new Map(), votes: new Map() };
        chat.byKey.set(key, item);
        chat.byId.set(m.message_id, item);
        if (chat.items.at(-1)?.at > at) touched.get(chat).sort = true;
        chat.items.push(item);
        touched.get(chat).added = true;
        if (!mine) {
          chat.name = m.chat_type === "direct" ? m.from?.name ?? chat.name : chat.name;
          if (live) chat.unread++;
        } else if (live) {
          chat.unread = 0; // who writes on the phone has read it
        }
        for (const change of this.#pending.get(key) ?? []) change(item);
        this.#pending.delete(key);
      }
      if (m.direction === "out") this.#own(chat, m);
      touched.get(chat).keys.push(key);
    }
    for (const [chat, { keys, added, sort }] of touched) {
      if (sort) chat.items.sort((a, b) => a.at - b.at);
      this.#tell("chat", { chat, keys, added });
    }
    if (touched.size) this.#tell("list");
  }

  // own applies what an own message does to another.
  #own(chat, m) {
    if (["failed", "expired", "canceled"].includes(m.status)) return;
    const target = m.body?.target;
    if (!target) return;
    const { message_id: id, from } = typeof target === "string" ? { message_id: target } : target;
    const item = chat.byKey.get(keyOf(from ?? "me", id)) ?? chat.byId.get(id);
    if (!item) return;
    this.#alter(item, m.type, "me", { emoji: m.body.emoji || null, text: m.body.text });
    this.#tell("chat", { chat, keys: [item.key] });
  }

  // change takes an event about another message.
  #change({ event, data }) {
    const chat = this.all.get(this.#chatKey({ direction: "in", ...data, phone_number: data.phone_number, lid: data.lid }));
    const { target } = data;
    if (!target) return;
    const type = { "message.edited": "edit", "message.revoked": "revoke", "message.reaction": "reaction", "poll.voted": "vote" }[event];
    const by = data.from_me ? "me" : personKey(data.from) ?? "?";
    // Nobody takes back or edits what another wrote, whatever is sent.
    if (data.by_author === false && (type === "edit" || type === "revoke")) return;
    const apply = (item) => this.#alter(item, type, by, data);
    const key = keyOf(target.from_me ? "me" : personKey(target.from), target.message_id);
    const item = chat?.byKey.get(key) ?? chat?.byId.get(target.message_id);
    if (item) {
      apply(item);
      this.#tell("chat", { chat, keys: [item.key] });
    } else if (this.#pending.size < 2000) {
      this.#pending.set(key, [...(this.#pending.get(key) ?? []), apply]);
    }
  }

  #alter(item, type, by, { emoji, text, options }) {
    if (type === "reaction") {
      if (emoji) item.reactions.set(by, emoji);
      else item.reactions.delete(by);
    } else if (type === "vote") {
      item.votes.set(by, options ?? []);
    } else if (type === "edit") {
      item.edited = text;
    } else if (type === "revoke") {
      item.revoked = true;
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
