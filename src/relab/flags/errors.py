"""Errors of versioned flags."""

from __future__ import annotations

from relab.core.errors import ConflictError, InvalidInputError, NotFoundError, PreconditionFailedError


class FlagNotFoundError(NotFoundError):
    """No flag has this key, or an archived flag was evaluated."""

    code = "flag_not_found"

    def __init__(self, key: str, *, is_archived: bool = False) -> None:
        if is_archived:
            super().__init__(
                f"The flag {key!r} is archived, so it has no value.",
                remedy="Roll it back to a version to bring it back.",
            )
        else:
            super().__init__(f"There is no flag {key[:200]!r}.")


class FlagVersionNotFoundError(NotFoundError):
    """The flag has no version with this number."""

    code = "flag_version_not_found"

    def __init__(self, key: str, version: int) -> None:
        super().__init__(f"The flag {key!r} has no version {version}.")


class FlagExistsError(ConflictError):
    """A flag with this key exists already, in use or archived."""

    code = "flag_exists"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"There is a flag {key!r} already, perhaps an archived one.",
            remedy="Update it; a rollback brings an archived one back.",
        )


class FlagArchivedError(ConflictError):
    """The flag is archived, so it cannot be changed; only a rollback brings it back into use."""

    code = "flag_archived"

    def __init__(self, key: str, version: int) -> None:
        super().__init__(
            f"The flag {key!r} is archived, at version {version}.",
            remedy="Roll it back to a version to bring it back.",
        )


class StaleFlagVersionError(PreconditionFailedError):
    """A change of a flag is rejected, because the flag's current version is not one that the writer expected.

    Read the flag, and repeat the change with its new version number.
    """

    code = "stale_flag_version"

    def __init__(self, key: str, version: int) -> None:
        super().__init__(
            f"The flag {key!r} is at version {version}, which is not the version that the change was made for.",
            remedy="Read the flag again, and apply the change to its current version.",
        )


class InvalidFlagError(InvalidInputError):
    """A flag's key, content, author or note is invalid; `problems` names the fields."""

    code = "invalid_flag"


class InvalidContextError(InvalidInputError):
    """The context of an evaluation is not a JSON object, or its targeting key is not a text."""

    code = "invalid_context"


class TargetingKeyMissingError(InvalidInputError):
    """The flag's value depends on a targeting key (id of the user or other subject), but the context has none."""

    code = "targeting_key_missing"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The flag {key!r} is split by targeting key, and the context has no targeting key.",
            problems=(("context.targetingKey", "is missing or empty"),),
            remedy="Give `targetingKey`, a text that is always the same for the same subject.",
        )
