"""Whether counts follow a law, and how large a difference would have been seen.

A chi-square test over cells that are pooled where little is expected; Holm's correction where many tests are made; and
the smallest total variation that the number of samples would have revealed, without which "no difference" says little.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch

LEAST_EXPECTED = 8.0
"""Cells that are expected less often share one: the chi-square law holds for counts that are not small."""
POWER = 0.9
"""A difference counts as detectable when this share of all runs would find it."""
_LARGEST_NONCENTRALITY = 1e6

Key = TypeVar("Key", bound=Hashable)


def chi_square(counts: Mapping[Key, float], law: Mapping[Key, float], samples: int) -> tuple[float, int]:
    """Pearson's statistic and its degrees of freedom; rare cells are pooled. A count outside the law is infinite."""
    if any(count > 0 and law.get(key, 0.0) <= 0.0 for key, count in counts.items()):
        return math.inf, 1
    expected = np.array([chance * samples for chance in law.values()])
    seen = np.array([float(counts.get(key, 0.0)) for key in law])
    rare = expected < LEAST_EXPECTED
    if rare.any():
        expected = np.append(expected[~rare], max(expected[rare].sum(), 1.0))
        seen = np.append(seen[~rare], seen[rare].sum())
    return float(((seen - expected) ** 2 / expected).sum()), len(expected) - 1


def p_value(statistic: float, freedom: int) -> float:
    """The chance that a right engine shows this statistic or a larger one; 1 where only one cell is left."""
    if freedom < 1:
        return 1.0
    return 0.0 if math.isinf(statistic) else _upper_gamma(freedom / 2, statistic / 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: reject those below alpha, and a right engine fails any of them with a chance below alpha."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def detectable_variation(samples: int, freedom: int, alpha: float) -> float:
    """The smallest total variation (at most 1) that a test at level `alpha` finds in nine runs of ten.

    Cells that differ by d_i from p_i give a noncentrality of n sum(d_i^2 / p_i), which by Cauchy and Schwarz is at
    least n (2 TV)^2, whatever the law is. So a difference of this size or more, over the pooled cells, would have been
    found.
    """
    if freedom < 1:
        return 1.0
    low, high = 0.0, 1e6
    for _ in range(80):  # the critical value, by halving
        middle = (low + high) / 2
        low, high = (middle, high) if _upper_gamma(freedom / 2, middle / 2) > alpha else (low, middle)
    critical = high
    low, high = 0.0, _LARGEST_NONCENTRALITY
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _power(critical, freedom, middle) < POWER else (low, middle)
    return min(1.0, math.sqrt(high / samples) / 2)


def _power(critical: float, freedom: int, noncentrality: float) -> float:
    """The chance of a noncentral chi-square above `critical`: a Poisson mixture of central ones."""
    mean = noncentrality / 2
    spread = 10 * math.sqrt(mean) + 20
    terms = torch.arange(max(0, int(mean - spread)), int(mean + spread) + 1, dtype=torch.float64)
    weights = torch.exp(terms * math.log(mean) - mean - torch.lgamma(terms + 1)) if mean > 0 else terms.eq(0).double()
    tails = torch.special.gammaincc(terms + freedom / 2, torch.full_like(terms, critical / 2))
    return float((weights * tails).sum())


def _upper_gamma(shape: float, value: float) -> float:
    """The regularised upper incomplete gamma function."""
    pair = torch.tensor([shape, max(value, 0.0)], dtype=torch.float64)
    return float(torch.special.gammaincc(pair[0], pair[1]))
