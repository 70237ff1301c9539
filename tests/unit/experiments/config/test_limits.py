"""The limits of a trial: defaults that fit the machine, and the record of each limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.experiments.config.limits import (
    DEFAULT_MAX_OPEN_FILES,
    DEFAULT_MAX_PIDS,
    MIN_MEMORY_MB,
    default_memory_mb,
    describe_exceeded,
    limits_of,
    limits_record,
    machine_memory_mb,
)
from relab.experiments.models import ErrorType
from support.experiments.configs import config


def test_absent_limits_have_defaults_except_for_processors() -> None:
    limits = limits_of(config(design={"max_concurrency": 3}), machine_mb=16_000)

    assert limits.cpu_count is None
    assert limits.memory_mb == 4_000
    assert limits.max_pids == DEFAULT_MAX_PIDS
    assert limits.max_open_files == DEFAULT_MAX_OPEN_FILES
    assert limits.tmp_mb is not None
    assert limits.tmp_mb > 1_024


def test_zero_means_no_limit() -> None:
    open_ended = {"memory_mb": 0, "max_pids": 0, "max_open_files": 0}
    limits = limits_of(config(runtime__sandbox={"resources": open_ended}))
    assert limits.memory_mb is None
    assert limits.max_pids is None
    assert limits.max_open_files is None

    limits = limits_of(config(runtime__sandbox={"resources": {"memory_mb": 64, "max_pids": 7, "max_open_files": 99}}))
    assert limits.memory_mb == 64
    assert limits.max_pids == 7
    assert limits.max_open_files == 99


@given(st.integers(4, 10_000_000), st.integers(1, 10_000))
def test_default_memory_never_exceeds_the_machine_and_keeps_the_minimum(machine_mb: int, at_once: int) -> None:
    share = default_memory_mb(machine_mb, at_once)

    assert 4 <= share <= max(machine_mb * 0.75, 4)
    assert share >= min(MIN_MEMORY_MB, int(machine_mb * 0.75))
    assert default_memory_mb(machine_mb, at_once + 1) <= share


@pytest.mark.parametrize(
    ("groups", "file", "text", "expected"),
    [
        ("0::/box\n", "box/memory.max", "1073741824", 1_024),
        ("0::/box\n", "memory.max", "1073741824", 1_024),
        ("0::/box\n", "box/memory.max", "max", None),
        ("4:memory:/box\n", "memory/box/memory.limit_in_bytes", "1073741824", 1_024),
        ("4:memory:/box\n", "memory/box/memory.limit_in_bytes", "9223372036854771712", None),
        ("", "none", "", None),
    ],
)
def test_memory_of_a_container_is_the_limit_of_its_control_group(
    tmp_path: Path, groups: str, file: str, text: str, expected: int | None
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    (tmp_path / "groups" / file).parent.mkdir(parents=True)
    (tmp_path / "groups" / file).write_text(text)

    found = machine_memory_mb(tmp_path / "proc", tmp_path / "groups")

    assert found == (machine_memory_mb(tmp_path / "none", tmp_path / "none") if expected is None else expected)


def test_the_record_has_value_origin_field_and_enforcement_of_each() -> None:
    experiment = config(runtime__sandbox={"resources": {"max_pids": 7, "memory_mb": 0}})

    record = limits_record(experiment, {"max_pids": "cgroup v2 pids"})

    assert set(record) == {"max_pids", "max_open_files", "max_written_mb"}
    assert record["max_pids"] == {
        "value": 7,
        "is_default": False,
        "field": "runtime.sandbox.resources.max_pids",
        "enforced_by": "cgroup v2 pids",
    }
    assert record["max_written_mb"]["is_default"] is True
    assert record["max_open_files"]["enforced_by"].startswith("not enforced")


@pytest.mark.parametrize(
    ("limit", "error_type"),
    [
        ("memory_mb", ErrorType.MEMORY_LIMIT),
        ("max_pids", ErrorType.PROCESS_LIMIT),
        ("max_open_files", ErrorType.OPEN_FILES_LIMIT),
    ],
)
def test_a_limit_that_was_hit_is_named_with_its_value_and_its_field(limit: str, error_type: ErrorType) -> None:
    limits = limits_of(config(runtime__sandbox={"resources": {limit: 1_234}}))

    found, message = describe_exceeded(limit, limits)

    assert found is error_type
    assert "1,234" in message
    assert f"set runtime.sandbox.resources.{limit} (0 is no limit)" in message
