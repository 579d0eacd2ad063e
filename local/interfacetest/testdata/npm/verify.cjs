// Has the library of Standard Webhooks verify the requests in signed.json.
const { readFileSync } = require("node:fs");
const { Webhook } = require("standardwebhooks");

for (const { secret, headers, body } of JSON.parse(readFileSync("signed.json", "utf8"))) {
  new Webhook(secret).verify(body, headers);
  try {
    new Webhook(secret).verify(body + " ", headers);
  } catch {
    continue;
  }
  throw new Error("a changed body passed");
}
console.log("verified");
