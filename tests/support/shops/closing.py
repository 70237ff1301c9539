"""A person closes the incident of a small shop as repaired."""

from __future__ import annotations

from relab.incidents.storage.ending import manual_closing
from relab.incidents.storage.models import Incident
from support.shops.small import Means, Watching


def close(running: Watching, means: Means) -> Incident:
    """Close the only open incident as repaired, as a person does."""
    (found,) = [each for each in running.incidents() if not each.is_over]
    closing = manual_closing("ann", "I opened the valve by hand.", "valve_a_shut")
    return running.log.closings.close(found.incident_id, closing, at_us=means.shop.clock.now_us())
