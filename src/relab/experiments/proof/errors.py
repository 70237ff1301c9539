"""Errors about bundles (archives of runs)."""

from __future__ import annotations

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError


class BundleInvalidError(InvalidInputError):
    """A file is not a bundle (an archive of a run), or cannot be unpacked safely; no entry was unpacked."""

    code = "bundle_invalid"


class BundleDamagedError(ConflictError):
    """A bundle (an archive of a run) differs from its manifest, or is not signed by the required key."""

    code = "bundle_damaged"


class BundleNotFoundError(NotFoundError):
    """There is no such bundle (a redacted archive of a run)."""

    code = "bundle_not_found"
