"""Import logs of Inspect AI (`.eval` files) as runs of experiments, and export runs as logs.

Import: from `.eval` files to the folder of a run, and to agent runs in telemetry. Export: from the folder of a run to
`.eval` files.
"""
