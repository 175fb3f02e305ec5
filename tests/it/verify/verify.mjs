// Checks webhooks with the npm package `standardwebhooks`, found in the folder that the first argument
// names. Reads JSON lines {"secret", "headers", "body"}; answers each with "ok", or "refused: WHY".

import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(join(process.argv[2], "package.json"));
const { Webhook, WebhookVerificationError } = require("standardwebhooks");

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, headers, body } = JSON.parse(line);
  try {
    new Webhook(secret).verify(body, headers);
    console.log("ok");
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    console.log(`refused: ${error.message}`);
  }
}
