"""The proof of a run: its seal, signed statements about it, their verification, and redacted bundles.

In: the folder of a run that has ended. Out: `seal.jsonl` and `attestation.intoto.jsonl` in this folder, the result of
their verification, or a zip archive to publish.
"""
