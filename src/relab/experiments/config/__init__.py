"""Read and check the user's input: the experiment file, the overrides of its fields (knobs), paths of the project.

In: `.lab/experiment.yaml` and files of overrides. Out: a validated `ExperimentConfig`, the limits of a trial, and the
starter files that `lab init` writes.
"""
