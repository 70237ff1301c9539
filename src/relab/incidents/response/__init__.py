"""The responder's graph: the nodes that handle one incident, and the loop that runs them."""
