"""How far a draft model's own confidence can be trusted: measured, not trained."""

from __future__ import annotations

import torch

NUM_BINS = 10
# Samples that the confidence itself counts for, and the share of old samples that a new one leaves.
PRIOR_WEIGHT, MEMORY = 8.0, 0.995


def confidence_of(scores: torch.Tensor) -> float:
    """The probability of the likeliest token of softmax(`scores` [V])."""
    return float((scores.max() - scores.logsumexp(-1)).exp())


class Confidence:
    """The share of drafted tokens that was kept, by the draft's confidence before each was drawn.

    A share starts as the confidence itself: a draft that says 0.9 is believed until its tokens say otherwise.
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
        return (self._hits[place] + PRIOR_WEIGHT * confidence) / (self._tries[place] + PRIOR_WEIGHT)

    def observe(self, confidence: float, kept: bool) -> None:
        """A token that was drawn at `confidence` was judged."""
        place = _bin(confidence)
        self._tries[place] = self._tries[place] * MEMORY + 1.0
        self._hits[place] = self._hits[place] * MEMORY + kept
        self._all_tries = self._all_tries * MEMORY + 1.0
        self._all_hits = self._all_hits * MEMORY + kept


def _bin(confidence: float) -> int:
    return min(NUM_BINS - 1, int(confidence * NUM_BINS))
