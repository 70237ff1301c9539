"""JSON Schemas of the documents of experiments, and the check of documents against them.

In: a document, or the name of a schema. Out: the schema, or the list of problems.
"""
