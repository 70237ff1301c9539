"""JSON Schemas of the documents of experiments, and the validation of documents against them.

`documents.py` returns a schema by its name. `check.py` validates a file, and raises an error that lists its problems.
"""
