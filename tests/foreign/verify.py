"""Judges recorded requests with the Python libraries that receivers use.

Reads a JSON line per request from stdin, {"profile", "secret", "headers", "body"}; prints "accepted" or "rejected: why"
per line. `secret` of standard-v1a is the public key.
"""

import base64
import json
import sys
import time

import githubkit.webhooks
import standardwebhooks
import stripe
import svix.webhooks
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Rejected(Exception):
    pass


def standard(secret, headers, body):
    standardwebhooks.Webhook(secret).verify(body, headers)


def standard_v1a(secret, headers, body):
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(secret.removeprefix("whpk_")))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    if abs(time.time() - int(headers["webhook-timestamp"])) > 300:
        raise Rejected("too old")
    for token in headers["webhook-signature"].split(" "):
        if token.startswith("v1a,"):
            try:
                return key.verify(base64.b64decode(token.removeprefix("v1a,")), signed)
            except InvalidSignature:
                pass
    raise Rejected("no signature fits")


def svix_profile(secret, headers, body):
    svix.webhooks.Webhook(secret).verify(body, headers)


def github(secret, headers, body):
    if not githubkit.webhooks.verify(secret, body, headers["x-hub-signature-256"]):
        raise Rejected("no match")


def stripe_profile(secret, headers, body):
    stripe.WebhookSignature.verify_header(body, headers["stripe-signature"], secret, 300)


JUDGES = {
    "standard": standard,
    "standard-v1a": standard_v1a,
    "svix": svix_profile,
    "github": github,
    "stripe": stripe_profile,
}
VERDICTS = (
    Rejected,
    standardwebhooks.WebhookVerificationError,
    svix.webhooks.WebhookVerificationError,
    stripe.SignatureVerificationError,
    ValueError,
)

for line in sys.stdin:
    request = json.loads(line)
    try:
        JUDGES[request["profile"]](request["secret"], request["headers"], request["body"])
        print("accepted")
    except VERDICTS as e:
        print("rejected:", str(e).split("\n")[0])
