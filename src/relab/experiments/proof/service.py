"""Verify runs and bundles (redacted archives of runs), write and unpack bundles, and return the public key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from relab.experiments.proof.bundle_reading import BundleVerification, OpenedBundle, unpack_bundle, verify_bundle
from relab.experiments.proof.bundling import BundleRequest, Published, publish
from relab.experiments.proof.keys import PublicKey, SigningKey, read_public_key
from relab.experiments.proof.verification import ProofVerdict, Verification, verify_run
from relab.experiments.results.listing import find_run

__all__ = [
    "BundleRequest",
    "BundleVerification",
    "ProofService",
    "ProofVerdict",
    "Verification",
]


class ProofService:
    """Verifies runs and bundles, and writes and unpacks bundles (redacted archives of a run).

    Args:
        signing_key: the file of the key that signs bundles; it is created at its first use.
    """

    def __init__(self, signing_key: Path) -> None:
        self._key = SigningKey(signing_key)

    @property
    def key_path(self) -> Path:
        """The file of the private key that signs the runs and bundles (archives) of this installation."""
        return self._key.path

    def public_key(self) -> PublicKey:
        """Return the public key that others need to verify this installation's signatures; create a missing key pair.

        Raises:
            SigningKeyError: the key cannot be created or used.
        """
        return self._key.public()

    def publish(self, root: Path, request: BundleRequest, environment: Mapping[str, str]) -> Published:
        """Write a redacted bundle of a run; the run is not changed.

        Args:
            root: the folder of the project.
            request: the run, the file to write, and options; `run_dir` may also be the id of the run.
            environment: environment variables. The values of secrets are masked wherever they occur in the bundle.
                Secrets are the variables that the experiment or the request declares as secrets, and variables with a
                name such as `API_KEY`.

        Raises:
            RunNotFoundError, RunDamagedError: there is no such run, or its manifest cannot be read.
            RunBusyError: a process works on the run.
            InvalidInputError: an environment variable in `request.secrets` is not set, the target exists, or the target
                is in the folder of the run.
        """
        found = replace(request, run_dir=find_run(root, request.run_dir))
        return publish(found, environment=environment, signing_key=self._key.path)

    def verify_bundle(self, bundle: Path, key: str | None = None) -> BundleVerification:
        """Verify each file of a bundle against the manifest, and the manifest against its signature; write nothing.

        Args:
            bundle: the file of the bundle (a redacted archive of a run).
            key: the key that must have signed the bundle, as its id or the path of a PEM file; None to accept any key.

        Raises:
            BundleNotFoundError: the file does not exist.
            BundleInvalidError: the file is not a bundle, or an entry is unsafe.
            InvalidInputError: the key cannot be read.
        """
        given = None if key is None else read_public_key(key)
        return verify_bundle(bundle, given, self._key.known_public())

    def open_bundle(self, bundle: Path, target: Path, key: str | None = None, *, max_bytes: int) -> OpenedBundle:
        """Verify a bundle and unpack it into a new folder; an error leaves no new folder behind.

        Args:
            bundle: the file of the bundle (a redacted archive of a run).
            target: the folder, which must not exist.
            key: the key that must have signed the bundle, as its id or the path of a PEM file; None to accept any key.
            max_bytes: the largest total size of the unpacked files.

        Raises:
            BundleNotFoundError: the file does not exist.
            BundleInvalidError: the file is not a bundle, an entry is unsafe, the bundle is larger than `max_bytes`, the
                target exists, or the disk has too little space.
            BundleDamagedError: an entry differs from the manifest, or the bundle is not signed by `key`.
            InvalidInputError: the key cannot be read.
        """
        given = None if key is None else read_public_key(key)
        return unpack_bundle(bundle, target, given, self._key.known_public(), max_bytes=max_bytes)

    def verify(self, root: Path, named: Path, key: str | None = None) -> Verification:
        """Recompute every digest of a run and check every signature; write nothing.

        Args:
            root: the folder of the project.
            named: the run's folder or its id.
            key: the key that must have signed the run, as its id or the path of a PEM file; None to accept any key.

        Raises:
            RunNotFoundError: there is no such run.
            InvalidInputError: the key cannot be read.
        """
        given = None if key is None else read_public_key(key)
        return verify_run(find_run(root, named), given, self._key.known_public())
