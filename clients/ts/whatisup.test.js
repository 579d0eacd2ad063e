import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { test } from "node:test";
import { APIError, Client, webhook } from "./whatisup.js";

// The tests with the stack run where one is named: the repository's own tests start one.
const { WHATISUP_URL: url, WHATISUP_KEY: key } = process.env;
const stack = { skip: url ? false : "needs a running stack in WHATISUP_URL, and a test key in WHATISUP_KEY" };
const api = new Client({ url: url ?? "", key: key ?? "" });

async function pair() {
  const { id } = await api.createInstance({ name: "support line", metadata: { team: "blue" } });
  const code = await api.waitQR(id);
  assert.match(code.qr, /^data:image\/png;base64,/);
  await api.scan(id);
  const i = await api.waitStatus(id, "connected");
  assert.ok(i.phone_number);
  return id;
}

test("the main job", stack, async () => {
  const id = await pair();
  const { message_id } = await api.sendText(id, "+55 11 98765-4321", "Hello!");
  assert.equal((await api.waitMessage(id, message_id, "read")).status, "read");

  const once = { to: "5511987654321", body: { type: "text", text: "once" } };
  const first = await api.send(id, once, { idempotencyKey: "order-17" });
  const again = await api.send(id, once, { idempotencyKey: "order-17" });
  assert.equal(first.message_id, again.message_id);
  const listed = [];
  for await (const m of api.messages(id)) listed.push(m.message_id);
  assert.deepEqual(listed, [first.message_id, message_id]);

  await api.deleteInstance(id);
  await assert.rejects(api.instance(id), (e) => e instanceof APIError && e.code === "instance_not_found" && e.requestId !== "");
});

test("a file", stack, async () => {
  const id = await pair();
  const text = "%PDF-1.4 a document\n%%EOF\n";
  const file = await api.upload(new Blob([text], { type: "application/pdf" }), { filename: "invoice.pdf" });
  assert.equal(await (await fetch(file.url)).text(), text);
  const { message_id } = await api.send(id, { to: "5511987654321", body: { type: "document", media_id: file.media_id } });
  await api.waitMessage(id, message_id, "delivered");
});

test("a bot answers what people write, and resumes", stack, async () => {
  const id = await pair();
  const signal = AbortSignal.timeout(60_000);
  const say = (text) => api.request("POST", `/v1/sandbox/instances/${id}/messages`, { from: "15550101234", text });
  const of = { instance: id, events: ["message.received"], signal };
  let position;
  for await (const event of api.events(of)) {
    if (event.event === "stream.opened") {
      await say("ping");
      continue;
    }
    const { chat, text } = event.data;
    const { message_id } = await api.sendText(id, chat, `you said ${text}`, { idempotencyKey: event.event_id });
    await api.waitMessage(id, message_id, "delivered");
    position = event.position;
    break;
  }
  await say("still there?"); // while nobody listens
  for await (const event of api.events({ ...of, after: position })) {
    if (event.data.text === "still there?") return;
  }
});

test("refusals", stack, async () => {
  await assert.rejects(api.createInstance({ name: "" }), (e) => e.status === 400 && e.code === "invalid_request" && e.details.fields[0].field === "name");
  await assert.rejects(new Client({ url, key: "wiu_test_x" }).events().next(), (e) => e.status === 401);
});

test("what may be repeated is, under one key", async () => {
  for (const [status, code, want] of [
    [0, "", 3],
    [502, "", 3],
    [503, "unavailable", 3],
    [409, "idempotency_in_progress", 3],
    [503, "outcome_unknown", 1],
    [409, "not_connected", 1],
    [400, "invalid_request", 1],
  ]) {
    const keys = [];
    const server = createServer((request, answer) => {
      keys.push(request.headers["idempotency-key"]);
      if (keys.length === 3) return answer.writeHead(204).end();
      if (status === 0) return request.socket.destroy();
      answer.writeHead(status).end(code && JSON.stringify({ error: { code } }));
    });
    await new Promise((up) => server.listen(0, "127.0.0.1", up));
    const call = new Client({ url: `http://127.0.0.1:${server.address().port}`, key: "" }).request("POST", "/v1/x");
    if (want === 3) await call;
    else await assert.rejects(call, (e) => e.code === code);
    assert.equal(keys.length, want, `${status} ${code}`);
    assert.ok(keys[0] && keys.every((k) => k === keys[0]));
    server.close();
  }
});

test("the published vectors of signatures", async () => {
  const vectors = JSON.parse(readFileSync(new URL("../../shared/whatisup/testdata/webhook-signatures.json", import.meta.url), "utf8"));
  assert.ok(vectors.length > 0);
  for (const { secret, body, timestamp, "x-whatisup-signature": signature } of vectors) {
    const at = timestamp * 1000;
    assert.deepEqual(await webhook(secret, `${signature},v1=00`, body, at + 5 * 60_000), JSON.parse(body));
    await assert.rejects(webhook(secret, signature, `${body} `, at));
    await assert.rejects(webhook(`${secret}x`, signature, body, at));
    await assert.rejects(webhook(secret, signature, body, at + 5 * 60_000 + 1));
    await assert.rejects(webhook(secret, null, body, at));
  }
});
