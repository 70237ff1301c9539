"""Read and check what a user wrote: the experiment file, knobs and overrides, paths of the project.

In: `.lab/experiment.yaml` and files of overrides. Out: a validated `ExperimentConfig`, the limits of a trial, and the
starter files that `lab init` writes.
"""
