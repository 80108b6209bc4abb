"""Accepts: the rules that decide how much of a draft is kept. A new rule is one file and one line here."""

from helix_cli.verify.block import BlockRule
from helix_cli.verify.coupled import CoupledRule
from helix_cli.verify.greedy import GreedyRule
from helix_cli.verify.rule import VerifyRule
from helix_cli.verify.token import TokenRule

RULES: dict[str, VerifyRule] = {rule.name: rule for rule in (GreedyRule(), TokenRule(), BlockRule(), CoupledRule())}
