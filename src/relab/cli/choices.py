"""Convert the value of a command-line option to one of several choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

from relab.core.errors import InvalidInputError

if TYPE_CHECKING:
    from enum import StrEnum

ChoiceT = TypeVar("ChoiceT", bound="StrEnum")


@overload
def choice_of(kind: type[ChoiceT], option: str, noun: str, text: str) -> ChoiceT: ...
@overload
def choice_of(kind: type[ChoiceT], option: str, noun: str, text: str | None) -> ChoiceT | None: ...
def choice_of(kind: type[ChoiceT], option: str, noun: str, text: str | None) -> ChoiceT | None:
    """Convert the value of a command-line option to a member of the enumeration `kind`; None stays None.

    Args:
        kind: the enumeration.
        option: the name of the option, for the error message.
        noun: a word for a member, such as "a status", for the error message.
        text: the value of the option.

    Raises:
        InvalidInputError: `text` names no member; the message names the option and all choices.
    """
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError as error:
        raise InvalidInputError(f"{option}: {text[:80]!r} is not {noun}.", remedy=f"Use {' | '.join(kind)}.") from error
