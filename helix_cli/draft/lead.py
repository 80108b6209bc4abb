"""What a draft costs before its first pass, told apart from its passes by drafts of different lengths."""

from __future__ import annotations

# The share of old samples that a new one leaves, the variance of lengths from which they tell a start from a pass, and
# samples without which they tell nothing.
MEMORY, LEAST_SPREAD, FEW = 0.98, 0.2, 4.0
# A start takes no longer than so many passes.
LONGEST = 8.0
# One sample may not say more than this factor: a process that was stopped for a minute says nothing about a kernel.
LARGEST_SURPRISE = 2.0


class Lead:
    """A straight line through the seconds of drafts by their passes, least squares with fading memory."""

    def __init__(self, passes: float = 0.0) -> None:
        """`passes` is what an earlier run found."""
        self.passes = passes
        """The start, in passes. It stays while all drafts are equally long, and nothing can be told."""
        self._weight = self._n = self._nn = self._y = self._ny = 0.0

    def observe(self, passes: int, seconds: float) -> None:
        """A draft of `passes` passes took `seconds`."""
        if self._y > 0.0:
            expected = self._y / (self._n + self._weight * self.passes) * (passes + self.passes)
            seconds = min(seconds, LARGEST_SURPRISE * expected)
        sums = (self._weight, self._n, self._nn, self._y, self._ny)
        more = (1.0, passes, passes * passes, seconds, passes * seconds)
        self._weight, self._n, self._nn, self._y, self._ny = (
            MEMORY * old + new for old, new in zip(sums, more, strict=True)
        )
        n, y = self._n / self._weight, self._y / self._weight
        spread = self._nn / self._weight - n * n
        if self._weight < FEW or spread < LEAST_SPREAD:
            return
        slope = (self._ny / self._weight - n * y) / spread
        # Were a pass to take next to nothing, the start would be all of it.
        slope = max(slope, y / (n + LONGEST))
        self.passes = min(LONGEST, max(0.0, y / slope - n))
