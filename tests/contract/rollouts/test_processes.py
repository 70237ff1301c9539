"""A service whose processes each keep the flag in their own memory, behind one address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from relab.rollouts.errors import FlagsChangedError, FlagsNotAppliedError
from relab.rollouts.execution.flag_switch import FlagSwitch
from relab.rollouts.execution.restoring import restore_flags
from relab.rollouts.plans.reading import parse_plan
from relab.rollouts.plans.subject import HttpFlagSubject, ServiceFlagsSubject
from relab.rollouts.record import OpenChange
from relab.rollouts.targets.http_flag import HttpFlagTarget
from relab.rollouts.targets.protocol import FlagState, change_flags, shown_values
from relab.rollouts.targets.service_flags import ServiceFlagsTarget
from support.rollouts.flag_servers import DocumentProcessesServer, ProcessesServer, serving
from support.rollouts.rollout_lab import RolloutLab

SNAPSHOT_READS = 40
"""The number of requests of the first read."""


@pytest.fixture
def processes() -> Iterator[ProcessesServer]:
    with serving(ProcessesServer([10, 10, 10, 10])) as server:
        yield server


@pytest.fixture
def documents() -> Iterator[DocumentProcessesServer]:
    with serving(DocumentProcessesServer([10, 10, 10, 10])) as server:
        yield server


def target_of(processes: ProcessesServer, **fields: Any) -> HttpFlagTarget:
    subject = HttpFlagSubject(kind="http", url=processes.flag_url, pointer="/value", b=20, **fields)
    return HttpFlagTarget(subject, {}, timeout_s=5.0)


def test_change_in_one_process_is_not_in_force(processes: ProcessesServer) -> None:
    with pytest.raises(FlagsNotAppliedError, match=r"not the same in all processes \(\d0 and \d0\)"):
        change_flags(target_of(processes), 20, within_s=0.0)


def test_restoration_reaches_every_process(processes: ProcessesServer) -> None:
    processes.values[1] = 20

    found = restore_flags(target_of(processes), OpenChange(inverse=10, values=[10, 20]), within_s=10.0)

    assert found.restored
    assert processes.values == [10, 10, 10, 10]


def test_restoration_leaves_a_value_of_another_client_in_one_process(processes: ProcessesServer) -> None:
    processes.values[1] = 77

    found = restore_flags(target_of(processes), OpenChange(inverse=10, values=[10, 20]), within_s=10.0)

    assert not found.restored
    assert processes.values == [10, 77, 10, 10]


def test_process_that_lost_the_change_is_noticed(processes: ProcessesServer) -> None:
    processes.values = [20, 20, 20, 10]

    with pytest.raises(FlagsChangedError, match="not the same in all processes"):
        FlagSwitch(target_of(processes), FlagState(20), within_s=1.0).check()


def test_first_read_and_reads_after_a_disagreement_are_thorough(processes: ProcessesServer) -> None:
    target = target_of(processes, reads=2)
    numbers = []
    for values in ([10, 10, 10, 10], [20, 10, 20, 10], [10, 10, 10, 10], [10, 10, 10, 10]):
        processes.values, processes.reads = values, 0
        target.read()
        numbers.append(processes.reads)

    assert numbers == [16, 2, 16, 2]


def test_single_read_is_possible(processes: ProcessesServer) -> None:
    target_of(processes, reads=1).read()

    assert processes.reads == 1


def run_on(lab: RolloutLab, processes: ProcessesServer) -> None:
    document = {
        "base_url": lab.service.url,
        "timeout": 3,
        "experiment": {"qps": 60, "window_sec": 0.25, "warmup_sec": 0.05, "rounds": 2, "mix": "browse"},
        "subject": {"flags": {"kind": "http", "url": processes.flag_url, "pointer": "/value", "b": 20}},
    }
    lab.services.rollouts.run(
        parse_plan(yaml.safe_dump(document), "plan.yaml"),
        by="tester",
        stop=lab.stop,
        on_progress=lab.on_progress,
        root=lab.folder,
    )


def test_rollout_on_processes_without_a_shared_flag_restores_all_of_them(
    lab: RolloutLab, processes: ProcessesServer
) -> None:
    with pytest.raises(FlagsNotAppliedError, match="not the same in all processes"):
        run_on(lab, processes)

    assert lab.last().flags_restored
    assert processes.values == [10, 10, 10, 10]


def test_value_that_one_process_has_reduced_is_restored(lab: RolloutLab, processes: ProcessesServer) -> None:
    processes.most = 15

    with pytest.raises(FlagsNotAppliedError, match="not the same in all processes"):
        run_on(lab, processes)

    assert lab.last().flags_restored
    assert processes.values == [10, 10, 10, 10]


def test_rollout_does_not_begin_while_processes_disagree(lab: RolloutLab, processes: ProcessesServer) -> None:
    processes.values = [10, 20, 10, 10]

    with pytest.raises(FlagsNotAppliedError) as raised:
        run_on(lab, processes)

    assert "Set them in all processes" in (raised.value.remedy or "")
    assert processes.values == [10, 20, 10, 10]


def test_disagreement_after_the_snapshot_is_not_called_a_change_by_another_client(
    lab: RolloutLab, processes: ProcessesServer
) -> None:
    # The snapshot is one thorough read; the read before the first change follows.
    def restart_a_process(reads: int) -> None:
        processes.values[1] = 20 if reads > SNAPSHOT_READS else 10

    processes.on_read = restart_a_process

    with pytest.raises(FlagsNotAppliedError, match=r"not the same in all processes \(\d0 and \d0\)"):
        run_on(lab, processes)

    assert processes.values == [10, 20, 10, 10]


def service_of(documents: DocumentProcessesServer, **fields: Any) -> ServiceFlagsTarget:
    return ServiceFlagsTarget(documents.url, ServiceFlagsSubject(**fields), {}, timeout_s=5.0)


def test_document_that_one_process_has_changed_is_not_in_force(documents: DocumentProcessesServer) -> None:
    with pytest.raises(FlagsNotAppliedError, match="not the same in all processes"):
        change_flags(service_of(documents), {"control": {"max_concurrency": 20}}, within_s=0.0)


def test_error_about_documents_names_the_fields_that_differ(documents: DocumentProcessesServer) -> None:
    with pytest.raises(FlagsNotAppliedError, match=r"\(control\.max_concurrency: \d0 and \d0\)"):
        change_flags(service_of(documents), {"control": {"max_concurrency": 20}}, within_s=0.0)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((20, 10, 5), "20 and 10 and 5"),
        (({"a": 1, "b": {"c": 1}}, {"a": 1, "b": {"c": 2}}), "b.c: 1 and 2"),
        (({"a": 1}, {"a": 1, "b": None}), "b: nothing and null"),
        (({"a": {"b": 1}}, {"a": 2}), 'a: {"b":1} and 2'),
        (({"a": 20, "b": 1}, {"a": 20.0, "b": 2}), "b: 1 and 2"),
        (({"a": True}, {"a": 1}), "a: true and 1"),
    ],
)
def test_values_that_differ_are_shown(values: tuple[Any, ...], text: str) -> None:
    assert shown_values(FlagState(values[0], others=values[1:])) == text


def test_restoration_of_a_document_reaches_every_process(documents: DocumentProcessesServer) -> None:
    documents.values[1] = 20
    before, changed = ({"control": {"max_concurrency": value}} for value in (10, 20))

    found = restore_flags(service_of(documents), OpenChange(inverse=before, values=[before, changed]), within_s=10.0)

    assert found.restored
    assert documents.values == [10, 10, 10, 10]


@pytest.mark.parametrize(("applied", "reads"), [(None, 41), ({"1": 1, "2": 1}, 1)])
def test_document_that_lists_its_workers_is_read_once(
    documents: DocumentProcessesServer, applied: dict[str, Any] | None, reads: int
) -> None:
    documents.applied = applied
    service_of(documents).read()

    assert documents.reads == reads


def test_single_read_of_a_document_is_possible(documents: DocumentProcessesServer) -> None:
    documents.values[1] = 20

    assert service_of(documents, reads=1).read().others == ()
