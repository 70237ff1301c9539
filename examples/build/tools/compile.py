"""Compile a C file; with BUILD_CACHE, reuse the object of the same source and flags."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

source, target = Path(sys.argv[1]), Path(sys.argv[2])
flags = ["-O2", *(["-DWITH_QUEUE"] if os.environ["FAULT"] == "dependency" else [])]
cache = os.environ.get("BUILD_CACHE")
key = hashlib.sha256(b"\0".join([source.read_bytes(), Path("src/report.h").read_bytes(), *map(str.encode, flags)]))
kept = Path(cache, key.hexdigest()) if cache else None
if kept is not None and kept.exists():
    print(f"{target}: from the cache")
    shutil.copyfile(kept, target)
    sys.exit(0)
print(f"cc {' '.join(flags)} -c {source}", flush=True)
code = subprocess.run(["cc", *flags, "-c", source, "-o", target], check=False).returncode
if code == 0 and kept is not None:
    shutil.copyfile(target, kept)
sys.exit(code)
