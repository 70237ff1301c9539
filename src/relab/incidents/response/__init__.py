"""The responder's graph: what is done for one incident, node by node."""
