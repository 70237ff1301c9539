"""Behaviours: what an installation wants to find in its runs, described by rules in a YAML file.

In: a file of rules, and runs. Out: the behaviours that a run shows, with quotations. `matching.py` and `reporting.py` are pure.
"""

from relab.rca.behaviours.rule_file import RuleBook, read_rules
from relab.rca.behaviours.rules import BehaviourRule, RuleSet

__all__ = ["BehaviourRule", "RuleBook", "RuleSet", "read_rules"]
