"""Stores vectors one by one: `python -m support.knowledge.vector_child FOLDER NAME TIMES`; 0 means without end.

The process prints the number of each vector that it has stored.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from relab.knowledge.vectors import VectorStore


def main(folder: str, name: str, times: str) -> None:
    """Store each vector with a new store."""
    numbers = range(int(times)) if times != "0" else itertools.count()
    for number in numbers:
        store = VectorStore(Path(folder), model="small sha256:1", size=8)
        store.put({f"{name} {number}": b"1" * 8, "both": b"2" * 8})
        print(number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
