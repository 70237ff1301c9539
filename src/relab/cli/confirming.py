"""Ask for a confirmation before data is deleted."""

from __future__ import annotations

import sys

import typer

from relab.core.errors import InvalidInputError


def confirm(question: str) -> None:
    """Ask a yes-or-no question on stderr, and return if the answer is yes.

    Raises:
        typer.Abort: the answer is no, or a person interrupted the question.
        InvalidInputError: standard input ended without an answer, as in a job without a terminal.
    """
    try:
        is_confirmed = typer.confirm(question, err=True)
    except typer.Abort as error:
        if sys.stdin is not None and sys.stdin.isatty():
            raise

        # The question ends without a newline.
        print(file=sys.stderr)
        raise InvalidInputError(
            "The command asks for a confirmation, and standard input has no answer; nothing was changed.",
            remedy="Repeat it with --yes.",
        ) from error
    if not is_confirmed:
        raise typer.Abort
