"""Storage of incidents: timelines, acts, approvals and alerts, and the state that all processes of a responder share."""
