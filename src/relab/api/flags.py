"""Routes of the product's versioned flags: read, change, compare, roll back, archive."""

from __future__ import annotations

import functools
import re
from typing import Annotated, Any, NoReturn

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from relab.access.models import Caller, Scope
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
from relab.http.access import requires
from relab.http.body import JsonBody
from relab.http.deps import ServicesDep
from relab.http.problems import problem_responses

router = APIRouter(tags=["flags"])

_ENTITY_TAG = r'(?:W/)?"[\x21\x23-\x7e]*"'
_ENTITY_TAGS = re.compile(rf"[ \t]*{_ENTITY_TAG}(?:[ \t]*,[ \t]*{_ENTITY_TAG})*[ \t]*")

# One check for both places of a route, so that it is made once.
_OPERATES = requires(Scope.OPERATE)
_Author = Annotated[Caller, _OPERATES]

Key = Annotated[str, Path(pattern=FLAG_KEY_PATTERN, description="The flag's key.", examples=["checkout.new-search"])]
Version = Annotated[int, Path(ge=1, le=MAX_INT32)]
VersionQuery = Annotated[int | None, Query(ge=1, le=MAX_INT32)]
IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=1_000, include_in_schema=False)]
_IF_MATCH: dict[str, Any] = {
    "name": "If-Match",
    "in": "header",
    # The code reads a request without it, to answer 428 and not 422.
    "required": True,
    "description": "The version that the change was made for, in quotation marks; `*` is whichever there is.",
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
    """A new flag."""

    key: FlagKey
    content: FlagContent
    note: Note = ""


class FlagUpdate(_Body):
    """The next content of a flag, whole."""

    content: FlagContent
    note: Note = ""


class FlagRollback(_Body):
    """Which version's content the flag is to have again."""

    version: VersionNumber
    note: Note = ""


class FlagArchiving(_Body):
    """Why the flag goes out of use."""

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
    """Return the entity tag of a version of a flag."""
    return f'"{version}"'


def _expected(if_match: str | None) -> frozenset[int] | None:
    """Return the versions that a change may be made on, or None for any.

    Raises:
        PreconditionRequiredError: there is no If-Match.
        InvalidInputError: it is no list of entity tags.
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


@router.get(
    "/flags",
    dependencies=[requires(Scope.READ)],
    responses=problem_responses(401, 403, 422, 503),
    summary="List flags by key",
)
def list_flags(
    services: ServicesDep,
    archived: Annotated[bool, Query(description="Also those out of use.")] = False,
    after: Annotated[
        str | None, Query(pattern=FLAG_KEY_PATTERN, description="`next_after` of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> FlagPage:
    """The current version of each flag, without its variants and rules."""
    return services.flags.list_flags(with_archived=archived, after=after, limit=limit)


@router.post(
    "/flags",
    status_code=201,
    dependencies=[_OPERATES],
    responses=problem_responses(401, 403, 408, 409, 413, 415, 422, 503),
    summary="Make a flag",
)
def post_flag(draft: Draft, services: ServicesDep, caller: _Author, response: Response) -> FlagVersion:
    """The flag is at version 1, and in use at once. 409 if there is one of that key, also an archived one."""
    flag = services.flags.create(draft.key, draft.content, author=caller.name, note=draft.note)
    response.headers["Location"] = f"/flags/{flag.key}"
    return _answer(response, flag)


@router.get(
    "/flags/{key}",
    dependencies=[requires(Scope.READ)],
    responses=problem_responses(401, 403, 404, 422, 503),
    summary="Show the current version of a flag",
)
def get_flag(key: Key, services: ServicesDep, response: Response) -> FlagVersion:
    """Also of an archived one; `ETag` is the version in quotation marks, for `If-Match` of a change."""
    return _answer(response, services.flags.get(key))


@router.put(
    "/flags/{key}",
    dependencies=[_OPERATES],
    responses=problem_responses(401, 403, 404, 408, 409, 412, 413, 415, 422, 428, 503),
    openapi_extra=_CONDITIONAL,
    summary="Change a flag: add a version",
)
def put_flag(
    key: Key, update: Update, services: ServicesDep, caller: _Author, response: Response, if_match: IfMatch = None
) -> FlagVersion:
    """412 if the flag is at another version than `If-Match` says, 428 without it, 409 if it is archived."""
    flag = services.flags.update(
        key, update.content, expected=_expected(if_match), author=caller.name, note=update.note
    )
    return _answer(response, flag)


@router.get(
    "/flags/{key}/versions",
    dependencies=[requires(Scope.READ)],
    responses=problem_responses(401, 403, 404, 422, 503),
    summary="List the versions of a flag, newest first",
)
def list_flag_versions(
    key: Key,
    services: ServicesDep,
    before: Annotated[int | None, Query(ge=1, le=MAX_INT32, description="`next_before` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> FlagHistory:
    """Who changed the flag when and why; the contents are in the versions themselves."""
    return services.flags.history(key, before=before, limit=limit)


@router.get(
    "/flags/{key}/versions/{version}",
    dependencies=[requires(Scope.READ)],
    responses=problem_responses(401, 403, 404, 422, 503),
    summary="Show one version of a flag",
)
def get_flag_version(key: Key, version: Version, services: ServicesDep) -> FlagVersion:
    """A version never changes."""
    return services.flags.get_version(key, version)


@router.get(
    "/flags/{key}/diff",
    dependencies=[requires(Scope.READ)],
    responses=problem_responses(401, 403, 404, 422, 503),
    summary="Compare the contents of two versions of a flag",
)
def get_flag_diff(
    key: Key,
    services: ServicesDep,
    from_version: Annotated[VersionQuery, Query(alias="from", description="Default: the one before `to`.")] = None,
    to_version: Annotated[VersionQuery, Query(alias="to", description="Default: the current one.")] = None,
) -> FlagDiff:
    """The places that differ, as JSON pointers into the content, each with both values."""
    to_number = services.flags.get(key).version if to_version is None else to_version
    return services.flags.diff(key, to_number - 1 if from_version is None else from_version, to_number)


@router.post(
    "/flags/{key}/rollback",
    dependencies=[_OPERATES],
    responses=problem_responses(401, 403, 404, 408, 412, 413, 415, 422, 428, 503),
    openapi_extra=_CONDITIONAL,
    summary="Give a flag the content of an earlier version again",
)
def post_flag_rollback(
    key: Key, wanted: Rollback, services: ServicesDep, caller: _Author, response: Response, if_match: IfMatch = None
) -> FlagVersion:
    """Adds a version; an archived flag is in use again. 412 and 428 as for a change."""
    flag = services.flags.rollback(
        key, wanted.version, expected=_expected(if_match), author=caller.name, note=wanted.note
    )
    return _answer(response, flag)


@router.post(
    "/flags/{key}/archive",
    dependencies=[_OPERATES],
    responses=problem_responses(401, 403, 404, 408, 409, 412, 413, 415, 422, 428, 503),
    openapi_extra=_CONDITIONAL,
    summary="Take a flag out of use",
)
def post_flag_archive(
    key: Key, archiving: Archiving, services: ServicesDep, caller: _Author, response: Response, if_match: IfMatch = None
) -> FlagVersion:
    """Adds a version; the history stays, and a rollback brings the flag back. 412 and 428 as for a change."""
    flag = services.flags.archive(key, expected=_expected(if_match), author=caller.name, note=archiving.note)
    return _answer(response, flag)
