// Judges recorded requests with the JavaScript library of Standard Webhooks, found through NODE_PATH.
//
// Reads a JSON line per request from stdin, {"secret", "headers", "body"}; prints "accepted" or "rejected: why" per line.
const { Webhook, WebhookVerificationError } = require("standardwebhooks");
const lines = require("readline").createInterface({ input: process.stdin });

lines.on("line", (line) => {
    const { secret, headers, body } = JSON.parse(line);
    try {
        new Webhook(secret).verify(body, headers);
        console.log("accepted");
    } catch (e) {
        if (!(e instanceof WebhookVerificationError)) throw e;
        console.log(`rejected: ${e.message}`);
    }
});
