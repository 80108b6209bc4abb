"""How far a draft model's own confidence can be trusted: measured, not trained."""

from __future__ import annotations

import torch

NUM_BINS = 10
# Samples that the confidence itself counts for, and the share of old samples that a new one leaves.
PRIOR_WEIGHT, MEMORY = 2.0, 0.995
# Samples without which a confidence says nothing. A token that is not drawn is not judged, so one that is never drawn
# because of a bad guess would keep that guess for ever; old samples fade, and the guess is put to the test again.
FEW = 8.0


def confidence_of(scores: torch.Tensor) -> float:
    """The probability of the likeliest token of softmax(`scores` [V])."""
    return float(scores.softmax(-1).max())


class Confidence:
    """The share of drafted tokens that was kept, by the draft's confidence before each was drawn.

    Of a confidence that was seen too rarely nothing bad is believed.
    """

    def __init__(self) -> None:
        self._tries = [0.0] * NUM_BINS
        self._hits = [0.0] * NUM_BINS
        self._all_tries = self._all_hits = PRIOR_WEIGHT

    @property
    def usual(self) -> float:
        """The share over all confidences."""
        return self._all_hits / self._all_tries

    def chance(self, confidence: float) -> float:
        """The expected share at one confidence."""
        place = _bin(confidence)
        if self._tries[place] < FEW:
            return 1.0
        return (self._hits[place] + PRIOR_WEIGHT * confidence) / (self._tries[place] + PRIOR_WEIGHT)

    def observe(self, confidence: float, kept: bool) -> None:
        """A token that was drawn at `confidence` was judged."""
        self._tries = [tries * MEMORY for tries in self._tries]
        self._hits = [hits * MEMORY for hits in self._hits]
        self._tries[_bin(confidence)] += 1.0
        self._hits[_bin(confidence)] += kept
        self._all_tries = self._all_tries * MEMORY + 1.0
        self._all_hits = self._all_hits * MEMORY + kept


def _bin(confidence: float) -> int:
    return min(NUM_BINS - 1, int(confidence * NUM_BINS))
