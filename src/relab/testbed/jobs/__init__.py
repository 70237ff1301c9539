"""Jobs that run on the target's machine beside it: reports about the shop's sales. They use processor time and memory.

In: the target's settings; the order file `settings/report-job.json` (number of processes, priority, duration).
Out: the report in the target's data folder, and its own log.
Door: `python -m relab.testbed.jobs`. It imports no other folder of the testbed.
"""
