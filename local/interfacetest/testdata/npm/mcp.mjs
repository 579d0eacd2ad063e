// Does the main job with the official client of the Model Context Protocol for
// JavaScript, over the standard input and output of the program in WHATISUP.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const { WHATISUP: command, WHATISUP_URL: API, WHATISUP_KEY: KEY } = process.env;
const client = new Client({ name: "test", version: "1" });
await client.connect(new StdioClientTransport({ command, args: ["mcp"], env: { API, KEY } }));

async function call(name, args) {
  const { content, isError } = await client.callTool({ name, arguments: args });
  if (isError) throw new Error(`${name}: ${content[0].text}`);
  return content;
}
const json = async (name, args) => JSON.parse((await call(name, args))[0].text);
const until = async (done) => {
  while (!(await done())) await new Promise((later) => setTimeout(later, 100));
};

const { tools } = await client.listTools();
for (const tool of tools) {
  if (!tool.description || tool.inputSchema.type !== "object") throw new Error(`the tool ${tool.name} is not described`);
}
const { id: instance_id } = await json("create_instance", { name: "mcp" });
const [picture] = await call("pair_instance", { instance_id });
if (picture.mimeType !== "image/png") throw new Error(JSON.stringify(picture).slice(0, 200));
await call("sandbox_scan", { instance_id });
await until(async () => (await json("get_instance", { instance_id })).status === "connected");
const { message_id } = await json("send_message", { instance_id, to: "+55 11 98765-4321", text: "Hello!" });
await until(async () => (await json("get_message", { instance_id, message_id })).status === "read");
const { data } = await json("search_messages", { instance_id, words: "hello" });
if (data.length !== 1 || data[0].message_id !== message_id) throw new Error(JSON.stringify(data));
console.log("read");
await client.close();
