"""The action server: the only interface through which incident responders change the service.

Input: HTTP requests with a token, which name an action of the catalogue and its typed parameters.
Output: changes of components, sessions, settings, flags, limits and jobs, each admitted by the guard and recorded in
`actions.jsonl`; read-only information for operators.
Entry points: `python -m relab.testbed.actions`; `plant.Plant`, the operators' access to a testbed, which fault
injection uses too; `tokens.Tokens`.
"""
