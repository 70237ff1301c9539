"""Read files of rules, and report each mistake in them with its line."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from relab.core.logging import get_logger
from relab.core.yaml_problems import yaml_error
from relab.core.yaml_source import YamlReader
from relab.rca.errors import RuleFileError

if TYPE_CHECKING:
    from relab.rca.behaviours.rules import BehaviourRule, RuleSet

_MAX_BYTES: Final = 500_000
_READER: Final = YamlReader(RuleFileError, missing_remedy="Give the path of a file of rules.", max_bytes=_MAX_BYTES)
_log = get_logger(__name__)


def read_rules(path: Path) -> RuleSet:
    """Read and check a file of rules.

    Raises:
        RuleFileError: the file cannot be read or is wrong; `problems` lists file, line and field of each mistake.
    """
    from relab.rca.behaviours.rules import RuleSet  # noqa: PLC0415 most installations have no rules

    source = _READER.read(path)
    try:
        rules = RuleSet.model_validate(source.value)
    except ValidationError as error:
        raise yaml_error(error, source, RuleSet, RuleFileError) from error
    problems = []
    seen: dict[str, int] = {}
    for index, rule in enumerate(rules.behaviours):
        if rule.name in seen:
            where = ("behaviours", index, "name")
            problems.append((source.place(where), f"the name {rule.name!r} is used in line {seen[rule.name]} already"))
        seen.setdefault(rule.name, source.line_of(("behaviours", index, "name")))
    if problems:
        raise RuleFileError(f"{problems[0][0]}: {problems[0][1]}.", problems=tuple(problems))
    return rules


class RuleBook:
    """This installation's rules for finding behaviours in runs; their file is read again when it changes.

    If the file is missing, there are no rules. If the file is invalid, its errors are logged, and the rules from the
    last valid file stay in use.

    Args:
        path: the path of the file of rules.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._rules: tuple[BehaviourRule, ...] = ()

    def rules(self) -> tuple[BehaviourRule, ...]:
        """Return the rules in use, in the order of the file."""
        with self._lock:
            try:
                status = self.path.stat()
            except OSError:
                self._stamp, self._rules = None, ()
                return ()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._rules = read_rules(self.path).behaviours
                except RuleFileError as error:
                    _log.warning("rca_rules_rejected", error=str(error))
            return self._rules
