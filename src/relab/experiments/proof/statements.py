"""Statements about a run in the formats of in-toto: its provenance (SLSA v1), and the results of its trials.

Formats: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md, https://slsa.dev/spec/v1.0/provenance and
https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md. A statement is made from the files of the
run alone, so that the same run gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf.json_format import MessageToDict, ParseDict
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement

from relab.experiments.models import TrialOutcome
from relab.experiments.records.file_names import DATASET, RESOLVED
from relab.experiments.records.run_folder import RunFolder

PROVENANCE: Final = "https://slsa.dev/provenance/v1"
TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
BUILD_TYPE: Final = "https://github.com/relab/relab/experiment-run/v1"
BUILDER: Final = "https://github.com/relab/relab"
_SHA256: Final = "sha256:"


def provenance_of(run: RunFolder, subjects: Mapping[str, str], finished_at: str) -> dict[str, Any]:
    """Return the statement about how a run was made, with SLSA's predicate `provenance/v1`, as JSON.

    Args:
        run: the run.
        subjects: the SHA-256 in hexadecimal of each file that the statement is about, by its name.
        finished_at: when the run ended, in ISO 8601.
    """
    manifest, facts = run.manifest, run.facts
    document = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "command": facts["command"],
                "experiment": run.config.experiment.id,
                "overrides": facts.get("overrides", []),
                "resolvedExperimentDigest": run.digest,
            },
            "internalParameters": {name: facts[name] for name in ("python", "platform") if name in facts},
            "resolvedDependencies": list(_dependencies(run)),
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"relab": manifest["runner_version"]}},
            "metadata": {
                "invocationId": run.run_id,
                "startedOn": manifest["created_at"],
                "finishedOn": finished_at,
            },
        },
    }
    return _statement(subjects, PROVENANCE, MessageToDict(ParseDict(document, Provenance())))


def results_of(run: RunFolder, subjects: Mapping[str, str], outcomes: Mapping[str, str]) -> dict[str, Any]:
    """Return the statement about the outcomes of a run, with in-toto's predicate `test-result/v0.1`, as JSON.

    Each trial is a test:

    - passed: the outcome is `success`.
    - failed: the outcome is `failure` or `error`.
    - warned: the outcome is `missing` (the trial was not run, or gave no answer).

    The result is FAILED if any test failed; otherwise WARNED if any test is warned; otherwise PASSED.

    Args:
        run: the run.
        subjects: the SHA-256 in hexadecimal of each file that the statement is about, by its name.
        outcomes: `{trial id: outcome}` of the trials that have an outcome.
    """
    lists: dict[str, list[str]] = {"passedTests": [], "warnedTests": [], "failedTests": []}
    for trial_id, outcome in outcomes.items():
        if outcome == TrialOutcome.SUCCESS:
            lists["passedTests"].append(trial_id)
        else:
            lists["warnedTests" if outcome == TrialOutcome.MISSING else "failedTests"].append(trial_id)
    result = "FAILED" if lists["failedTests"] else "WARNED" if lists["warnedTests"] else "PASSED"
    configuration = [{"name": RESOLVED, "digest": _digest(run.digest)}]
    document = {"result": result, "configuration": configuration, **lists}
    return _statement(subjects, TEST_RESULT, MessageToDict(ParseDict(document, TestResult())))


def statement_about(subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Return an in-toto statement about files, with a predicate that relab defines, as JSON.

    Args:
        subjects: the SHA-256 of each file by its name.
        predicate_type: the URI that identifies the meaning of the predicate.
        predicate: the statement's content, as JSON.
    """
    return _statement(subjects, predicate_type, dict(predicate))


def _statement(subjects: Mapping[str, str], predicate_type: str, predicate: dict[str, Any]) -> dict[str, Any]:
    described = [ResourceDescriptor(name, digest={"sha256": found}).pb for name, found in subjects.items()]
    statement = Statement(described, predicate_type, {})
    # The predicate is JSON already; as a protobuf Struct its whole numbers would become floats.
    statement.pb.predicate["checked"] = True
    statement.validate()
    document: dict[str, Any] = MessageToDict(statement.pb)
    return {**document, "predicate": predicate}


def _dependencies(run: RunFolder) -> Iterable[dict[str, Any]]:
    facts, manifest = run.facts, run.manifest
    yield {"name": RESOLVED, "digest": _digest(run.digest)}
    yield {"name": DATASET, "digest": _digest(facts["dataset_digest"])}
    yield {"name": "project", "digest": _digest(facts["snapshot"])}
    identity = facts.get("harness_identity", {})
    if "exec_digest" in identity:
        of = str(identity.get("exec_digest_of", "command"))
        yield {"name": "harness", "digest": _digest(identity["exec_digest"]), "annotations": {"digest_of": of}}
    if manifest.get("image_digest"):
        yield {"name": "image", "digest": _digest(manifest["image_digest"])}
    if "git" in manifest:
        git = manifest["git"]
        yield {"name": "git", "digest": {"gitCommit": git["sha"]}, "annotations": {"dirty": git["dirty"]}}


def _digest(named: str) -> dict[str, str]:
    return {"sha256": named.removeprefix(_SHA256)}
