"""Use cases of flags: change flags by adding versions, read flags, and evaluate flags for a context."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from relab.core.clock import Clock
from relab.core.errors import MalformedBodyError
from relab.core.json import JsonValue, canonical_json, digest, parse_json
from relab.core.validation import plain_message
from relab.flags import repository
from relab.flags.diff import differences
from relab.flags.errors import (
    FlagArchivedError,
    FlagExistsError,
    FlagNotFoundError,
    FlagVersionNotFoundError,
    InvalidContextError,
    InvalidFlagError,
    StaleFlagVersionError,
    TargetingKeyMissingError,
)
from relab.flags.evaluation import evaluate, targeting_key_of
from relab.flags.models import (
    CONTENT_ERROR,
    FLAG_KEY_PATTERN,
    MAX_INT32,
    Context,
    Evaluation,
    EvaluationFailure,
    FlagAction,
    FlagContent,
    FlagDiff,
    FlagHistory,
    FlagPage,
    FlagSummary,
    FlagVersion,
    FlagVersionInfo,
)
from relab.storage import Database
from relab.storage.errors import ConstraintError
from relab.storage.session import DatabaseSession

MAX_CONTENT_BYTES = 65_536
"""The maximum size of a version's content as JSON; a bulk evaluation reads the contents of all flags."""

MAX_AUTHOR_LENGTH = 200
MAX_NOTE_LENGTH = 1_000
MAX_PROBLEMS = 50
"""The maximum number of reported errors, so that a body with many errors gets a response of bounded size."""

Model = TypeVar("Model", bound=BaseModel)

_KEY = re.compile(FLAG_KEY_PATTERN)


class _Change(NamedTuple):
    """A version to be added: the kind of change, the content and, after a rollback, the restored version's number."""

    action: FlagAction
    content: FlagContent
    restored_version: int | None = None


