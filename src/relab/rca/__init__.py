"""Root cause analysis of agent runs: `analyzer.py` is its pure core, `service.py` its entry point.

The data go one way: an `AgentRun` comes in, `evidence/` indexes it, `detectors/` find problems in it, `attribution/` ranks
them into causes, `report/` builds the `Report`. Each of these folders imports only the folders named before it.
"""
