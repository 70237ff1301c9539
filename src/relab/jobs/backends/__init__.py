"""Job back ends, which carry the ids of new jobs to workers. One module per back end, named as in RELAB_JOBS__BACKEND.

Each module has the function `open_backend(options: BackendOptions) -> JobBackend`, which raises ModuleNotFoundError if
a library is missing. Only the configured module is imported. `tests/contract/jobs/` is the suite that every back end
passes.
"""
