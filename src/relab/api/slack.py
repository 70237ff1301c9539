"""The route of Slack commands: requests are authenticated by Slack's signature instead of a token."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from relab.core.errors import UnsupportedMediaError
from relab.core.logging import get_logger
from relab.http.body import body_of_at_most, media_type
from relab.http.deps import ServicesDep
from relab.http.problems import problem_responses
from relab.incidents.notices.service import SlackCommand

router = APIRouter(tags=["incidents"])

MAX_BYTES: Final = 65_536
RESPONSE_TIMEOUT_S: Final = 2.5
"""Slack waits for three seconds."""
FORM: Final = "application/x-www-form-urlencoded"

_log = get_logger(__name__)


class SignatureCheck:
    """A FastAPI dependency that accepts only requests signed by Slack, and each request only once.

    The route for Slack commands uses this check instead of a scope.
    """

    async def __call__(self, request: Request, services: ServicesDep) -> SlackCommand:
        """Check the signature of a request, and return the Slack command in its body.

        Raises:
            SlackSignatureError: the signature is not valid, or the request is a replay (401).
            SlackOffError: Slack commands are not set up (404).
            UnsupportedMediaError: the content type is not that of a form (415).
            InvalidInputError: the request cannot be parsed (422).
        """
        body = await body_of_at_most(request, MAX_BYTES)
        command: SlackCommand = await run_in_threadpool(
            services.notices.take_in,
            body,
            timestamp=request.headers.get("x-slack-request-timestamp"),
            signature=request.headers.get("x-slack-signature"),
        )
        if media_type(request, FORM) != FORM:
            raise UnsupportedMediaError(f"The content type is not {FORM}.", remedy="Send the form as Slack sends it.")
        return command


# One check for both places of the route, so that it is made once.
_SIGNED: Any = Depends(SignatureCheck())
_Command = Annotated[SlackCommand, _SIGNED]


class SlackAnswer(BaseModel):
    """The reply to a Slack command, which Slack shows only to the user of the command."""

    response_type: str = Field("ephemeral", examples=["ephemeral"])
    text: str = Field(description="In Slack's markup; texts from outside are escaped.")


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
    summary="Answer a Slack command",
)
async def post_slack_command(services: ServicesDep, command: _Command) -> SlackAnswer:
    """Answer `/relab status|incidents|approve|reject|pause|resume|help`.

    Slack must have signed the request (v0) in the last five minutes. Each request is accepted once. The setting
    RELAB_NOTICES__SLACK_OPERATORS lists the Slack users who may change something; by default it is empty. 404 if no
    signing secret is set.
    """
    if command.is_check:
        return SlackAnswer(text="")
    work = asyncio.create_task(run_in_threadpool(services.notices.answer, command))
    done, _ = await asyncio.wait([work], timeout=RESPONSE_TIMEOUT_S)
    if not done:
        # The command is completed in the background.
        work.add_done_callback(_note_late)
        return SlackAnswer(text="The command is still running. `/relab status` shows its result.")
    return SlackAnswer(text=work.result())


def _note_late(work: asyncio.Task[str]) -> None:
    if not work.cancelled() and (error := work.exception()) is not None:
        _log.error("slack_command_failed", exc_info=error)
