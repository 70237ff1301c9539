"""Schemas of flags: the `{control, routing}` document of a service, and the versioned flags of relab.

The document of a service is always complete and valid; an update names only the fields that it changes. Unknown fields,
wrong types and values out of range are rejected by name, so every accepted field takes effect.

A versioned flag is a key and a sequence of versions. Each version holds the complete content of the flag: named values
of one type (variants), and rules that choose one of them. A version never changes; every change of a flag adds a
version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self, TypeAlias

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from relab.core.clock import Timestamp
from relab.core.errors import InvalidInputError
from relab.core.json import JsonValue, whole
from relab.core.validation import plain_message
from relab.flags.values import ValueType, fits, is_scalar

ControlPolicy = Literal["aimd", "fixed"]
RoutingPolicy = Literal["rules", "manual"]
Backend = Literal["faiss", "qdrant"]
Actuator = Literal["concurrency", "batch_size"]

ACTUATORS: Final[tuple[Actuator, ...]] = ("concurrency", "batch_size")
TargetP95 = Annotated[float, Field(ge=1, le=60_000)]
MaxConcurrency = Annotated[int, Field(ge=1, le=1_024)]
MaxBatchSize = Annotated[int, Field(ge=1, le=256)]
TopkThreshold = Annotated[int, Field(ge=0, le=10_000)]
Actuators = Annotated[tuple[Actuator, ...], Field(max_length=len(ACTUATORS), strict=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ControlFlags(_Strict):
    """Flags of a service's flow control, which limits how many requests the service handles at the same time.

    Attributes:
        policy: with `fixed`, the limit is `max_concurrency`. With `aimd`, it falls while P95 is too high (minimum 1).
        target_p95_ms: the largest P95 latency that `aimd` accepts, including the time that requests wait.
        max_concurrency: the maximum number of requests in all workers together; each worker has at least 1.
        max_batch_size: maximum number of searches that are answered together.
        enabled_actuators: the limits that apply. Without `concurrency`, the number of requests has no limit. Without
            `batch_size`, each search is answered alone.
    """

    policy: ControlPolicy = "aimd"
    target_p95_ms: TargetP95 = 1_200.0
    max_concurrency: MaxConcurrency = 32
    max_batch_size: MaxBatchSize = 32
    enabled_actuators: Actuators = ACTUATORS


class RoutingFlags(_Strict):
    """Flags that choose the index which answers a search.

    Attributes:
        enabled: whether `policy` chooses the index; if False, `manual_backend` is the index for every search.
        policy: `rules` chooses FAISS if `top_k <= topk_threshold`, else Qdrant. `manual` chooses `manual_backend`.
        topk_threshold: the largest `top_k` (number of results) that goes to FAISS; 0 sends all searches to Qdrant.
        manual_backend: the index that is used with the policy `manual`, or if `enabled` is False; null means Qdrant.
    """

    enabled: bool = True
    policy: RoutingPolicy = "rules"
    topk_threshold: TopkThreshold = 32
    manual_backend: Backend | None = None

    def backend(self, top_k: int) -> Backend:
        """Return the name of the index that answers a search for `top_k` results, according to these flags."""
        if not self.enabled or self.policy == "manual":
            return self.manual_backend or "qdrant"
        return "faiss" if top_k <= self.topk_threshold else "qdrant"


class ServiceFlags(_Strict):
    """The complete document of a service's flags: flow control (`control`), and choice of search index (`routing`)."""

    control: ControlFlags = ControlFlags()
    routing: RoutingFlags = RoutingFlags()

    def updated(self, document: JsonValue) -> ServiceFlags:
        """Return these flags with the values in `document`; fields that `document` lacks keep their values.

        A list in `document` replaces the complete list.

        Raises:
            InvalidInputError: a field is unknown or invalid (the error names each), no field is named, or `document` is not
                an object.
        """
        if not isinstance(document, dict):
            raise InvalidInputError("The flags are a JSON object with `control`, `routing` or both.")
        if set(document) <= ServiceFlags.model_fields.keys() and not any(document.values()):
            raise InvalidInputError("The update names no flag.", remedy="Give a field of `control` or of `routing`.")
        merged: dict[str, JsonValue] = dict(document)
        for name in ServiceFlags.model_fields:
            given = document.get(name, {})
            # If the section is not an object, the validation below rejects it by name.
            merged[name] = {**getattr(self, name).model_dump(), **given} if isinstance(given, dict) else given
        try:
            flags = ServiceFlags.model_validate(merged)
        except ValidationError as error:
            problems = tuple(
                (".".join(map(str, item["loc"])), _reason(item["type"], plain_message(item["msg"])))
                for item in error.errors()
            )
            named = ", ".join(field for field, _ in problems)
            raise InvalidInputError(f"The flags are unchanged; rejected: {named}.", problems=problems) from error
        if len(set(flags.control.enabled_actuators)) != len(flags.control.enabled_actuators):
            problem = ("control.enabled_actuators", "names an actuator twice")
            raise InvalidInputError(f"The flags are unchanged; rejected: {problem[0]}.", problems=(problem,))
        return flags


