"""Judges recorded requests with the Python library of Standard Webhooks.

Reads a JSON line per request from stdin, {"secret", "headers", "body"}; prints "accepted" or "rejected: why" per line.
"""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

for line in sys.stdin:
    request = json.loads(line)
    try:
        Webhook(request["secret"]).verify(request["body"], request["headers"])
        print("accepted")
    except WebhookVerificationError as e:
        print("rejected:", e)
