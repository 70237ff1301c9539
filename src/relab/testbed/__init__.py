"""The testbed: a real service, the injection of real faults into it, and the actions that repair it.

Input: commands of people (`lab testbed`, `lab incidents eval`), and HTTP requests of users, responders and the chaos
tools.
Output: a running service whose state is known, and scores of responders.
Entry points: `service` starts, inspects, resets and stops testbeds; `models`; `scenarios.service`; `scoring.service`.
The folders of the testbed import each other downwards only (contract `testbed-folders` in `pyproject.toml`).
"""
