"""Load the real failures through the public API: `python -m evals.load_real`, or this file as a script."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script's own folder is there, its package is not

    from evals.real_data import main

    sys.exit(main())
