"""The folder of relab's own data, and the files in it that a command needs without any setting."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def default_home() -> Path:
    """Return the folder of relab's data: `$RELAB_HOME`, else the user's data directory."""
    given = os.environ.get("RELAB_HOME")
    return Path(given).expanduser().absolute() if given else Path(platformdirs.user_data_dir("relab"))


def signing_key_path(home: Path) -> Path:
    """Return the file of the key that signs runs, below the folder of relab's data."""
    return home / "keys" / "signing_key.pem"
