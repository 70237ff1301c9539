"""Write an index of the report's words; with FAULT=memory it is held in memory, unless BUILD_CACHE gives a place for it."""

import os
import sys
from pathlib import Path

PARTS, PART_BYTES = 16, 8 * 1_048_576

cache = os.environ.get("BUILD_CACHE")
size = 0
if os.environ["FAULT"] == "memory":
    held = []
    for number in range(PARTS):
        print(f"index: part {number + 1} of {PARTS}", flush=True)
        part = bytearray(os.urandom(64) * (PART_BYTES // 64))
        size += len(part)
        if cache is None:
            held.append(part)
        else:
            Path(cache, "index-part").write_bytes(part)
Path(sys.argv[1]).write_text(f"{size}\n")
