"""Knowledge of causes of incidents and their repairs: runbooks and past incidents."""
