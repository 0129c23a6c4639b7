// Verifies webhooks of pg_webhook (Standard Webhooks v1 and v1a). Node.js 16 or newer, nothing but its library.
import { createHmac, createPublicKey, timingSafeEqual, verify as isSignedBy } from "node:crypto";
import { readFileSync } from "node:fs";

const TOLERANCE_SECONDS = 300;

// secret: whsec_…, or the public key, whpk_…; headers: names in lower case; body: a Buffer of the bytes as they came.
export function verify(secret, headers, body) {
  const id = headers["webhook-id"] ?? "";
  const timestamp = headers["webhook-timestamp"] ?? "";
  if (id === "" || !/^[0-9]{1,12}$/.test(timestamp)) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_SECONDS) return false;
  const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
  const [kind, text] = secret.split("_", 2);
  const key = Buffer.from(text, "base64");
  // One for each secret in force while it is being replaced: one that fits is enough.
  const signatures = (headers["webhook-signature"] ?? "").split(" ");
  if (kind === "whpk") {
    const spki = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), key]);
    const publicKey = createPublicKey({ key: spki, format: "der", type: "spki" });
    return signatures
      .filter((signature) => signature.startsWith("v1a,"))
      .some((signature) => isSignedBy(null, signed, publicKey, Buffer.from(signature.slice(4), "base64")));
  }
  const expected = Buffer.from("v1," + createHmac("sha256", key).update(signed).digest("base64"));
  return signatures
    .map((signature) => Buffer.from(signature))
    .some((signature) => signature.length === expected.length && timingSafeEqual(signature, expected));
}

// As a CGI program. A server has both at hand: request.headers, and the body with express.raw({ type: "*/*" }) in Express.
if (process.env.GATEWAY_INTERFACE) {
  const headers = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (name.startsWith("HTTP_")) headers[name.slice(5).replaceAll("_", "-").toLowerCase()] = value;
  }
  // If it is genuine: put the event aside under its webhook-id, unless it is there already. Work on it after the answer.
  const isGenuine = verify(process.env.WEBHOOK_SECRET, headers, readFileSync(0));
  console.log(isGenuine ? "Status: 204 No Content\n" : "Status: 401 Unauthorized\n");
}
