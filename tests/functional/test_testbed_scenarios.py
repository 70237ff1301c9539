"""Scenarios on a real testbed, run from the same files by `lab testbed run` and by chaostoolkit's `chaos`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import pytest

from relab.testbed import service
from relab.testbed.layout import Layout
from relab.testbed.models import Addresses
from rig.waiting import wait_until
from support.components.chaostoolkit import chaos_command
from support.lab.cli import Lab, Outcome
from support.lab.process import lab_environment
from support.testbed.beds import bed_home, free_base

SHORT = ("--var", "response_s:float=8", "--var", "settle_s:float=0")
SCENARIOS = Path(str(resources.files("relab.testbed.scenarios") / "files"))


@dataclass
class Here:
    """A running testbed, and `lab` commands in its home."""

    lab: Lab
    addresses: Addresses

    def get(self, url: str | None, path: str) -> Any:
        assert url is not None
        return httpx.get(url + path, timeout=10, trust_env=False, verify=False).json()

    def phases(self) -> dict[str, str]:
        """Return the phase of the newest injection of each fault."""
        found = self.get(self.addresses.chaos, "/api/v1/break")["injections"]
        return {item["fault"]: item["phase"] for item in reversed(found)}

    def environment(self) -> dict[str, str]:
        """Return the environment with the URLs of the testbed in the variables that the scenarios read."""
        known = {f"TESTBED_{name.upper()}_URL": url for name, url in self.addresses.model_dump().items() if url}
        return {**os.environ, **known}

    def is_well(self) -> bool:
        try:
            return bool(self.get(self.addresses.target, "/api/v1/health")["health_status"] == "healthy")
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def bed() -> Iterator[Here]:
    with bed_home() as home:
        status = service.up(home, "default", port_base=free_base(), start_within_s=60)
        yield Here(Lab(home, {}), status.state.addresses)


@pytest.fixture
def here(bed: Here) -> Here:
    """The testbed after a reset, with a healthy service."""
    service.reset(bed.lab.home, "default")
    wait_until(bed.is_well, what="a service that is well")
    return bed


def chaos(here: Here, name: str, journal: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Run a shipped scenario by chaostoolkit's `chaos`; return its exit code and journal."""
    done = subprocess.run(
        [chaos_command(), "--log-file", str(journal.with_suffix(".log")), "run", "--journal-path", str(journal), *options,
         str(SCENARIOS / f"{name}.yaml")],
        env=here.environment(), capture_output=True, text=True, timeout=100, check=False, cwd=journal.parent,
    )  # fmt: skip
    assert journal.exists(), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(journal.read_text())
    return done.returncode, found


