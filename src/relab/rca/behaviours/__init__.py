"""Behaviours: patterns in runs that the users of this installation describe by rules in a YAML file.

Input: a file of rules, and runs. Output: the behaviours that a run shows, with quotations. `matching.py` and
`reporting.py` are pure.
"""

from relab.rca.behaviours.rule_file import RuleBook, read_rules

__all__ = ["RuleBook", "read_rules"]
