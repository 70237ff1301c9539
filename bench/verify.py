"""`python -m bench.verify`: how fast a run is sealed and verified, beside SHA-256 of the same bytes in the same process.

Two runs: one with few large files, where hashing is the work, and one with many trials, where opening files is. The floor
is `hashlib.file_digest` over the same files, in the same order. Seal, verification and floor take turns; the figures
are processor time, which other programs of the machine disturb less than wall time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from relab.experiments.proof.seal import write_seal
from relab.experiments.proof.verification import ProofVerdict, verify_run

MB = 1_000_000
HARNESS = """#!/bin/sh
ids=$(sed -n '/"ids": {{/,/}}/p' "$2" | sed '$s/,$//' | tr -d '\\n')
printf '{{"schema_version": "trial_output_v1", %s, "outcome": "success"}}' "${{ids%,}}" > "$4"
[ {bytes} -eq 0 ] || head -c {bytes} /dev/urandom > data.bin
"""


def make_run(folder: Path, trials: int, file_bytes: int) -> Path:
    """Run an experiment whose trials each leave a file of random bytes; return the folder of the run."""
    project = folder / f"project-{trials}"
    (project / ".lab").mkdir(parents=True)
    harness = project / "harness"
    harness.write_text(HARNESS.format(bytes=file_bytes))
    harness.chmod(0o755)
    (project / "tasks.jsonl").write_text("".join(f'{{"task_id": "t{n}"}}\n' for n in range(trials)))
    document = {
        "version": "0.3",
        "experiment": {"id": "bench", "name": "Bench"},
        "dataset": {"path": "../tasks.jsonl"},
        "design": {"sanitization_profile": "hermetic_functional", "max_concurrency": 2},
        "baseline": {"variant_id": "control"},
        "runtime": {
            "harness": {"command": ["sh", "./harness"]},
            "network": {"mode": "full"},
            "workspace": {"max_written_mb": 4_096},
        },
    }
    (project / ".lab" / "experiment.yaml").write_text(json.dumps(document))
    done = subprocess.run(
        [sys.executable, "-m", "relab", "run", "--no-telemetry", "--json"],
        cwd=project,
        env={**os.environ, "RELAB_HOME": str(folder / "home")},
        capture_output=True,
        check=True,
    )
    return Path(json.loads(done.stdout)["run"]["run_dir"])


def hash_all(run_dir: Path) -> int:
    """Compute the SHA-256 of every file below a folder; return the sum of their sizes."""
    total = 0
    for top, folders, names in os.walk(run_dir):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(top, name)  # noqa: PTH118 faster than pathlib
            if not os.path.islink(path):  # noqa: PTH114
                with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                    hashlib.file_digest(file, "sha256")
                total += os.path.getsize(path)  # noqa: PTH202
    return total


def verified(run_dir: Path) -> int:
    """Verify a run; return the number of bytes that were read."""
    found = verify_run(run_dir)
    assert found.verdict is ProofVerdict.VERIFIED, found.message
    return found.bytes


def main() -> None:
    """Make two runs, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--mb", type=int, default=50, help="The size of each of ten large files.")
    given = parser.parse_args()
    table = Table(title="Seal and verification, processor time, median (least to most)")
    for column in ("run", "files, MB", "what", "MB/s", "times the floor"):
        table.add_column(column)
    with TemporaryDirectory() as folder:
        for name, trials, size in (("large files", 10, given.mb * MB), ("many trials", given.trials, 0)):
            run_dir = make_run(Path(folder), trials, size)
            files = verify_run(run_dir).files
            parts: dict[str, Callable[[Path], object]] = {"sha256": hash_all, "verify": verified, "seal": write_seal}
            seconds: dict[str, list[float]] = {part: [] for part in parts}
            total = hash_all(run_dir)
            for _ in range(given.rounds):
                # Seal last: statements in the run name the digest of its first seal, which has the same bytes.
                for part, measure in parts.items():
                    begun = time.process_time()
                    measure(run_dir)
                    seconds[part].append(time.process_time() - begun)
            floor = statistics.median(seconds["sha256"])
            for part, found in seconds.items():
                middle = statistics.median(found)
                speed = f"{total / middle / MB:,.0f} ({total / max(found) / MB:,.0f} to {total / min(found) / MB:,.0f})"
                table.add_row(name, f"{files:,}, {total / MB:,.0f}", part, speed, f"{middle / floor:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
