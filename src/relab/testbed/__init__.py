"""The testbed: a real service, the injection of real faults into it, and the actions that repair it."""
