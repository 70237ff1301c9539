"""Migration to revision 0032: the recommendation of an ended incident says how the incident ended.

Earlier versions kept the last request for a person there. The last event of the timeline already says how it ended.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

_MAX_RECOMMENDATION = 10_000
"""The maximum length of a recommendation in characters, as in `incidents/storage/ending.py` at this revision."""


def upgrade() -> None:
    ending = (
        "SELECT message FROM incident_events WHERE incident_events.incident_id = incidents.incident_id"
        " AND kind = 'closed' AND length(message) BETWEEN 1 AND :most"
    )
    op.execute(
        sa.text(
            f"UPDATE incidents SET recommendation = ({ending} ORDER BY seq DESC LIMIT 1)"  # noqa: S608
            f" WHERE closed_at IS NOT NULL AND recommendation <> '' AND EXISTS ({ending})"
        ).bindparams(most=_MAX_RECOMMENDATION)
    )


def downgrade() -> None:
    """Delete the worst values of findings, which earlier versions reject; keep the recommendations.

    The earlier recommendations are still in the timelines.
    """
    incidents = sa.table("incidents", sa.column("incident_id"), sa.column("findings", sa.JSON()))
    wanted = sa.cast(incidents.c.findings, sa.Text).contains('"worst_value"', autoescape=True)
    for incident_id, findings in op.get_bind().execute(sa.select(*incidents.c).where(wanted)).fetchall():
        for finding in findings:
            finding.pop("worst_value", None)
        op.execute(incidents.update().where(incidents.c.incident_id == incident_id).values(findings=findings))
