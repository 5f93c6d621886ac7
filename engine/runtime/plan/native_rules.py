"""Ops that have a native kernel of their own, by type: faster than what NumPy's functions can do.

Where the last bits may differ, `ConfigProto(exact=True)` does without.  The rules are in the files named ``rules_…``.
"""

from __future__ import annotations

from engine.runtime.plan import native_rows, rules_images, rules_rows, rules_updates
from engine.runtime.plan.rule_table import RULES, Rule

__all__ = ["RULES", "Rule", "native_rows", "rules_images", "rules_rows", "rules_updates"]
