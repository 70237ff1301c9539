"""Root cause analysis of agent runs: `analyzer.py` is its pure core, `service.py` its door.

The data go one way: an `AgentRun` comes in, `evidence/` indexes it, `detectors/` find problems in it, `attribution/` ranks
them into causes, `report/` writes the `Report` that goes out. Each room imports only the rooms before it.
"""
