"""`lab builds ingest`: record builds from logs and JUnit XML files that exist already."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relab.cli.context import open_services
from relab.cli.output import EXIT_FAILED, JsonOption, plain, print_json
from relab.core.errors import InvalidInputError

if TYPE_CHECKING:
    from relab.builds.ingest.service import BuildIngest, GivenFacts
    from relab.builds.service import BuildStatus

_STDIN = "-"
_MAX_SHOWN = 5


def ingest(
    source: Annotated[str, typer.Argument(help="A log or JUnit XML file, a folder of such files, or - for stdin.")],
    project: Annotated[
        str | None, typer.Option(help="The project. By default the repository that the log names, else `default`.")
    ] = None,
    status: Annotated[
        str | None, typer.Option(help="success | failed | interrupted | unknown. By default, the log's own.")
    ] = None,
    commit: Annotated[str | None, typer.Option(help="The commit that was built.")] = None,
    branch: Annotated[str | None, typer.Option(help="The branch or tag.")] = None,
    job: Annotated[str | None, typer.Option(help="The name of the CI's job.")] = None,
    url: Annotated[str | None, typer.Option(help="The address of the build in its CI.")] = None,
    input_name: Annotated[
        str | None, typer.Option("--input", help="What was built, to find flaky tests. By default, the commit.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Record builds from logs: GitHub Actions, GitLab CI, Jenkins, Travis, JUnit XML and any other text.

    Status, times, commit and repository are read from the log. An option replaces the value in the log. The same file
    is recorded only once in a project. If a file is rejected, the other files are still recorded.

    Exit code 0: every file is recorded. 1: at least one was rejected. 64: an option is invalid or nothing was found.
    """
    from rich.progress import track

    from relab.builds.ingest.service import GivenFacts

    texts = {"project": project, "commit": commit, "branch": branch, "job": job, "url": url, "input": input_name}
    for name, value in texts.items():
        _check(name, value)
    given = GivenFacts(
        project=project,
        status=_ended_status(status),
        commit=commit,
        branch=branch,
        job=job,
        url=url,
        input=input_name,
    )
    with open_services() as services:
        files = list(_files(source))
        shown = track(files, description="Ingesting", disable=as_json or len(files) < 2 or not sys.stderr.isatty())
        folder = Path(source) if source != _STDIN and Path(source).is_dir() else None
        results = [_ingest_one(services.builds.ingest, file, given, folder) for file in shown]
    rejected = [result for result in results if result["outcome"] == "rejected"]
    if as_json:
        print_json("builds ingest", rejected=len(rejected), items=results)
    else:
        _print_results(results, rejected)
    return EXIT_FAILED if rejected else 0


def _print_results(results: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> None:
    for result in rejected:
        print(f"rejected {plain(result['origin'])}: {plain(result['reason'])}", file=sys.stderr)
    accepted = [result for result in results if result["outcome"] != "rejected"]
    if len(accepted) <= _MAX_SHOWN:
        for result in accepted:
            print(f"{result['build_id']}  {result['outcome']:<8}  {result['status']:<11}  {plain(result['origin'])}")
    outcomes = Counter(result["outcome"] for result in results)
    statuses = Counter(result["status"] for result in accepted)
    detail = f" ({', '.join(f'{count:,} {status}' for status, count in sorted(statuses.items()))})" if statuses else ""
    print(
        f"{len(results):,} {'file' if len(results) == 1 else 'files'}: {outcomes['recorded']:,} recorded, "
        f"{outcomes['known']:,} known already, {outcomes['rejected']:,} rejected{detail}."
    )


def _ingest_one(service: BuildIngest, file: Path | None, given: GivenFacts, folder: Path | None) -> dict[str, Any]:
    from relab.builds.ingest.service import BuildSourceInvalidError

    origin = "stdin" if file is None else str(file)
    # A folder of artifacts may come from elsewhere, and must not choose files of this machine that are recorded.
    if file is not None and folder is not None and not file.resolve().is_relative_to(folder.resolve()):
        reason = "It is a link to a file outside of the folder. Name the file itself to record it."
        return {"origin": origin, "outcome": "rejected", "reason": reason}
    try:
        receipt = service.ingest(sys.stdin.buffer, given) if file is None else service.ingest_file(file, given)
    except BuildSourceInvalidError as error:
        return {"origin": origin, "outcome": "rejected", "reason": str(error)}
    return {
        "origin": origin,
        "outcome": "recorded" if receipt.is_new else "known",
        "build_id": receipt.build_id,
        "project": receipt.project,
        "status": receipt.status.value,
    }


def _files(source: str) -> Iterator[Path | None]:
    """Yield the paths of the files to record, sorted within each folder; None stands for standard input.

    Args:
        source: a file, a folder (with its subfolders), or `-` for standard input.

    Raises:
        InvalidInputError: `source` does not exist, or is a folder without files.
    """
    if source == _STDIN:
        yield None
        return
    path = Path(source)
    # Unlike `Path.is_dir`, this is False for a name that is too long.
    if not os.path.isdir(source):  # noqa: PTH112
        if not os.path.lexists(source):
            raise InvalidInputError(f"There is no file or folder {source[:300]!r}.")
        # Also a pipe, such as a shell's <(command).
        yield path
        return
    is_empty = True
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            # A socket or a pipe in a folder could block for ever.
            if file.is_file():
                is_empty = False
                yield file
    if is_empty:
        raise InvalidInputError(f"The folder {source[:300]!r} contains no file.")


def _check(name: str, value: str | None) -> None:
    """Check the value of a command-line option.

    Args:
        name: the name of the option, without hyphens.
        value: the value; None (the option is not given) is valid.

    Raises:
        InvalidInputError: the value is empty, is too long, or contains unprintable characters. For the option `url`,
            also if the value does not begin with http:// or https://.
    """
    longest = 2_000 if name == "url" else 200
    if value is not None and (not 1 <= len(value) <= longest or not value.isprintable()):
        raise InvalidInputError(f"--{name}: {value[:80]!r} must have 1 to {longest:,} printable characters.")
    if value is not None and name == "url" and not value.startswith(("http://", "https://")):
        raise InvalidInputError(f"--url: {value[:80]!r} must begin with http:// or https://.")


def _ended_status(text: str | None) -> BuildStatus | None:
    from relab.builds.service import BuildStatus

    names = [status.value for status in BuildStatus if status is not BuildStatus.RUNNING]
    if text is None:
        return None
    if text not in names:
        raise InvalidInputError(
            f"--status: {text[:80]!r} is not the status of an ended build.", remedy=f"Use {' | '.join(names)}."
        )
    return BuildStatus(text)
