"""The channels of notices, one per module of this package.

Each module sets `OPTIONS`, a dataclass with the options of its channel. Each field of the dataclass has the name of a
setting of notices, and gets the value of that setting. The method `receiver` returns the receiver that the options
describe.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from relab.incidents.notices.receivers import Receiver


class ChannelOptions(Protocol):
    """The options of one channel, which sends notices to a service such as Slack or PagerDuty."""

    def receiver(self) -> Receiver | None:
        """Return the receiver that the options describe; None if the channel is switched off."""
        ...


_MODULES: Final = sorted({path.stem for path in Path(__file__).parent.glob("*.py")} - {"__init__", "registry"})

# The classes of the options of all channels.
CHANNELS: Final[tuple[Any, ...]] = tuple(import_module(f"{__package__}.{name}").OPTIONS for name in _MODULES)


def channels_from(settings: Mapping[str, Any]) -> tuple[ChannelOptions, ...]:
    """Return the options of all channels.

    `settings` maps the name of each setting of notices to its value.
    """
    return tuple(
        options(**{field.name: settings[field.name] for field in dataclasses.fields(options)}) for options in CHANNELS
    )
