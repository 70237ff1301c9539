"""Validate a file against a JSON Schema. The file is one JSON document, or JSON Lines with one document per line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from relab.core.errors import MalformedBodyError
from relab.core.json import parse_json
from relab.core.regular_files import read_regular_file
from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.schemas.documents import registry, schema_named

if TYPE_CHECKING:
    from jsonschema import ValidationError

MAX_FILE_BYTES: Final = 256 * 1_048_576
MAX_PROBLEMS: Final = 20
_LINES: Final = (".jsonl", ".ndjson")


def check_file(file: Path, name: str | None = None, *, is_lines: bool | None = None) -> tuple[str, int]:
    """Validate every document of a file; return `(name of the schema, number of documents)`.

    Args:
        file: the file.
        name: the name of the schema; None for the schema that the field `schema_version` of the first document names.
        is_lines: whether each line is a document; None to decide by the file's suffix: .jsonl and .ndjson mean True.

    Raises:
        ExperimentInvalidError: there is no such schema or file, the file has no document, or a document does not match
            the schema.
    """
    documents = list(_documents(file, is_lines=file.suffix in _LINES if is_lines is None else is_lines))
    if not documents:
        raise ExperimentInvalidError(f"{file} contains no document.")
    name = name or _own_name(file, documents[0][1])
    problems = _problems(name, documents)
    if problems:
        raise ExperimentInvalidError(
            f"{file} is not a valid {name}: {problems[0][0]}: {problems[0][1]}.", problems=tuple(problems)
        )
    return name, len(documents)


def _problems(name: str, documents: Iterable[tuple[str, Any]]) -> list[tuple[str, str]]:
    # Imported here, because the import takes a tenth of a second and no other command needs it.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    validator = Draft202012Validator(schema_named(name), registry=registry())
    problems: list[tuple[str, str]] = []
    for place, document in documents:
        for error in validator.iter_errors(document):
            problems += [(f"{place}{where}", message) for where, message in _explained(error)]
            if len(problems) >= MAX_PROBLEMS:
                return problems
    return problems


def _explained(error: ValidationError) -> Iterator[tuple[str, str]]:
    """Yield `(JSON pointer, message)` for each reason of a validation error.

    Usually the only reason is the error itself. If the document matches no alternative of a `oneOf`, but exactly one
    alternative is for the document's `event_type`, the reasons are the errors of this alternative.
    """
    if error.validator == "oneOf" and isinstance(error.instance, dict) and error.context:
        kinds: dict[Any, list[ValidationError]] = {}
        for cause in error.context:
            kinds.setdefault(cause.schema_path[0], []).append(cause)
        # A document that matches no alternative has only one error, which does not say why.
        meant = [
            causes for causes in kinds.values() if not any("event_type" in cause.absolute_path for cause in causes)
        ]
        if len(meant) == 1:
            for cause in meant[0]:
                yield from _explained(cause)
            return
    where = "".join(f"/{part}" for part in error.absolute_path)
    yield where, error.message[:500]


def _own_name(file: Path, document: Any) -> str:
    found = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(found, str):
        return found
    raise ExperimentInvalidError(f"{file} has no schema_version.", remedy="Name the schema with --schema NAME.")


def _documents(file: Path, *, is_lines: bool) -> Iterator[tuple[str, Any]]:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ExperimentInvalidError(f"{file} is larger than {MAX_FILE_BYTES:,} bytes.")
        raw = read_regular_file(file)
    except OSError as error:
        raise ExperimentInvalidError(f"{file} cannot be read: {error.strerror}.") from error
    pieces = enumerate(raw.split(b"\n"), start=1) if is_lines else [(0, raw)]
    for number, piece in pieces:
        place = f"{file}:{number}" if number else str(file)
        if not piece.strip():
            continue
        try:
            yield place, parse_json(piece, "the document")
        except MalformedBodyError as error:
            raise ExperimentInvalidError(f"{place}: {error}") from error
