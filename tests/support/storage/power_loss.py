"""Power loss: record the writes and syncs of a process, and rebuild possible states of the disk after a power loss.

`strace` records the system calls of the real process. A write may be lost, kept or torn until a sync of its file has
returned; a created or deleted name, until a sync of its folder has. Not covered: disks that ignore syncs, file systems
that damage unwritten blocks, and writes through shared memory (SQLite's `-shm`, which is rebuilt anyway).
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

SECTOR = 512
CALLS = "pwrite64,write,writev,sendto,sendmsg,fsync,fdatasync,ftruncate,unlink,openat"

_LINE = re.compile(r"^(?P<pid>\d+) +(?P<rest>.*)$")
_RESUMED = re.compile(r"^<\.\.\. (?P<call>\w+) resumed>")
_CALL = re.compile(r"^(?P<call>\w+)\((?P<arguments>.*)$")
_FILE = re.compile(r"^\d+<(?P<path>[^>]*)>")
_OFFSET = re.compile(r'", \d+, (\d+)')
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


def recording(trace: Path) -> list[str]:
    """Return the words before a command line that record the command, which stays a child of the caller."""
    return [
        "strace",
        "-D",
        "-f",
        "--seccomp-bpf",
        "-y",
        "-xx",
        "-s",
        "4194304",
        "-e",
        f"trace={CALLS}",
        "-o",
        str(trace),
    ]


class Kind(Enum):
    """The kind of an event of a recording."""

    WRITE = "write"
    TRUNCATE = "truncate"
    CREATE = "create"
    UNLINK = "unlink"
    SYNC = "sync"
    SEND = "send"


@dataclass(frozen=True)
class Event:
    """One recorded operation of the process.

    Attributes:
        path: the file, with a number that distinguishes it from earlier files of the same name; for a sync possibly a
            folder; empty for bytes on a socket.
        started: for a sync, the number of events before it began.
    """

    kind: Kind
    path: str
    data: bytes = b""
    offset: int = 0
    started: int = 0


def read_trace(trace: Path, folder: Path) -> list[Event]:
    """Return the events on files below a folder and on sockets, in order."""
    events: list[Event] = []
    pending: dict[tuple[str, str], tuple[str, int]] = {}
    known: dict[str, str] = {}
    with trace.open() as lines:
        for line in lines:
            if (found := _LINE.match(line)) is None:
                continue
            pid, rest = found["pid"], found["rest"]
            if (resumed := _RESUMED.match(rest)) is not None:
                path, started = pending.pop((pid, resumed["call"]), ("", 0))
                if path and rest.rstrip().endswith("= 0"):
                    events.append(Event(Kind.SYNC, path, started=started))
                continue
            if (called := _CALL.match(rest)) is None:
                continue
            is_open = rest.rstrip().endswith("<unfinished ...>")
            for event in _events(called["call"], called["arguments"], str(folder), known, len(events)):
                if event.kind is Kind.SYNC and is_open:
                    pending[pid, called["call"]] = (event.path, len(events))
                else:
                    events.append(event)
    return events


def _events(call: str, arguments: str, folder: str, known: dict[str, str], count: int) -> Iterator[Event]:
    on_file = _FILE.match(arguments)
    path = _unhex(on_file["path"]) if on_file else ""
    texts = [_unhex_bytes(text) for text in _TEXT.findall(arguments)]
    if call in {"write", "writev", "sendto", "sendmsg"} and path.startswith("socket:"):
        yield Event(Kind.SEND, "", b"".join(texts))
    elif call in {"unlink", "openat"}:
        name = texts[-1].decode() if texts else ""
        if call == "unlink" and name in known:
            yield Event(Kind.UNLINK, known.pop(name))
        elif call == "openat" and _is_of(name, folder) and "O_CREAT" in arguments and name not in known:
            known[name] = f"{name}#{count}"
            yield Event(Kind.CREATE, known[name])
    elif call in {"fsync", "fdatasync"} and path.startswith(folder):
        yield Event(Kind.SYNC, known.get(path, path), started=count)
    elif _is_of(path, folder) and call == "pwrite64":
        yield Event(Kind.WRITE, known[path], texts[0], int(_OFFSET.findall(arguments)[-1]))
    elif _is_of(path, folder) and call == "ftruncate":
        yield Event(Kind.TRUNCATE, known[path], offset=int(re.split(r"[,)]", arguments)[1]))


def _is_of(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/relab.db") and not path.endswith("-shm")


def _unhex(text: str) -> str:
    return _unhex_bytes(text).decode() if "\\x" in text else text


def _unhex_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


class Fate(Enum):
    """The fate of writes without a sync."""

    LOST = "lost"
    KEPT = "kept"
    MIXED = "mixed"
    TORN = "torn"


@dataclass
class Disk:
    """The durable state at one point of a recording, and the writes that are not durable yet.

    Attributes:
        heeds_syncs: whether a sync makes writes durable.
    """

    heeds_syncs: bool = True
    _durable: dict[str, bytearray] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _pending: defaultdict[str, list[tuple[int, Event]]] = field(default_factory=lambda: defaultdict(list))
    _entries: list[tuple[int, Event]] = field(default_factory=list)
    _count: int = 0

    def apply(self, event: Event) -> None:
        """Apply the next event."""
        number, self._count = self._count, self._count + 1
        if event.kind in {Kind.WRITE, Kind.TRUNCATE}:
            self._pending[event.path].append((number, event))
        elif event.kind in {Kind.CREATE, Kind.UNLINK}:
            self._entries.append((number, event))
        elif event.kind is Kind.SYNC and self.heeds_syncs:
            self._sync(event)

    def _sync(self, event: Event) -> None:
        for path in [event.path] if event.path in self._pending else []:
            done = [item for number, item in self._pending[path] if number < event.started]
            self._pending[path] = [(number, item) for number, item in self._pending[path] if number >= event.started]
            content = self._durable.setdefault(path, bytearray())
            for item in done:
                _change(content, item)
        is_folder = [item for number, item in self._entries if number < event.started and _parent(item) == event.path]
        for item in is_folder:
            _name(self._names, item)
        self._entries = [entry for entry in self._entries if entry[1] not in is_folder]

    def after_power_loss(self, fate: Fate, rng: random.Random) -> dict[str, bytes]:
        """Return the possible contents of the files after the power loss, by path."""
        names, contents = dict(self._names), {path: bytearray(content) for path, content in self._durable.items()}
        for _, event in self._entries:
            # The file system is journaled, so changes of a folder keep their order.
            if fate is Fate.LOST:
                break
            _name(names, event)
        for path, events in self._pending.items():
            content = contents.setdefault(path, bytearray())
            for event in _survivors([item for _, item in events], fate, rng):
                _change(content, event)
        return {name: bytes(contents.get(path, b"")) for name, path in names.items()}


def _survivors(events: Sequence[Event], fate: Fate, rng: random.Random) -> Iterator[Event]:
    for event in events:
        if fate is Fate.KEPT or (fate is not Fate.LOST and rng.random() < 0.5):
            if fate is Fate.TORN and event.kind is Kind.WRITE:
                start = rng.randrange(0, len(event.data) + 1, SECTOR)
                end = rng.randrange(start, len(event.data) + SECTOR, SECTOR)
                yield Event(Kind.WRITE, event.path, event.data[start:end], event.offset + start)
            else:
                yield event


def _change(content: bytearray, event: Event) -> None:
    if event.kind is Kind.TRUNCATE:
        del content[event.offset :]
        content.extend(bytes(event.offset - len(content)))
        return
    end = event.offset + len(event.data)
    content.extend(bytes(max(end - len(content), 0)))
    content[event.offset : end] = event.data


def _name(names: dict[str, str], event: Event) -> None:
    name = event.path.partition("#")[0]
    if event.kind is Kind.CREATE:
        names[name] = event.path
    else:
        names.pop(name, None)


def _parent(event: Event) -> str:
    return str(Path(event.path).parent)
