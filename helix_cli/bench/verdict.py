"""One sentence on whether speculation pays, with the reason read from the figures."""

from __future__ import annotations

from helix_cli.bench.costs import expected_speed_up
from helix_cli.bench.schema import Costs, Interval


def verdict(arm: str, speed_up: Interval | None, costs: Costs | None) -> str:
    """What the pooled speed-up of a drafting arm over the plain one says; `costs` are pooled over the same runs."""
    if speed_up is None:
        return f"There is no pair of plain and {arm} runs to compare, so nothing can be said about speculation."
    if speed_up.low is None or speed_up.high is None:
        return f"One prompt is too few for a verdict: {arm} ran at {speed_up.ratio:.2f} times plain speed on it."
    interval = (
        f"{speed_up.ratio:.2f} times plain speed, 95 % interval {speed_up.low:.2f} to {speed_up.high:.2f}, "
        f"{speed_up.num_pairs} prompts"
    )
    if speed_up.low > 1.0:
        return f"Speculation pays here: {interval}."
    reason = weakness(costs)
    if speed_up.high < 1.0:
        return f"Speculation does not pay here: {reason} ({interval})."
    return f"No difference beyond the noise ({interval}); what holds speculation back most: {reason}."


def weakness(costs: Costs | None) -> str:
    """What keeps a round from paying: the largest cost if the round would pay without it, acceptance otherwise.

    A cost that could not be made up for even with every token accepted is named whatever the acceptance.
    """
    if costs is None:
        return "its rounds were not timed, so the reason is not known"
    if costs.mean_k == 0.0:
        return "nothing was drafted"
    assert costs.c is not None, "what was drafted was timed"
    draft, verify, overhead = costs.mean_k * costs.c, max(0.0, costs.v - 1.0), max(0.0, costs.o - costs.o_plain)
    parts = [
        (draft, f"the draft is too slow (a draft token takes {costs.c:.2f} of a target step)"),
        (verify, f"verification is too dear (checking {costs.mean_k:.1f} tokens takes {costs.v:.2f} target steps)"),
        (overhead, f"overhead (each round spends {costs.o:.2f} of a target step outside both models)"),
    ]
    largest, reason = max(parts)
    at_best = expected_speed_up(1.0 + costs.mean_k, draft, costs.v, costs.o, costs.o_plain)
    total = draft + costs.v + costs.o
    without = costs.tokens_per_round * (1.0 + costs.o_plain) / (total - largest)
    if at_best <= 1.0 or without > 1.0:
        return reason
    rate = (costs.tokens_per_round - 1.0) / costs.mean_k
    return f"acceptance is too low ({rate:.2f} of what is drafted, {costs.tokens_per_round:.2f} tokens a round)"
