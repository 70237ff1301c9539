"""Jobs that run beside the target on its machine, and use processor time and memory: reports about the shop's sales.

Input: the target's settings; the order file `settings/report-job.json` (number of processes, priority, duration).
Output: the report in the target's data folder, and its own log.
Entry point: `python -m relab.testbed.jobs`. This folder imports no other folder of the testbed.
"""
