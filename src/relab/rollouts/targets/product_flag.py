"""Read and change a feature flag of relab for a rollout. The arms A and B are two variants of the flag.

A service reads the flag through OpenFeature.
"""

from __future__ import annotations

import json
import shlex
from typing import Final

from relab.core.errors import InvalidInputError, NotFoundError, PreconditionFailedError
from relab.core.json import JsonValue, canonical_json
from relab.flags.models import ALL_BP, FlagContent, Rule, Serve, SplitPart
from relab.flags.service import FlagService, read_as
from relab.rollouts.errors import FlagsChangedError, FlagsRejectedError, SubjectError
from relab.rollouts.plans.subject import ProductFlagSubject
from relab.rollouts.targets.protocol import FlagState

RULE: Final = "rollout"
"""The name of the flag's rule that divides the targeting keys between the arms."""
AUTHOR: Final = "rollout"


class ProductFlagTarget:
    """One of relab's own feature flags as the target of a rollout.

    The value in a `FlagState` is the complete content of the current version: all variants and rules (`FlagContent`). The
    value of an archived flag is None, because clients cannot evaluate such a flag.

    Args:
        flags: the service of flags.
        subject: the key of the flag, and the names of the variants for arm A (old) and arm B (new).
    """

    def __init__(self, flags: FlagService, subject: ProductFlagSubject) -> None:
        self._flags = flags
        self._subject = subject

    @property
    def name(self) -> str:
        """The name of the flag for leases and messages: the word `flag` and its key."""
        return f"flag {self._subject.key}"

    def read(self) -> FlagState:
        """Return the content and version of the flag.

        Raises:
            SubjectError: the flag does not exist.
        """
        try:
            found = self._flags.get(self._subject.key)
        except NotFoundError as error:
            raise SubjectError(f"{error.message}", remedy="Create it with `lab flags set`.") from error
        # An archived version keeps the content of the version before it. With this content as its value, the flag would
        # seem to have the rollout's own value, and the rollout would try again and again to restore it.
        return FlagState(None if found.is_archived else found.content.model_dump(mode="json"), str(found.version))

    def send(self, wanted: JsonValue, expected: str | None) -> None:
        """Add a version of the flag with the content `wanted`, if the current version is `expected`.

        With `expected` None, the current version is not checked.

        Raises:
            FlagsRejectedError: the content is invalid.
            FlagsChangedError: the flag has another version than `expected`.
        """
        try:
            self._flags.update(
                self._subject.key,
                read_as(FlagContent, wanted),
                expected=None if expected is None else {int(expected)},
                author=AUTHOR,
                note="Changed by a rollout.",
            )
        except InvalidInputError as error:
            raise FlagsRejectedError(error.message, problems=error.problems) from error
        except PreconditionFailedError as error:
            raise FlagsChangedError(
                f"Another client changed the flag: {error.message}",
                remedy="Repeat the rollout while nothing else changes the flag.",
            ) from error

    def holds(self, state: FlagState, wanted: JsonValue) -> bool:
        """Return whether the content in `state` equals `wanted`."""
        return canonical_json(state.value) == canonical_json(wanted)

    def inverse(self, wanted: JsonValue, before: FlagState) -> JsonValue:  # noqa: ARG002 the protocol's parameter
        """Return the content in `before`; `wanted` is ignored, because a change always sets the complete content."""
        return before.value

    def share_of(self, before: FlagState, share_pct: float) -> JsonValue:
        """Return the content in `before` with a rule that serves the new variant (arm B) to a share of the clients.

        Rules with conditions that come earlier still decide first. A targeting key identifies a client. A client that
        gets the new variant keeps it while the share grows. A request without a targeting key is served by this rule
        only if the share is 0 % or 100 %.

        Args:
            before: the flag before the rollout.
            share_pct: the share in percent. It is rounded to 0.01 %.

        Raises:
            SubjectError: the flag is archived or disabled, or lacks a variant that the plan names.
        """
        if before.value is None:
            raise SubjectError(
                f"The flag {self._subject.key!r} is archived.",
                remedy=f"Bring it back with `lab flags rollback {self._subject.key} --to VERSION`.",
            )
        content = read_as(FlagContent, before.value)
        missing = [name for name in (self._subject.a, self._subject.b) if name not in content.variants]
        if missing or not content.is_enabled:
            problem = f"has no variant {missing[0]!r}" if missing else "is disabled"
            raise SubjectError(f"The flag {self._subject.key!r} {problem}.", remedy="Change the flag or the plan.")
        rules = [rule for rule in content.rules if rule.name != RULE]
        # Before the first rule without conditions, so that earlier rules for certain clients still decide.
        place = next((index for index, rule in enumerate(rules) if not rule.conditions), len(rules))
        rules.insert(place, Rule(name=RULE, serve=self._serve(share_pct)))
        return content.model_copy(update={"rules": tuple(rules)}).model_dump(mode="json")

    def command(self, wanted: JsonValue) -> str:
        """Return a `lab flags set` command that sets the flag to the content `wanted`."""
        # `echo` would replace escapes such as \\n in some shells.
        return (
            f"printf %s {shlex.quote(json.dumps(wanted))} | lab flags set {shlex.quote(self._subject.key)} /dev/stdin"
        )

    def _serve(self, share_pct: float) -> Serve:
        weight_bp = round(share_pct * ALL_BP / 100)
        if weight_bp in {0, ALL_BP}:
            return Serve(variant=self._subject.b if weight_bp else self._subject.a)
        # Arm B comes first, so that a growing share only adds targeting keys to it.
        return Serve(
            split=(
                SplitPart(variant=self._subject.b, weight_bp=weight_bp),
                SplitPart(variant=self._subject.a, weight_bp=ALL_BP - weight_bp),
            )
        )
