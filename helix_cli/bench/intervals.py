"""Confidence intervals of ratios between two arms, paired by what was asked."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, stdev

from helix_cli.bench.schema import Interval, Run

T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t at 97.5 % for 1 to 30 degrees of freedom."""
Z_975 = 1.959964


def t_975(freedom: int) -> float:
    """Student's t at 97.5 %; beyond the table the first terms of its expansion around the normal."""
    if freedom <= len(T_975):
        return T_975[freedom - 1]
    return Z_975 + (Z_975**3 + Z_975) / (4 * freedom)


def ratio_interval(log_ratios: Sequence[float]) -> Interval | None:
    """The geometric mean of ratios with the t interval of their logarithms; None of nothing."""
    if not log_ratios:
        return None
    middle = fmean(log_ratios)
    if len(log_ratios) == 1:
        return Interval(ratio=math.exp(middle), low=None, high=None, num_pairs=1)
    half = t_975(len(log_ratios) - 1) * stdev(log_ratios) / math.sqrt(len(log_ratios))
    low, high = math.exp(middle - half), math.exp(middle + half)
    return Interval(ratio=math.exp(middle), low=low, high=high, num_pairs=len(log_ratios))


def log_speeds(runs: Iterable[Run], speed: Callable[[Run], float | None]) -> dict[str, dict[int, float]]:
    """Job -> round -> log speed, of the runs that have one."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for run in runs:
        value = speed(run)
        if value is not None and value > 0.0:
            found[run.job][run.round] = math.log(value)
    return found


def paired(mine: dict[str, dict[int, float]], base: dict[str, dict[int, float]]) -> list[float]:
    """A log-ratio for each job that both have: the mean over the rounds that both ran, which were moments apart.

    Rounds of one job repeat the same text, so they are no independent samples: the job is the unit.
    """
    ratios = []
    for job in mine.keys() & base.keys():
        rounds = mine[job].keys() & base[job].keys()
        if rounds:
            ratios.append(fmean(mine[job][at] - base[job][at] for at in sorted(rounds)))
    return sorted(ratios)


def unpaired_rounds(mine: dict[str, dict[int, float]], base: dict[str, dict[int, float]]) -> list[float]:
    """A log-ratio for each job that both have, between means over all rounds: for runs that did not take turns."""
    both = sorted(mine.keys() & base.keys())
    return [fmean(mine[job].values()) - fmean(base[job].values()) for job in both]
