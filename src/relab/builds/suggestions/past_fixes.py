"""Find past fixes: compare builds of a project that failed in the same way with later builds that succeeded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from relab.builds.models import Build, BuildConfiguration
from relab.builds.suggestions.models import PastFix, PastFixKind
from relab.core.masking import mask_secrets

MAX_CHANGES: Final = 2
"""The greatest number of changes of the configuration that are shown."""
_NOT_PROVEN: Final = "This was seen; it does not prove the cause."

Settings: TypeAlias = Mapping[str, str]


@dataclass(slots=True)
class _Change:
    """The evidence that one change of settings was a fix: pairs of a failed build and a later successful build.

    Both builds of a pair have the same input (the project's files). Their settings differ by this change.

    Attributes:
        failed: the newest failed build of the pairs.
        succeeded: `{build id: build}` of the successful builds of the pairs.
    """

    failed: Build
    succeeded: dict[str, Build] = field(default_factory=dict)


def past_fixes(
    failures: Iterable[Build], successes: Iterable[Build], current: BuildConfiguration | None = None
) -> tuple[PastFix, ...]:
    """Return past fixes: the changes of settings after which failed builds of a project succeeded.

    Each failed build is compared with later successful builds of the same input (the project's files). Two builds have
    the same input if the digests of their files are equal. relab does not know the files of a build that it did not
    run; such builds have the same input if commit and job are equal. If the job is unknown, or the build was recorded
    from JUnit XML, the input is unknown too.

    Args:
        failures: builds of one project that failed in the same way, newest first.
        successes: builds of the project that succeeded.
        current: the configuration of the build that needs a fix; None if unknown. Changes that this configuration
            already has are left out.

    Returns:
        First, at most one fix of the kind `flaky`: the same input later succeeded with unchanged settings.
        Then at most `MAX_CHANGES` changes of settings; the change with the highest share of successes comes first.
    """
    failed = [build for build in failures if _input_of(build)[0] is not None]
    by_input: dict[tuple[str | None, ...], list[Build]] = {}
    for build in sorted(successes, key=_order):
        by_input.setdefault(_input_of(build), []).append(build)
    flaky: PastFix | None = None
    changes: dict[frozenset[tuple[str, str | None]], _Change] = {}
    for failure in failed:
        later = [each for each in by_input.get(_input_of(failure), ()) if _order(each) > _order(failure)]
        same = next((each for each in later if not _differences(failure, each)), None)
        if same is not None:
            # For such a failed build, no change of settings counts as a fix.
            flaky = flaky or _flaky(failure, same)
        elif later:
            change = frozenset(_differences(failure, later[0]).items())
            changes.setdefault(change, _Change(failure)).succeeded.setdefault(later[0].build_id, later[0])
    found = [
        _fix(dict(change), seen, failed)
        for change, seen in changes.items()
        if current is None or not _has(_values(current), dict(change))
    ]
    # The most reliable changes first; of equal ones the newest first, because the sort is stable and its input ordered.
    found.sort(key=lambda fix: -fix.succeeded / (fix.succeeded + fix.failed))
    return (*([flaky] if flaky else []), *found[:MAX_CHANGES])


def _fix(change: Mapping[str, str | None], seen: _Change, failures: Sequence[Build]) -> PastFix:
    last = next(iter(seen.succeeded.values()))
    again = [build for build in failures if _has(_settings(build), change)]
    # Settings of a CI are its own texts, which may contain secrets.
    shown = mask_secrets(
        " ".join(f"{name}={value}" if value is not None else f"no {name}" for name, value in sorted(change.items()))
    )
    texts = [
        f"Build {seen.failed.build_id} failed the same way; the same input succeeded with {shown} (build {last.build_id})."
    ]
    if len(seen.succeeded) > 1:
        texts.append(f"{len(seen.succeeded)} builds succeeded so.")
    if again:
        texts.append(f"With the same settings, {_builds(len(again))} failed the same way, such as {again[0].build_id}.")
    return PastFix(
        kind=PastFixKind.CONFIGURATION,
        text=" ".join((*texts, _NOT_PROVEN)),
        failed_build=seen.failed.build_id,
        succeeded_build=last.build_id,
        changes={name: value and _masked(name, value) for name, value in sorted(change.items())},
        succeeded=len(seen.succeeded),
        failed=len(again),
    )


def _flaky(failed: Build, succeeded: Build) -> PastFix | None:
    """Return a past fix of the kind `flaky`; None if the builds keep a cache or a workspace.

    A kept cache or workspace may have changed between the two builds. This may explain the success.

    Args:
        failed: the build that failed.
        succeeded: a later build with the same input and settings that succeeded.
    """
    if failed.configuration is not None and (failed.configuration.cache or failed.configuration.incremental):
        # The kept files may have changed between the builds, which may explain the different outcomes.
        return None
    return PastFix(
        kind=PastFixKind.FLAKY,
        text=f"Build {failed.build_id} failed the same way; the same input, built in the same way, succeeded "
        f"(build {succeeded.build_id}): a sign of a flaky build, not of a fix.",
        failed_build=failed.build_id,
        succeeded_build=succeeded.build_id,
        succeeded=1,
    )


def _order(build: Build) -> tuple[int, str]:
    return build.started_at, build.build_id


def _input_of(build: Build) -> tuple[str | None, ...]:
    """Return a tuple that identifies the input of a build (the project's files).

    The first value of the tuple is None if the input is unknown.
    """
    if build.origin is None:
        return (build.input_digest,)
    # Without a job, two builds of a commit may be different jobs, such as tests and lint. A JUnit XML file has only the
    # tests of a job, which may pass in a job that fails.
    if build.origin.job is None or build.origin.kind == "junit":
        return (None,)
    return build.origin.commit, build.origin.job, "recorded"


def _settings(build: Build) -> Settings:
    if build.configuration is not None:
        return _values(build.configuration)
    return {} if build.origin is None else build.origin.configuration


def _values(configuration: BuildConfiguration) -> Settings:
    # The budget of retries changes nothing in one build.
    return {name: value for name, value in configuration.values().items() if name != "retries"}


def _differences(failed: Build, succeeded: Build) -> dict[str, str | None]:
    """Return `{setting: value in the succeeded build}` for each setting that differs between two builds.

    The value is None if the succeeded build does not have the setting.
    """
    before, after = _settings(failed), _settings(succeeded)
    return {name: after.get(name) for name in {*before, *after} if before.get(name) != after.get(name)}


def _has(settings: Settings, change: Mapping[str, str | None]) -> bool:
    return all(settings.get(name) == value for name, value in change.items())


def _masked(name: str, value: str) -> str:
    return mask_secrets(f"{name}={value}").removeprefix(f"{name}=")


def _builds(count: int) -> str:
    return f"{count} {'build' if count == 1 else 'builds'}"
