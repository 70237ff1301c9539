"""The supervisor of a testbed: it starts, monitors, restarts, resets and stops all other components.

Input: `private/plan.json`; requests on the Unix socket `control.sock`, which change components, limits and settings.
Output: the processes of a testbed and their limits; `state.json`; the versions of the settings; the template of the
database.
Entry points: `python -m relab.testbed.supervisor`; `plan.SupervisorPlan` and its rows for `testbed.service`. Its API is
used only through `testbed.supervisor_client`. It imports no other folder of the testbed: it starts the programs of the
others by their commands.
"""
