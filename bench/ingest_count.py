"""`python -m bench.ingest_count DATABASE STATEMENT`: print the number of stored spans, for load drivers."""

from __future__ import annotations

import sys
from subprocess import Popen
from typing import cast

from bench.otlp_targets import Target

if __name__ == "__main__":
    no_process = cast("Popen[bytes]", None)
    print(Target("", no_process, "", "", database=sys.argv[1], count=sys.argv[2]).visible_spans())
