"""Gates: conditions on the difference of a variant from the baseline in a metric, such as `success>=-0.02`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relab.core.errors import InvalidInputError
from relab.stats.intervals import Interval
from relab.stats.verdicts import Gate, Verdict


class GateInvalidError(InvalidInputError):
    """The text of a gate (condition on a difference) cannot be parsed; the message shows the syntax."""

    code = "gate_invalid"


@dataclass(frozen=True, slots=True)
class GateQuestion:
    """A gate to judge: a condition on a variant's difference from the baseline.

    The caller gave the gate, or it is the default gate of a metric (`is_default` is True). The default gate passes if
    the whole interval of the difference lies on the better side of 0.
    """

    gate: Gate
    is_default: bool

    def __str__(self) -> str:
        return f"{self.gate.metric} is better" if self.is_default else str(self.gate)

    def judge(self, interval: Interval) -> Verdict:
        """Return the verdict of the gate on the confidence interval of a difference.

        The verdict is PASS if the whole interval passes the gate, FAIL if the whole interval fails it, otherwise EDGE.
        """
        if self.is_default:
            low, high = (interval.low, interval.high) if self.gate.at_least else (-interval.high, -interval.low)
            return Verdict.PASS if low > 0 else Verdict.FAIL if high < 0 else Verdict.EDGE
        # For a relative gate the difference is variant minus (1 + share) times baseline, so its threshold is 0.
        return self.gate.judge(interval, 0.0 if self.gate.is_relative else None)

    @property
    def threshold(self) -> float:
        """The bound on the difference; 0 for a relative gate, such as `<=5%`.

        The difference of a relative gate is variant minus (1 + `share`) times baseline. It already contains the bound.
        """
        return 0.0 if self.gate.is_relative else self.gate.threshold

    @property
    def share(self) -> float:
        """The percentage of a relative gate as a fraction, such as 0.05 for `<=5%`; 0 for other gates."""
        return self.gate.threshold if self.gate.is_relative else 0.0


def parse_gates(gates: Sequence[str]) -> list[Gate]:
    """Parse gates: limits on a metric's difference from the baseline (`success>=-0.02`, `latency_ms<=5%`).

    Raises:
        GateInvalidError: a gate cannot be parsed.
    """
    try:
        return [Gate.parse(text) for text in gates]
    except ValueError as error:
        message = str(error)
        raise GateInvalidError(message[:1].upper() + message[1:] + ".") from error
