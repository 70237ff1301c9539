"""The responder's read-only looks: named questions to the target and the action server, and the facts in their answers."""
