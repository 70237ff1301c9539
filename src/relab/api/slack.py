"""The route of Slack's commands: who calls is known by Slack's signature, not by a token of ours."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from relab.core.errors import UnsupportedMediaError
from relab.http.body import body_of_at_most, media_type
from relab.http.deps import ServicesDep
from relab.http.problems import problem_responses
from relab.incidents.service import SlackCommand

router = APIRouter(tags=["incidents"])

MOST_BYTES: Final = 65_536
ANSWERS_WITHIN_S: Final = 2.5
"""Slack waits for three seconds."""
FORM: Final = "application/x-www-form-urlencoded"

_log = structlog.get_logger(__name__)


class SignatureCheck:
    """A dependency that lets a request pass if Slack has signed it, and it has not come before.

    The architecture tests look for it on the route that has no scope.
    """

    async def __call__(self, request: Request, services: ServicesDep) -> SlackCommand:
        """Return the command, or raise what becomes 401, or 404 where commands are not answered."""
        body = await body_of_at_most(request, MOST_BYTES)
        command: SlackCommand = await run_in_threadpool(
            services.notices.take_in,
            body,
            timestamp=request.headers.get("x-slack-request-timestamp"),
            signature=request.headers.get("x-slack-signature"),
        )
        if media_type(request, FORM) != FORM:
            raise UnsupportedMediaError(f"The content type is not {FORM}.", remedy="Send what Slack sends.")
        return command


# One check for both places of the route, so that it is made once.
_SIGNED: Any = Depends(SignatureCheck())
_Command = Annotated[SlackCommand, _SIGNED]


class SlackAnswer(BaseModel):
    """What Slack shows to who has typed, and to nobody else."""

    response_type: str = Field("ephemeral", examples=["ephemeral"])
    text: str = Field(description="In Slack's markup; what is from outside is escaped.")


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["user_id"],
                    "properties": {
                        "command": {"type": "string"},
                        "text": {"type": "string"},
                        "user_id": {"type": "string"},
                        "user_name": {"type": "string"},
                    },
                },
                "example": {"command": "/relab", "text": "status", "user_id": "U2CERLKJA", "user_name": "roadrunner"},
            }
        },
    }
}


@router.post(
    "/slack/command",
    dependencies=[_SIGNED],
    responses=problem_responses(401, 404, 408, 413, 415, 422, 503),
    openapi_extra=_BODY,
    summary="Answer a command that somebody has typed in Slack",
)
async def post_slack_command(services: ServicesDep, command: _Command) -> SlackAnswer:
    """`/relab status|incidents|approve|reject|pause|resume|help`, signed by Slack (v0, five minutes, once).

    Who may do more than look is listed in RELAB_NOTICES__SLACK_OPERATORS; by default nobody. 404 without a signing secret.
    """
    if command.is_check:
        return SlackAnswer(text="")
    work = asyncio.create_task(run_in_threadpool(services.notices.answer, command))
    done, _ = await asyncio.wait([work], timeout=ANSWERS_WITHIN_S)
    if not done:
        # It is done all the same; only nobody here waits to hear what came of it.
        work.add_done_callback(_note_late)
        return SlackAnswer(text="It takes longer than Slack waits. See `/relab status` for what came of it.")
    return SlackAnswer(text=work.result())


def _note_late(work: asyncio.Task[str]) -> None:
    if not work.cancelled() and (error := work.exception()) is not None:
        _log.error("slack_command_failed", exc_info=error)
