"""The supervisor of a testbed: it starts, monitors, restarts, resets and stops all other components.

Input: `private/plan.json`; requests on the Unix socket `control.sock`, which change components, limits and settings.
Output: the processes of a testbed and their limits; `state.json`; the versions of the settings; the template of the
database.
Entry points: `python -m relab.testbed.supervisor`; `plan.SupervisorPlan` and its rows for `testbed.service`. Other
folders use the supervisor's API only through `testbed.supervisor_client`. This folder imports no other folder of the
testbed: the supervisor starts their programs by commands.
"""
