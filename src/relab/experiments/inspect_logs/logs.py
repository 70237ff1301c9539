"""Read a log of Inspect: its header, and its samples one at a time.

A log of version 2 has the entry `header.json`, and one entry for each sample and epoch in `samples/`. While an
evaluation runs, or after it crashed, `_journal/start.json` is there instead of `header.json`. A text that a sample
contains several times is stored once in the sample's `attachments`; this module puts the text back in its places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relab.experiments.inspect_logs.archive import MAX_ENTRY_BYTES, LogArchive
from relab.experiments.inspect_logs.errors import InspectLogError, refused

HEADER: Final = "header.json"
START: Final = "_journal/start.json"
SUMMARIES: Final = "summaries.json"
SAMPLES: Final = "samples/"
VERSION: Final = 2
MAX_DEPTH: Final = 100
"""The largest nesting of a value from a log that is kept; deeper values become text."""

_ATTACHMENT: Final = re.compile(r"attachment://([0-9a-f]{32})")
_SECRET_ARGUMENT: Final = re.compile(
    r"(^|[_-])(api_?key|key|token|secret|password|credentials?|authorization|headers)$", re.IGNORECASE
)


@dataclass(frozen=True)
class InspectSample:
    """One sample of a log in one epoch.

    Attributes:
        sample_id: the id of the sample, as text.
        epoch: the number of the repeat, from 1.
        document: the sample as Inspect wrote it, with each reference to an attachment replaced by the attachment's
            text.
    """

    sample_id: str
    epoch: int
    document: Mapping[str, Any]

    def section(self, name: str) -> Mapping[str, Any]:
        """Return the object with this name in the sample; an empty one if it is missing or of another type."""
        found = self.document.get(name)
        return found if isinstance(found, dict) else {}

    @property
    def events(self) -> Iterator[Mapping[str, Any]]:
        """The events of the sample, in the order of the log."""
        found = self.document.get("events")
        return (event for event in (found if isinstance(found, list) else []) if isinstance(event, dict))

    @property
    def task(self) -> dict[str, Any]:
        """The sample's `input`, `target` and `choices`, as in the data set."""
        return {name: clean(self.document.get(name)) for name in ("input", "target", "choices")}


@dataclass(frozen=True)
class InspectLog:
    """An open log.

    Attributes:
        header: the log's header, with the keys `eval` (task, model, scorers, configuration), `plan`, `results`, `stats`
            and `status`.
        is_finished: whether Inspect finished the log; False if Inspect is still running or was killed.
    """

    archive: LogArchive
    header: Mapping[str, Any]
    is_finished: bool

    @property
    def path(self) -> Path:
        """The path of the log's `.eval` file."""
        return self.archive.path

    @property
    def status(self) -> str:
        """The status of the evaluation: `success`, `error` or `cancelled`; `started` for an unfinished log."""
        return str(self.header.get("status", "started")) if self.is_finished else "started"

    @property
    def spec(self) -> Mapping[str, Any]:
        """The specification of the evaluation: the object `eval` of the header."""
        spec: Mapping[str, Any] = self.header["eval"]
        return spec

    @property
    def task(self) -> str:
        """The name of the evaluated task (a data set with a scorer), without the package that defines it."""
        return str(self.spec["task"]).rpartition("/")[2] or "task"

    @property
    def solver(self) -> str:
        """The name of the solver or agent, as the evaluation or its plan names it; empty if neither does."""
        steps = self.header.get("plan", {}).get("steps")
        last = object_of(steps[-1]) if isinstance(steps, list) and steps else {}
        named = self.spec.get("solver") or last.get("solver")
        return str(named or "").rpartition("/")[2]

    @property
    def epochs(self) -> int:
        """The planned number of repeats of each sample."""
        found = object_of(self.spec.get("config")).get("epochs")
        return found if type(found) is int and found > 0 else 1

    @property
    def bindings(self) -> dict[str, Any]:
        """The model, solver, arguments and generation settings of the evaluation, as bindings of a variant.

        Bindings are the values that a harness gets. Arguments with the name of a secret (`api_key`) are left out.
        """
        found = {
            "model": self.spec["model"],
            "solver": self.solver or None,
            "task_args": self.spec.get("task_args_passed") or self.spec.get("task_args"),
            "solver_args": self.spec.get("solver_args_passed") or self.spec.get("solver_args"),
            "model_args": self.spec.get("model_args"),
            "generate_config": self.spec.get("model_generate_config"),
        }
        return {name: _without_secrets(clean(value)) for name, value in found.items() if value not in (None, {}, "")}

    @property
    def scorers(self) -> list[str]:
        """The names of the scorers, in the order of the log; empty if the log does not name them."""
        named = [item.get("name") for item in _objects(self.spec.get("scorers"))]
        scored = [item.get("name") for item in _objects(object_of(self.header.get("results")).get("scores"))]
        return list(dict.fromkeys(str(name).rpartition("/")[2] for name in named or scored if name))

    def samples(self) -> Iterator[InspectSample]:
        """Read the samples one at a time, in the order of the log.

        Raises:
            InspectLogError: a sample cannot be read, or has no id or epoch.
        """
        for name in self.archive.names:
            if name.startswith(SAMPLES) and name.endswith(".json"):
                yield self._sample(name)

    def _sample(self, name: str) -> InspectSample:
        document = self.archive.read_json(name)
        if not isinstance(document, dict):
            raise refused(InspectLogError, self.path, f"has an entry {name!r} that is not a JSON object")
        sample_id, epoch = document.get("id"), document.get("epoch")
        if not isinstance(sample_id, (str, int)) or isinstance(sample_id, bool) or sample_id == "":
            raise refused(InspectLogError, self.path, f"has a sample {name!r} whose id is {str(sample_id)[:100]!r}")
        if type(epoch) is not int or not 1 <= epoch <= 100_000:
            raise refused(InspectLogError, self.path, f"has a sample {name!r} whose epoch is {str(epoch)[:100]!r}")
        attachments = {
            key: text for key, text in object_of(document.get("attachments")).items() if isinstance(text, str)
        }
        return InspectSample(str(sample_id), epoch, _restored(document, attachments) if attachments else document)


