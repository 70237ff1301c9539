"""Make tables, analysis, verdicts, report and attestation from the journal of a run.

In: the folder of a run. Out: files below `analysis/` and `evidence/`, the attestation, comparisons, and agent runs in
telemetry.
"""
