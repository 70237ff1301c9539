"""Generate the requests of a load from a mix and a seed: the same sequence on every machine, without I/O."""

from __future__ import annotations

import bisect
import itertools
import json
import random
import string
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import quote

from pydantic import JsonValue

from relab.load.errors import MixError
from relab.load.models import ChoiceValue, IntegerValue, Mix, RequestTemplate, UuidValue, ValueSource, WordsValue

Scalar: TypeAlias = str | int | float | bool
Values: TypeAlias = Mapping[str, Scalar]

_PATH_SAFE = "/:@!$&'()*+,;=~-._%"
"""Characters of a path that need no encoding (RFC 3986, 3.3), and `%`, because a template may already be encoded."""
_QUERY_SAFE = _PATH_SAFE + "?"


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One request, ready to be sent.

    Attributes:
        route: index of the request's template in the mix (the list of the load's request templates).
        method: the HTTP method.
        target: path and query, encoded.
        headers: the headers of the template, filled in, with a Content-Type if there is a body.
        body: the body; None for a request without one.
    """

    route: int
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None


def request_stream(mix: Mix, seed: int) -> Iterator[LoadRequest]:
    """Return an endless iterator over random requests of a mix (request templates with weights).

    Equal seeds give equal requests.

    Raises:
        MixError: a template names a value that the mix does not define, or has unbalanced braces. This call raises the
            error, not the iterator.
    """
    rng = random.Random(f"requests:{seed}")  # noqa: S311 a reproducible sequence is the purpose
    sources = {name: _source(value) for name, value in mix.values.items()}
    routes = [_Route(number, template, sources) for number, template in enumerate(mix.requests)]
    bounds = list(itertools.accumulate(template.weight for template in mix.requests))
    return _endless(rng, routes, bounds)


def _endless(rng: random.Random, routes: list[_Route], bounds: list[float]) -> Iterator[LoadRequest]:
    last = len(routes) - 1
    for number in itertools.count():
        picked = min(bisect.bisect_right(bounds, rng.random() * bounds[-1]), last)
        yield routes[picked].request(rng, number)


_Source: TypeAlias = Callable[[random.Random, int], Scalar]
"""A function that returns a value, given the random generator and the number of the request."""


def _source(value: ValueSource) -> _Source:
    if isinstance(value, IntegerValue):
        return _skewed(value) if value.skew else lambda rng, _: rng.randint(value.low, value.high)
    if isinstance(value, ChoiceValue):
        bounds = list(itertools.accumulate(value.weights or [1.0] * len(value.of)))
        return lambda rng, _: value.of[min(bisect.bisect_right(bounds, rng.random() * bounds[-1]), len(bounds) - 1)]
    if isinstance(value, WordsValue):
        return lambda rng, _: " ".join(rng.choice(value.of) for _ in range(rng.randint(value.low, value.high)))
    if isinstance(value, UuidValue):
        return lambda rng, _: str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return lambda _, number: number


def _skewed(value: IntegerValue) -> _Source:
    ranks = range(1, value.high - value.low + 2)
    bounds = list(itertools.accumulate(rank**-value.skew for rank in ranks))
    return lambda rng, _: value.low + min(bisect.bisect_right(bounds, rng.random() * bounds[-1]), len(bounds) - 1)


class _Text:
    """A text template with placeholders, parsed once; `fill` replaces each placeholder with its value."""

    def __init__(
        self, template: str, where: str, quoted: Callable[[str], str] = str, literally: Callable[[str], str] = str
    ) -> None:
        self._quoted = quoted
        self._parts: list[tuple[str, str | None]] = []
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise MixError(f"{where}: {template[:80]!r}: {error}.", remedy="Write {{ and }} for braces.") from error
        for literal, name, form, conversion in parsed:
            if name is not None and (form or conversion or not name.isidentifier()):
                raise MixError(f"{where}: {{{name}}} is not the name of a value.", remedy="Write {{ and }} for braces.")
            self._parts.append((literally(literal), name))
        self.names = {name for _, name in self._parts if name is not None}

    @property
    def only(self) -> str | None:
        """The name `x` if the whole text is a single placeholder `{x}`; None for any other text."""
        return self._parts[0][1] if len(self._parts) == 1 and not self._parts[0][0] else None

    def fill(self, values: Values) -> str:
        if not self.names:
            return "".join(literal for literal, _ in self._parts)
        return "".join(
            literal if name is None else literal + self._quoted(_as_text(values[name])) for literal, name in self._parts
        )


def _as_text(value: Scalar) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _whole(text: str) -> str:
    return quote(text, safe="")


class _Route:
    """A request template, parsed once, that builds requests."""

    def __init__(self, number: int, template: RequestTemplate, sources: Mapping[str, _Source]) -> None:
        where = f"request {template.name!r}"
        self._number = number
        self._method = template.method
        path, mark, fixed_query = template.path.partition("?")
        self._target = [_Text(path, f"{where}, path", _whole, lambda text: quote(text, safe=_PATH_SAFE))]
        # The author of a query that is part of the path has already encoded it where necessary.
        if mark:
            written = mark + fixed_query
            self._target.append(_Text(written, f"{where}, path", _whole, lambda text: quote(text, safe=_QUERY_SAFE)))
        for name, value in template.query.items():
            sign = "&" if mark else "?"
            mark = "?"
            text = value if isinstance(value, str) else _as_text(value)
            self._target.append(_Text(f"{sign}{_whole(name)}=", where))
            self._target.append(_Text(text, f"{where}, query {name}", _whole, _whole))
        self._headers = {name: _Text(value, f"{where}, header {name}") for name, value in template.headers.items()}
        self._body = None if template.body is None else _Body(template.body, f"{where}, body")
        self._types = _content_type(template)
        texts = [*self._target, *self._headers.values(), *([] if self._body is None else self._body.texts)]
        names = sorted(set().union(*(text.names for text in texts)))
        if missing := [name for name in names if name not in sources]:
            raise MixError(f"{where}: the mix has no value {missing[0]!r}.", remedy="Add it under `values`.")
        self._sources = [(name, sources[name]) for name in names]
        self._fixed_headers = None if any(text.names for text in self._headers.values()) else self._fill_headers({})

    def request(self, rng: random.Random, number: int) -> LoadRequest:
        """Build the request with this number in the load. A repeated placeholder has the same value each time."""
        values = {name: source(rng, number) for name, source in self._sources}
        target = "".join([text.fill(values) for text in self._target])
        headers = self._fill_headers(values) if self._fixed_headers is None else self._fixed_headers
        body = None if self._body is None else self._body.fill(values)
        return LoadRequest(self._number, self._method, target, headers, body)

    def _fill_headers(self, values: Values) -> dict[str, str]:
        return {**self._types, **{name: text.fill(values) for name, text in self._headers.items()}}


def _content_type(template: RequestTemplate) -> dict[str, str]:
    if template.body is None or any(name.lower() == "content-type" for name in template.headers):
        return {}
    return {"Content-Type": "text/plain; charset=utf-8" if isinstance(template.body, str) else "application/json"}


class _Body:
    """Builds request bodies, as bytes, from a text or JSON. The text, or any JSON string, may have placeholders."""

    def __init__(self, value: JsonValue, where: str) -> None:
        self.texts: list[_Text] = []
        self._as_text = isinstance(value, str)
        self._make = self._maker(value, where)
        # A body without placeholders is built once for all requests.
        self._fixed = None if any(text.names for text in self.texts) else self._bytes({})

    def fill(self, values: Values) -> bytes:
        return self._bytes(values) if self._fixed is None else self._fixed

    def _bytes(self, values: Values) -> bytes:
        made = self._make(values)
        if self._as_text:
            return (_as_text(made) if isinstance(made, bool) else str(made)).encode()
        return json.dumps(made, separators=(",", ":"), ensure_ascii=False).encode()

    def _maker(self, value: JsonValue, where: str) -> Callable[[Values], JsonValue]:
        if isinstance(value, dict):
            fields = [(name, self._maker(part, f"{where}.{name}")) for name, part in value.items()]
            return lambda values: {name: make(values) for name, make in fields}
        if isinstance(value, list):
            parts = [self._maker(part, f"{where}[{number}]") for number, part in enumerate(value)]
            return lambda values: [make(values) for make in parts]
        if isinstance(value, str):
            text = _Text(value, where)
            self.texts.append(text)
            only = text.only
            return text.fill if only is None else lambda values: values[only]
        return lambda _: value
