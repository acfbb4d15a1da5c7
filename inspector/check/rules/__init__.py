"""Every rule, in the order of their codes: the one list that the rest goes by."""

from inspector.check.rule import Rule
from inspector.check.rules import bn011_negative_variance

RULES: tuple[Rule, ...] = (bn011_negative_variance.RULE,)
