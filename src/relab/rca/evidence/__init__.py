"""Evidence: what a run says about itself.

In: an `AgentRun`, and summaries of other runs. Out: a `RunView` (the run's steps, calls and errors in order of time), and
`Evidence`, which is verbatim quotations that only `EvidenceCollector` makes.
"""
