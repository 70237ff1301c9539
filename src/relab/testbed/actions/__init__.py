"""The action server: the only interface through which incident responders change the service.

Input: HTTP requests with a token. A request names an action of the catalogue and has the action's typed parameters.
Output: changes of components, sessions, settings, flags, limits and jobs; read-only information for operators. The
guard admits or refuses each change. An admitted change is recorded in `actions.jsonl` before it starts.
Entry points: `python -m relab.testbed.actions` runs the server. `plant.Plant` gives operators and fault injection
access to a testbed. `tokens.Tokens` authenticates the callers.
"""
