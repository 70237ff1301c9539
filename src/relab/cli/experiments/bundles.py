"""`lab publish` and `lab open`: write a redacted bundle of a run, and open one safely."""

from __future__ import annotations

import math
import os
import sys
import webbrowser
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from relab.cli.experiments.pausing import RunDirOption
from relab.cli.experiments.proof import KeyOption, bundle_json, open_proof
from relab.cli.output import JsonOption, argument, plain, print_json
from relab.core.errors import InvalidInputError

GB = 1_073_741_824


def publish(
    run_dir: RunDirOption,
    output: Annotated[
        Path | None, typer.Option("--output", "--out", "-o", help="The file. Default: <run id>.zip, here.")
    ] = None,
    with_workspaces: Annotated[
        bool, typer.Option("--with-workspaces", help="Also put the trials' copies of the project into the bundle.")
    ] = False,
    secret: Annotated[
        list[str] | None,
        typer.Option(help="The name of an environment variable whose value is masked, too; may be repeated."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write a run to one zip archive in which secrets, and texts that look like credentials, are masked.

    The values of declared secrets, and of environment variables whose names suggest a secret, are masked everywhere.
    These variables must be set when you run this command.
    """
    from relab.experiments.proof.service import BundleRequest

    # The id of a run and its folder have the same name.
    target = output or Path.cwd() / f"{run_dir.name}.zip"
    request = BundleRequest(run_dir, target, with_workspaces=with_workspaces, secrets=tuple(secret or ()))
    done = open_proof().publish(Path.cwd(), request, os.environ)
    manifest = done.manifest
    left_out = Counter(part.reason for part in manifest.left_out)
    unknown = [name for name, is_known in manifest.declared.items() if not is_known]
    if json:
        print_json(
            "publish",
            bundle=str(done.path),
            bytes=done.path.stat().st_size,
            run_id=manifest.run_id,
            files=len(manifest.files),
            masked=manifest.masked,
            left_out=dict(left_out),
            declared=manifest.declared,
            original=manifest.original.model_dump(),
            key_id=done.key_id,
            warnings=list(done.warnings),
        )
        return
    for warning in done.warnings:
        print(f"lab: warning: {plain(warning)}", file=sys.stderr)
    for name in unknown:
        print(
            f"lab: {plain(name)} is not set, or has fewer than 6 characters, so it was masked only where it looks like a "
            "secret. Set it to the value that it had in the run, and publish again.",
            file=sys.stderr,
        )
    print(f"wrote: {plain(done.path)} ({len(manifest.files):,} files, {done.path.stat().st_size:,} bytes)")
    print(f"masked: {_counts(manifest.masked)}")
    print(f"left out: {_counts(left_out)}")
    print(f"next: lab open {argument(done.path)}")


def open_command(
    bundle: Annotated[Path, typer.Argument(help="A bundle that `lab publish` wrote.")],
    to: Annotated[
        Path | None, typer.Option(help="A new folder. Default: the name of the bundle without .zip, here.")
    ] = None,
    key: KeyOption = None,
    max_gb: Annotated[float, typer.Option(help="The largest size of the unpacked files, in GB.")] = 8.0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the report in a browser.")] = False,
    json: JsonOption = False,
) -> None:
    """Verify a bundle (an archive of a run), unpack it into a new folder, and open its report.

    A damaged or unsafe bundle is not unpacked.
    """
    if not bundle.name:
        raise InvalidInputError(f"{bundle} is not a bundle.", remedy="Name a file that `lab publish` wrote.")
    target = to or Path.cwd() / bundle.with_suffix("").name
    if not 0 < max_gb < math.inf:
        raise InvalidInputError(f"--max-gb: the largest size is a number above 0, not {max_gb:g}.")
    done = open_proof().open_bundle(bundle, target, key, max_bytes=int(max_gb * GB))
    if json:
        report = None if done.report is None else str(done.report)
        print_json("open", folder=str(done.folder), report=report, **bundle_json(done.verification))
        return
    found = done.verification
    print(f"unpacked: {plain(done.folder)}")
    print(plain(found.message))
    print(plain(found.signer))
    print(plain(found.relation))
    if found.manifest is not None:
        print(f"masked: {_counts(found.manifest.masked)}")
    if done.report is None:
        print("It has no report.")
        return
    print(f"report: {plain(done.report)}")
    if not no_browser and sys.stdout.isatty():
        webbrowser.open(done.report.absolute().as_uri())


def _counts(counts: dict[str, int]) -> str:
    return (
        ", ".join(f"{count:,} {plain(kind.replace('_', ' '))}" for kind, count in sorted(counts.items())) or "nothing"
    )
