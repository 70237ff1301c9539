"""Jobs that run on the target's machine beside it: reports about the shop's sales. They use processor time and memory.

Input: the target's settings; the order file `settings/report-job.json` (number of processes, priority, duration).
Output: the report in the target's data folder, and its own log.
Entry point: `python -m relab.testbed.jobs`. It imports no other folder of the testbed.
"""
