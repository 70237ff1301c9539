"""Knowledge of causes and their repairs: runbooks and past incidents."""
