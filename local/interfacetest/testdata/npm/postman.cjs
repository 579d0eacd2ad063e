// Runs the collection for Postman with newman, Postman's runner, as somebody who has
// imported it: two variables are set, and the requests are sent as they stand. It says
// which were refused.
const newman = require("newman");
const { readFileSync } = require("node:fs");

const { WHATISUP_URL: base_url, WHATISUP_KEY: key, COLLECTION } = process.env;
const whole = JSON.parse(readFileSync(COLLECTION, "utf8"));
const requests = new Map(whole.item.flatMap((folder) => folder.item).map((item) => [item.name, item]));
let wrong = 0;
const known = new Map(whole.variable.map(({ key, value }) => [key, value]));
known.set("base_url", base_url).set("key", key);

// send runs requests by their names, one after another, and keeps what they set.
function send(...names) {
  const item = names.map((name) => requests.get(name) ?? fail(`no request is called ${name}`));
  const variable = Array.from(known, ([key, value]) => ({ key, value }));
  return new Promise((done) => {
    newman.run({ collection: { ...whole, item, variable }, timeoutRequest: 30_000 }, (problem, summary) => {
      if (problem) fail(problem);
      for (const { item, response, requestError } of summary.run.executions) {
        if (requestError || response.code > 299) {
          wrong++;
          console.log(`${item.name}: ${requestError ?? `${response.code} ${response.text()}`}`);
        }
      }
      for (const { source, error } of summary.run.failures) fail(`${source?.name}: ${error.message}`);
      done(summary.run.executions.at(-1).response);
    }).on("test", (problem, { executions }) => {
      for (const { result } of executions) {
        for (const { key, value } of result.collectionVariables.values.all()) known.set(key, value);
      }
    });
  });
}

// until sends a request again and again, until its answer is as wished.
async function until(name, wished) {
  while (!wished((await send(name)).json())) {
    if (wrong) fail("so nothing can be waited for");
    await new Promise((done) => setTimeout(done, 200));
  }
}

function fail(problem) {
  console.error(problem);
  process.exit(1);
}

(async () => {
  await send("Create an instance", "Get the QR code", "Scan the QR code");
  await until("Get an instance", ({ status }) => status === "connected");
  await send("Send a message");
  await until("Get a message", ({ status }) => status === "delivered" || status === "read");
  await send("Create a group", "Write to the instance");
  const left = new Set([
    "Create an instance", "Scan the QR code", "Create a group", // done
    "Get the QR code", "Get the QR code as a picture", "Type a pair code", "Get a code to type on the phone", // it is connected
    "Cancel a message", "Mark messages as read", "Join a group", // they name something that is not there
    "Stream events", // it does not end
    "Get a file's bytes", // nobody has uploaded it
    "Set the instance's presence", // it has no name yet
    "Get a webhook delivery", "Replay a webhook delivery", // there is none
    "Cause a fault", "Disconnect and keep the link", "Remove the device on the phone", "Log out", "Connect", // they end the connection
  ]);
  const last = ["Leave a group", "Delete a file", "Revoke an API key", "Delete a webhook endpoint", "Delete an instance"];
  const rest = [...requests.keys()].filter((name) => !left.has(name) && !last.includes(name));
  await send(...rest, ...last);
  console.log("collection");
})();