class FlagService:
    """Creates, changes, reads and evaluates versioned flags.

    Every change adds one version and returns it; no version is ever changed or deleted. A caller passes the version
    numbers that it expects (`expected`). If the current version has another number, the change is rejected, so that
    concurrent writers do not overwrite each other. None accepts every version. `author` and `note` are stored.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def create(self, key: str, content: FlagContent, *, author: str, note: str = "") -> FlagVersion:
        """Create a flag, at version 1.

        Raises:
            FlagExistsError: a flag with this key exists, in use or archived.
            InvalidFlagError: key, content, author or note is invalid or too long.
        """
        if not _KEY.fullmatch(key):
            problem = "must be 1 to 200 letters, digits, dots, dashes and underscores, a letter or digit first"
            raise InvalidFlagError(f"{key[:200]!r} cannot be the key of a flag.", problems=(("key", problem),))
        try:
            with self._database.write() as unit:
                repository.add_flag(unit.session, key, self._clock.now_us())
                return self._add(unit.session, key, 1, _Change("created", content), author, note)
        except ConstraintError as error:
            raise FlagExistsError(key) from error

    def update(
        self, key: str, content: FlagContent, *, expected: Collection[int] | None, author: str, note: str = ""
    ) -> FlagVersion:
        """Add a version with new content to a flag.

        Args:
            key: the flag.
            content: the content of the new version.
            expected: the accepted numbers of the current version; None accepts any.
            author: the name of the caller, stored with the new version.
            note: the reason, stored with the new version.

        Raises:
            FlagNotFoundError, FlagArchivedError: no flag has this key, or the flag is archived.
            StaleFlagVersionError: the current version is not one of `expected`.
            InvalidFlagError: content, author or note is invalid or too long.
        """

        def change(_session: DatabaseSession, current: FlagVersion) -> _Change:
            _require_in_use(current)
            return _Change("updated", content)

        return self._append(key, expected, change, author, note)

    def rollback(
        self, key: str, version: int, *, expected: Collection[int] | None, author: str, note: str = ""
    ) -> FlagVersion:
        """Add a version with the content of the version `version`; an archived flag comes back into use.

        Args:
            key: the flag.
            version: the number of the version whose content is restored.
            expected: the accepted numbers of the current version; None accepts any.
            author: the name of the caller, stored with the new version.
            note: the reason, stored with the new version.

        Raises:
            FlagNotFoundError, FlagVersionNotFoundError: no flag has this key, or the flag has no such version.
            StaleFlagVersionError: the current version is not one of `expected`.
            InvalidFlagError: author or note is invalid or too long.
        """

        def change(session: DatabaseSession, _current: FlagVersion) -> _Change:
            return _Change("rolled_back", _version(session, key, version).content, version)

        return self._append(key, expected, change, author, note)

    def archive(self, key: str, *, expected: Collection[int] | None, author: str, note: str = "") -> FlagVersion:
        """Archive a flag, which can then not be evaluated but keeps its history; return the added version.

        Args:
            key: the flag.
            expected: the accepted numbers of the current version; None accepts any.
            author: the name of the caller, stored with the new version.
            note: the reason, stored with the new version.

        Raises:
            FlagNotFoundError, FlagArchivedError: no flag has this key, or the flag is archived already.
            StaleFlagVersionError: the current version is not one of `expected`.
            InvalidFlagError: author or note is invalid or too long.
        """

        def change(_session: DatabaseSession, current: FlagVersion) -> _Change:
            _require_in_use(current)
            return _Change("archived", current.content)

        return self._append(key, expected, change, author, note)

    def list_flags(self, *, with_archived: bool = False, after: str | None = None, limit: int = 100) -> FlagPage:
        """Return a page of at most `limit` flags, ordered by the bytes of their keys.

        Args:
            with_archived: whether to include archived flags.
            after: the last key of the page before; None for the first page.
            limit: maximum number of flags.
        """
        with self._database.read() as session:
            rows = repository.list_current(session, with_archived=with_archived, after=after, limit=limit + 1)
        items = [_summary(_whole(row)) for row in rows[:limit]]
        return FlagPage(items=items, next_after=items[-1].key if len(rows) > limit else None)

    def get(self, key: str) -> FlagVersion:
        """Return the current version of a flag, even if it is archived.

        Raises:
            FlagNotFoundError: no flag has this key.
        """
        with self._database.read() as session:
            return _current(session, key)

    def get_version(self, key: str, version: int) -> FlagVersion:
        """Return the version `version` of a flag.

        Raises:
            FlagNotFoundError, FlagVersionNotFoundError: no flag has this key, or the flag has no such version.
        """
        with self._database.read() as session:
            _current(session, key)
            return _version(session, key, version)

    def history(self, key: str, *, before: int | None = None, limit: int = 100) -> FlagHistory:
        """Return a page of a flag's versions, newest first, without their contents.

        Args:
            key: the key of the flag.
            before: only versions with lower numbers; None for the first page.
            limit: maximum number of versions.

        Raises:
            FlagNotFoundError: no flag has this key.
        """
        with self._database.read() as session:
            _current(session, key)
            rows = repository.list_versions(session, key, before=before, limit=limit + 1)
        items = [FlagVersionInfo.model_validate(row, from_attributes=True) for row in rows[:limit]]
        return FlagHistory(items=items, next_before=items[-1].version if len(rows) > limit else None)

    def diff(self, key: str, from_version: int, to_version: int) -> FlagDiff:
        """Return the differences between the contents of two versions of a flag.

        Raises:
            FlagNotFoundError, FlagVersionNotFoundError: no flag has this key, or the flag lacks one of the versions.
        """
        before, after = (_document(self.get_version(key, number).content) for number in (from_version, to_version))
        return FlagDiff(
            key=key, from_version=from_version, to_version=to_version, differences=list(differences(before, after))
        )

    def evaluate(self, key: str, context: Context) -> Evaluation:
        """Return the value of a flag for a context.

        Raises:
            FlagNotFoundError: no flag has this key, or the flag is archived.
            InvalidContextError: the targeting key of the context is not a text.
            TargetingKeyMissingError: the value depends on the targeting key, and the context has none.
        """
        flag = self.get(key)
        if flag.is_archived:
            raise FlagNotFoundError(key, is_archived=True)
        return evaluate(flag, context)

    def evaluate_all(self, context: Context) -> list[Evaluation | EvaluationFailure]:
        """Return one result for each flag that is not archived, ordered by key: its value, or the reason for no value.

        Raises:
            InvalidContextError: the targeting key of the context is not a text.
        """
        targeting_key_of(context)  # Checked here too, because there may be no flag.
        with self._database.read() as session:
            flags = [_whole(row) for row in repository.list_current(session, with_archived=False)]
        return [_evaluate_one(flag, context) for flag in flags]

    def _append(
        self,
        key: str,
        expected: Collection[int] | None,
        change: Callable[[DatabaseSession, FlagVersion], _Change],
        author: str,
        note: str,
    ) -> FlagVersion:
        with self._database.write() as unit:
            session = unit.session
            # The lock on the flag's row makes other writers wait, so the current version cannot change meanwhile.
            if not _KEY.fullmatch(key) or repository.lock(session, key) is None:
                raise FlagNotFoundError(key)
            current = _current(session, key)
            if expected is not None and current.version not in expected:
                raise StaleFlagVersionError(key, current.version)
            added = self._add(session, key, current.version + 1, change(session, current), author, note)
            repository.point_to(session, key, added.version)
            return added

    def _add(
        self, session: DatabaseSession, key: str, version: int, change: _Change, author: str, note: str
    ) -> FlagVersion:
        document = _document(change.content)
        _require_storable(document, author, note)
        added = FlagVersion(
            key=key,
            version=version,
            action=change.action,
            created_at=self._clock.now_us(),
            author=author,
            note=note,
            digest=digest(document),
            restored_version=change.restored_version,
            content=change.content,
        )
        repository.add_version(session, added.model_dump() | {"content": document})
        return added


def read_as(model: type[Model], value: JsonValue) -> Model:
    """Validate a parsed JSON document, and return it as an object of the class `model`.

    Raises:
        InvalidFlagError: the document is not valid; the error names the invalid fields, at most 50.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [problem for item in error.errors(include_url=False) for problem in _problems_of(item)]
        field, message = problems[0]
        more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InvalidFlagError(
            f"The flag is not valid: {field}: {message}{more}.", problems=tuple(problems[:MAX_PROBLEMS])
        ) from error


