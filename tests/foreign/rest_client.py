"""Calls the REST API through a client that openapi-python-client has generated from the served
document. Reads {"do", …} per line and prints the result as JSON. The first line names the client's
package, the server and the token."""
import importlib
import json
import sys


def say(value):
    print(json.dumps(value), flush=True)


start = json.loads(sys.stdin.readline())
sys.path.insert(0, start["folder"])
name = start["package"]
package = importlib.import_module(name)
models = importlib.import_module(f"{name}.models")
client = package.AuthenticatedClient(base_url=start["url"], token=start["token"], raise_on_unexpected_status=True)


def call(tag, operation, **arguments):
    """Returns the answer's model. Raises an error for a problem document."""
    module = importlib.import_module(f"{name}.api.{tag}.{operation}")
    answer = module.sync_detailed(client=client, **arguments)
    if answer.status_code >= 300:
        raise RuntimeError(f"{operation}: {answer.status_code} {answer.content.decode()}")
    return answer.parsed


def do(request):
    what, number = request.pop("do"), request.pop("id", None)
    match what:
        case "create":
            made = call("subscriptions", "create_subscription", body=models.Draft.from_dict(request["draft"]))
            return {"id": made.id, "secret": made.secret}
        case "list":
            return [one.id for one in call("subscriptions", "list_subscriptions").items]
        case "change":
            seen = call("subscriptions", "read_subscription", id=number)
            changed = call("subscriptions", "change_subscription", id=number, body=models.Draft.from_dict(request["draft"]))
            return [seen.timeout, changed.timeout]
        case "pause":
            return call("subscriptions", "pause_subscription", id=number, body=models.Pause(reason=request["reason"])).enabled
        case "resume":
            return call("subscriptions", "resume_subscription", id=number, body=models.Resume()).enabled
        case "rotate":
            return call("subscriptions", "rotate_secret", id=number, body=models.Rotate(overlap="PT1H")).secret
        case "ping":
            return call("subscriptions", "ping_subscription", id=number).event_id
        case "deliveries":
            page = call("deliveries", "list_deliveries", subscription=number)
            return [[one.event_id, one.state] for one in page.items]
        case "attempts":
            page = call("deliveries", "list_attempts", event_id=request["event"], subscription_id=number)
            return [[one.outcome, one.status] for one in page.items]
        case "redeliver":
            return call("deliveries", "redeliver", event_id=request["event"], subscription_id=number).event_id
        case "delete":
            call("subscriptions", "delete_subscription", id=number)
            return None


for line in sys.stdin:
    say(do(json.loads(line)))
