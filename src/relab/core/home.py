"""Return the paths of relab's home folder and of the signing key in it, without reading relab's settings."""

from __future__ import annotations

import os
from pathlib import Path


def default_home() -> Path:
    """Return relab's home folder: `$RELAB_HOME`; if it is not set, a folder in the user's data directory."""
    given = os.environ.get("RELAB_HOME")
    if given:
        return Path(given).expanduser().absolute()
    import platformdirs  # noqa: PLC0415 services name a home, and then run without it

    return Path(platformdirs.user_data_dir("relab"))


def signing_key_path(home: Path) -> Path:
    """Return the path of the private key that signs experiment runs.

    `home` is relab's home folder.
    """
    return home / "keys" / "signing_key.pem"
