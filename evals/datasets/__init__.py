"""Converters of real records of agents: each returns the body of one `POST /agent-runs`.

They are pure functions of parsed JSON. They use only what the run itself recorded, and never a label: an annotator's
notes about a run must not reach its body.
"""
