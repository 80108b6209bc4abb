"""What drafting and checking cost, learned from step times. Seconds throughout; standard library only."""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import accumulate

from helix_cli.draft.lead import LARGEST_SURPRISE, Lead

# A machine slows down for everything at once, so most of a surprise moves the whole curve and little of it one point.
SCALE_WEIGHT, POINT_WEIGHT = 0.2, 0.05
# What one sample may say at most (see LARGEST_SURPRISE) while a point rests on few: the first passes of a shape are
# slow, and a depth that looks dear is not tried again.
FIRST_SURPRISE = 1.15
# Samples that set up a point before surprises move the whole curve, and how long fewer samples than that are believed.
ENOUGH_SAMPLES, DOUBTED_AFTER = 8, 128
# Expected growth of a pass for each further row, as a share, before two points say better.
FIRST_SLOPE = 0.02
# Rows that a curve is drawn over at least. A settled one moves little with a sample, apart from its scale, and is drawn
# anew after so many.
FIRST_ROWS, REDRAWN_AFTER = 24, 4


class CostCurve:
    """Seconds of one pass by its number of rows: running estimates at the numbers seen, straight lines in between."""

    def __init__(self, points: dict[int, float] | None = None) -> None:
        """`points` are seconds by rows, known from an earlier run and good enough to be corrected by this one."""
        self._rows = sorted(points or {})
        self._values = dict(points or {})
        self._samples = dict.fromkeys(self._rows, ENOUGH_SAMPLES)
        self._last_seen = dict.fromkeys(self._rows, 0)
        self._scale = 1.0
        self._time = 0
        self._table: list[float] = []
        self._table_time = 0

    @property
    def known(self) -> bool:
        """Whether anything was observed."""
        return bool(self._rows)

    def points(self) -> dict[int, float]:
        """Seconds by rows where enough was seen, and at the fewest rows, which nothing else can stand for."""
        enough = [rows for rows in self._rows if self._samples[rows] >= ENOUGH_SAMPLES or rows == self._rows[0]]
        return {rows: self._values[rows] * self._scale for rows in enough}

    def seconds(self, rows: float) -> float:
        """Expected seconds of a pass over `rows` rows; something must be known."""
        whole = int(rows)
        if whole + 1 >= len(self._table):
            self._draw_table(whole)
        low = self._table[whole]
        return (low + (rows - whole) * (self._table[whole + 1] - low)) * self._scale

    def _draw_table(self, most: int) -> None:
        """Works out the curve at every number of rows up to `most` and some way on, before it is scaled.

        Fewer rows take no longer than more of them: what says otherwise is chance.
        """
        values = [self._value(rows) for rows in range(most + 2 + most // 4 + FIRST_ROWS)]
        self._table = list(accumulate(reversed(values), min))[::-1]
        self._table_time = self._time

    def _value(self, rows: int) -> float:
        known, values = self._rows, self._values
        place = bisect_left(known, rows)
        # Below what was seen nothing gets cheaper.
        if place == 0 or (place < len(known) and known[place] == rows):
            return values[known[place]]
        if place < len(known):
            low, high = known[place - 1], known[place]
            share = (rows - low) / (high - low)
            return values[low] + share * (values[high] - values[low])
        # Beyond it the line through the first and the last point goes on.
        first, last = known[0], known[-1]
        slope = (values[last] - values[first]) / (last - first) if last > first else FIRST_SLOPE * values[last]
        return values[last] + max(0.0, slope) * (rows - last)

    def observe(self, rows: float, seconds: float) -> None:
        """A pass over `rows` rows took `seconds`."""
        if seconds <= 0.0:
            return
        point = _point(rows)
        self._time += 1
        if not self._rows:
            self._add(point, seconds)
            return
        expected = self.seconds(point)
        is_settled = self._samples.get(point, 0) >= ENOUGH_SAMPLES
        most = LARGEST_SURPRISE if is_settled else FIRST_SURPRISE

        def surprise_over(known: float) -> float:
            return min(most, max(1.0 / LARGEST_SURPRISE, seconds / known))

        surprise = surprise_over(expected)
        if point not in self._values:
            self._add(point, expected * surprise / self._scale)
            self._forget_doubtful()
            return
        self._last_seen[point] = self._time
        self._samples[point] += 1
        settled = self._samples[point] > ENOUGH_SAMPLES
        weight = POINT_WEIGHT if settled else 1.0 / self._samples[point]
        # Its own surprise: a point above its neighbours, which the curve leaves out, would else hardly come down.
        self._values[point] *= surprise_over(self._values[point] * self._scale) ** weight
        if settled:
            self._scale *= surprise**SCALE_WEIGHT
        if not settled or self._time - self._table_time >= REDRAWN_AFTER:
            self._table = []

    def _add(self, point: int, value: float) -> None:
        self._table = []
        insort(self._rows, point)
        self._values[point] = value
        self._samples[point] = 1
        self._last_seen[point] = self._time

    def _forget_doubtful(self) -> None:
        """Drops points that rest on a few old samples: a chance stall must not keep a depth from ever being tried."""
        for point in list(self._rows):
            doubtful = self._samples[point] < ENOUGH_SAMPLES
            if doubtful and self._time - self._last_seen[point] > DOUBTED_AFTER and len(self._rows) > 1:
                self._rows.remove(point)
                del self._values[point], self._samples[point], self._last_seen[point]


def _point(rows: float) -> int:
    """The number of rows that a sample counts for: exact below 16, about one part in eight above."""
    whole = max(1, round(rows))
    grain = max(1, whole // 8)
    return round(whole / grain) * grain


class Costs:
    """The costs of rounds: a pass of the target with all that follows it by rows, a draft's pass by rows."""

    def __init__(
        self,
        step: CostCurve | None = None,
        draft: dict[str, CostCurve] | None = None,
        catch_up: dict[str, float] | None = None,
        overhead_s: float | None = None,
        leads: dict[str, Lead] | None = None,
    ) -> None:
        """`step` includes `overhead_s`; the rest is by the draft's source, `catch_up` in seconds a token fed late."""
        self.step = step or CostCurve()
        self.draft = draft or {}
        self.catch_up = catch_up or {}
        self.overhead_s = overhead_s
        self.leads = leads or {}

    def draft_known(self, source: str) -> bool:
        """Whether a pass of that source was ever timed."""
        return source in self.draft

    def start_s(self, source: str) -> float:
        """Seconds that a draft takes before its first pass."""
        return self.leads[source].passes * self.draft[source].seconds(1.0) if source in self.leads else 0.0

    def draft_s(self, source: str, rows: float) -> float:
        """Seconds of a draft's pass over an expected number of rows; less than one row means that it may not run."""
        return self.draft[source].seconds(max(1.0, rows)) * min(1.0, rows)

    def more_draft_s(self, source: str, rows: float, more: float) -> float:
        """Seconds that a draft's pass over `rows` rows takes longer with `more` of them."""
        curve = self.draft[source]
        if rows + more <= 1.0:
            return curve.seconds(1.0) * more
        return curve.seconds(rows + more) - curve.seconds(max(1.0, rows)) * min(1.0, rows)

    def observe_step(self, rows: int, target_s: float, overhead_s: float) -> None:
        """A step without prefill fed `rows` rows to the target."""
        self.step.observe(rows, target_s + overhead_s)
        old = overhead_s if self.overhead_s is None else self.overhead_s
        self.overhead_s = old + POINT_WEIGHT * (min(overhead_s, LARGEST_SURPRISE * old) - old)

    def observe_draft(self, source: str, passes: int, rows: float, seconds: float) -> None:
        """A draft that lacked nothing took `passes` passes over `rows` rows each."""
        lead = self.leads.setdefault(source, Lead())
        lead.observe(passes, seconds)
        sample = seconds / (passes + lead.passes)
        if source not in self.draft and self.step.known:
            # A stall in the very first pass must not make the draft look too dear to be asked again.
            sample = min(sample, self.step.seconds(1.0))
        self.draft.setdefault(source, CostCurve()).observe(rows, sample)

    def observe_catch_up(self, source: str, passes: int, missing: int, seconds: float) -> None:
        """A draft of `passes` passes had to be fed `missing` tokens first."""
        if self.draft_known(source):
            sample = max(0.0, seconds - self.start_s(source) - passes * self.draft_s(source, 1.0)) / missing
            old = self.catch_up.get(source, sample)
            self.catch_up[source] = old + 0.3 * (sample - old)

    def catch_up_s(self, source: str, missing: int) -> float:
        """Expected seconds to feed what a draft lacks."""
        return self.catch_up.get(source, 0.0) * missing
