"""The blind incident responder: it polls a target, opens incidents, diagnoses, acts, verifies, learns from results."""
