// Judges recorded requests with the JavaScript libraries that receivers use. It runs in the folder that has them.
//
// Reads a JSON line per request from stdin, {"profile", "secret", "headers", "body"}; prints "accepted" or
// "rejected: why" per line. `secret` of standard-v1a is the public key.
//
// `import` reads CommonJS packages and ES modules alike, in every Node.
import crypto from "node:crypto";
import readline from "node:readline";
import * as octokit from "@octokit/webhooks-methods";
import { Webhook } from "standardwebhooks";
import stripe from "stripe";
import * as svix from "svix";

const lines = readline.createInterface({ input: process.stdin });

// The header of an ed25519 key in SubjectPublicKeyInfo, RFC 8410.
const SPKI = Buffer.from("302a300506032b6570032100", "hex");

function verifyV1a(secret, headers, body) {
    const key = crypto.createPublicKey({
        key: Buffer.concat([SPKI, Buffer.from(secret.slice("whpk_".length), "base64")]),
        format: "der",
        type: "spki",
    });
    const signed = Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`);
    const age = Math.abs(Date.now() / 1000 - Number(headers["webhook-timestamp"]));
    const fits = (token) =>
        token.startsWith("v1a,") && crypto.verify(null, signed, key, Buffer.from(token.slice(4), "base64"));
    if (age > 300 || !headers["webhook-signature"].split(" ").some(fits)) throw new Error("no signature fits");
}

const judges = {
    standard: (secret, headers, body) => new Webhook(secret).verify(body, headers),
    "standard-v1a": verifyV1a,
    svix: (secret, headers, body) => new svix.Webhook(secret).verify(body, headers),
    github: async (secret, headers, body) => {
        if (!(await octokit.verify(secret, body, headers["x-hub-signature-256"]))) throw new Error("no match");
    },
    stripe: (secret, headers, body) => {
        stripe.webhooks.signature.verifyHeader(body, headers["stripe-signature"], secret, 300);
    },
};

for await (const line of lines) {
    const { profile, secret, headers, body } = JSON.parse(line);
    try {
        await judges[profile](secret, headers, body);
        console.log("accepted");
    } catch (e) {
        // A mistake in this script is not a verdict; that something is missing in the request is Octokit's TypeError.
        const isOurs = e instanceof TypeError || e instanceof ReferenceError;
        if (isOurs && !e.message.startsWith("[@octokit")) throw e;
        console.log(`rejected: ${String(e.message).split("\n")[0]}`);
    }
}
