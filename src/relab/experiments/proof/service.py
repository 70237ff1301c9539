"""Use cases of proofs for the CLI: verify runs and bundles, publish and open bundles, show the key."""

from __future__ import annotations

from pathlib import Path

from relab.experiments.proof.damage import Damage as Damage  # noqa: PLC0414 part of this service
from relab.experiments.proof.keys import PublicKey as PublicKey  # noqa: PLC0414 part of this service
from relab.experiments.proof.keys import SigningKey, read_public_key
from relab.experiments.proof.verification import ProofVerdict as ProofVerdict  # noqa: PLC0414 part of this service
from relab.experiments.proof.verification import Verification as Verification  # noqa: PLC0414 part of this service
from relab.experiments.proof.verification import verify_run
from relab.experiments.results.listing import find_run


class ProofService:
    """Use cases of proofs.

    Args:
        signing_key: the file of the key that signs; it is created at its first use.
    """

    def __init__(self, signing_key: Path) -> None:
        self._key = SigningKey(signing_key)

    @property
    def key_path(self) -> Path:
        """The file of the private key."""
        return self._key.path

    def public_key(self) -> PublicKey:
        """Return the public key with which others verify what this installation signs; create the pair if there is none.

        Raises:
            SigningKeyError: the key cannot be created or used.
        """
        return self._key.public()

    def verify(self, root: Path, named: Path, key: str | None = None) -> Verification:
        """Recompute every digest of a run and check every signature; write nothing.

        Args:
            root: the folder of the project.
            named: the run's folder or its id.
            key: the key that must have signed: its id, or the path of a PEM file; None if any will do.

        Raises:
            RunNotFoundError: there is no such run.
            InvalidInputError: the key cannot be read.
        """
        given = None if key is None else read_public_key(key)
        return verify_run(find_run(root, named), given, self._key.known_public())
