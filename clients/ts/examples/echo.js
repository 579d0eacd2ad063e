// Answers whatever people write to an instance: KEY=… node echo.js [API]
import { Client } from "../whatisup.js";

const api = new Client({ url: process.argv[2] ?? "http://localhost:8080", key: process.env.KEY });
for await (const { event, event_id, instance_id, data } of api.events({ events: ["message.received"] })) {
  if (event !== "message.received" || !data.text) {
    console.error(event);
    continue;
  }
  // The event's id as key: whatever is repeated, the answer goes out once.
  api.sendText(instance_id, data.chat, `You said: ${data.text}`, { idempotencyKey: event_id }).catch(console.error);
}
