"""A decorator for attributes whose values are built when they are first read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")

_building = threading.RLock()
"""Held while an attribute is built, so that two threads do not build the same service twice. This cannot deadlock,
because no `build` function waits for another thread."""


class composed(Generic[T]):  # noqa: N801 it is used as a decorator, like `property`
    """A decorator that turns a method into a cached attribute.

    The method is called once per object, at the first read, even if several threads read the attribute at once.
    """

    def __init__(self, build: Callable[[Any], T]) -> None:
        # `functools.cached_property` holds no lock in newer versions of Python.
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type[Any]) -> T: ...

    def __get__(self, instance: object | None, owner: type[Any]) -> Self | T:
        if instance is None:
            return self
        # Python finds the value of later reads in the instance, and does not call this method.
        name, values = self._build.__name__, vars(instance)
        with _building:
            if name not in values:
                values[name] = self._build(instance)
        value: T = values[name]
        return value
