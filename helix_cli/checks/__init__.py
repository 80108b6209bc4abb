"""Proves: what `helix validate` and the tests share. A new check is a function and a line in its group's file."""

from helix_cli.checks import (
    behaviour,
    caching,
    environment,
    files,
    greedy,
    inputs,
    numerics,
    sampled,
    server,
    stops,
)
from helix_cli.checks.check import Check

_PARTS = (environment, files, inputs, numerics, greedy, sampled, stops, caching, behaviour, server)
CHECKS: dict[str, Check] = {check.id: check for part in _PARTS for check in part.CHECKS}
"""By id, in the order in which they run."""
GROUPS: tuple[str, ...] = tuple(dict.fromkeys(check.group for check in CHECKS.values()))
