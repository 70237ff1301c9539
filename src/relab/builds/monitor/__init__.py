"""Run real builds: read a project's `build.yaml`, copy the project, run its build in a sandbox, and store the result.

In: a project and a configuration. Out: a stored `Build`, with its log.
"""
