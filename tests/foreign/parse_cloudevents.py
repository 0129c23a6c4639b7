"""Parses recorded requests with the Python SDK of CloudEvents.

Reads a JSON line per request from stdin, {"headers", "body"}; prints per line a JSON array of the events in it, each an
object of its attributes and "data", or "rejected: why". The SDK knows no batches: their elements are parsed one by one.
"""

import json
import sys

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.formats.json import JSONFormat


def parse(headers, body):
    content_type = headers.get("content-type", "")
    if content_type.startswith("application/cloudevents-batch+json"):
        return [JSONFormat().read(None, json.dumps(event)) for event in json.loads(body)]
    return [from_http_event(HTTPMessage(headers, body.encode()))]


def shown(event):
    attributes = dict(event.get_attributes())
    if "time" in attributes:
        attributes["time"] = attributes["time"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if event.get_data() is not None:
        attributes["data"] = event.get_data()
    return attributes


for line in sys.stdin:
    request = json.loads(line)
    try:
        print(json.dumps([shown(event) for event in parse(request["headers"], request["body"])]))
    except (BaseCloudEventException, ValueError) as e:
        print("rejected:", repr(e))
