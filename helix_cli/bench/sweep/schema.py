"""What a sweep writes: a benchmark's report with an arm for each setting, and what follows from it.

docs/benchmarks.md describes the fields.
"""

from __future__ import annotations

from typing import Final

from helix_cli.bench.schema import Interval, Record, Report
from helix_cli.stats import ratio

ALL: Final = "all"
"""The work of a figure over all texts of all kinds."""


class Acceptance(Record):
    """How often one drafter's tokens were kept in one kind of work, by position; counts, so that they can be added."""

    workload: str
    kept: tuple[int, ...]
    tried: tuple[int, ...]
    """Rounds that had kept everything before this position and wanted so much; a shorter draft was not kept."""

    @property
    def rates(self) -> tuple[float, ...]:
        """Conditional acceptance: of position i, given that those before it were kept; 0 where it was never tried."""
        return tuple(ratio(kept, tried) or 0.0 for kept, tried in zip(self.kept, self.tried, strict=True))


class Ingredients(Record):
    """What one drafter's rounds are made of, pooled over all of its depths; times in units of `step_s`."""

    drafter: str
    step_s: float
    """The target's median time in a plain step."""
    c: float | None
    """A drafted token; None where nothing was drafted."""
    v: dict[int, float]
    """The target's pass, by tokens drafted in the round."""
    o: float
    """Everything else in a round."""
    o_plain: float
    """Everything else in a plain step."""
    acceptance: tuple[Acceptance, ...]
    """By kind of work, all of it together last."""


class Gain(Record):
    """One setting in one kind of work: the speed-up that was measured beside the one that the ingredients predict."""

    arm: str
    drafter: str
    k: int
    workload: str
    speed: float
    """Median, in tokens/s."""
    speed_up: Interval | None
    """Over plain decoding; None for plain decoding itself and where it has no runs."""
    predicted: float | None
    """E (1 + o_plain) / (K c + v(K) + o); None without rounds of this depth, and for plain decoding."""
    tokens_per_round: float | None
    """Measured: 1 + accepted / rounds."""
    expected_tokens: float | None
    """E: 1 + the sum over i of the product of the first i conditional acceptances."""


class Best(Record):
    """The setting that was fastest in one kind of work, and what can be said of it."""

    workload: str
    arm: str
    drafter: str
    k: int
    verdict: str


class Sweep(Report):
    """One sweep. `rows` has one for each setting and kind of work; depth 0 is arm `plain`."""

    precision: float
    margin: float | None
    """How much faster than the best setting another might be, over all work, at 95 %; None where nobody can say."""
    stopped_early: bool
    """Whether `margin` was small enough before everything had run."""
    ingredients: tuple[Ingredients, ...]
    gains: tuple[Gain, ...]
    best: tuple[Best, ...]
    """All work together first, if there are several kinds."""

    @property
    def choice(self) -> Best | None:
        """The setting to use; None where nothing can be compared."""
        return self.best[0] if self.best else None