@contextmanager
def open_log(path: Path, max_entry_bytes: int = MAX_ENTRY_BYTES) -> Iterator[InspectLog]:
    """Open a log, check its header, and close the log after the `with` block.

    Args:
        path: the `.eval` file.
        max_entry_bytes: the largest decompressed size of an entry.

    Raises:
        InspectLogError: the file is not a log that can be read.
    """
    with LogArchive(path, max_entry_bytes) as archive:
        names = set(archive.names)
        if not names & {HEADER, START}:
            raise refused(InspectLogError, path, f"is not a log of Inspect: it has neither {HEADER} nor {START}")
        is_finished = HEADER in names
        header = archive.read_json(HEADER if is_finished else START)
        if not isinstance(header, dict):
            raise refused(InspectLogError, path, "has a header that is not a JSON object")
        _check_header(path, header)
        yield InspectLog(archive, header, is_finished)


def _check_header(path: Path, header: Mapping[str, Any]) -> None:
    version = header.get("version")
    if version not in (1, VERSION):
        raise refused(
            InspectLogError,
            path,
            f"has the log version {str(version)[:100]!r}; versions 1 and {VERSION} can be read",
            remedy="Convert it with Inspect: inspect log convert --to eval.",
        )
    spec = header.get("eval")
    if not isinstance(spec, dict):
        raise refused(InspectLogError, path, "has a header without the object 'eval'")
    for name in ("task", "model"):
        if not isinstance(spec.get(name), str) or not spec[name]:
            raise refused(
                InspectLogError, path, f"has a header whose eval.{name} is {str(spec.get(name))[:100]!r}, not a name"
            )
    if not isinstance(header.get("plan", {}), dict):
        raise refused(InspectLogError, path, "has a header whose 'plan' is not an object")
    if spec.get("shards"):
        raise refused(
            InspectLogError, path, "keeps its samples in other files (shards)", remedy="Merge them with Inspect first."
        )


def clean(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return a copy of a JSON value without unusual values, so that every JSON reader accepts it.

    NUL characters are replaced. NaN, infinities, numbers beyond the range of 64-bit integers, and values nested deeper
    than `depth` become text.
    """
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, (dict, list)):
        if depth <= 0:
            return clean(str(value)[:1_000])
        if isinstance(value, dict):
            return {clean(str(key)): clean(item, depth - 1) for key, item in value.items()}
        return [clean(item, depth - 1) for item in value]
    # For NaN and the infinities, both comparisons are false.
    is_safe = value is None or -(2**63) <= value < 2**63
    return value if is_safe else str(value)


def text_of(content: Any) -> str:
    """Return the text of a message's content, which is a text or a list of parts.

    A part without text is shown as its type in brackets.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return "" if content is None else str(content)
    parts = []
    for part in content:
        if isinstance(part, dict):
            text = part.get("text") or part.get("reasoning")
            parts.append(text if isinstance(text, str) else f"[{part.get('type', 'content')}]")
        else:
            parts.append(str(part))
    return "\n".join(parts)


def _restored(value: Any, attachments: Mapping[str, str]) -> Any:
    """Return a copy of a JSON value in which each reference to an attachment is replaced by the attachment's text."""
    if isinstance(value, str):
        found = _ATTACHMENT.fullmatch(value)
        return attachments.get(found[1], value) if found else value
    if isinstance(value, dict):
        return {key: item if key == "attachments" else _restored(item, attachments) for key, item in value.items()}
    # Recursion is safe, because the JSON parser (`jiter`) limits the depth of the value.
    return [_restored(item, attachments) for item in value] if isinstance(value, list) else value


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(item) for key, item in value.items() if not _SECRET_ARGUMENT.search(key)}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value


def object_of(value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a JSON object, else an empty object."""
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