@contextmanager
def begun(here: Here, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run `lab testbed run pool-leak` while the block runs, and kill it afterwards."""
    with subprocess.Popen(
        [sys.executable, "-m", "relab", "testbed", "run", "pool-leak", *options],
        env=lab_environment(here.lab.home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        try:
            yield running
        finally:
            running.kill()


def test_scenarios_are_listed_with_their_purpose(tmp_path: Path) -> None:
    found = Lab(tmp_path, {}).json("testbed", "scenarios")["scenarios"]

    assert {"pool-leak", "false-alarms", "two-incidents"} <= {each["name"] for each in found}
    assert all(each.keys() == {"name", "title", "description", "purpose", "kind", "faults", "repairs", "outcome"} for each in found)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nothing",), 64, "pool-leak"),
        (("absent.yaml",), 64, "no file"),
        (("code.json",), 64, "--allow-code"),
        (("pool-leak", "--var", "response_s:int=soon"), 64, "--var 'response_s'"),
        (("pool-leak", "--port-base", "23000"), 64, "--up"),
        (("pool-leak", "--journal", "absent/j.json"), 64, "cannot be written"),
        (("pool-leak",), 69, "lab testbed up"),
    ],
)
def test_invalid_scenario_is_rejected_before_any_action(arguments: tuple[str, ...], code: int, said: str) -> None:
    step = {"type": "action", "name": "go", "provider": {"type": "process", "path": "touch", "arguments": "gone"}}
    with bed_home() as home:
        (home / "code.json").write_text(json.dumps({"title": "t", "description": "d", "method": [step]}))

        refused = Lab(home, {}).run("testbed", "run", *arguments, code=code)

        assert said in refused.err
        assert not (home / "gone").exists()


@pytest.mark.full
def test_steady_state_holds_without_the_cache(here: Here, tmp_path: Path) -> None:
    journal = tmp_path / "j.json"
    told = here.lab.json("testbed", "run", "cache-down", "--var", "outage_s:float=6", "--journal", str(journal))

    assert told["conclusion"] == "held"
    assert told["exit_code"] == 0
    assert told["problems"] == []
    assert told["steady_state"]["before"] is True
    assert told["steady_state"]["after"] is True
    assert told["load"]["offered"] > 60
    assert told["load"]["bad"] == 0
    assert here.phases() == {"cache_down": "stopped"}
    assert json.loads(journal.read_text())["status"] == "completed"


@pytest.mark.full
def test_pool_leak_deviates_in_both_runners_with_matching_journals(here: Here, tmp_path: Path) -> None:
    told = here.lab.run("testbed", "run", "pool-leak", *SHORT, "--journal", str(tmp_path / "ours.json"), code=1)
    ours = json.loads((tmp_path / "ours.json").read_text())
    assert "pool-leak: deviated" in told.out
    assert "steady state after: no: " in told.err
    assert "rollbacks: 1 of 1: stop db_pool" in told.err
    assert here.phases() == {"db_pool": "stopped"}

    service.reset(here.lab.home, "default")
    wait_until(here.is_well, what="a service that is well")
    code, theirs = chaos(here, "pool-leak", tmp_path / "theirs.json", *SHORT)

    assert code == 1
    assert here.phases() == {"db_pool": "stopped"}
    assert theirs.keys() == ours.keys() - {"relab"}
    for name in ("deviated", "status"):
        assert ours[name] == theirs[name], name
    assert ours["experiment"].items() >= {k: v for k, v in theirs["experiment"].items() if k != "dry"}.items()
    for part in ("run", "rollbacks"):
        assert [row["activity"] for row in ours[part]] == [row["activity"] for row in theirs[part]]
        assert all(mine.keys() == their.keys() for mine, their in zip(ours[part], theirs[part], strict=True))
    for when in ("before", "after"):
        mine, their = ours["steady_states"][when], theirs["steady_states"][when]
        assert mine.keys() == their.keys()
        assert mine["steady_state_met"] is their["steady_state_met"]
        assert mine["probes"][0].keys() >= their["probes"][0].keys() - {"exception"}


@pytest.mark.full
def test_steady_state_holds_without_the_cache_in_chaostoolkit(here: Here, tmp_path: Path) -> None:
    code, journal = chaos(here, "cache-down", tmp_path / "j.json", "--var", "outage_s:float=4")

    assert code == 0
    assert journal["status"] == "completed"
    assert journal["deviated"] is False
    assert here.phases() == {"cache_down": "stopped"}


@pytest.mark.full
def test_steady_state_holds_after_a_repair_in_time(here: Here) -> None:
    token = service.make_token(here.lab.home, "default", "somebody", ["read", "act"])
    with begun(here, "--json", "--var", "response_s:float=20", "--var", "settle_s:float=33") as running:
        wait_until(lambda: here.phases().get("db_pool") == "active", what="the leak")
        wait_until(lambda: not here.is_well(), what="the leak to show")
        answer = httpx.post(
            f"{here.addresses.actions}/action/restart-target", headers={"Authorization": f"Bearer {token}"},
            timeout=60, trust_env=False, verify=False,
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        out, _ = running.communicate(timeout=100)

    told = json.loads(out)
    assert running.returncode == 0, told
    assert told["conclusion"] == "held", told
    assert told["steady_state"]["during_share"] < 1


@pytest.mark.full
def test_ctrl_c_runs_the_rollbacks(here: Here, tmp_path: Path) -> None:
    journal = tmp_path / "j.json"
    with begun(here, "--load", "0", "--journal", str(journal), "--var", "response_s:float=600") as running:
        wait_until(lambda: here.phases().get("db_pool") == "active", what="the leak")
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)

    assert running.returncode == 130
    assert "pool-leak: interrupted" in out
    assert "rollbacks: 1 of 1: stop db_pool" in err
    assert here.phases() == {"db_pool": "stopped"}
    assert json.loads(journal.read_text())["status"] == "interrupted"


@pytest.mark.full
def test_unknown_fault_is_reported_and_earlier_actions_rolled_back(here: Here, tmp_path: Path) -> None:
    text = (SCENARIOS / "slow-path-and-cache-down.yaml").read_text()
    (tmp_path / "wrong.yaml").write_text(
        text.replace("/break/cache_down?", "/break/cache_gone?").replace("after: 10", "after: 0")
    )

    told: Outcome = here.lab.run("testbed", "run", str(tmp_path / "wrong.yaml"), "--load", "0", code=2)

    assert "'end the cache' was not done" in told.err
    assert "There is no fault 'cache_gone'" in told.err
    assert here.phases() == {"database_latency": "stopped"}


@pytest.mark.full
def test_up_option_runs_the_scenario_on_a_temporary_testbed() -> None:
    with bed_home() as home:
        told = Lab(home, {}).json(
            "testbed", "run", "cache-down", "--up", "--port-base", str(free_base()), "--var", "outage_s:float=1"
        )

        assert told["conclusion"] == "held"
        assert not service.is_running(Layout.of(home, "default"))
