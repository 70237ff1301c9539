"""Compare the key that signed a run or a bundle (its archive) with the keys that the user trusts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from relab.experiments.proof.keys import PublicKey


class Trust(StrEnum):
    """Which key signed a run or a bundle (its archive).

    If the user gave a key, `GIVEN_KEY` is this key, and `OTHER_KEY` any other. Otherwise `OWN_KEY` is the key of this
    installation, and `UNKNOWN_KEY` any other. `UNSIGNED`: no signature.
    """

    GIVEN_KEY = "given_key"
    OWN_KEY = "own_key"
    UNKNOWN_KEY = "unknown_key"
    OTHER_KEY = "other_key"
    UNSIGNED = "unsigned"


@dataclass(frozen=True)
class SignedBy:
    """The key that signed a run or a bundle (archive), and whether it is trusted; `key` is None without a signature."""

    key: PublicKey | None
    trust: Trust

    def __str__(self) -> str:
        """Return a sentence for people that names the signing key and says whether it is trusted."""
        if self.key is None:
            return "It is not signed."
        said = {
            Trust.GIVEN_KEY: "the given key",
            Trust.OWN_KEY: "the key of this installation",
            Trust.OTHER_KEY: "another key than the given one",
        }.get(self.trust, "a key that is not known here: compare it with its owner's, or give --key")
        return f"It is signed by {self.key.key_id}, {said}."


def signer_of(key: PublicKey | None, given: PublicKey | None, own: PublicKey | None) -> SignedBy:
    """Return the key that signed a run or a bundle (its archive), and whether this key is trusted.

    Args:
        key: the key that signed; None if there is no signature.
        given: the key that the user expects, the only trusted one; None if the user gave no key.
        own: the key of this installation, which is trusted if `given` is None. None if the installation has no key.
    """
    if key is None:
        return SignedBy(None, Trust.UNSIGNED)
    if given is not None:
        return SignedBy(key, Trust.GIVEN_KEY if key == given else Trust.OTHER_KEY)
    return SignedBy(key, Trust.OWN_KEY if key == own else Trust.UNKNOWN_KEY)
