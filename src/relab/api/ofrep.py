"""Routes of the OpenFeature Remote Evaluation Protocol (OFREP): evaluate flags for clients of OpenFeature.

Source: https://github.com/open-feature/protocol, service/openapi.yaml, version 0.3.0
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal

import pydantic
from fastapi import APIRouter, Header, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel

from relab.access.models import Scope
from relab.core.errors import InvalidInputError, MalformedBodyError, NotFoundError, UnsupportedMediaError
from relab.core.json import canonical_json, parse_json
from relab.flags.models import Context, Evaluation, EvaluationFailure, Reason
from relab.flags.service import read_context
from relab.http.access import requires
from relab.http.body import RawBody, require_json
from relab.http.deps import ServicesDep
from relab.http.openapi import without_nul
from relab.http.problems import PROBLEM_TYPE, scoped_problems

router = APIRouter(prefix="/ofrep/v1/evaluate", tags=["flags over OpenFeature (OFREP)"])

JSON_TYPE = "application/json"
ErrorCode = Literal["PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "GENERAL"]

_ERROR_CODES: dict[str, ErrorCode] = {
    "targeting_key_missing": "TARGETING_KEY_MISSING",
    "invalid_context": "INVALID_CONTEXT",
}


class EvaluationMetadata(BaseModel):
    """Metadata of an evaluation: the version of the flag (`feature_flag.version` in OpenFeature's telemetry)."""

    version: int


class EvaluationSuccess(BaseModel):
    """The value of one flag for the context of a request, its variant, and the reason for this value.

    The metadata contain the version of the flag.
    """

    key: str
    value: pydantic.JsonValue
    reason: Reason
    variant: str
    metadata: EvaluationMetadata


class FailedEvaluation(BaseModel):
    """The reason why one flag has no value for the context: an error code of OFREP, and a sentence."""

    key: str
    errorCode: ErrorCode  # noqa: N815 the protocol's name
    errorDetails: str = ""  # noqa: N815


class FlagNotFound(BaseModel):
    """The error response if no flag has the key, or if the flag is archived."""

    key: str
    errorCode: Literal["FLAG_NOT_FOUND"] = "FLAG_NOT_FOUND"  # noqa: N815
    errorDetails: str = ""  # noqa: N815


class BulkSuccess(BaseModel):
    """The response of a bulk evaluation: for each flag in use, its value for the context, or why it has no value."""

    flags: list[EvaluationSuccess | FailedEvaluation]


class BulkFailure(BaseModel):
    """The error response of a bulk evaluation of flags: the reason why the context cannot be used."""

    errorCode: ErrorCode  # noqa: N815
    errorDetails: str = ""  # noqa: N815


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON_TYPE: {
                "schema": without_nul(
                    {
                        "type": "object",
                        "properties": {
                            "context": {
                                "type": "object",
                                "properties": {"targetingKey": {"type": "string"}},
                                "additionalProperties": True,
                            }
                        },
                    }
                ),
                "example": {"context": {"targetingKey": "user-123", "plan": "beta"}},
            }
        },
    }
}
_PROBLEMS = scoped_problems(has_body=True)


@router.post(
    "/flags/{key}",
    dependencies=[requires(Scope.READ)],
    response_model=EvaluationSuccess,
    responses={
        400: {"model": FailedEvaluation, "description": "The request or its context cannot be used"},
        404: {"model": FlagNotFound, "description": "No flag in use has this key", "content": {PROBLEM_TYPE: {}}},
        **_PROBLEMS,
    },
    openapi_extra=_BODY,
    summary="Evaluate one flag",
)
def post_evaluation(
    key: Annotated[str, Path(description="The flag's key.", examples=["checkout.new-search"])],
    request: Request,
    raw: RawBody,
    services: ServicesDep,
) -> Response:
    """Return the value of a flag for the context in the request, and the reason for this value.

    A flag with a split (users are distributed over several values) needs the context's `targetingKey`.
    """
    try:
        return _json(200, _success(services.flags.evaluate(key, _context_of(request, raw))))
    except NotFoundError as error:
        return _json(404, FlagNotFound(key=key, errorDetails=str(error)))
    except InvalidInputError as error:
        return _json(400, FailedEvaluation(key=key, errorCode=_code_of(error), errorDetails=str(error)))


@router.post(
    "/flags",
    dependencies=[requires(Scope.READ)],
    response_model=BulkSuccess,
    responses={
        200: {
            "headers": {
                "ETag": {"schema": {"type": "string"}, "description": "The ETag of this response, for If-None-Match"}
            }
        },
        304: {"description": "The response would be the one with the ETag in If-None-Match"},
        400: {"model": BulkFailure, "description": "The request or its context cannot be used"},
        **_PROBLEMS,
    },
    openapi_extra=_BODY,
    summary="Evaluate all flags",
)
def post_evaluations(
    request: Request,
    raw: RawBody,
    services: ServicesDep,
    if_none_match: Annotated[
        str | None, Header(alias="If-None-Match", description="The `ETag` of an earlier response.")
    ] = None,
) -> Response:
    """Evaluate all flags that are not archived for the context in the request.

    For each flag, the response has the value, or the reason why the flag has no value. 304 without a body if
    `If-None-Match` names the `ETag` that the response would have now.
    """
    try:
        results = services.flags.evaluate_all(_context_of(request, raw))
    except InvalidInputError as error:
        return _json(400, BulkFailure(errorCode=_code_of(error), errorDetails=str(error)))
    answer = _json(200, BulkSuccess(flags=[_entry(result) for result in results]))
    # Of the answer, and not of the flags alone: another context is another answer.
    tag = hashlib.sha256(answer.body).hexdigest()[:32]
    if if_none_match is not None and _names(if_none_match, tag):
        answer = Response(status_code=304)
    answer.headers["ETag"] = f'"{tag}"'
    return answer


def _context_of(request: Request, raw: bytes) -> Context:
    """Return the evaluation context of a request; it is empty if the request has none.

    Raises:
        UnsupportedMediaError: the content type is not JSON.
        MalformedBodyError: the body is not a JSON object.
        InvalidContextError: the field `context` is not an object.
    """
    require_json(request)
    body = parse_json(raw)
    if not isinstance(body, dict):
        raise MalformedBodyError("The body is no JSON object.", remedy='Send `{"context": {...}}`.')
    return read_context(body.get("context", {}))


def _code_of(error: InvalidInputError) -> ErrorCode:
    if isinstance(error, MalformedBodyError | UnsupportedMediaError):
        return "PARSE_ERROR"
    return _ERROR_CODES.get(error.code, "GENERAL")


def _entry(result: Evaluation | EvaluationFailure) -> EvaluationSuccess | FailedEvaluation:
    if isinstance(result, Evaluation):
        return _success(result)
    code = _ERROR_CODES.get(result.code, "GENERAL")
    return FailedEvaluation(key=result.key, errorCode=code, errorDetails=result.message)


def _success(result: Evaluation) -> EvaluationSuccess:
    return EvaluationSuccess(
        key=result.key,
        value=result.value,
        reason=result.reason,
        variant=result.variant,
        metadata=EvaluationMetadata(version=result.version),
    )


def _json(status: int, answer: BaseModel) -> Response:
    return Response(canonical_json(answer.model_dump(mode="json")), status, media_type=JSON_TYPE)


def _names(if_none_match: str, tag: str) -> bool:
    """Return whether the header `If-None-Match` contains the entity tag `tag` (quoted or not), or is `*`."""
    return if_none_match.strip() == "*" or tag in re.findall(r"[0-9a-f]{32}", if_none_match)
