"""Verifies webhooks of pg_webhook (Standard Webhooks v1). Python 3.9 or newer, nothing but its library."""

import base64
import hashlib
import hmac
import os
import re
import sys
import time

TOLERANCE_SECONDS = 300


def verify(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """secret: whsec_…; headers: names in lower case; body: the bytes as they came, before anything has parsed them."""
    webhook_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not webhook_id or not re.fullmatch("[0-9]{1,12}", timestamp):
        return False
    if abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
    # One for each secret in force while it is being replaced: one that fits is enough.
    signatures = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(signature, expected) for signature in signatures)


if __name__ == "__main__":
    # As a CGI program. A framework provides headers and raw body: in Flask, request.headers and
    # request.get_data().
    headers = {
        name[5:].replace("_", "-").lower(): value for name, value in os.environ.items() if name.startswith("HTTP_")
    }
    if verify(os.environ["WEBHOOK_SECRET"], headers, sys.stdin.buffer.read()):
        # Store the event under its webhook-id here, unless it is stored already. Process it after
        # the answer.
        print("Status: 204 No Content\n")
    else:
        print("Status: 401 Unauthorized\n")
