"""Read the shipped prices and the prices of this installation, and change the prices of this installation."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from relab.core.atomic_files import replace_file
from relab.core.file_locks import file_lock
from relab.core.logging import get_logger
from relab.core.validation import plain_message
from relab.core.yaml_source import YamlReader, YamlSource
from relab.telemetry.prices.models import Price, PriceError, PriceTable

USER_FILE: Final = "prices.yaml"
"""The name of the installation's own file, in `$RELAB_HOME`."""

_log = get_logger(__name__)
_READER: Final = YamlReader(PriceError)
_REMEDIES: Final[Mapping[str, str]] = {
    "missing": "add this field",
    "extra_forbidden": f"remove it; the fields are {', '.join(name for name in Price.model_fields if name != 'is_own')}",
    "date_from_datetime_parsing": "write a date such as 2026-01-31",
    "greater_than_equal": "write the price in USD for a million tokens, 0 or more",
    "less_than_equal": "write the price in USD for a million tokens",
}


class PriceBook:
    """The prices of models in use. The prices in this installation's file have precedence over the shipped ones.

    Several threads and processes may read and set prices at the same time.

    Args:
        folder: the folder with this installation's file (`$RELAB_HOME`); None if only the shipped prices are used.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = folder / USER_FILE if folder is not None else None
        self._lock = threading.Lock()
        self._read_from: tuple[int, int] | None = None
        self._table: PriceTable | None = None
        self._logged: tuple[int, int] | None = None

    def table(self) -> PriceTable:
        """Return the prices in use; this installation's file of prices is read again if it has changed.

        Raises:
            PriceError: the installation's file is not valid.
        """
        version = self._version()
        with self._lock:
            if self._table is None or version != self._read_from:
                own = self._own()
                self._table = PriceTable((*own, *_shipped()))
                self._read_from = version
            return self._table

    def usable(self) -> PriceTable:
        """Return the prices in use, or only the shipped prices if the installation's file is not valid.

        Unlike `table`, this raises no error for a mistake in the file; the mistake is logged once for each change of the
        file.
        """
        try:
            return self.table()
        except PriceError as error:
            version = self._version()
            if version != self._logged:
                self._logged = version
                _log.warning("prices_file_ignored", error=str(error))
            return _shipped_table()

    def set(self, fields: Mapping[str, Any]) -> Price:
        """Add a price to the installation's file, or replace the price of the provider and model; return the new price.

        `fields` are the fields of a `Price`, by name.

        Raises:
            PriceError: a field of the price, or the installation's file, is not valid.
            OSError: the file cannot be written.
        """
        assert self._path is not None, "a book without a folder has no file to write"
        price = _price(fields, lambda field: field)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(self._path.with_name(f".{USER_FILE}.lock")):
            own = [item for item in self._own() if (item.provider, item.model) != (price.provider, price.model)]
            entries = [item.model_dump(exclude={"is_own"}, exclude_none=True) for item in (*own, price)]
            for entry in entries:
                entry["aliases"] = list(entry["aliases"])
            text = yaml.safe_dump({"prices": entries}, sort_keys=False, allow_unicode=True)
            replace_file(self._path, text.encode())
        return price.model_copy(update={"is_own": True})

    def _version(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat() if self._path is not None else None
        except FileNotFoundError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_size)

    def _own(self) -> tuple[Price, ...]:
        if self._path is None or not self._path.exists():
            return ()
        return tuple(price.model_copy(update={"is_own": True}) for price in _prices(_READER.read(self._path)))


@functools.cache
def _shipped_table() -> PriceTable:
    return PriceTable(_shipped())


@functools.cache
def _shipped() -> tuple[Price, ...]:
    file = resources.files("relab.telemetry.prices") / "shipped.yaml"
    return _prices(_READER.parse(file.read_text(encoding="utf-8"), Path("shipped.yaml")))


def _prices(source: YamlSource) -> tuple[Price, ...]:
    """Return the prices in a YAML file of the form `{prices: [{provider, model, …}, …]}`.

    Raises:
        PriceError: the file has another form, or a price in it is invalid.
    """
    value = source.value
    entries = value.get("prices") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(entries, list) or value.keys() != {"prices"}:
        problem = "is not a file of prices; its only key must be `prices`, a list"
        raise PriceError(f"{source.path} {problem}.", problems=((str(source.path), problem),))
    return tuple(
        _price(entry, lambda field, number=number: source.place(("prices", number, field)))
        for number, entry in enumerate(entries)
    )


def _price(fields: Any, place: Any) -> Price:
    """Return a price with the values in `fields`.

    `place` takes the name of a field and returns its place in the file, for error messages.

    Raises:
        PriceError: a field is not valid.
    """
    try:
        return Price.model_validate(fields)
    except ValidationError as error:
        problems = tuple(_problem(item, place) for item in error.errors(include_url=False))
    listed = "; ".join(f"{field}: {message}" for field, message in problems)
    raise PriceError(f"The price is not valid: {listed}.", problems=problems)


def _problem(error: Any, place: Any) -> tuple[str, str]:
    field = str(error["loc"][0]) if error["loc"] else "price"
    value = error["input"]
    shown = "" if error["type"] == "missing" else f" ({value!r})"[:80]
    remedy = _REMEDIES.get(error["type"], "")
    message = plain_message(error["msg"])
    message = message[:1].lower() + message[1:]
    return place(field), f"{message}{shown}{'; ' + remedy if remedy else ''}"
