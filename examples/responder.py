"""A template of a responder, which `lab` measures like its own. It needs only Python; README.md lists its inputs.

It recognises four causes, repairs each once, and asks for a person if it recognises none or its repair failed.
"""

import json
import os
import re
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TARGET, ACTIONS = os.environ["TARGET_API_BASE_URL"], os.environ["ACTION_SERVER_URL"]
TOKEN, PORT = os.environ["ACTION_SERVER_TOKEN"], int(os.environ["PORT"])
INTERVAL_S = float(os.environ.get("POLL_INTERVAL_SECONDS", "30"))
POLLS_TO_OPEN, POLLS_TO_CLOSE = 2, 3
SETTLE_S = 35.0  # a repair is judged after this time, because the target's figures cover its last 30 seconds

# A pattern for a reason in the target's health, the cause, the action and its parameters.
RUNBOOK = [
    (r"worker \d+ is stopped", "process_stopped", "resume-process", {"component": "target"}),
    (r"database does not answer: .*refused", "database_down", "restart-database", {}),
    (r"cache does not answer: .*refused", "cache_down", "restart-cache", {}),
    (r"connection pool: .* waiting", "connection_pool_leak", "remediate-db-pool-exhaustion", {}),
]
status = {"polls": 0, "incident": None, "cost_usd": 0.0}


def ask(url, body=None, headers=None, within_s=3.0):
    """Send a request, and return the JSON of the answer, or None if the request or the answer fails."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=within_s) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        print(f"{url}: {error}", flush=True)
        return None


class Watch:
    """The state between polls: counts of good and bad polls, and the repairs that were tried."""

    def __init__(self):
        self.bad = self.good = self.incidents = 0
        self.tried, self.quiet_until = [], 0.0

    def poll(self):
        """Poll the target once: open, repair or close an incident."""
        status["polls"] += 1
        health = ask(f"{TARGET}/api/v1/health") or {"health_status": "silent"}
        is_well = health["health_status"] == "healthy"
        self.bad, self.good = (0, self.good + 1) if is_well else (self.bad + 1, 0)
        if self.good >= POLLS_TO_CLOSE:
            status["incident"], self.tried = None, []
        elif self.bad >= POLLS_TO_OPEN:
            self.respond([str(reason) for reason in health.get("reasons", [])])

    def respond(self, reasons):
        """Diagnose the incident, and try its repair once."""
        if status["incident"] is None:
            self.incidents += 1
            status["incident"] = {"id": f"incident-{self.incidents}", "phase": "diagnose", "diagnosis": []}
        incident = status["incident"]
        if time.monotonic() < self.quiet_until:
            return
        found = [row for row in RUNBOOK if any(re.search(row[0], reason) for reason in reasons)]
        incident["diagnosis"] = [{"cause": cause} for _, cause, _, _ in found] or incident["diagnosis"]
        untried = [(action, parameters) for _, _, action, parameters in found if action not in self.tried]
        incident["phase"] = "execute" if untried else "escalated"
        if untried:
            self.act(incident, *untried[0])

    def act(self, incident, action, parameters):
        """Request an action; a repeated request for the same attempt is performed once."""
        self.tried.append(action)
        key = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": f"{incident['id']}-{len(self.tried)}"}
        answer = ask(f"{ACTIONS}/action/{action}", parameters, key, within_s=60.0)
        incident["phase"] = "verify" if answer and answer.get("ok") else "plan"
        self.quiet_until = time.monotonic() + SETTLE_S


class Status(BaseHTTPRequestHandler):
    """Serves the responder's status at `GET /agent/status`."""

    def do_GET(self):
        self.send_response(200 if self.path == "/agent/status" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(status).encode())

    def log_message(self, *_): ...


if __name__ == "__main__":
    threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", PORT), Status).serve_forever, daemon=True).start()
    watch = Watch()
    while True:
        watch.poll()
        time.sleep(INTERVAL_S)
