"""The policies by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from relab.builds.errors import PolicyModelMissingError, UnknownPolicyError
from relab.builds.optimizer.catalogue import KEEP, action_of
from relab.builds.optimizer.model_store import ModelStore
from relab.builds.optimizer.policies.fixed import BestFixedPolicy, FixedPolicy
from relab.builds.optimizer.policies.linear import LinUcbPolicy, ThompsonPolicy
from relab.builds.optimizer.policies.network import NetworkPolicy
from relab.builds.optimizer.policies.protocol import BuildPolicy
from relab.builds.optimizer.policies.tabular import UcbPolicy

POLICIES: Final[Mapping[str, Callable[[], BuildPolicy]]] = {
    "fixed": lambda: FixedPolicy(KEEP),
    "best-fixed": BestFixedPolicy,
    "thompson": ThompsonPolicy,
    "linucb": LinUcbPolicy,
    "ucb": UcbPolicy,
}
"""`{name: function that makes an untrained policy}`; `fixed:ID` names the policy that always chooses one action."""


DQN: Final = "dqn"
"""The name of the policy whose network is trained beforehand."""


def check_policy(name: str) -> None:
    """Check that a policy has this name; whether the policy `dqn` can be used is not checked.

    Raises:
        UnknownPolicyError: no policy has this name.
        UnknownBuildActionError: `fixed:ID` names an unknown action.
    """
    if name != DQN:
        make_policy(name)


def make_policy(name: str, models: ModelStore | None = None) -> BuildPolicy:
    """Return a policy that has not learnt from any decision yet.

    Args:
        name: the name of the policy.
        models: the trained networks, for the policy `dqn`; None: no trained network.

    Raises:
        UnknownPolicyError: no policy has this name.
        UnknownBuildActionError: `fixed:ID` names an unknown action.
        PolicyModelMissingError: the policy is `dqn`, and has no trained network.
        PolicyModelError: the policy is `dqn`, and its network is damaged or of another version.
        RlExtraMissingError: the policy is `dqn`, and the extra `[rl]` is not installed.
    """
    if name == DQN:
        if models is None:
            raise PolicyModelMissingError
        return NetworkPolicy(models.load())
    kind, _, action = name.partition(":")
    if kind == "fixed" and action.isascii() and action.isdigit():
        return FixedPolicy(action_of(int(action[:9])).action_id)
    if name not in POLICIES:
        raise UnknownPolicyError(
            f"policy: there is no policy {name[:80]!r}.",
            problems=(("policy", "is unknown"),),
            remedy=f"Use {', '.join(POLICIES)}, {DQN} or fixed:ACTION_ID.",
        )
    return POLICIES[name]()
