// Does the main job with the generated types and openapi-fetch: an instance, its code,
// a scan, a message, and how far it came.
import createClient from "openapi-fetch";
import type { paths } from "./types.js";

declare const process: { env: Record<string, string> };

const { WHATISUP_URL: baseUrl, WHATISUP_KEY: key } = process.env;
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });

function must<T>({ data, error }: { data?: T; error?: unknown }): T {
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data;
}
const moment = () => new Promise((done) => setTimeout(done, 100));

const { id } = must(await api.POST("/v1/instances", { body: { name: "openapi-fetch" } }));
const path = { id };
const code = must(await api.GET("/v1/instances/{id}/qr", { params: { path } }));
if (!code.raw) throw new Error("a code without a text");
const { error } = await api.POST("/v1/sandbox/instances/{id}/scan", { params: { path } });
if (error) throw new Error(JSON.stringify(error));
while (must(await api.GET("/v1/instances/{id}", { params: { path } })).status !== "connected") await moment();

const body = { to: "+55 11 98765-4321", body: { type: "text", text: "Hello!" } } as const;
const { message_id } = must(await api.POST("/v1/instances/{id}/messages", { params: { path }, body }));
for (;;) {
  const message = must(await api.GET("/v1/instances/{id}/messages/{message_id}", { params: { path: { id, message_id } } }));
  if (message.status === "read") break;
  await moment();
}
console.log("read");
