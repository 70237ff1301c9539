"""Experiment files built in Python: a later call of a method replaces the values of an earlier one."""

from __future__ import annotations

from relab.experiments.sdk.builder import ExperimentBuilder


def test_later_call_without_an_option_sets_its_default() -> None:
    builder = ExperimentBuilder.create("demo", "A demo").baseline("control")
    builder.dataset_jsonl("a.jsonl", limit=5).harness_cli(["a"], input_path="/out/a.json")
    builder.dataset_jsonl("b.jsonl").harness_cli(["b"])

    built = builder.build()

    assert built.dataset.path == "../b.jsonl"
    assert built.dataset.limit is None
    default = ExperimentBuilder.create("demo", "A demo").baseline("control").dataset_jsonl("b.jsonl").harness_cli(["b"])
    assert built.runtime.harness == default.build().runtime.harness
