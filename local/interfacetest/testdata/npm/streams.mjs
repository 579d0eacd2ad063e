// Reads the event stream with the two readers that people use, as they use them: each
// message is parsed as JSON, and whatever throws ends the program. And with curl, whose
// user sees each line as it comes.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource } from "eventsource";

globalThis.window = globalThis; // fetch-event-source is made for browsers
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };

const { WHATISUP_URL: url, WHATISUP_KEY: key } = process.env;
const Authorization = `Bearer ${key}`;

function fail(problem) {
  console.error(problem);
  process.exit(1);
}
setTimeout(() => fail("nothing came in time"), 60_000);

// waiting resolves, per reader, when the event of an instance has come.
function reader() {
  const names = [];
  let opened, told;
  const open = new Promise((done) => (opened = done));
  const came = new Promise((done) => (told = done));
  return {
    open, came, names,
    take(name, id, data) {
      const event = JSON.parse(data);
      if (event.event !== name || !id) fail(`${name} with id ${id} and data ${data}`);
      names.push(name);
      if (name === "stream.opened") opened();
      if (name === "instance.created") told();
    },
  };
}

const a = reader();
const end = new AbortController();
fetchEventSource(`${url}/v1/events`, {
  headers: { Authorization }, signal: end.signal,
  onmessage: ({ event, id, data }) => a.take(event, id, data),
  onerror: fail,
});

const b = reader();
const source = new EventSource(`${url}/v1/events`, {
  fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, Authorization } }),
});
source.onmessage = ({ data }) => fail(`a message without a name: ${data}`);
source.onerror = fail;
for (const name of ["stream.opened", "instance.created"]) {
  source.addEventListener(name, ({ lastEventId, data }) => b.take(name, lastEventId, data));
}

const c = reader();
const curl = spawn("curl", ["-sSNf", `${url}/v1/events`, "-H", `Authorization: ${Authorization}`], { stdio: ["ignore", "pipe", "inherit"] });
curl.on("error", fail).on("exit", (code) => fail(`curl ended with ${code}`));
const frame = {};
createInterface(curl.stdout).on("line", (line) => {
  const [, field, value] = line.match(/^(id|event|data): (.*)$/) ?? [];
  if (field) frame[field] = value;
  if (line === "") c.take(frame.event, frame.id, frame.data);
});

await Promise.all([a.open, b.open, c.open]);
const created = await fetch(`${url}/v1/instances`, {
  method: "POST", headers: { Authorization, "Content-Type": "application/json" }, body: `{"name":"told to all"}`,
});
if (created.status !== 201) fail(created.status);
await Promise.all([a.came, b.came, c.came]);
await new Promise((done) => setTimeout(done, Number(process.env.LISTEN_MS))); // a comment comes meanwhile
end.abort();
source.close();
curl.removeAllListeners("exit").kill();
console.log("all");
process.exit(0);
