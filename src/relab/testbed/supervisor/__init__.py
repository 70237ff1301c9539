"""The supervisor of a testbed: it starts, monitors, restarts, resets and stops all other components.

Input: the configuration `private/plan.json`; HTTP requests on the Unix socket `control.sock`.
Output: the processes of a testbed and their resource limits; `state.json`; the history of the target's settings; the
template, from which a reset restores the database.
Entry points: `python -m relab.testbed.supervisor`; `plan.SupervisorPlan`, which `testbed.service` writes. Other folders
use the supervisor's API only through `testbed.supervisor_client`. This folder imports no other folder of the testbed:
the supervisor starts their programs by commands.
"""
