"""prompt_regression: the agent's version in this run is worse than its previous version.

Either stored runs of the two versions show this, or an error reports it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from relab.rca.detectors.comparison import Difference, VersionComparison, compare_versions
from relab.rca.detectors.descriptor import CategoryDescriptor, action
from relab.rca.detectors.phrases import Phrases, phrase
from relab.rca.detectors.problems import DetectedProblem
from relab.rca.detectors.signs import ErrorRule, problem_of, signs
from relab.rca.evidence import Quotation, RunView, quotable_field
from relab.rca.models import Category, Confidence, EvidenceKind

MAX_DIFFERENCES = 10
"""How many differences are reported: outcome, steps and the most significant tools.

A version that replaces all of its tools needs no complete list of them."""

REPORTED: Final = "reported"
"""The detail of a problem that an error or a guardrail event reports, in contrast to a measured difference."""

_WORSE = r"prompt[ _-]?(?:regression|drift)"
_SEEN = r"(?:detect|found|confirm|observ|suspect)\w*"

RULE = ErrorRule(
    codes={},
    classes=re.compile(r"prompt_?(?:regression|drift)", re.IGNORECASE),
    phrases=Phrases(
        (
            phrase(
                REPORTED,
                "prompt",
                # A text may name prompt regressions without a report of one: "write a test for prompt regressions".
                rf"(?:^|[:;(.!-])\W*{_WORSE}(?:\s*(?:[.:;,()!]|$)| (?:in|since|after|from|between|of)\b)"
                rf"|\b{_WORSE} (?:(?:was|is|has been) )?{_SEEN}\b"
                rf"|\b(?:{_SEEN}|caused by|because of|due to|(?:this|it|cause|reason|problem) (?:is|was)|shows?|likely)"
                rf" (?:a |the |an? \w+ )?{_WORSE}\b"
                r"|\bprompt behaviou?r (?:has |was |is )?chang"
                r"|\b(?:since|after|due to|because of|caused by) (?:a |the )?(?:new )?(?:system )?prompt (?:change|update)",
            ),
        )
    ),
    guard_types=re.compile(r"prompt[ _-]?(?:regression|drift|change)", re.IGNORECASE),
)

MIN_ATTRIBUTABLE_SHARE = 0.5
"""The new version explains a single failure if the previous version would probably (at least 50 %) not have failed."""


def detect(view: RunView) -> Iterator[DetectedProblem]:
    """Find problems of the agent's version in this run, compared with its previous version.

    There are two kinds:

    - An error or guardrail event of the run reports a regression of the prompt. The `detail` is `reported`.
    - Other stored runs of the two versions differ significantly. The `detail` has two parts, such as `outcome_prompt`:
      what differs (`outcome`, `steps` or `tools`), and what was changed (`prompt`, `version` or `prompt_and_version`).
    """
    for failure, sign in signs(RULE.read, view):
        yield problem_of(Category.PROMPT_REGRESSION, failure, replace(sign, detail=REPORTED))
    comparison = compare_versions(view.run, view.history)
    if comparison is None:
        return
    worse = comparison.of("outcome") is not None
    for difference in comparison.differences[:MAX_DIFFERENCES]:
        yield _problem(view, comparison, difference, worse=worse)


def changed_part(comparison: VersionComparison) -> str:
    """Return what was changed between two versions: `prompt`, `version` (only its name), or `prompt_and_version`."""
    version_changed = comparison.version[0] != comparison.previous[0]
    prompt_changed = comparison.version[1] != comparison.previous[1]
    if version_changed and prompt_changed:
        return "prompt_and_version"
    return "prompt" if prompt_changed else "version"


def _confidence(comparison: VersionComparison, difference: Difference, *, worse: bool) -> Confidence:
    """Return the confidence that the change of the version explains the failure of the run.

    The first case that applies decides:

    - Low if `difference` is not a difference of success rates, or if the attributable fraction is below
      `MIN_ATTRIBUTABLE_SHARE`.
    - High if the success rate is worse (`worse`), and the number of steps or the use of tools differs too.
    - Medium otherwise.

    The attributable fraction is (r1 - r0) / r1, where r1 is the failure rate of the new version and r0 that of the
    previous version. Source: O. S. Miettinen, Am. J. Epidemiol. 99, 1974.
    """
    if difference.aspect != "outcome":
        return Confidence.LOW
    failing, before = 1 - difference.value, 1 - difference.previous_value
    if (failing - before) / failing < MIN_ATTRIBUTABLE_SHARE:
        return Confidence.LOW
    behaves_differently = worse and len({item.aspect for item in comparison.differences}) > 1
    return Confidence.HIGH if behaves_differently else Confidence.MEDIUM


def _problem(view: RunView, comparison: VersionComparison, difference: Difference, *, worse: bool) -> DetectedProblem:
    changed = changed_part(comparison)
    fields = ("prompt_hash", "agent_version") if changed == "prompt" else ("agent_version", "prompt_hash")
    field = quotable_field(view.run, *fields)
    previous = comparison.previous[0 if field == "agent_version" else 1]
    attributes: dict[str, str | int | float | bool | None] = {
        "previous_version": previous,
        "runs": comparison.runs,
        "previous_runs": comparison.previous_runs,
        "aspect": difference.aspect,
        "test": difference.test,
        "p_value": difference.p_value,
        "difference": difference.difference,
    }
    match difference.aspect:
        case "outcome":
            attributes |= {"success_rate": difference.value, "previous_success_rate": difference.previous_value}
        case "steps":
            attributes |= {"median_steps": difference.value, "previous_median_steps": difference.previous_value}
        case "tools":
            attributes |= {
                "tool": difference.tool,
                "share_of_runs": difference.value,
                "previous_share_of_runs": difference.previous_value,
            }
    return DetectedProblem(
        category=Category.PROMPT_REGRESSION,
        detail=f"{difference.aspect}_{changed}",
        confidence=_confidence(comparison, difference, worse=worse),
        at_us=view.run.started_at,
        kind=EvidenceKind.VERSION,
        position=0,
        quotes=(
            Quotation(
                EvidenceKind.VERSION,
                view.run,
                field,
                attributes=attributes,
                title=f"This version against the previous version: {difference.aspect}",
            ),
        ),
        tool_name=difference.tool,
        recovered=view.succeeded,
    )


DESCRIPTOR = CategoryDescriptor(
    category=Category.PROMPT_REGRESSION,
    detect=detect,
    title="Prompt Regression",
    cause="a change of the agent's version",
    causes_by_detail={REPORTED: "a change of the prompt"},
    clause="this version fails more often than the previous version",
    names=re.compile(r"prompt[-_ ]*regression|\bregress"),
    checks=(
        "Run both versions on the same tasks and compare their outcomes",
        "Compare prompt, model and tool definitions of the two versions",
    ),
    actions=(
        action(
            "prompt_change",
            "high",
            "Return to the previous version",
            "Roll back to the version that did better until the difference is understood.",
        ),
        action(
            "process",
            "medium",
            "Test versions before they are rolled out",
            "Run each new version on a fixed set of tasks, and compare success rate and steps with the previous version.",
        ),
    ),
    is_general=True,
)