def _reason(kind: str, message: str) -> str:
    return "unknown field" if kind == "extra_forbidden" else message


ALL_BP: Final = 10_000
"""100 % in basis points; the weights of a split add up to it."""
MAX_VARIANTS: Final = 100
MAX_RULES: Final = 100
MAX_CONDITIONS: Final = 20
MAX_LISTED: Final = 1_000
MAX_INT32: Final = 2**31 - 1

FLAG_KEY_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$"
FlagKey = Annotated[str, Field(pattern=FLAG_KEY_PATTERN)]
VariantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
VersionNumber = Annotated[int, Field(ge=1, le=MAX_INT32), BeforeValidator(whole)]
Note = Annotated[str, Field(max_length=1_000)]

Operator = Literal["eq", "in", "starts_with", "lt", "gt"]
Reason = Literal["STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED", "DEFAULT"]
FlagAction = Literal["created", "updated", "rolled_back", "archived"]

CONTENT_ERROR: Final = "flag_content"
"""The type of the pydantic error for a content whose fields contradict each other; its context lists the `problems`."""

Context: TypeAlias = Mapping[str, pydantic.JsonValue]
"""The attributes, by name, for which a flag is evaluated; `targetingKey` identifies the subject, such as a user."""


class Condition(_Strict):
    """A condition on one attribute of the context. It does not hold if the attribute is absent or of another type.

    Attributes:
        attribute: name of the attribute; `targetingKey` is allowed, too.
        op: `eq` and `in` compare texts, numbers and booleans, `starts_with` compares texts, `lt` and `gt` numbers.
        value: the value to compare with; a list of values for `in`.
    """

    attribute: Annotated[str, Field(min_length=1, max_length=200)]
    op: Operator
    value: pydantic.JsonValue

    @model_validator(mode="after")
    def _value_fits(self) -> Self:
        if self.op == "in":
            if not isinstance(self.value, list) or not 1 <= len(self.value) <= MAX_LISTED:
                raise ValueError(f"`in` requires a list of 1 to {MAX_LISTED:,} values")
            if not all(is_scalar(item) for item in self.value):
                raise ValueError("`in` lists texts, numbers and booleans")
        elif self.op == "eq" and not is_scalar(self.value):
            raise ValueError("`eq` requires a string, a number or a boolean")
        elif self.op == "starts_with" and (not isinstance(self.value, str) or not self.value):
            raise ValueError("`starts_with` requires a non-empty string")
        elif self.op in {"lt", "gt"} and not fits(self.value, "number"):
            raise ValueError(f"`{self.op}` requires a number")
        return self


class SplitPart(_Strict):
    """The share of one variant in a split; `weight_bp` is in basis points (1/10,000)."""

    variant: VariantName
    weight_bp: Annotated[int, Field(ge=0, le=ALL_BP), BeforeValidator(whole)]


class Serve(_Strict):
    """The result of a rule that matches: one variant, or a split of all targeting keys among several variants.

    A targeting key is the id of a user or other subject; its hash is one of 10,000 buckets. A split divides the buckets
    among its parts, in order, by weight. If the weight of only one part grows, this part loses no targeting key.
    """

    variant: VariantName | None = None
    split: Annotated[tuple[SplitPart, ...], Field(min_length=1, max_length=MAX_VARIANTS, strict=False)] | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.variant is None) == (self.split is None):
            raise ValueError("name either a variant or a split")
        if self.split is not None:
            total = sum(part.weight_bp for part in self.split)
            if total != ALL_BP:
                raise ValueError(f"the weights of a split add up to {ALL_BP} basis points, not {total}")
            if len({part.variant for part in self.split}) != len(self.split):
                raise ValueError("a split names a variant twice")
        return self

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of the variants that the rule may serve."""
        if self.split is not None:
            return tuple(part.variant for part in self.split)
        return (self.variant,) if self.variant is not None else ()


class Rule(_Strict):
    """A rule of a flag, which matches a context if all its conditions hold; without conditions, it always matches."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    conditions: Annotated[tuple[Condition, ...], Field(max_length=MAX_CONDITIONS, strict=False)] = ()
    serve: Serve


