"""The target: a small shop with search, on PostgreSQL, Redis and two vector indexes. It is the service under test.

Input: HTTP requests of users, monitoring and operators; `settings/target.json` and `flags.json`; commands of the chaos
server over a private socket, which switch on defects in the code.
Output: answers, diagnostics, structured logs in `logs/`, and counters of each worker in `stats/`.
Entry points: `python -m relab.testbed.target` runs one worker; `seed` creates the data for the supervisor's template;
`process_figures` reads the state of processes. This folder imports no other folder of the testbed.
"""
