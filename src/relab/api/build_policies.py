"""Routes of build policies, which choose the action for the next build.

They estimate the reward of each policy in a project, and promote a policy: put it into use if it is better.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from relab.access.models import Scope
from relab.builds.promotion.service import ProjectPolicies, Promotion, PromotionRequest
from relab.http.access import OperatorDep
from relab.http.body import JsonBody
from relab.http.deps import ServicesDep
from relab.http.routes import scoped

router = APIRouter(tags=["builds"])

_Request = Annotated[
    PromotionRequest,
    Depends(JsonBody(PromotionRequest, example={"project": "engine", "policy": "thompson"}, is_strict=True)),
]


@router.get(
    "/build-policies", **scoped(Scope.READ), summary="Show the policy of a project, and what each policy would earn"
)
def get_policies(
    services: ServicesDep,
    project: Annotated[str, Query(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", examples=["engine"])] = "",
) -> ProjectPolicies:
    """Return the policy that a project uses, and the estimated mean reward of each policy (off-policy evaluation).

    The estimates are computed from the newer half of the log of decisions.
    """
    return services.build_promotion.policies(project)


@router.post(
    "/build-policies/promote",
    **scoped(Scope.OPERATE, 409, 412, has_body=True),
    summary="Judge a policy, and put it into use if it is better",
)
def post_promotion(request: _Request, services: ServicesDep, caller: OperatorDep) -> Promotion:
    """Compare a policy with the current policy of a project, and put it into use if the verdict is PASS.

    The policy of a project is stored as a flag. After a PASS, the response names the `flag` and its new `version`,
    whose author is the caller. To undo the promotion, send `POST /flags/{flag}/rollback` with the response's `version`
    in the header `If-Match: "<version>"`, and the response's `restores` as the `version` in the body. 409 if the policy
    is already in use or cannot be used, if the flag is archived, or if the log has fewer than 60 decisions with an
    outcome. 412 if the flag was changed meanwhile.
    """
    return services.build_promotion.promote(request.policy, request.project, author=caller.name)
