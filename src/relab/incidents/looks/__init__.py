"""The responder's read-only looks: named sets of requests to the target and the action server, and the facts in the answers."""
