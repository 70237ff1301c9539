"""The Ed25519 key that signs statements about runs, and public keys that verify them."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from relab.core.errors import ConfigurationError, InvalidInputError
from relab.core.regular_files import open_regular_file

PREFIX: Final = "ed25519:"
_HEX: Final = 64
_MAX_BYTES: Final = 65_536
_NOT_THE_OWNER: Final = 0o077


class SigningKeyError(ConfigurationError):
    """The signing key cannot be created, read, or used, or other users may read it."""

    code = "signing_key"


@dataclass(frozen=True)
class PublicKey:
    """A public key. Its id is `ed25519:` and the 32 bytes of the key in hexadecimal."""

    key_id: str

    @property
    def pem(self) -> str:
        """The key as PEM text, as other programs read it."""
        encoded = self._key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return encoded.decode()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` is a signature of `message` by the private key that belongs to this public key."""
        try:
            self._key().verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def _key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.key_id.removeprefix(PREFIX)))


class SigningKey:
    """A private key in a file that only the file's owner may read. The first use creates the file with a new key.

    Args:
        path: the file, in PEM (PKCS 8).
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def public(self) -> PublicKey:
        """Return the public key; create the pair of keys if it does not exist yet.

        Raises:
            SigningKeyError: the key cannot be created or used.
        """
        return _public_of(self._private())

    def known_public(self) -> PublicKey | None:
        """Return the public key, without creating one; None if there is no usable key."""
        try:
            return _public_of(self._read())
        except (FileNotFoundError, SigningKeyError):
            return None

    def sign(self, message: bytes) -> bytes:
        """Return the signature (64 bytes) of `message`; the same message gives the same signature.

        Raises:
            SigningKeyError: the key cannot be created or used.
        """
        return self._private().sign(message)

    def _private(self) -> Ed25519PrivateKey:
        try:
            return self._read()
        except FileNotFoundError:
            self._create()
        try:
            return self._read()
        except FileNotFoundError as error:
            raise SigningKeyError(f"The signing key {self.path} was deleted while it was used.") from error

    def _create(self) -> None:
        """Write a new key to the file, unless another process has just written one.

        Raises:
            SigningKeyError: the file cannot be written.
        """
        private = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # Random, because a killed process leaves its file, and in a container every process may have the same id.
        fresh = self.path.with_name(f".{secrets.token_hex(4)}.{self.path.name}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(private)
                    file.flush()
                    os.fsync(file.fileno())
                # A link does not replace the key of another process, as a rename would.
                os.link(fresh, self.path)
            finally:
                fresh.unlink()
        except FileExistsError:
            return
        except OSError as error:
            raise SigningKeyError(
                f"The signing key {self.path} cannot be created: {error.strerror}.",
                remedy="Set RELAB_HOME to a folder that you may write.",
            ) from error

    def _read(self) -> Ed25519PrivateKey:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise SigningKeyError(f"The signing key {self.path} cannot be read: {error.strerror}.") from error
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(descriptor).st_mode & _NOT_THE_OWNER:
                raise SigningKeyError(
                    f"Other users may read the signing key {self.path}.", remedy=f"Run: chmod 600 {self.path}"
                )
            try:
                key = serialization.load_pem_private_key(file.read(_MAX_BYTES), password=None)
            except (ValueError, TypeError, UnsupportedAlgorithm, OSError) as error:
                # The message of the library could quote the file.
                raise SigningKeyError(f"The file {self.path} is not a private key in PEM.") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningKeyError(f"The signing key {self.path} is not an Ed25519 key.")
        return key


def read_public_key(given: str) -> PublicKey:
    """Return the public key that a user gave: its id (`ed25519:` and 64 hexadecimal digits), or the path of a PEM file.

    Raises:
        InvalidInputError: the text is neither a key id nor the path of a PEM file with a public key.
    """
    key_id = given if given.startswith(PREFIX) else None
    if key_id is None:
        try:
            with open_regular_file(Path(given)) as file:
                key = serialization.load_pem_public_key(file.read(_MAX_BYTES))
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise InvalidInputError(
                f"{given!r} is neither the id of a key (ed25519:…) nor a file with a public key in PEM.",
                remedy="`lab keys show` prints both.",
            ) from error
        if not isinstance(key, Ed25519PublicKey):
            raise InvalidInputError(f"The public key in {given!r} is not an Ed25519 key.")
        return _id_of(key)
    if parse_key_id(key_id) is None:
        raise InvalidInputError(f"{given!r} is not the id of a key: ed25519: and 64 hexadecimal digits.")
    return PublicKey(key_id)


def parse_key_id(key_id: object) -> PublicKey | None:
    """Return the public key with this id; None if the value is not the id of an Ed25519 key."""
    if not isinstance(key_id, str) or not key_id.startswith(PREFIX):
        return None
    digits = key_id.removeprefix(PREFIX)
    if len(digits) != _HEX or any(each not in "0123456789abcdef" for each in digits):
        return None
    return PublicKey(key_id)


def _public_of(key: Ed25519PrivateKey) -> PublicKey:
    return _id_of(key.public_key())


def _id_of(key: Ed25519PublicKey) -> PublicKey:
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return PublicKey(PREFIX + raw.hex())
