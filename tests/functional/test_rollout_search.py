"""`lab rollout search` as a user runs it: candidates, a confirming rollout, the report."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest
import yaml

from support.lab.cli import Lab
from support.rollouts.small_service import SmallService, small_service


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, {})


def search_file(lab: Lab, service: SmallService) -> str:
    mix = lab.home / "mix.yaml"
    mix.write_text("requests:\n  - {name: work, path: /work}\n")
    flags = {"kind": "http", "url": f"{service.url}/limit", "body": {"limits": {"max": "$value"}}, "b": 20}
    metric = {"kind": "json", "url": f"{service.url}/figures", "pointer": "/p95"}
    measured = {"qps": 60, "window_sec": 0.1, "warmup_sec": 0.0, "mix": str(mix), "rounds": 7}
    document = {
        "plan": {
            "base_url": service.url,
            "experiment": measured,
            "thresholds": {"max_error_rate": 9},
            "subject": {"flags": {**flags, "pointer": "/state/max"}, "metric": metric},
        },
        "parameters": {"subject.flags.b": {"values": [20, 40]}},
        "method": "grid",
        "screening": {"rounds": 2},
    }
    path = lab.home / "search.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_confirmed_candidate_is_applied_and_a_second_run_repeats_nothing(lab: Lab) -> None:
    reads = count()
    with small_service() as service:
        figures = {10: 100.0, 20: 80.0, 40: 50.0}
        service.figures = lambda _path: {"p95": figures[service.limit] + next(reads) % 3}
        path = search_file(lab, service)

        checked = lab.run("rollout", "search", path, "--dry-run").out
        assert "At most 2 s of windows" in checked
        assert "b=20" in checked
        assert "b=40" in checked
        assert service.limit == 10

        outcome = lab.run("rollout", "search", path)

        assert "b=40 passed its confirmation and is in force." in outcome.out
        assert "candidate 2: b=40" in outcome.err
        assert service.limit == 40
        (report,) = lab.home.glob("reports/search-*/search.json")
        assert json.loads(report.read_text())["chosen"] == 2
        changes = service.limit_version
        again = lab.run("rollout", "search", "--resume", str(report), "--json").json["search"]
        assert again["chosen"] == 2
        assert service.limit_version == changes


def test_search_file_that_is_missing_or_invalid_has_exit_code_64(lab: Lab) -> None:
    path = lab.home / "search.yaml"
    path.write_text("parameters: {experiment.qps: {values: [1]}}\n")

    assert "does not describe arm B" in lab.run("rollout", "search", str(path), code=64).err
    assert "cannot be read" in lab.run("rollout", "search", "--resume", str(lab.home / "none.json"), code=64).err
    assert "either a search file" in lab.run("rollout", "search", code=64).err
