"""Load the real failures through the public API: `python -m evals.load_real`, or run this file as a script."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(
        0, str(Path(__file__).resolve().parents[1])
    )  # for a script, Python adds only its own folder, not the parent of its package

    from evals.real_data import main

    sys.exit(main())