class FlagContent(_Strict):
    """The complete content of one version of a flag.

    Attributes:
        value_type: the type of all variants' values.
        value_schema: the schema of all values, in JSON the field `schema`. With `service_flags`, each value must be a
            complete document of a service's flags (`ServiceFlags`). With None, only `value_type` is checked.
        variants: the values, by the name of the variant.
        default_variant: the variant that is served if no rule matches, or while the flag is disabled.
        is_enabled: whether the rules are evaluated.
        salt: a text that is hashed together with each targeting key; a new salt redistributes the keys in splits.
        rules: the rules in order; the first one that matches the context decides.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    description: Annotated[str, Field(max_length=2_000)] = ""
    value_type: ValueType
    value_schema: Literal["service_flags"] | None = Field(None, alias="schema")
    variants: Annotated[dict[VariantName, pydantic.JsonValue], Field(min_length=1, max_length=MAX_VARIANTS)]
    default_variant: VariantName
    is_enabled: bool = True
    salt: Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f]*$")] = ""
    rules: Annotated[tuple[Rule, ...], Field(max_length=MAX_RULES, strict=False)] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [rule.name for rule in self.rules]
        problems = [*self._wrong_values(), *self._unknown_variants()]
        problems += [("rules", f"two are named {name!r}") for name in sorted(set(names)) if names.count(name) > 1]
        if self.value_schema is not None and self.value_type != "object":
            problems.append(("schema", f"{self.value_schema} describes an object, not a {self.value_type}"))
        if problems:
            summary = "; ".join(f"{field} {message}" for field, message in problems[:20])
            raise PydanticCustomError(CONTENT_ERROR, "{summary}", {"summary": summary, "problems": problems})
        return self

    def _wrong_values(self) -> list[tuple[str, str]]:
        problems = []
        for name, value in self.variants.items():
            if not fits(value, self.value_type):
                problems.append((f"variants.{name}", f"is not of type {self.value_type}"))
            elif self.value_schema == "service_flags" and self.value_type == "object":
                problems += [(f"variants.{name}.{field}", message) for field, message in _service_problems(value)]
        return problems

    def _unknown_variants(self) -> list[tuple[str, str]]:
        named = [("default_variant", self.default_variant)]
        named += [
            (f"rules.{index}.serve", name) for index, rule in enumerate(self.rules) for name in rule.serve.variants
        ]
        return [(field, f"names no variant: {name!r}") for field, name in named if name not in self.variants]


class FlagVersionInfo(BaseModel):
    """One version of a flag without its content.

    Attributes:
        action: the kind of change that added this version.
        digest: SHA-256 of the content; equal contents have equal digests.
        restored_version: the version from which a rollback took the content; None for other changes.
    """

    model_config = ConfigDict(frozen=True)

    key: FlagKey
    version: VersionNumber
    action: FlagAction
    created_at: Timestamp
    author: str
    note: str
    digest: str
    restored_version: VersionNumber | None

    @property
    def is_archived(self) -> bool:
        """Whether the flag is archived at this version."""
        return self.action == "archived"


class FlagVersion(FlagVersionInfo):
    """One version of a flag with its content."""

    content: FlagContent


class FlagSummary(BaseModel):
    """A flag as lists show it, with some fields of its current version."""

    key: FlagKey
    version: VersionNumber
    is_archived: bool
    is_enabled: bool
    value_type: ValueType
    default_variant: str
    description: str
    updated_at: Timestamp


class FlagPage(BaseModel):
    """A page of flags, ordered by key; `next_after` is the argument `after` for the next page, null on the last one."""

    items: list[FlagSummary]
    next_after: str | None


class FlagHistory(BaseModel):
    """A page of versions, newest first; `next_before` is the argument `before` for the next page, null on the last."""

    items: list[FlagVersionInfo]
    next_before: int | None


class FlagDifference(BaseModel):
    """One difference between the contents of two versions of a flag.

    Attributes:
        path: a JSON pointer (RFC 6901) to the value that differs.
        before: the value in the first content; null if it was added.
        after: the value in the second content; null if it was removed.
    """

    path: str = Field(examples=["/variants/on"])
    change: Literal["added", "removed", "changed"]
    before: pydantic.JsonValue
    after: pydantic.JsonValue


class FlagDiff(BaseModel):
    """A comparison of two versions of a flag; `differences` is empty if their contents are equal."""

    key: FlagKey
    from_version: VersionNumber
    to_version: VersionNumber
    differences: list[FlagDifference]


class Evaluation(BaseModel):
    """The value of a flag for one context, and the reason for it.

    Attributes:
        reason: `STATIC`: the flag has no rules. `TARGETING_MATCH`: a rule chose the variant. `SPLIT`: the split of a
            rule chose it. `DEFAULT`: no rule matched. `DISABLED`: the flag is disabled.
    """

    key: FlagKey
    version: VersionNumber
    variant: str
    value: pydantic.JsonValue
    reason: Reason


class EvaluationFailure(BaseModel):
    """The reason why one of several flags has no value for a context; `code` is the code of the error."""

    key: FlagKey
    code: str
    message: str


def _service_problems(value: object) -> list[tuple[str, str]]:
    """Return `(field, problem)` pairs for a value; empty if it is a complete document of a service's flags."""
    document = value if isinstance(value, dict) else {}
    # A rollback to an incomplete document would not restore the missing fields.
    missing = [
        (f"{section}.{name}", "is missing; a version holds the whole document")
        for section, fields in ServiceFlags().model_dump().items()
        for name in fields
        if not isinstance(document.get(section), dict) or name not in document[section]
    ]
    try:
        ServiceFlags().updated(document)
    except InvalidInputError as error:
        return [*missing, *error.problems]
    return missing
