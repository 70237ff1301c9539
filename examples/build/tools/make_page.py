"""Write one page of the manual; with FAULT=timeout each waits for a slow renderer."""

import os
import sys
import time
from pathlib import Path

target = Path(sys.argv[1])
cache = os.environ.get("BUILD_CACHE")
kept = Path(cache, target.name) if cache else None
if kept is not None and kept.exists():
    print(f"{target}: from the cache")
    target.write_bytes(kept.read_bytes())
    sys.exit(0)
if os.environ["FAULT"] == "timeout":
    print(f"{target}: waiting for the renderer", flush=True)
    time.sleep(1.5)
target.write_text(f"page {target.name}\n")
if kept is not None:
    kept.write_bytes(target.read_bytes())
