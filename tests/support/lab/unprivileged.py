"""File permissions that apply: tests of permissions give up root's privileges."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1 << 1
_CAP_DAC_READ_SEARCH = 1 << 2


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


@contextmanager
def permissions_hold() -> Iterator[None]:
    """Give up root's right to read and write every file, for this thread while the block runs."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_VERSION_3, 0), (_Data * 2)()

    def call(name: str) -> None:
        if getattr(libc, name)(ctypes.byref(header), sets) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)

    call("capget")
    before = sets[0].effective
    sets[0].effective = before & ~(_CAP_DAC_OVERRIDE | _CAP_DAC_READ_SEARCH)
    call("capset")
    try:
        yield
    finally:
        sets[0].effective = before
        call("capset")
