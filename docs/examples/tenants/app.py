#!/usr/bin/env python3
"""The web application of a SaaS in miniature. Each customer has a page "Webhooks", which embeds
the customer's page of webhookd. It needs Python 3.9 or newer, and no package.

The environment configures it:
  PORT            port on the loopback (default 3000)
  WEBHOOKD_URL    address of webhookd's admin server (default http://127.0.0.1:8090)
  WEBHOOKD_TOKEN  token of an admin, from `webhookd token create`
"""

import html
import json
import os
import secrets
import urllib.error
import urllib.request
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(os.environ.get("PORT", "3000"))
WEBHOOKD_URL = os.environ.get("WEBHOOKD_URL", "http://127.0.0.1:8090").rstrip("/")
WEBHOOKD_TOKEN = os.environ["WEBHOOKD_TOKEN"]
CUSTOMERS = {"acme": "Acme Inc.", "globex": "Globex Corp."}
# The customer of each session, by the random key in the browser's cookie.
SESSIONS = {}

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  body {{ font: 16px system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }}
  iframe {{ border: 1px solid #ccc; height: 48rem; width: 100% }}
</style>
<h1>{title}</h1>
{content}
</html>
"""


def portal_link(customer):
    """Returns a URL that opens the customer's page of webhookd once. The page works for an hour."""
    request = urllib.request.Request(
        f"{WEBHOOKD_URL}/v1/portal-links",
        data=json.dumps({"owner": customer, "minutes": 60}).encode(),
        headers={
            "authorization": f"Bearer {WEBHOOKD_TOKEN}",
            "content-type": "application/json",
        },
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)["url"]


class Application(BaseHTTPRequestHandler):
    """Handles the requests of one browser."""

    def do_GET(self):
        customer = self.customer()
        if self.path == "/sign-in":
            buttons = "".join(
                f'<button name="customer" value="{key}">{html.escape(name)}</button> '
                for key, name in CUSTOMERS.items()
            )
            form = f'<form method="post" action="/sign-in">{buttons}</form>'
            self.page(200, "Sign in", form)
        elif customer is None:
            self.redirect("/sign-in")
        elif self.path == "/":
            name = html.escape(CUSTOMERS[customer])
            self.page(200, name, '<p><a href="/webhooks">Webhooks</a></p>')
        elif self.path == "/webhooks":
            self.webhooks(customer)
        else:
            self.page(404, "Not found", '<p><a href="/">Home</a></p>')

    def do_POST(self):
        # The example has no passwords. A real application checks who the user is.
        length = min(int(self.headers.get("content-length") or 0), 1000)
        name, _, customer = self.rfile.read(length).decode().partition("=")
        if self.path == "/sign-in" and name == "customer" and customer in CUSTOMERS:
            key = secrets.token_urlsafe()
            SESSIONS[key] = customer
            self.redirect("/", f"session={key}; HttpOnly; SameSite=Lax; Path=/")
        else:
            self.page(400, "Bad request", "<p>Choose a customer.</p>")

    def webhooks(self, customer):
        """The customer comes from the application's session, and never from the request."""
        try:
            link = portal_link(customer)
        except (OSError, urllib.error.HTTPError) as error:
            self.log_error("no link for %s: %s", customer, error)
            self.page(503, "Webhooks", "<p>This page is not available. Try again in a minute.</p>")
            return
        frame = f'<iframe title="Webhooks" src="{html.escape(link)}"></iframe>'
        self.page(200, "Webhooks", frame)

    def customer(self):
        cookie = SimpleCookie(self.headers.get("cookie", "")).get("session")
        return SESSIONS.get(cookie.value) if cookie else None

    def page(self, status, title, content):
        body = PAGE.format(title=html.escape(title), content=content).encode()
        self.send_response(status)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        # A link works once, so the page must not come from a cache.
        self.send_header("cache-control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def redirect(self, location, cookie=None):
        self.send_response(303)
        self.send_header("location", location)
        if cookie:
            self.send_header("set-cookie", cookie)
        self.send_header("content-length", "0")
        self.end_headers()


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Application)
    print(f"listening on http://127.0.0.1:{PORT}/", flush=True)
    server.serve_forever()
