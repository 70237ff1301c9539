"""The report of a search: a JSON file, from which the search can be continued; a text; and a page with a chart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from relab.charts import pages
from relab.core.atomic_files import replacing
from relab.core.control_characters import escape_json, escape_text
from relab.core.regular_files import read_regular_file
from relab.core.stored_documents import STORED
from relab.core.validation import plain_message
from relab.rollouts.errors import PlanInvalidError, ReportFolderError
from relab.rollouts.reports.wording import UNKNOWN, percent
from relab.rollouts.search.candidates import ScreenedCandidate, SearchResult

RESULT: Final = "search.json"
_TEMPLATES: Final = Path(__file__).parent / "templates"
_MOST_BYTES: Final = 20_000_000


def check_folder(folder: Path) -> None:
    """Create the folder of a search's report, if it does not exist.

    Raises:
        ReportFolderError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReportFolderError(f"The folder {folder} cannot be created: {error.strerror}.") from error


def write_search(search: SearchResult, folder: Path) -> None:
    """Write the files of a search's report: `search.json`, `search.txt` and `search.html`.

    Raises:
        ReportFolderError: a file cannot be written.
    """
    document = search.model_dump(mode="json")
    # Only the given fields, so that an absent value of arm A stays the value before the rollout.
    document["spec"] = search.spec.model_dump(mode="json", exclude_unset=True)
    contents = {
        RESULT: escape_json(json.dumps(document, indent=2, ensure_ascii=False)) + "\n",
        "search.txt": search_text(search),
        "search.html": render_search(search),
    }
    for name, text in contents.items():
        try:
            with replacing(folder / name, durable=name == RESULT) as fresh:
                fresh.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise ReportFolderError(f"{folder / name} cannot be written: {error.strerror}.") from error


def read_result(path: Path) -> SearchResult:
    """Return the search in a file `search.json`, so that it can be continued.

    Raises:
        PlanInvalidError: the file is unreadable, or is not the report of a search.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise PlanInvalidError(f"{path} is too large for a report of a search.")
        return SearchResult.model_validate_json(read_regular_file(path), context=STORED)
    except OSError as error:
        raise PlanInvalidError(f"{path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise PlanInvalidError(f"{path} is no report of a search: {where}: {plain_message(problem['msg'])}.") from error


def search_text(search: SearchResult) -> str:
    """Return the report of a search as text: the candidates, best first, and then the confirmations.

    A confirmation is the full-length rollout of one of the best candidates.
    """
    lines = [f"Search {search.search_id}: {search.message}", "", "CANDIDATES"]
    for one in sorted(search.candidates, key=_rank):
        mark = "*" if one.number == search.chosen else "-"
        lines.append(f"{mark} {one.number}: {_flat(one.label)}: {_figure(one)}")
    lines += ["", "CONFIRMATIONS", *([] if search.confirmations else ["- none"])]
    for found in search.confirmations:
        verdict = "NONE" if found.verdict is None else found.verdict.value
        flags = "in force" if found.applied else "not applied"
        lines.append(f"- candidate {found.candidate}: {verdict}, {flags}: {_flat(found.reason)}")
        lines.append(f"  lab rollout show {found.rollout_id}")
    # Problems and reasons may quote names from the target's answers.
    return escape_text("\n".join(lines) + "\n")


def render_search(search: SearchResult) -> str:
    """Return the page of a search as HTML."""
    from relab.rollouts.search.chart import candidates_chart

    confirmed = {found.candidate for found in search.confirmations}
    specs = [candidates_chart(search)] if search.candidates else []
    rows = [
        (one.number, one.label, percent(one.estimate_pct), percent(one.low_pct), percent(one.high_pct),
         percent(one.error_rate_pct, digits=2, signed=False), _state(one, search, confirmed), one.rollout_id or UNKNOWN)
        for one in sorted(search.candidates, key=_rank)
    ]  # fmt: skip
    page = pages.template(_TEMPLATES, "search.html")
    return pages.render(page, specs, search=search, rows=rows).html


def _rank(candidate: ScreenedCandidate) -> tuple[bool, float, int]:
    estimate = candidate.estimate_pct
    return candidate.problem is not None or estimate is None, estimate or 0.0, candidate.number


def _figure(candidate: ScreenedCandidate) -> str:
    if candidate.estimate_pct is None or candidate.problem is not None:
        return _flat(candidate.problem or UNKNOWN)
    return f"{percent(candidate.estimate_pct)} ({percent(candidate.low_pct)} to {percent(candidate.high_pct)})"


def _state(candidate: ScreenedCandidate, search: SearchResult, confirmed: set[int]) -> str:
    if candidate.number == search.chosen:
        return "chosen, in force"
    if candidate.number in confirmed:
        return "confirmation did not apply it"
    return candidate.problem or "screened"


def _flat(text: Any) -> str:
    return " ".join(str(text).split())
