"""Experiments: run a harness (the program under test) once per variant, task and repeat, and write result tables.

Each of these executions (trials) runs in a sandbox.
"""
