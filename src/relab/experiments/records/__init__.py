"""The folder of a run on disk: its files, its lock, its journal, and the seals of these files.

In: the configuration of the experiment, with all defaults and overrides, and the journal entry of each finished trial.
Out: the folder of a run, which another process can continue, check or delete.
"""
