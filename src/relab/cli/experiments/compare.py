"""`lab compare`: decide whether a variant may replace the baseline. The exit code is the verdict, for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from relab.cli.output import (
    EXIT_FAILED,
    EXIT_UNDECIDED,
    EXIT_USAGE,
    JsonOption,
    plain,
    print_json,
    print_table,
    report_error,
)
from relab.core.errors import ConflictError, InvalidInputError, NotFoundError


def compare(
    run_dir: Annotated[Path, typer.Argument(help="The folder or the id of a run, or of a set of experiments.")],
    baseline: Annotated[str | None, typer.Option(help="Compare with this variant instead of the baseline.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="A metric in which a variant must be better than the baseline; may be repeated. Default: the primary metrics."
        ),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            help="A bound on the difference of a variant from the baseline, such as success>=-0.02 (at most 2 points worse) "
            "or latency_ms<=5%; may be repeated."
        ),
    ] = None,
    scores: Annotated[str | None, typer.Option(help="Compare by the scores of this name from `lab rescore`.")] = None,
    json: JsonOption = False,
) -> int:
    """Judge whether each variant of a run may replace the baseline. For a set of experiments, judge each of its runs.

    Exit code: 0 PASS; 1 FAIL; 2 EDGE (the data fit both PASS and FAIL), INVALID (the data allow no decision) or a
    damaged run; 64 if there is no such run.
    """
    from relab.cli.experiments.context import open_experiments
    from relab.experiments.sets import find_set

    with open_experiments(telemetry=False) as service:
        try:
            if (of_set := find_set(Path.cwd(), run_dir)) is not None:
                if scores is not None:
                    raise InvalidInputError("--scores needs a single run, not a set.")
                experiments = service.sets.find(Path.cwd(), of_set)
                judged = service.sets.compare(experiments, baseline=baseline, metrics=metric or (), gates=gate or ())
                return _show_set(judged, json)
            found = service.compare(
                Path.cwd(), run_dir, baseline=baseline, metrics=metric or (), gates=gate or (), scores=scores
            )
        except NotFoundError as error:
            # Not the usual exit code 1, which means FAIL here.
            report_error(error)
            return EXIT_USAGE
        except ConflictError as error:
            # A damaged run; not exit code 1, which means FAIL here.
            report_error(error)
            return EXIT_UNDECIDED
    code = _code(found.verdict)
    if json:
        print_json("compare", **found.to_json(), exit_code=code)
        return code
    _show(found)
    return code


def _code(verdict: Any) -> int:
    return {"PASS": 0, "FAIL": EXIT_FAILED}.get(verdict.value, EXIT_UNDECIDED)


def _show_set(found: Any, json: bool) -> int:
    """Print the verdict on each run of a set of experiments and on the whole set; return the exit code for the set.

    The verdict on the set is the worst verdict on a run. With `json`, one JSON object is printed instead of text.
    """
    code = _code(found.verdict)
    if json:
        print_json("compare", **found.to_json(), exit_code=code)
        return code
    for name, run in found.runs:
        print(f"experiment {plain(name)}")
        _show(run)
    print(f"set {plain(found.set_id)}: {found.verdict.value}: {plain(found.reason)}")
    return code


def _show(found: Any) -> None:
    if found.fork is not None:
        print(plain(found.fork))
    print_table(
        f"{found.run_id}, compared with the baseline {found.baseline}{_together(found.joint)}",
        ("verdict", "variant", "gate", "difference", "interval", "pairs", "chance of a false PASS"),
        map(_row, found.results),
    )
    _say_how_it_stopped(found.stopping)
    for result in found.results:
        judgement = result.judgement
        # The reason of the overall verdict is printed last.
        if (judgement.needed or judgement.is_near) and f"{result.variant}: {judgement.reason}" != found.reason:
            print(f"{plain(result.variant)}: {judgement.verdict.value}: {plain(judgement.reason)}")
    print(f"{found.verdict.value}: {plain(found.reason)}")


def _together(joint: Any) -> str:
    if joint is None or joint.comparisons < 2:
        return ""
    return f": {joint.comparisons} comparisons; all intervals hold at the same time with {joint.level * 100:.3g}%"


def _say_how_it_stopped(stopping: Any) -> None:
    if stopping is None:
        return
    print("The run could stop early, so the intervals are always-valid ones: they hold at every number of tasks.")
    for decision in stopping["decisions"]:
        print(f"decided: {plain(decision['reason'])}")


def _row(result: Any) -> list[object]:
    judgement = result.judgement
    interval = judgement.interval
    return [
        judgement.verdict.value,
        result.variant,
        result.gate,
        None if judgement.estimate is None else f"{judgement.estimate:+.4g}",
        None if interval is None else interval.ends_text,
        judgement.windows,
        None if judgement.false_pass_rate is None else f"{judgement.false_pass_rate:.1%}",
    ]
