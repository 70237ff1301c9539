"""Read the prompts of relab's contexts (its top-level packages). Each context has a folder of prompts as text files."""

from __future__ import annotations

import functools
from importlib.resources import files


@functools.cache
def prompt_text(context: str, name: str) -> str:
    """Return the text of the file `name` in the folder `prompts` of a context, such as `rca`.

    Raises:
        FileNotFoundError: the context has no such file.
    """
    return files(f"relab.{context}").joinpath("prompts", name).read_text(encoding="utf-8")
