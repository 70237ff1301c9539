"""Pause, resume and fork in a Docker container, with a harness for /bin/sh: an image needs no Python and no Node.js."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.sandbox.rooms import IMAGE, require_docker
from support.experiments.projects import Project, Run, read_lines
from support.experiments.reference import run_at_step

STEPS = 40
COUNTING = f"""\
#!/bin/sh
input=$2 output=$4
ids=$(sed -n '/"ids": {{/,/}}/p' "$input" | sed '$s/,$//' | tr -d '\\n')
ids=${{ids%,}}
seq=$(sed -n 's/.*"events_seq": \\([0-9]*\\).*/\\1/p' "$input")
seq=${{seq:-0}}
path=$(sed -n 's/.*"path": "\\(\\/state\\/memory-[0-9]*\\)".*/\\1/p' "$input" | head -n 1)
step=0
if [ -n "$path" ]; then step=$(cat "$path"); fi
named=

event() {{
  seq=$((seq + 1))
  printf '{{"event_type": "%s", "ts": "%s", "seq": %d, %s, "step_index": %d%s}}\\n' \\
    "$1" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$seq" "$ids" "$step" "$2" >> /out/harness_events.jsonl
}}

read_control() {{
  cp "$AGENTLAB_CONTROL_PATH" /tmp/control
  version=sha256:$(sha256sum < /tmp/control | cut -d ' ' -f 1)
  action=$(sed -n 's/.*"action": "\\([a-z]*\\)".*/\\1/p' /tmp/control)
  label=$(sed -n 's/.*"label": "\\([a-z]*\\)".*/\\1/p' /tmp/control)
}}

acknowledge() {{
  event control_ack ", \\"action_observed\\": \\"$action\\", \\"action_taken\\": \\"$action\\", \\"control_version\\": \\"$version\\""
}}

checkpoint() {{
  echo "$step" > "/state/memory-$step"
  named="$named,{{\\"path\\": \\"/state/memory-$step\\", \\"logical_name\\": \\"$1\\", \\"step\\": $step}}"
}}

answer() {{
  printf '{{"schema_version": "trial_output_v1", %s, "outcome": "%s", "answer": %d, "checkpoints": [%s]}}' \\
    "$ids" "$1" "$step" "${{named#,}}" > "$output"
  exit 0
}}

while [ "$step" -lt {STEPS} ]; do
  step=$((step + 1))
  event agent_step_start ""
  sleep 0.05
  checkpoint "step-$step"
  event agent_step_end ""
  read_control
  if [ "$action" = checkpoint ]; then
    checkpoint "$label"
    acknowledge
    asked=$version tries=0
    while [ "$version" = "$asked" ] && [ "$tries" -lt 100 ]; do
      sleep 0.02
      tries=$((tries + 1))
      read_control
    done
  fi
  acknowledge
  if [ "$action" = stop ]; then answer missing; fi
done
answer success
"""


def steps_of(run: Run) -> list[int]:
    events = read_lines(run.trial("trial_1") / "out" / "harness_events.jsonl")
    return [event["step_index"] for event in events if event["event_type"] == "agent_step_end"]


@pytest.mark.full
def test_trial_in_a_container_is_paused_resumed_and_forked(tmp_path: Path) -> None:
    require_docker()
    project = Project.make(tmp_path, tasks=1)
    project.write_harness(COUNTING)
    project.configure(
        runtime={
            "harness": {"command": ["/bin/sh", "./harness"], "integration_level": "sdk_full"},
            "sandbox": {"mode": "container", "image": IMAGE},
            "network": {"mode": "none"},
        }
    )

    with project.start("--no-telemetry") as runner:
        run = run_at_step(runner)
        (paused,) = project.json("pause", "--run-dir", str(run.path), "--label", "lunch")["trials"]
        runner.end(130)
    resumed = project.json("resume", "--run-dir", str(run.path), "--no-telemetry")

    assert (paused["status"], paused["checkpoint"]["logical_name"]) == ("paused", "lunch")
    assert resumed["finished"] is True
    row = run.rows["trial_1"]
    assert (row["outcome"], row["container_mode"]) == ("success", True)
    assert row["hook_events_invalid"] == 0, row["hook_event_problems"]
    assert steps_of(run) == list(range(1, STEPS + 1))
    assert run.json("trials/trial_1/trial_input.json")["ext"]["resume"]["checkpoint"]["path"].startswith("/state/")
    answer = project.json(
        "fork", "--run-dir", str(run.path), "--from-trial", "trial_1", "--at", "step:20", "--strict", "--no-telemetry"
    )
    forked = Run(Path(answer["run"]["run_dir"]), answer)
    assert steps_of(forked) == list(range(21, STEPS + 1))
    assert forked.journal()[0]["container_mode"] is True
    assert forked.json("trials/trial_1/trial_output.json")["answer"] == STEPS
