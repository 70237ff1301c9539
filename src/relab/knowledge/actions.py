"""The names of the actions that relab's own action server offers.

Another action server may offer other actions. Its catalogue lists them.
"""

from __future__ import annotations

from typing import Final

ACTIONS: Final = (
    "end-blocking-sessions", "end-idle-sessions", "end-session", "flush-cache", "free-disk", "raise-limit", "recreate-indexes",
    "remediate-db-pool-exhaustion", "restart-cache", "restart-database", "restart-links", "restart-target", "restart-worker",
    "resume-process", "roll-back-settings", "rotate-credential", "set-cache-memory", "set-flow-control", "set-search-route",
    "stop-job", "use-path",
)  # fmt: skip
