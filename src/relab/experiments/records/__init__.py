"""Create, lock, read and delete the folder of a run on disk, and append the result of each trial to its journal.

In: the configuration of the experiment, with all defaults and overrides, and the journal entry of each finished trial.
Out: the folder of a run, from which another process can continue the run.
"""
