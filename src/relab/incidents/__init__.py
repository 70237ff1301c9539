"""The blind incident responder: from polls to an incident, a cause, an act, a proof, and what is learnt of it."""
