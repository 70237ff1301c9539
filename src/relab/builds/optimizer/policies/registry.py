"""List, check and make policies by name. Making a policy imports its module; listing names imports none, to be fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from relab.builds.optimizer.model_store import ModelStore
    from relab.builds.optimizer.policies.protocol import BuildPolicy


def _fixed() -> BuildPolicy:
    from relab.builds.optimizer.catalogue import KEEP
    from relab.builds.optimizer.policies.fixed import FixedPolicy

    return FixedPolicy(KEEP)


def _random() -> BuildPolicy:
    from relab.builds.optimizer.policies.fixed import RandomPolicy

    return RandomPolicy()


def _best_fixed() -> BuildPolicy:
    from relab.builds.optimizer.policies.fixed import BestFixedPolicy

    return BestFixedPolicy()


def _thompson() -> BuildPolicy:
    from relab.builds.optimizer.policies.linear import ThompsonPolicy

    return ThompsonPolicy()


def _linucb() -> BuildPolicy:
    from relab.builds.optimizer.policies.linear import LinUcbPolicy

    return LinUcbPolicy()


def _ucb() -> BuildPolicy:
    from relab.builds.optimizer.policies.tabular import UcbPolicy

    return UcbPolicy()


POLICIES: Final[Mapping[str, Callable[[], BuildPolicy]]] = {
    "fixed": _fixed,
    "random": _random,
    "best-fixed": _best_fixed,
    "thompson": _thompson,
    "linucb": _linucb,
    "ucb": _ucb,
}
"""`{name: function that makes an untrained policy}`; `fixed:ID` names the policy that always chooses one action."""

_DQN: Final = "dqn"
"""The name of the policy whose network is trained beforehand."""

POLICY_NAMES: Final = (*POLICIES, _DQN)
"""The names of all policies, without `fixed:ID`."""

POLICY_CHOICES: Final = " | ".join((*POLICY_NAMES, "fixed:ACTION_ID"))
"""The names of all policies, for the help of commands."""


def usable_policies(models: ModelStore) -> list[str]:
    """Return the names of the policies that can be used; `dqn` needs a trained network in `models`."""
    return [*POLICIES] if models.newest() is None else [*POLICY_NAMES]


def check_policy(name: str) -> None:
    """Check that a policy (rule that chooses build actions) has this name.

    `fixed:ID` is the name of the policy that always chooses the action with the number ID. The policy `dqn` needs a
    trained neural network; this function does not check that there is one.

    Raises:
        UnknownPolicyError: no policy has this name.
        UnknownBuildActionError: the name is `fixed:ID`, and no action has this number.
    """
    if name != _DQN:
        make_policy(name)


def make_policy(name: str, models: ModelStore | None = None) -> BuildPolicy:
    """Return a policy (rule that chooses build actions) that has not learnt from any decision yet.

    `fixed:ID` is the name of the policy that always chooses the action with the number ID.

    Args:
        name: the name of the policy.
        models: the trained neural networks, for the policy `dqn`; None: no trained network.

    Raises:
        UnknownPolicyError: no policy has this name.
        UnknownBuildActionError: the name is `fixed:ID`, and no action has this number.
        PolicyModelMissingError: the policy is `dqn`, and has no trained network.
        PolicyModelError: the policy is `dqn`, and its network cannot be read or does not fit this version of relab.
        RlExtraMissingError: the policy is `dqn`, and the extra `[rl]` is not installed.
    """
    from relab.builds.errors import PolicyModelMissingError, UnknownPolicyError
    from relab.builds.optimizer.catalogue import action_of
    from relab.builds.optimizer.policies.fixed import FixedPolicy

    if name == _DQN:
        from relab.builds.optimizer.policies.network import NetworkPolicy

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
            remedy=f"Use {', '.join(POLICY_NAMES)} or fixed:ACTION_ID.",
        )
    return POLICIES[name]()
