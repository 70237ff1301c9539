"""The Prometheus configuration: valid, with rules that pass their unit tests, and tested and documented alerts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from support.components.alerting import run_program
from support.components.required import require_program
from support.monitoring.files import GUIDE, PROMETHEUS, rules

ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a copy of the configuration files and the token file that they name."""
    require_program("promtool", ".ci/system-packages")
    copy = Path(shutil.copytree(PROMETHEUS, tmp_path / "prometheus"))
    (copy / "relab-read.token").touch()
    return copy


def test_configuration_is_valid(folder: Path) -> None:
    run_program("promtool", "check", "config", "prometheus.yml", cwd=folder)


def test_rules_pass_their_unit_tests(folder: Path) -> None:
    assert "SUCCESS" in run_program("promtool", "test", "rules", "rules.test.yml", cwd=folder)


@pytest.mark.parametrize(
    ("correct", "wrong"), [("ratio5m > 0.05", "ratio5m > 0.5"), ("max without (instance) (increase", "sum without (instance) (increase"), ("for: 30m", "for: 3m")]
)  # fmt: skip
def test_unit_tests_find_a_wrong_rule(folder: Path, correct: str, wrong: str) -> None:
    for path in folder.glob("*.rules.yml"):
        path.write_text(path.read_text().replace(correct, wrong))
    # Only the test cases of alerts that use a changed rule are run, because all cases take 1.5 s.
    changed = [rule for rule in rules() if correct in f"{rule['expr']} for: {rule.get('for')}"]
    records = [rule["record"] for rule in changed if "record" in rule]
    alerts = {rule["alert"] for rule in changed if "alert" in rule}
    alerts |= {name for name, rule in ALERTS.items() if any(record in rule["expr"] for record in records)}
    file = folder / "rules.test.yml"
    tests = yaml.safe_load(file.read_text())
    tests["tests"] = [case for case in tests["tests"] if alerts & {one["alertname"] for one in case["alert_rule_test"]}]
    assert tests["tests"]
    file.write_text(yaml.safe_dump(tests))

    # A failed case prints its expected value after `exp:`; an unreadable file does not.
    with pytest.raises(AssertionError, match="exp:"):
        run_program("promtool", "test", "rules", "rules.test.yml", cwd=folder)


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_has_a_unit_test_a_severity_and_a_section_of_the_guide(alert: str) -> None:
    cases = yaml.safe_load((PROMETHEUS / "rules.test.yml").read_text())["tests"]
    fires = {check["alertname"] for case in cases for check in case["alert_rule_test"] if check["exp_alerts"]}
    silent = {check["alertname"] for case in cases for check in case["alert_rule_test"] if not check["exp_alerts"]}

    assert alert in fires
    assert ALERTS[alert]["labels"]["severity"] in {"critical", "warning"}
    assert ALERTS[alert]["annotations"]["runbook"] == f"docs/monitoring.md#{alert.lower()}"
    assert f"\n### {alert}\n" in GUIDE.read_text()
    # A test that lists all expected alerts of a rule also shows that it does not fire for other series.
    assert alert in silent | {"RelabBuildsFail", "RelabRejectsConnections", "RelabBuildsOutOfMemory"}
