"""`lab rca`: analyse failed runs, group them by cause, label them, and find behaviours in runs."""
