"""`lab trials`, and the group `lab trial` (`show`, `diff`): show what single trials did."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from relab.cli.choices import choice_of
from relab.cli.output import JsonOption, argument, plain, print_json, print_table

app = typer.Typer(help="One trial: `show`; two trials: `diff`.", no_args_is_help=True)

TrialArgument = Annotated[str, typer.Argument(help="<run>.<trial>, such as run_….trial_3; or the folder of a trial.")]
_SHOWN_CHARS = 2_000
_LABELS = {"variant_id": "variant", "task_id": "task", "repl_idx": "repeat"}
"""The words for people for fields of a trial's row."""


def trials(
    run: Annotated[Path, typer.Argument(help="The folder or the id of a run.")],
    outcome: Annotated[str | None, typer.Option(help="success | failure | missing | error")] = None,
    variant: Annotated[str | None, typer.Option(help="Only trials of this variant.")] = None,
    task: Annotated[str | None, typer.Option(help="Only trials of this task.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The largest number of trials to print.")] = 200,
    json: JsonOption = False,
) -> None:
    """List the trials of a run that have a result, in the order of their ends."""
    from relab.experiments.models import TrialOutcome
    from relab.experiments.service import list_trials

    if outcome is not None:
        choice_of(TrialOutcome, "--outcome", "an outcome", outcome)
    found = list_trials(Path.cwd(), run, outcome=outcome, variant=variant, task=task)
    shown = found[:limit]
    if json:
        print_json("trials", trials=shown, total=len(found))
        return
    more = ("parent",) if shown and "parent" in shown[0] else ()
    if any(row["cached_from"] for row in shown):
        more = (*more, "cached_from")
    columns = (
        "trial",
        "variant",
        "task",
        "repeat",
        "outcome",
        "error",
        "duration, s",
        "primary metric",
        *(name.replace("_", " ") for name in more),
    )
    rows = (
        [
            row["trial_id"],
            row["variant_id"],
            row["task_id"],
            row["repl_idx"],
            row["outcome"],
            row["error_type"],
            _seconds(row["duration_ms"]),
            row["primary_metric_value"],
            *(row[name] for name in more),
        ]
        for row in shown
    )
    print_table(f"Trials ({len(found):,})", columns, rows)
    if len(found) > len(shown):
        print(f"lab: {len(found) - len(shown):,} more; see them with --limit {len(found)}", file=sys.stderr)


@app.command("show")
def show(trial: TrialArgument, json: JsonOption = False) -> None:
    """Show a trial: its outcome and the reason, input, output, last events, the end of stdout, and changed files."""
    from relab.experiments.service import show_trial

    found = show_trial(Path.cwd(), trial)
    if json:
        print_json("trial show", **found)
        return
    row = found["row"]
    for name, value in {
        "trial": found["trial"],
        "status": found["status"],
        **{_LABELS.get(name, name): row[name] for name in (*_LABELS, "outcome") if name in row},
        "duration, s": _seconds(row.get("duration_ms")),
        "folder": found["trial_dir"],
    }.items():
        print(f"{name}: {plain(value)}")
    if row.get("cached_from"):
        print(f"from the result cache: {plain(row['cached_from'])}")
    for reason in found["why"]:
        print(f"why: {plain(reason)}")
    for name in ("input", "output"):
        _show_document(name, found[name])
    _show_events(found["events"])
    for name in ("stdout", "stderr"):
        _show_text(f"end of {name}", found[name])
    _show_changes(found["changes"])
    for item in found["patches"]:
        show_patch(item["patch"])
    if row.get("agent_run_id"):
        print(f"next: lab rca {argument(row['agent_run_id'])}")


@app.command("diff")
def diff(first: TrialArgument, second: TrialArgument, json: JsonOption = False) -> None:
    """Compare two trials: outcomes, metrics, answers, events, and the files that they changed."""
    from relab.experiments.service import diff_trials

    found = diff_trials(Path.cwd(), first, second)
    if json:
        print_json("trial diff", **found)
        return
    if not found["same_task"]:
        print("lab: the two trials are of different tasks", file=sys.stderr)
    one, other = found["trials"]
    duration = [_seconds(value) for value in found["rows"].pop("duration_ms")]
    values = {
        **{_LABELS.get(name, name.replace("_", " ")): pair for name, pair in found["rows"].items()},
        "duration, s": duration,
        **{f"metric {name}": pair for name, pair in found["metrics"].items()},
    }
    if found["answers"] != [None, None]:
        values["answer"] = [_cut(answer) for answer in found["answers"]]
    rows = [[name, a, b, "" if a == b else "differs"] for name, (a, b) in values.items()]
    print_table("Values", ("value", one, other, "difference"), rows)
    counts = found["events"]["counts"]
    if found["events"]["diff"]:
        print(f"events: {counts[0]:,} and {counts[1]:,}, which differ:")
        show_patch("\n".join(found["events"]["diff"]))
    else:
        print(f"events: {counts[0]:,} and {counts[1]:,}, of the same kinds in the same order")
    if found["files"]:
        print_table("Changed files", ("file", "changed"), ([item["path"], item["changed"]] for item in found["files"]))
    for item in found["files"]:
        if item["patch"]:
            print(f"{plain(item['path'])}:")
            show_patch(item["patch"])


def _seconds(duration_ms: float | None) -> str | None:
    return None if duration_ms is None else f"{duration_ms / 1_000:.2f}"


def _cut(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}… ({len(text):,} characters)"


def _show_document(name: str, document: Mapping[str, Any] | None) -> None:
    from json import dumps

    if document is None:
        print(f"{name}: -")
        return
    # These fields identify the trial and its files, which are printed above.
    hidden = {"schema_version", "ids", "runtime", "design", "workload"}
    shown = {key: value for key, value in document.items() if key not in hidden}
    _show_text(name, _cut(dumps(shown, indent=2, ensure_ascii=False)))


def _show_events(events: Mapping[str, Any]) -> None:
    print(f"events: {events['total']:,}{', the last ones:' if events['last'] else ''}")
    for event in events["last"]:
        # A control version is a digest of the control file.
        hidden = {"event_type", "ts", "seq", "control_version"}
        rest = ", ".join(f"{name} {value}" for name, value in event.items() if name not in hidden)
        print(
            f"  {event['seq']:>6} {event['ts'][11:23]} {plain(event['event_type'])}: {plain(' '.join(rest.split()))[:200]}"
        )


def _show_text(title: str, text: str) -> None:
    print(f"{title}:{'' if text else ' -'}")
    for line in text.splitlines():
        print(f"  {plain(line)}")


def _show_changes(changes: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    rows = [[how, item["path"], f"{item['size_bytes']:,}"] for how, items in changes.items() for item in items]
    if not rows:
        print("Changed files: none")
        return
    print_table("Changed files", ("change", "file", "bytes"), rows)


def show_patch(patch: str) -> None:
    """Print the lines of a unified difference, in colours on a terminal."""
    colours = {"+": typer.colors.GREEN, "-": typer.colors.RED, "@": typer.colors.CYAN}
    for line in patch.splitlines():
        typer.secho(f"  {plain(line)}", fg=colours.get(line[:1]))
