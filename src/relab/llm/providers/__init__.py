"""Providers of language models, one module each, named as in RELAB_LLM__PROVIDER.

Each module sets `PROVIDER`. It imports the provider's libraries only in the function `load` of `PROVIDER`. A new
provider is one new module here. `tests/contract/llm/` is the suite that every provider passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from relab.llm.provider import Provider

# All providers by name.
PROVIDERS: Final[Mapping[str, Provider]] = {
    module.name: import_module(f"{__name__}.{module.name}").PROVIDER for module in iter_modules(__path__)
}
