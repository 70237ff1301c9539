"""A reference harness at the integration level `sdk_full`: it can be paused, resumed and forked after each step.

It searches for a number whose SHA-256 digest begins with zeros, some numbers in each step. It needs no library and is
deterministic. The comments (1) to (6) mark the duties of every harness.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

POLL_S = 0.02
WAIT_FOR_STOP_S = 2.0


class Harness:
    """One trial: `given` is its input, `output` the file of its result."""

    def __init__(self, given: dict[str, Any], output: Path) -> None:
        self.given, self.output = given, output
        paths = given["runtime"]["paths"]
        self.state = Path(paths["state"])
        self.events = Path(paths["out"], "harness_events.jsonl")
        self.control = Path(os.environ["AGENTLAB_CONTROL_PATH"])
        self.checkpoints: list[dict[str, Any]] = []
        # (1) A resumed or forked trial has a checkpoint, and continues the numbers of its events.
        begun = given.get("ext", {}).get("resume") or given.get("ext", {}).get("fork") or {}
        self.seq = (begun.get("events_seq") or 0) if "resume" in given.get("ext", {}) else 0
        self.memory: dict[str, Any] = {"step": 0, "tried": 0, "best": 0, "number": None}
        if begun.get("checkpoint"):
            self.memory = json.loads(Path(begun["checkpoint"]["path"]).read_bytes())

    def run(self) -> None:
        task, bindings = self.given["task"], self.given["bindings"]
        steps = int(task.get("steps", 5))
        while self.memory["step"] < steps:
            step = self.memory["step"] + 1
            # (2) Events surround each step.
            self.event("agent_step_start", step_index=step)
            time.sleep(float(bindings.get("step_seconds", 0)))
            self.search(str(task.get("text", "relab")), int(bindings.get("numbers_per_step", 200)))
            self.memory["step"] = step
            if bindings.get("checkpoint_each_step", True):
                self.checkpoint(None)
            self.event("agent_step_end", step_index=step, budgets={"steps": step})
            if self.asked_to_stop(step):
                self.answer("missing")
                return
        zeros = self.memory["best"]
        found = zeros >= int(task.get("zeros", 1))
        self.answer("success" if found else "failure", answer=self.memory["number"], metrics={"zeros": zeros})

    def search(self, text: str, count: int) -> None:
        for number in range(self.memory["tried"], self.memory["tried"] + count):
            digest = hashlib.sha256(f"{text} {number}".encode()).hexdigest()
            zeros = len(digest) - len(digest.lstrip("0"))
            if zeros > self.memory["best"]:
                self.memory.update(best=zeros, number=number)
        self.memory["tried"] += count

    def asked_to_stop(self, step: int) -> bool:
        """(3) After each step, obey the control file and acknowledge it; return whether it says to stop."""
        action, label, version = self.read_control()
        if action == "checkpoint":
            self.checkpoint(label)
            self.acknowledge(step, action, version)
            # (4) The stop follows immediately: wait for it here instead of beginning another step.
            end_by = time.monotonic() + WAIT_FOR_STOP_S
            asked = version
            while version == asked and time.monotonic() < end_by:
                time.sleep(POLL_S)
                action, label, version = self.read_control()
        self.acknowledge(step, action, version)
        return action == "stop"

    def read_control(self) -> tuple[str, str | None, dict[str, Any]]:
        raw = self.control.read_bytes()
        document = json.loads(raw)
        version = {"control_version": "sha256:" + hashlib.sha256(raw).hexdigest(), "control_seq": document["seq"]}
        return document["action"], document.get("label"), version

    def acknowledge(self, step: int, action: str, version: dict[str, Any]) -> None:
        self.event("control_ack", step_index=step, action_observed=action, action_taken=action, **version)

    def checkpoint(self, label: str | None) -> None:
        """(5) A checkpoint is a file in the state folder; the output names it."""
        step = self.memory["step"]
        name = label or f"step-{step}"
        path = self.state / f"checkpoint-{step}{'-asked' if label else ''}.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(self.memory))
        fresh.replace(path)
        self.checkpoints.append({"path": str(path), "logical_name": name, "step": step})

    def event(self, kind: str, **fields: Any) -> None:
        self.seq += 1
        now = datetime.now(UTC).isoformat()
        row = {"event_type": kind, "ts": now, "seq": self.seq, "ids": self.given["ids"], **fields}
        with self.events.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def answer(self, outcome: str, **fields: Any) -> None:
        """(6) The output, also after a stop: it names the checkpoints."""
        document = {"schema_version": "trial_output_v1", "ids": self.given["ids"], "outcome": outcome}
        self.output.write_text(json.dumps({**document, "checkpoints": self.checkpoints, **fields}))


if __name__ == "__main__":
    arguments = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    Harness(json.loads(Path(arguments["--input"]).read_bytes()), Path(arguments["--output"])).run()
