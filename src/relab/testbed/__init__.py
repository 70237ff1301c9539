"""The testbed: run a real service, inject real faults into it, and execute the actions that repair it.

Input: commands (`lab testbed`, `lab incidents eval`), and HTTP requests of users, responders and the chaos tools.
Output: a running service whose state is known, and scores of responders.
Entry points: `service` starts, inspects, resets and stops testbeds; `scenarios.service` runs scenarios on them;
`scoring.service` evaluates responders; `models` has the shared values.
A folder of the testbed imports only the folders below it in the contract `testbed-folders` (`pyproject.toml`).
"""
