"""The folder of a run on disk: its files, its lock, its journal, and the seals of these files.

In: the resolved experiment and the journal entry of each finished trial. Out: a folder that another process can
continue, check or delete.
"""
