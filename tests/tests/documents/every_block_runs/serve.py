"""Serves an example of RECEIVING.md: `python` imports example.py, `shell` calls the function of example.sh."""

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


def python(headers, body):
    from example import receive

    return receive(os.environ["WEBHOOK_SECRET"], headers, body)[0]


def shell(headers, body):
    values = [headers.get(name, "") for name in ("webhook-id", "webhook-timestamp", "webhook-signature")]
    command = ["bash", "-c", '. ./example.sh; verify "$@"', "verify", *values]
    return 204 if subprocess.run(command, input=body).returncode == 0 else 401


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.send_response({"python": python, "shell": shell}[sys.argv[1]](headers, body))
        self.send_header("content-length", "0")
        self.end_headers()

    def do_GET(self):
        self.send_error(405)

    def log_message(self, *_):
        pass


sys.path.insert(0, os.getcwd())
server = HTTPServer(("127.0.0.1", 0), Handler)
with open("address", "w") as file:
    file.write(f"http://127.0.0.1:{server.server_port}/hooks")
print("listening", flush=True)
server.serve_forever()