def read_context(value: JsonValue) -> Context:
    """Check that the parsed JSON of a context is an object, and return it.

    Raises:
        InvalidContextError: the value is not an object.
    """
    if not isinstance(value, dict):
        raise InvalidContextError("The context is not a JSON object.", problems=(("context", "must be an object"),))
    return value


def _problems_of(item: ErrorDetails) -> list[tuple[str, str]]:
    place = [str(part) for part in item["loc"]]
    found = item["ctx"]["problems"] if item["type"] == CONTENT_ERROR else [("", plain_message(item["msg"]))]
    return [
        (".".join([*place, *([field] if field else [])])[:500] or "body", message[:500]) for field, message in found
    ]


def _evaluate_one(flag: FlagVersion, context: Context) -> Evaluation | EvaluationFailure:
    try:
        return evaluate(flag, context)
    except TargetingKeyMissingError as error:
        return EvaluationFailure(key=flag.key, code=error.code, message=str(error))


def _require_in_use(flag: FlagVersion) -> None:
    if flag.is_archived:
        raise FlagArchivedError(flag.key, flag.version)


def _require_storable(document: JsonValue, author: str, note: str) -> None:
    """Check that a flag's content, author and note can be stored: strict JSON, no part too long, the author not empty.

    Raises:
        InvalidFlagError: one of them cannot be stored; the error names it.
    """
    problems = []
    for field, text, longest in (("author", author, MAX_AUTHOR_LENGTH), ("note", note, MAX_NOTE_LENGTH)):
        if len(text) > longest:
            problems.append((field, f"has more than {longest:,} characters"))
    if not author.strip():
        problems.append(("author", "is empty"))
    try:
        size = len(canonical_json(document).encode())
        parse_json(canonical_json([document, author, note]).encode())
    except (ValueError, MalformedBodyError) as error:
        problems.append(("content", f"cannot be stored as JSON: {error}"))
    else:
        if size > MAX_CONTENT_BYTES:
            problems.append(("content", f"is {size:,} bytes of JSON, and may be {MAX_CONTENT_BYTES:,}"))
    if problems:
        field, message = problems[0]
        raise InvalidFlagError(f"The flag is not valid: {field}: {message}.", problems=tuple(problems))


def _document(content: FlagContent) -> dict[str, Any]:
    return content.model_dump(mode="json", by_alias=True)


def _current(session: DatabaseSession, key: str) -> FlagVersion:
    # PostgreSQL cannot accept every text as a query parameter, so an invalid key must not reach the query.
    row = repository.get_current(session, key) if _KEY.fullmatch(key) else None
    if row is None:
        raise FlagNotFoundError(key)
    return _whole(row)


def _version(session: DatabaseSession, key: str, version: int) -> FlagVersion:
    row = repository.get_version(session, key, version) if 0 < version <= MAX_INT32 else None
    if row is None:
        raise FlagVersionNotFoundError(key, version)
    return _whole(row)


def _whole(row: Any) -> FlagVersion:
    return FlagVersion.model_validate(row, from_attributes=True)


def _summary(flag: FlagVersion) -> FlagSummary:
    content = flag.content
    return FlagSummary(
        key=flag.key,
        version=flag.version,
        is_archived=flag.is_archived,
        is_enabled=content.is_enabled,
        value_type=content.value_type,
        default_variant=content.default_variant,
        description=content.description,
        updated_at=flag.created_at,
    )
