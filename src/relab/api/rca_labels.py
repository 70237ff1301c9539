"""Routes of labels: a person's statements about the first wrong step of a run, and about its behaviours."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from relab.access.models import Scope
from relab.api.agent_runs import Cursor, RunId
from relab.http.access import OperatorDep
from relab.http.deps import PageSize, ServicesDep
from relab.http.routes import scoped
from relab.rca.models import BEHAVIOUR_PATTERN, NewBehaviourLabel, RunBehaviourLabel
from relab.rca.service import LabelPage, NewLabel, RunLabel

router = APIRouter(tags=["root cause analysis"])

_Behaviour = Annotated[
    str,
    Path(
        pattern=BEHAVIOUR_PATTERN, description="The name of a behaviour, as in the rule file.", examples=["blames-user"]
    ),
]


class BehaviourLabelList(BaseModel):
    """The labels of one run, by behaviour. Each says whether the run shows a behaviour (pattern) like `blames-user`."""

    items: list[RunBehaviourLabel]


@router.put(
    "/agent-runs/{run_id}/rca-label", **scoped(Scope.OPERATE, 400, 404), summary="Label the first mistake of a run"
)
def put_label(run_id: RunId, label: NewLabel, services: ServicesDep, caller: OperatorDep) -> RunLabel:
    """Store a person's label of a run: which step went wrong first. An earlier label of the run is replaced.

    The run must contain the step and the agent that the label names.
    """
    return services.rca.labels.save(run_id, label, by=caller.name)


@router.get("/agent-runs/{run_id}/rca-label", **scoped(Scope.READ, 404), summary="Show the label of a run")
def get_label(run_id: RunId, services: ServicesDep) -> RunLabel:
    """Return the label with the step of a run that went wrong first; 404 if the run has no label."""
    return services.rca.labels.get(run_id)


@router.delete(
    "/agent-runs/{run_id}/rca-label", status_code=204, **scoped(Scope.OPERATE, 404), summary="Delete the label of a run"
)
def delete_label(run_id: RunId, services: ServicesDep) -> None:
    """Delete the label with the step of a run that went wrong first; 404 if the run has no label."""
    services.rca.labels.remove(run_id)


@router.get("/rca/labels", **scoped(Scope.READ), summary="List labels of runs, newest first")
def list_labels(
    services: ServicesDep,
    cursor: Cursor = None,
    limit: PageSize = 50,
) -> LabelPage:
    """Return a page of labels, newest first. A label says which step of a run went wrong first."""
    return services.rca.labels.page(cursor=cursor, limit=limit)


@router.put(
    "/agent-runs/{run_id}/behaviour-labels/{behaviour}",
    **scoped(Scope.OPERATE, 400, 404),
    summary="Label whether a run shows a behaviour",
)
def put_behaviour_label(
    run_id: RunId, behaviour: _Behaviour, label: NewBehaviourLabel, services: ServicesDep, caller: OperatorDep
) -> RunBehaviourLabel:
    """Store a person's label of a run: whether the run shows a behaviour.

    An earlier label of the run for the same behaviour is replaced. The behaviour need not be the name of an existing
    rule.
    """
    return services.rca.behaviours.labels.save(run_id, behaviour, is_shown=label.is_shown, by=caller.name)


@router.get(
    "/agent-runs/{run_id}/behaviour-labels",
    **scoped(Scope.READ, 404),
    summary="List the labels of a run for behaviours",
)
def list_behaviour_labels(run_id: RunId, services: ServicesDep) -> BehaviourLabelList:
    """Return the labels of a run about behaviours (patterns that the run shows or does not show); may be empty."""
    services.telemetry.get_content(run_id)
    return BehaviourLabelList(items=services.rca.behaviours.labels.of_run(run_id))


@router.get(
    "/agent-runs/{run_id}/behaviour-labels/{behaviour}",
    **scoped(Scope.READ, 404),
    summary="Show the label of a run for a behaviour",
)
def get_behaviour_label(run_id: RunId, behaviour: _Behaviour, services: ServicesDep) -> RunBehaviourLabel:
    """Return the label about one behaviour of a run (shown or not); 404 if the run or the label does not exist."""
    services.telemetry.get_content(run_id)
    return services.rca.behaviours.labels.get(run_id, behaviour)


@router.delete(
    "/agent-runs/{run_id}/behaviour-labels/{behaviour}",
    status_code=204,
    **scoped(Scope.OPERATE, 404),
    summary="Delete the label of a run for a behaviour",
)
def delete_behaviour_label(run_id: RunId, behaviour: _Behaviour, services: ServicesDep) -> None:
    """Delete the label about one behaviour (a pattern) of a run; 404 if the run has no such label."""
    services.rca.behaviours.labels.remove(run_id, behaviour)
