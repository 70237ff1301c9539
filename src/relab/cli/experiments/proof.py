"""`lab verify` and `lab keys`: check that a run or bundle is unchanged, and show the public key for signatures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from relab.cli.output import EXIT_FAILED, EXIT_USAGE, JsonOption, plain, print_json, report_error
from relab.core.errors import NotFoundError

if TYPE_CHECKING:
    from relab.experiments.proof.service import BundleVerification, ProofService, ProofVerdict, Verification

EXIT_INVALID: Final = 2
MAX_SHOWN: Final = 20

KeyOption = Annotated[
    str | None, typer.Option("--key", help="The key that must have signed: its id (ed25519:…), or a PEM file.")
]

keys = typer.Typer(help="The key that signs runs: `show`.", no_args_is_help=True)


def verify(
    run: Annotated[Path, typer.Argument(help="The folder or the id of a run, or a bundle (.zip).")],
    key: KeyOption = None,
    json: JsonOption = False,
) -> int:
    """Recompute every digest of a run or a bundle (its archive), check its signatures, and name the first changed byte.

    Exit code: 0 if nothing was changed. 1 if something was changed, or the given key did not sign the run. 2 if the run
    has not ended, or has no seal (the recorded digests of all its files). 64 if there is no such run.
    """
    if run.is_file():
        return _verify_bundle(run, key, json)
    try:
        found = open_proof().verify(Path.cwd(), run, key)
    except NotFoundError as error:
        # Not the usual exit code 1, which means damaged here.
        report_error(error)
        return EXIT_USAGE
    code = exit_code_of(found.verdict)
    if json:
        print_json("verify", **verification_json(found), exit_code=code)
        return code
    print(f"{plain(found.run_dir)}: {found.verdict.upper()}")
    print(plain(found.message))
    print_damage(map(str, found.damage), found.damage_count)
    if found.files:
        print(plain(found.signer))
    return code


def _verify_bundle(bundle: Path, key: str | None, json: bool) -> int:
    found = open_proof().verify_bundle(bundle, key)
    code = exit_code_of(found.verdict)
    if json:
        print_json("verify", **bundle_json(found), exit_code=code)
        return code
    print(f"{plain(bundle)}: {found.verdict.upper()}")
    print(plain(found.message))
    print_damage(map(str, found.damage), found.damage_count)
    print(plain(found.signer))
    print(plain(found.relation))
    return code


@keys.command("show")
def show(
    pem: Annotated[bool, typer.Option("--pem", help="Print only the public key, in PEM.")] = False,
    json: JsonOption = False,
) -> None:
    """Show the public key that others need to verify runs signed here. The first call creates the keys."""
    service = open_proof()
    key = service.public_key()
    if json:
        print_json("keys show", key_id=key.key_id, public_key=key.pem, private_key_file=str(service.key_path))
    elif pem:
        print(key.pem, end="")
    else:
        print(f"{key.key_id}\n{key.pem}private key: {plain(service.key_path)}")


def open_proof() -> ProofService:
    """Return the service that verifies runs and bundles (archives), and signs bundles with this installation's key."""
    from relab.core.home import default_home, signing_key_path
    from relab.experiments.proof.service import ProofService

    return ProofService(signing_key_path(default_home()))


def exit_code_of(verdict: ProofVerdict) -> int:
    """Return the exit code of `lab verify` for a verdict.

    - 0: nothing was changed.
    - 1: the run was changed or is incomplete, or the required key did not sign it.
    - 2: the run has not ended, or it has no seal (the recorded digests of all its files).
    """
    from relab.experiments.proof.service import ProofVerdict

    if verdict is ProofVerdict.VERIFIED:
        return 0
    return EXIT_FAILED if verdict in {ProofVerdict.DAMAGED, ProofVerdict.UNTRUSTED} else EXIT_INVALID


def verification_json(found: Verification) -> dict[str, Any]:
    """Return the verification of a run as the fields that `--json` prints; `first` is the first difference, or null."""
    damage = [each.to_json() for each in found.damage]
    return {
        "run_dir": str(found.run_dir),
        "verdict": found.verdict.value,
        "state": found.state,
        "message": found.message,
        "key_id": found.signer.key.key_id if found.signer.key is not None else None,
        "trust": found.signer.trust.value,
        "first": damage[0] if damage else None,
        "damage": damage,
        "damage_count": found.damage_count,
        "files": found.files,
        "bytes": found.bytes,
    }


def bundle_json(found: BundleVerification) -> dict[str, Any]:
    """Return the verification of a bundle (an archive of a run) as the fields that `--json` prints.

    `first` is the first difference between the bundle and its manifest or signed statements, or null.
    """
    damage = [each.to_json() for each in found.damage]
    manifest = found.manifest
    return {
        "bundle": str(found.bundle),
        "run_id": None if manifest is None else manifest.run_id,
        "verdict": found.verdict.value,
        "message": found.message,
        "relation": found.relation,
        "original": None if manifest is None else manifest.original.model_dump(),
        "masked": {} if manifest is None else manifest.masked,
        "key_id": found.signer.key.key_id if found.signer.key is not None else None,
        "trust": found.signer.trust.value,
        "first": damage[0] if damage else None,
        "damage": damage,
        "damage_count": found.damage_count,
    }


def print_damage(sentences: Iterable[str], count: int) -> None:
    """Print the first differences that the verification of a run or bundle found, and the number of the others.

    Args:
        sentences: the first differences, one sentence each.
        count: the number of all differences.
    """
    shown = [sentence for _, sentence in zip(range(MAX_SHOWN), sentences, strict=False)]
    for sentence in shown:
        print(f"  {plain(sentence)}")
    if count > len(shown):
        print(f"  and {count - len(shown):,} more (--json lists up to 1,000)")
