"""Read options that name one of several choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from enum import StrEnum

ChoiceT = TypeVar("ChoiceT", bound="StrEnum")


def choice_of(kind: type[ChoiceT], option: str, noun: str, text: str) -> ChoiceT:
    """Return the choice that the value `text` of an option names; `noun` is what it is, such as "a status".

    Raises:
        InvalidInputError: there is no such choice; the message names the option and all choices.
    """
    from relab.core.errors import InvalidInputError

    try:
        return kind(text)
    except ValueError as error:
        raise InvalidInputError(f"{option}: {text[:80]!r} is not {noun}.", remedy=f"Use {' | '.join(kind)}.") from error
