"""Routes of feature flags and their versions: create, read, change, compare, roll back, archive."""

from __future__ import annotations

import functools
import re
from typing import Annotated, Any, NoReturn

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from relab.access.models import Scope
from relab.core.errors import InvalidInputError, PreconditionRequiredError
from relab.flags.models import (
    FLAG_KEY_PATTERN,
    MAX_INT32,
    FlagContent,
    FlagDiff,
    FlagHistory,
    FlagKey,
    FlagPage,
    FlagVersion,
    Note,
    VersionNumber,
)
from relab.flags.service import read_as
from relab.http.access import OperatorDep
from relab.http.body import JsonBody
from relab.http.deps import PageSize, ServicesDep
from relab.http.routes import scoped

router = APIRouter(tags=["flags"])

_ENTITY_TAG = r'(?:W/)?"[\x21\x23-\x7e]*"'
_ENTITY_TAGS = re.compile(rf"[ \t]*{_ENTITY_TAG}(?:[ \t]*,[ \t]*{_ENTITY_TAG})*[ \t]*")


Key = Annotated[str, Path(pattern=FLAG_KEY_PATTERN, description="The flag's key.", examples=["checkout.new-search"])]
Version = Annotated[int, Path(ge=1, le=MAX_INT32)]
VersionQuery = Annotated[int | None, Query(ge=1, le=MAX_INT32)]
IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=1_000, include_in_schema=False)]
_IF_MATCH: dict[str, Any] = {
    "name": "If-Match",
    "in": "header",
    # The code reads a request without it, to answer 428 and not 422.
    "required": True,
    "description": "The version that the change is based on, in quotation marks; `*` accepts any version.",
    "schema": {
        "type": "string",
        "pattern": r'^(?:\*|(?:W/)?"[\x21\x23-\x7e]*"(?: *, *(?:W/)?"[\x21\x23-\x7e]*")*)$',
        "maxLength": 1_000,
    },
    "example": "*",
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class FlagDraft(_Body):
    """A new flag: its key, its content, and a note for its history."""

    key: FlagKey
    content: FlagContent
    note: Note = ""


class FlagUpdate(_Body):
    """The new content of a flag, which replaces the old content completely, and a note for its history."""

    content: FlagContent
    note: Note = ""


class FlagRollback(_Body):
    """The body of a request to roll back a flag: the version whose content is restored, and a note for its history."""

    version: VersionNumber
    note: Note = ""


class FlagArchiving(_Body):
    """The body of a request to archive a flag: the reason, for the flag's history."""

    note: Note = Field("", examples=["The rollout is over."])


FLAG_EXAMPLE: dict[str, Any] = {
    "key": "checkout.new-search",
    "content": {
        "description": "The new search, for a tenth of the customers outside of the beta.",
        "value_type": "boolean",
        "variants": {"on": True, "off": False},
        "default_variant": "off",
        "rules": [
            {
                "name": "beta",
                "conditions": [{"attribute": "plan", "op": "in", "value": ["beta", "staff"]}],
                "serve": {"variant": "on"},
            },
            {
                "name": "a tenth",
                "serve": {"split": [{"variant": "on", "weight_bp": 1000}, {"variant": "off", "weight_bp": 9000}]},
            },
        ],
    },
    "note": "Begin with a tenth.",
}


def _body(model: type[BaseModel], example: Any) -> Any:
    return Depends(JsonBody(model, example=example, read=functools.partial(read_as, model)))


_UPDATE_EXAMPLE = {name: FLAG_EXAMPLE[name] for name in ("content", "note")}
_CONDITIONAL: dict[str, Any] = {"parameters": [_IF_MATCH]}

Draft = Annotated[FlagDraft, _body(FlagDraft, FLAG_EXAMPLE)]
Update = Annotated[FlagUpdate, _body(FlagUpdate, _UPDATE_EXAMPLE)]
Rollback = Annotated[FlagRollback, _body(FlagRollback, {"version": 1, "note": "Errors rose."})]
Archiving = Annotated[FlagArchiving, _body(FlagArchiving, {"note": "The rollout is over."})]


def entity_tag(version: int) -> str:
    """Return the entity tag (`ETag`) of a version of a flag: the version in quotation marks."""
    return f'"{version}"'


def _expected(if_match: str | None) -> frozenset[int] | None:
    """Return the version numbers in the header `If-Match`; None for `*`, which matches every version.

    Weak entity tags (`W/"1"`) and tags that are not version numbers are left out.

    Raises:
        PreconditionRequiredError: the request has no If-Match.
        InvalidInputError: the header is neither `*` nor a list of entity tags.
    """
    if if_match is None:
        raise PreconditionRequiredError(
            "A change must say which version it was made for.",
            remedy='Send the `ETag` that you have seen as `If-Match: "<version>"`, or `If-Match: *`.',
        )
    if if_match.strip() == "*":
        return None
    if not _ENTITY_TAGS.fullmatch(if_match):
        _refuse_if_match()
    # A weak tag matches nothing here (RFC 9110, 13.1.1), nor does what is no version.
    return frozenset(int(number) for number in re.findall(r'(?<!W/)"([1-9][0-9]{0,9})"', if_match))


def _refuse_if_match() -> NoReturn:
    raise InvalidInputError(
        "If-Match is no list of entity tags.",
        problems=(("header.If-Match", "must be a version in quotation marks, or *"),),
        remedy='Send `If-Match: "<version>"`.',
    )


def _answer(response: Response, flag: FlagVersion) -> FlagVersion:
    response.headers["ETag"] = entity_tag(flag.version)
    return flag


@router.get("/flags", **scoped(Scope.READ), summary="List flags by key")
def list_flags(
    services: ServicesDep,
    archived: Annotated[bool, Query(description="Whether archived flags are listed, too.")] = False,
    after: Annotated[
        str | None, Query(pattern=FLAG_KEY_PATTERN, description="`next_after` of the previous page.")
    ] = None,
    limit: PageSize = 100,
) -> FlagPage:
    """Return a page of flags, ordered by key: the current version of each, without its variants and rules."""
    return services.flags.list_flags(with_archived=archived, after=after, limit=limit)


@router.post("/flags", status_code=201, **scoped(Scope.OPERATE, 409, has_body=True), summary="Create a flag")
def post_flag(draft: Draft, services: ServicesDep, caller: OperatorDep, response: Response) -> FlagVersion:
    """Create a flag with version 1; it is in use at once. 409 if another flag, archived or not, has this key."""
    flag = services.flags.create(draft.key, draft.content, author=caller.name, note=draft.note)
    response.headers["Location"] = f"/flags/{flag.key}"
    return _answer(response, flag)


@router.get("/flags/{key}", **scoped(Scope.READ, 404), summary="Show the current version of a flag")
def get_flag(key: Key, services: ServicesDep, response: Response) -> FlagVersion:
    """Return the current version of a flag, even if the flag is archived.

    The header `ETag` is the version in quotation marks. A request that changes the flag must send this value, or `*`,
    as `If-Match`.
    """
    return _answer(response, services.flags.get(key))


@router.put(
    "/flags/{key}",
    **scoped(Scope.OPERATE, 404, 409, 412, 428, has_body=True),
    openapi_extra=_CONDITIONAL,
    summary="Change a flag: add a version",
)
def put_flag(
    key: Key, update: Update, services: ServicesDep, caller: OperatorDep, response: Response, if_match: IfMatch = None
) -> FlagVersion:
    """Change a flag: its new content becomes a new version, which is returned.

    412 if `If-Match` does not name the current version of the flag, 428 without `If-Match`, 409 if the flag is
    archived.
    """
    flag = services.flags.update(
        key, update.content, expected=_expected(if_match), author=caller.name, note=update.note
    )
    return _answer(response, flag)


@router.get("/flags/{key}/versions", **scoped(Scope.READ, 404), summary="List the versions of a flag, newest first")
def list_flag_versions(
    key: Key,
    services: ServicesDep,
    before: Annotated[int | None, Query(ge=1, le=MAX_INT32, description="`next_before` of the previous page.")] = None,
    limit: PageSize = 100,
) -> FlagHistory:
    """Return a page of a flag's versions, newest first, without their contents.

    Each entry has the author, the time and the reason of the version.
    """
    return services.flags.history(key, before=before, limit=limit)


@router.get("/flags/{key}/versions/{version}", **scoped(Scope.READ, 404), summary="Show one version of a flag")
def get_flag_version(key: Key, version: Version, services: ServicesDep) -> FlagVersion:
    """Return one version of a flag. A version never changes."""
    return services.flags.get_version(key, version)


@router.get("/flags/{key}/diff", **scoped(Scope.READ, 404), summary="Compare the contents of two versions of a flag")
def get_flag_diff(
    key: Key,
    services: ServicesDep,
    from_version: Annotated[VersionQuery, Query(alias="from", description="Default: the version before `to`.")] = None,
    to_version: Annotated[VersionQuery, Query(alias="to", description="Default: the current version.")] = None,
) -> FlagDiff:
    """Return the differences between two versions of a flag.

    Each difference has its place (a JSON pointer into the content) and both values.
    """
    to_number = services.flags.get(key).version if to_version is None else to_version
    return services.flags.diff(key, to_number - 1 if from_version is None else from_version, to_number)


@router.post(
    "/flags/{key}/rollback",
    **scoped(Scope.OPERATE, 404, 412, 428, has_body=True),
    openapi_extra=_CONDITIONAL,
    summary="Give a flag the content of an earlier version again",
)
def post_flag_rollback(
    key: Key, wanted: Rollback, services: ServicesDep, caller: OperatorDep, response: Response, if_match: IfMatch = None
) -> FlagVersion:
    """Add a version of a flag with the content of an earlier version. This also puts an archived flag back into use.

    412 if `If-Match` does not name the current version of the flag, 428 without `If-Match`.
    """
    flag = services.flags.rollback(
        key, wanted.version, expected=_expected(if_match), author=caller.name, note=wanted.note
    )
    return _answer(response, flag)


@router.post(
    "/flags/{key}/archive",
    **scoped(Scope.OPERATE, 404, 409, 412, 428, has_body=True),
    openapi_extra=_CONDITIONAL,
    summary="Archive a flag",
)
def post_flag_archive(
    key: Key,
    archiving: Archiving,
    services: ServicesDep,
    caller: OperatorDep,
    response: Response,
    if_match: IfMatch = None,
) -> FlagVersion:
    """Archive a flag: add a version that is not in use. Its history stays; a rollback puts the flag back into use.

    412 if `If-Match` does not name the current version of the flag, 428 without `If-Match`, 409 if the flag is already
    archived.
    """
    flag = services.flags.archive(key, expected=_expected(if_match), author=caller.name, note=archiving.note)
    return _answer(response, flag)
