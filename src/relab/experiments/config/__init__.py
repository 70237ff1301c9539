"""Read and check the user's input: the experiment file, overrides (new values for its fields), and the project's paths.

In: `.lab/experiment.yaml` and files of overrides. Out: a validated `ExperimentConfig`, the limits of a trial, and the
starter files that `lab init` writes.
"""
