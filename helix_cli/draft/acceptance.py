"""How often drafted tokens are kept: what all texts taught, and a belief about what one text does at the moment.

A text is predictable in one part and not in the next. A belief is a weight for each of a few levels of acceptance. Each
verdict multiplies the weights by how likely it was at each level, and then a little of the belief is given up for what
texts usually do, so that a change of part is noticed within a few verdicts and chance alone moves little.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul

LEVELS = (0.01, 0.1, 0.3, 0.5, 0.65, 0.78, 0.87, 0.93, 0.97, 0.99)
# Before anything was judged: what a drafter that deserves its name does, and room for one that does not.
FIRST_BELIEF = (0.1, 0.05, 0.05, 0.1, 0.15, 0.15, 0.15, 0.1, 0.1, 0.05)
# How much of a belief each verdict gives up, and how much of what is usual each round replaces: at first as much as one
# of FIRST_ROUNDS, then less and less.
CHANGE, LEARNING, FIRST_ROUNDS = 0.01, 0.02, 6
# How fast the odds at a position are corrected by what the belief expected there, and within which limits.
CORRECTION, MOST_CORRECTED = 0.05, 8.0
# The share of old samples that a new one leaves, in plain averages by position; samples before one is reported.
MEMORY, FEW = 0.98, 4.0
# What is less likely than this to be kept is not worth the arithmetic, nor is working out anew after every round what
# moves slowly.
LEAST_CHANCE, REFRESHED_AFTER = 0.05, 8

Belief = list[float]
"""A weight for each of LEVELS; they sum to 1."""


class Averages:
    """A share by position, with fading memory."""

    def __init__(self, known: Sequence[float] = ()) -> None:
        """`known` count like many samples."""
        self._tries = [1.0 / (1.0 - MEMORY)] * len(known)
        self._hits = [share * tries for share, tries in zip(known, self._tries, strict=True)]

    def observe(self, place: int, hit: bool) -> None:
        """Position `place` was tried."""
        missing = place + 1 - len(self._tries)
        if missing > 0:
            self._tries += [0.0] * missing
            self._hits += [0.0] * missing
        self._tries[place] = self._tries[place] * MEMORY + 1.0
        self._hits[place] = self._hits[place] * MEMORY + hit

    def at(self, place: int) -> float:
        """The share at `place`, 1.0 where nothing was tried."""
        return self._hits[place] / self._tries[place] if self.known(place) else 1.0

    def known(self, place: int) -> bool:
        """Whether anything was tried at `place`."""
        return place < len(self._tries) and self._tries[place] > 0.0

    def shares(self) -> tuple[float, ...]:
        """The shares of the first positions, up to one with too few samples to say."""
        enough = next((place for place, tries in enumerate(self._tries) if tries < FEW), len(self._tries))
        return tuple(self.at(place) for place in range(enough))


class Acceptance:
    """What all texts taught about one drafter; the belief about each text is held by the caller."""

    def __init__(self, known: Sequence[float] = ()) -> None:
        """`known` are chances to be kept, by position, from an earlier run."""
        self._kept = Averages(known)
        self._drawn = Averages()
        self._usual = _around(sum(known) / len(known)) if known else list(FIRST_BELIEF)
        self._num_rounds = 0
        self._odds: list[float] = []
        self._levels: list[tuple[float, ...]] = []
        self._ladder: list[tuple[float, tuple[float, ...]]] = []
        self._rounds_since = 0

    def first_belief(self) -> Belief:
        """Of a text that nothing is known about."""
        return list(self._usual)

    def by_position(self) -> tuple[float, ...]:
        """The share kept at each position, once those before it were, over all texts."""
        return self._kept.shares()

    def outlook(self, belief: Belief, most: int) -> list[tuple[float, float]]:
        """(chance that everything up to here is kept, chance that this much is drawn) for positions of a draft."""
        outlook = []
        for reach, products in self._ladder_to(most)[:most]:
            kept = reach * sum(map(mul, belief, products))
            if kept < LEAST_CHANCE:
                break
            outlook.append((kept, reach))
        return outlook

    def observe(self, belief: Belief, wanted: int, drafted: int, accepted: int) -> Belief:
        """The belief after `accepted` of `drafted` tokens were kept, in a draft that might have had `wanted`."""
        for place in range(min(drafted + 1, wanted)):
            self._drawn.observe(place, place < drafted)
        for place in range(min(accepted + 1, drafted)):
            hit = place < accepted
            levels = self._levels_at(place)
            expected = sum(weight * level for weight, level in zip(belief, levels, strict=True))
            self._correct(place, hit - expected)
            self._kept.observe(place, hit)
            rest = (1.0 - CHANGE) / (expected if hit else 1.0 - expected)
            belief = [
                CHANGE * usual + rest * weight * (level if hit else 1.0 - level)
                for usual, weight, level in zip(self._usual, belief, levels, strict=True)
            ]
        self._rounds_since += 1
        if drafted:
            self._num_rounds += 1
            share = max(LEARNING, 1.0 / (FIRST_ROUNDS + self._num_rounds))
            self._usual = [old + share * (new - old) for old, new in zip(self._usual, belief, strict=True)]
        return belief

    def idle(self, belief: Belief, num_tokens: int) -> Belief:
        """The belief after tokens that nothing was drafted for: each gives up as much as a verdict."""
        share = 1.0 - (1.0 - CHANGE) ** num_tokens
        return [old + share * (usual - old) for usual, old in zip(self._usual, belief, strict=True)]

    def _ladder_to(self, most: int) -> list[tuple[float, tuple[float, ...]]]:
        """(chance that this much is drawn, chance that everything up to here is kept at each of LEVELS) by position."""
        if self._rounds_since >= REFRESHED_AFTER:
            self._ladder, self._rounds_since = [], 0
        reach, products = self._ladder[-1] if self._ladder else (1.0, (1.0,) * len(LEVELS))
        for place in range(len(self._ladder), most):
            reach *= self._drawn.at(place)
            products = tuple(map(mul, products, self._levels_at(place)))
            self._ladder.append((reach, products))
        return self._ladder

    def _levels_at(self, place: int) -> tuple[float, ...]:
        """LEVELS as they are at one position; positions beyond the last one known are like it."""
        return self._levels[min(place, len(self._levels) - 1)] if self._levels else LEVELS

    def _correct(self, place: int, surprise: float) -> None:
        """Moves the odds of one position against the others; those of the first are what the levels mean."""
        if place == 0:
            return
        for _ in range(place + 1 - len(self._odds)):
            self._odds.append(self._odds[-1] if self._odds else 1.0)
            self._levels.append(self._levels[-1] if self._levels else LEVELS)
        odds = self._odds[place] * (1.0 + CORRECTION * surprise)
        self._odds[place] = odds = min(MOST_CORRECTED, max(1.0 / MOST_CORRECTED, odds))
        self._levels[place] = tuple(level * odds / (level * odds + 1.0 - level) for level in LEVELS)


def _around(share: float) -> Belief:
    """A belief that leans towards a share and excludes nothing."""
    weights = [0.05 + max(0.0, 1.0 - abs(level - share) / 0.2) for level in LEVELS]
    return [weight / sum(weights) for weight in weights]
