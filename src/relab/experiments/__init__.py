"""Experiments: any harness over variants, tasks and repeats, in clean rooms, into tables that can be trusted."""
