// Files on their way from this page into a message.
import { Failure } from "/dashboard/api.js";

const megabyte = 1 << 20;
export const largest = 100 * megabyte;

// What is larger, or of another kind, is sent as a document.
const kinds = [
  ["image", /^image\/(jpeg|png)$/, 16 * megabyte],
  ["video", /^video\/(mp4|3gpp)$/, 64 * megabyte],
  ["audio", /^audio\/(ogg|mpeg|mp4|aac|amr)$/, 16 * megabyte],
];

export function kindOf(file) {
  return kinds.find(([, types, most]) => types.test(file.type) && file.size <= most)?.[0] ?? "document";
}

// bucket is the origin of this deployment's files, where that is another than the page's.
const bucket = document.querySelector('meta[name="bucket"]')?.content;

// hereOf is an address as this page may ask for it: what this deployment serves is of
// the page's own origin, whichever name of this machine stands in it, or of its bucket's.
// Null: elsewhere.
export function hereOf(address) {
  let url;
  try {
    url = new URL(address, location.origin);
  } catch {
    return null;
  }
  if (bucket && url.origin === bucket) return url.href;
  const local = ["localhost", "127.0.0.1", "[::1]"];
  const same = url.origin === location.origin || (url.port === location.port && local.includes(url.hostname) && local.includes(location.hostname));
  return same ? url.pathname + url.search : null;
}

// inMessage is the most that goes into the message itself.
const inMessage = 180_000;

// bodyOf makes the body of a message of a file: uploaded where the page may, and in the
// message where that is elsewhere. known gets to know the file.
export async function bodyOf(api, file, caption, known) {
  const type = kindOf(file);
  const body = { type };
  if (type === "document") body.filename = file.name;
  if (caption && type !== "audio") body.caption = caption;
  const made = await api.post("/v1/media", { size: file.size, mime_type: file.type || "application/octet-stream", filename: file.name });
  const to = hereOf(made.upload.url);
  if (to) {
    await upload(to, made.upload.fields, file);
    known.set(made.media_id, await ready(api, made.media_id));
    return { ...body, media_id: made.media_id };
  }
  if (file.size > inMessage) throw new Failure({ code: "upload_elsewhere" });
  return { ...body, media_base64: await base64(file) };
}

async function upload(to, fields, file) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", file);
  let answer;
  try {
    // No key goes along: the form is the right to it.
    answer = await fetch(to, { method: "POST", body: form, credentials: "omit", referrerPolicy: "no-referrer" });
  } catch {
    throw new Failure({ code: "offline" });
  }
  if (!answer.ok) throw new Failure({ code: "upload_failed", status: answer.status });
}

// lookedAtWithin is how long an upload may take to be looked at, in milliseconds.
const lookedAtWithin = 120_000;

// ready waits until an upload was looked at.
async function ready(api, id) {
  const until = Date.now() + lookedAtWithin;
  for (let wait = 200; Date.now() < until; wait = Math.min(wait * 1.5, 3000)) {
    const media = await api.get(`/v1/media/${id}`);
    const { status, error } = media;
    if (status === "ready") return media;
    if (status === "failed") throw new Failure({ code: error?.code ?? "upload_failed", message: error?.message });
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
  throw new Failure({ code: "upload_failed" });
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
