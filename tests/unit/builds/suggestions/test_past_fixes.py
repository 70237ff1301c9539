"""Past fixes: successes of the same input with other settings; success with equal settings suggests flakiness."""

from __future__ import annotations

from itertools import count

from relab.builds.models import Build, BuildConfiguration, BuildOrigin, BuildResult, BuildStatus
from relab.builds.suggestions.models import PastFixKind
from relab.builds.suggestions.past_fixes import past_fixes

_NUMBERS = count(1)
SMALL = BuildConfiguration(memory_mb=128)
LARGE = BuildConfiguration(memory_mb=512)


def made(status: BuildStatus, configuration: BuildConfiguration = SMALL, *, digest: str | None = "a") -> Build:
    number = next(_NUMBERS)
    return Build(
        build_id=f"b{number:04}",
        project="engine",
        input_digest=digest,
        configuration=configuration,
        sandbox="local",
        started_at=number,
        result=BuildResult(status=status),
    )


def failed(configuration: BuildConfiguration = SMALL, *, digest: str | None = "a") -> Build:
    return made(BuildStatus.FAILED, configuration, digest=digest)


def passed(configuration: BuildConfiguration = LARGE, *, digest: str | None = "a") -> Build:
    return made(BuildStatus.SUCCESS, configuration, digest=digest)


def reported(
    status: BuildStatus, *, job: str | None = "test", commit: str | None = "c1", kind: str = "report", **settings: str
) -> Build:
    build = made(status, digest=f"differs{next(_NUMBERS)}")
    origin = BuildOrigin(kind=kind, commit=commit, job=job, configuration=settings)
    return build.model_copy(update={"configuration": None, "origin": origin})


def test_success_with_another_configuration_is_quoted_with_both_builds_and_not_called_the_cause() -> None:
    before, after = failed(), passed()

    (fix,) = past_fixes([before], [after])

    assert fix.kind is PastFixKind.CONFIGURATION
    assert fix.changes == {"memory_mb": "512"}
    assert (fix.failed_build, fix.succeeded_build) == (before.build_id, after.build_id)
    assert fix.text.startswith(
        f"Build {before.build_id} failed the same way; the same input succeeded with memory_mb=512 (build {after.build_id})"
    )
    assert "does not prove the cause" in fix.text


def test_success_of_another_input_or_before_the_failure_is_no_fix() -> None:
    early, before = passed(), failed()

    assert past_fixes([before], [early, passed(digest="b")]) == ()
    assert past_fixes([failed(digest=None)], [passed(digest=None)]) == ()


def test_success_with_nothing_changed_is_a_sign_of_flakiness_and_no_fix() -> None:
    before, same = failed(), passed(SMALL.model_copy(update={"retries": 3}))

    (fix,) = past_fixes([before], [same, passed()])

    assert fix.kind is PastFixKind.FLAKY
    assert fix.changes == {}
    assert "a sign of a flaky build, not of a fix" in fix.text


def test_success_after_a_warm_cache_is_neither_flaky_nor_a_fix() -> None:
    cached = BuildConfiguration(cache=True)

    assert past_fixes([failed(cached)], [passed(cached)]) == ()


def test_failures_with_the_changed_settings_are_counted_against_the_fix() -> None:
    before, after = failed(), passed()
    again = failed(LARGE, digest="b")

    (fix,) = past_fixes([again, before], [after])

    assert (fix.succeeded, fix.failed) == (1, 1)
    assert f"With the same settings, 1 build failed the same way, such as {again.build_id}." in fix.text


def test_settings_that_the_build_has_already_are_no_fix() -> None:
    assert past_fixes([failed()], [passed()], LARGE) == ()
    assert len(past_fixes([failed()], [passed()], SMALL)) == 1


def test_fix_that_worked_more_reliably_comes_first() -> None:
    cached = BuildConfiguration(memory_mb=128, cache=True)
    unreliable = [failed(digest="a"), failed(cached, digest="x")]
    after = passed(cached, digest="a")
    reliable = failed(digest="b")

    first, second = past_fixes([*unreliable, reliable], [after, passed(digest="b")])

    assert first.changes == {"memory_mb": "512"}
    assert second.changes == {"cache": "on"}


def test_builds_of_a_ci_are_compared_by_commit_and_job_and_secrets_in_their_settings_are_masked() -> None:
    before = reported(BuildStatus.FAILED, memory="2g")
    after = reported(BuildStatus.SUCCESS, memory="4g", api_token="abcdefgh1234")

    (fix,) = past_fixes([before], [after])

    assert fix.changes == {"api_token": "[masked]", "memory": "4g"}
    assert "abcdefgh" not in fix.text
    assert past_fixes([before], [reported(BuildStatus.SUCCESS, job="lint", memory="4g")]) == ()
    unknown = reported(BuildStatus.FAILED, commit=None)
    assert past_fixes([unknown], [reported(BuildStatus.SUCCESS, commit=None, memory="4g")]) == ()


def test_success_of_a_commit_is_no_past_fix_if_it_may_be_another_job() -> None:
    before = reported(BuildStatus.FAILED)
    nameless = reported(BuildStatus.FAILED, job=None)
    junit = reported(BuildStatus.FAILED, kind="junit")

    assert past_fixes([nameless], [reported(BuildStatus.SUCCESS, job=None)]) == ()
    assert past_fixes([before], [reported(BuildStatus.SUCCESS, kind="junit")]) == ()
    assert past_fixes([junit], [reported(BuildStatus.SUCCESS, kind="junit")]) == ()
