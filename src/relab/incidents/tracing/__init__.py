"""Project each incident to an agent run, so that it can be analysed like any other run."""
