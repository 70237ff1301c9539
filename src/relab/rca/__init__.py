"""Root cause analysis of agent runs: `analyzer.py` is its pure core, `service.py` its entry point.

The data flow in one direction: `evidence/` indexes an `AgentRun`, `detectors/` find problems in it, `attribution/`
ranks them into causes, `report/` builds the `Report`. Each of these folders imports only the folders named before it.
"""
