"""A responder to start from: `lab` measures it as it measures its own. It needs Python and nothing else.

It is told by its environment where the target and the action server are, its token, on which port to say how it is,
and how often to look. It knows four causes, repairs each once, and asks for a person if it knows none or has failed.

Measure it:
    python -m relab.testbed.scoring.experiment ~/episodes --home ~/beds --episodes 20 --seed 7 \
        --responder "mine=python3 $PWD/examples/responder.py"
    cd ~/episodes && lab run
"""

import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TARGET, ACTIONS = os.environ["TARGET_API_BASE_URL"], os.environ["ACTION_SERVER_URL"]
TOKEN, PORT = os.environ["ACTION_SERVER_TOKEN"], int(os.environ["PORT"])
INTERVAL_S = float(os.environ.get("POLL_INTERVAL_SECONDS", "30"))
POLLS_TO_OPEN, POLLS_TO_CLOSE = 2, 3
SETTLE_S = 35.0
"""The target's figures are those of its last 30 seconds: a repair is not judged before they have forgotten."""

# A reason as the target's health tells it (a pattern), the cause, the action and its parameters.
RUNBOOK = [
    (r"worker \d+ is stopped", "process_stopped", "resume-process", {"component": "target"}),
    (r"database does not answer: .*refused", "database_down", "restart-database", {}),
    (r"cache does not answer: .*refused", "cache_down", "restart-cache", {}),
    (r"connection pool: .* waiting", "connection_pool_leak", "remediate-db-pool-exhaustion", {}),
]
status = {"polls": 0, "incident": None, "cost_usd": 0.0}


def ask(url, body=None, headers=None, within_s=3.0):
    """Return what an address answers as JSON, or None if it does not answer well."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=within_s) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        print(f"{url}: {error}", flush=True)
        return None


def act(action, parameters, incident, attempt):
    """Ask for an action; the same attempt asked for twice is done once."""
    key = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": f"{incident}-{attempt}"}
    answer = ask(f"{ACTIONS}/action/{action}", parameters, key, within_s=60.0)
    return bool(answer and answer.get("ok"))


def diagnose(reasons):
    """Return the rows of the runbook that fit what the target says, the first of them the best."""
    return [row for row in RUNBOOK if any(re.search(row[0], reason) for reason in reasons)]


class Watch:
    """What is remembered from poll to poll."""

    def __init__(self):
        self.bad = self.good = self.incidents = 0
        self.tried = []
        self.quiet_until = 0.0

    def poll(self):
        """Look once: open, repair, or close."""
        status["polls"] += 1
        health = ask(f"{TARGET}/api/v1/health") or {"health_status": "silent", "reasons": []}
        if health["health_status"] == "healthy":
            self.bad, self.good = 0, self.good + 1
            if self.good >= POLLS_TO_CLOSE:
                status["incident"], self.tried = None, []
            return
        self.bad, self.good = self.bad + 1, 0
        if self.bad >= POLLS_TO_OPEN:
            self.respond([str(reason) for reason in health.get("reasons", [])])

    def respond(self, reasons):
        """Say what is the matter, and try what has not been tried."""
        if status["incident"] is None:
            self.incidents += 1
            status["incident"] = {"id": f"incident-{self.incidents}", "phase": "diagnose", "diagnosis": []}
        incident = status["incident"]
        if time.monotonic() < self.quiet_until:
            return
        found = diagnose(reasons)
        if found:
            incident["diagnosis"] = [{"cause": cause} for _, cause, _, _ in found]
        for _, _, action, parameters in found:
            if action not in self.tried:
                self.tried.append(action)
                incident["phase"] = "execute"
                done = act(action, parameters, incident["id"], len(self.tried))
                incident["phase"], self.quiet_until = "verify" if done else "plan", time.monotonic() + SETTLE_S
                return
        incident["phase"] = "escalated"


class Status(BaseHTTPRequestHandler):
    """Says how the responder is, at `GET /agent/status`."""

    def do_GET(self):
        body = json.dumps(status).encode()
        self.send_response(200 if self.path == "/agent/status" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", PORT), Status).serve_forever, daemon=True).start()
    watch = Watch()
    while True:
        watch.poll()
        time.sleep(INTERVAL_S)
