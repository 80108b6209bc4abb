"""The definition of every reported number. Standard library only.

The engine fills one `Trace` per sequence while it runs; `summarise` turns it into the `RequestStats` that people and
programs read. Nothing else computes these numbers. A number that is not defined (the speed of a one-token answer, the
acceptance rate of a run that drafted nothing) is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Any

FEWEST_PLAIN_STEPS = 3
"""A plain speed that rests on fewer is chance."""


@dataclass
class Trace:
    """What happened to one sequence, as raw counts and `time.perf_counter` readings in seconds."""

    num_prompt_tokens: int
    block_size: int
    submitted: float
    """When the request came in."""
    num_reused: int = 0
    """Prompt tokens whose keys and values were found in the cache."""
    num_evicted: int = 0
    """Kept positions of other texts that the cache gave up in the steps that this sequence was part of."""
    started: float | None = None
    """When the sequence was first part of a step."""
    first_token: float | None = None
    last_token: float | None = None
    commit_times: list[tuple[float, int]] = field(default_factory=list)
    """(time, number of tokens) of every commit, after trimming at a stop."""
    drafted: list[int] = field(default_factory=list)
    """Tokens proposed, one entry per round; a plain decode step is a round of 0."""
    accepted: list[int] = field(default_factory=list)
    round_times: list[tuple[float, float, float]] = field(default_factory=list)
    """(draft, target, other) seconds of the step of every round, in the order of `drafted`."""
    wanted: list[int] = field(default_factory=list)
    """Tokens asked for, one entry per round: a drafter may propose fewer."""
    plain_steps_s: list[float] = field(default_factory=list)
    """Seconds of the rounds in which nobody drafted and nobody's prompt was computed, the drafter's time left out."""
    draft_s: float = 0.0
    target_s: float = 0.0
    other_s: float = 0.0
    last_step: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """What `record_time` was last told."""
    peak_blocks: int = 0
    """The most cache blocks held at once."""
    peak_positions: int = 0
    """The most positions those blocks were holding."""

    def record_start(self, now: float) -> None:
        """The sequence takes part in a step; only the first call counts."""
        if self.started is None:
            self.started = now

    def record_round(self, drafted: int, accepted: int, wanted: int = 0, plain_s: float | None = None) -> None:
        """One verification row of a decoding sequence: `accepted` of `drafted` tokens were kept.

        Its step's time has been recorded before. `wanted` tokens had been asked for. `plain_s` is what the step took
        without its drafter, where it was a plain one: nothing drafted for any sequence, and no prefill.
        """
        assert 0 <= accepted <= drafted, (accepted, drafted)
        self.drafted.append(drafted)
        self.accepted.append(accepted)
        self.round_times.append(self.last_step)
        self.wanted.append(wanted)
        if plain_s is not None:
            self.plain_steps_s.append(plain_s)

    def record_commit(self, now: float, num_tokens: int) -> None:
        """`num_tokens` tokens were appended to the sequence at `now`."""
        assert num_tokens > 0, num_tokens
        if self.first_token is None:
            self.first_token = now
        self.last_token = now
        self.commit_times.append((now, num_tokens))

    def record_time(self, draft_s: float, target_s: float, other_s: float) -> None:
        """Add the wall seconds of one step that this sequence was part of, waiting for its neighbours included."""
        self.last_step = (draft_s, target_s, other_s)
        self.draft_s += draft_s
        self.target_s += target_s
        self.other_s += other_s

    def record_blocks(self, num_blocks: int, num_positions: int) -> None:
        """The sequence holds `num_blocks` cache blocks with `num_positions` positions in them."""
        if num_blocks > self.peak_blocks:
            self.peak_blocks, self.peak_positions = num_blocks, num_positions
        elif num_blocks == self.peak_blocks:
            self.peak_positions = max(self.peak_positions, num_positions)

    def gaps(self) -> list[float]:
        """Seconds between one commit and the next: the inter-token latencies as a reader sees them."""
        return [after - before for before, after in pairwise(time for time, _ in self.commit_times)]


@dataclass(frozen=True)
class RequestStats:
    """One request in numbers. Times are in seconds; None means not defined for this request."""

    num_prompt_tokens: int
    """Tokens of the prompt."""
    num_reused_tokens: int
    """Prompt tokens found in the cache, and therefore not computed."""
    num_computed_tokens: int
    """Prompt tokens that were not found, and therefore computed."""
    num_evicted_tokens: int
    """Kept tokens of other texts that the target's cache gave up while this one ran: they must be computed again."""
    num_tokens: int
    """Tokens generated, a final end-of-text token included."""
    ttft_s: float | None
    """Time to first token: from submission to the first commit, waiting in the queue included."""
    tpot_s: float | None
    """Time per output token after the first: (last token - first token) / (n - 1)."""
    tokens_per_second: float | None
    """1 / tpot_s. Everything between the first and the last token counts, a draft model's prefill too."""
    num_rounds: int
    """Decode steps of the sequence (passes of the target after its prefill), speculative or plain."""
    num_drafted: int
    """Tokens that the drafter proposed and the target judged."""
    num_accepted: int
    """Drafted tokens that were kept by the verification rule."""
    acceptance_rate: float | None
    """accepted / drafted."""
    mean_acceptance_length: float | None
    """Tokens per decode step: 1 + accepted / rounds. 1.0 is plain decoding."""
    depth_min: int | None
    """The fewest tokens that were asked for in a round; None where no round asked for any."""
    depth_max: int | None
    """The most."""
    depth_mean: float | None
    """The mean over all rounds, those that asked for none included."""
    depth_off_share: float | None
    """The share of rounds that asked for none."""
    num_plain_steps: int
    """Rounds in which no sequence of the step had a draft and no prompt was computed."""
    plain_tokens_per_second: float | None
    """Plain speed measured within this run: 1 / mean time of those steps; None with fewer than three."""
    speed_over_plain: float | None
    """`tokens_per_second` / `plain_tokens_per_second`; None where no round asked for a draft."""
    acceptance_per_position: tuple[float, ...]
    """Entry i: rounds that accepted more than i tokens / rounds that drafted more than i."""
    draft_s: float
    """Time spent in the drafter, in the steps that this sequence was part of."""
    target_s: float
    """Time spent in the target model, in those steps."""
    other_s: float
    """The rest of those steps: verification, sampling, bookkeeping."""
    load_s: float | None
    """Time to load the models, once per process."""
    process_to_first_token_s: float | None
    """From the creation of the process to its first token, imports and loading included; once per process."""
    elapsed_s: float
    """From submission until the statistics were taken."""
    peak_blocks: int
    """The most cache blocks held at once."""
    block_size: int
    """Positions in a block."""
    wasted_slots: int
    """Slots of those blocks that held no position at the peak."""
    contiguous_blocks: int
    """Blocks that a cache reserved up to the context limit would have held."""
    itl_p50_s: float | None
    """Median gap between commits. A commit may bring several tokens, so the mean gap is not `tpot_s`."""
    itl_p95_s: float | None
    """95th percentile of those gaps."""
    itl_p99_s: float | None
    """99th percentile of those gaps."""
    exact: bool
    """Whether no draft and no other text could change this one, bit by bit."""
    exact_reason: str
    """Why, or why not."""

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that is strict JSON: no NaN, no infinity."""
        return {**asdict(self), "acceptance_per_position": list(self.acceptance_per_position)}


def summarise(
    trace: Trace,
    *,
    load_s: float | None,
    context: int,
    now: float,
    process_to_first_token_s: float | None = None,
    exact: bool = False,
    exact_reason: str = "",
) -> RequestStats:
    """Every number of one request; `context` is the most positions a sequence may have, `now` the time of asking."""
    num_tokens = sum(count for _, count in trace.commit_times)
    tpot_s = _time_per_token(trace, num_tokens)
    gaps = trace.gaps()
    num_drafted, num_accepted = sum(trace.drafted), sum(trace.accepted)
    accepted_per_round = ratio(num_accepted, len(trace.drafted))
    plain_s = fmean(trace.plain_steps_s) if len(trace.plain_steps_s) >= FEWEST_PLAIN_STEPS else None
    asked = any(trace.wanted)
    return RequestStats(
        num_prompt_tokens=trace.num_prompt_tokens,
        num_reused_tokens=trace.num_reused,
        num_computed_tokens=trace.num_prompt_tokens - trace.num_reused,
        num_evicted_tokens=trace.num_evicted,
        num_tokens=num_tokens,
        ttft_s=None if trace.first_token is None else trace.first_token - trace.submitted,
        tpot_s=tpot_s,
        tokens_per_second=None if tpot_s is None else 1.0 / tpot_s,
        num_rounds=len(trace.drafted),
        num_drafted=num_drafted,
        num_accepted=num_accepted,
        acceptance_rate=ratio(num_accepted, num_drafted),
        mean_acceptance_length=None if accepted_per_round is None else 1.0 + accepted_per_round,
        depth_min=min(trace.wanted) if asked else None,
        depth_max=max(trace.wanted) if asked else None,
        depth_mean=ratio(sum(trace.wanted), len(trace.wanted)) if asked else None,
        depth_off_share=ratio(trace.wanted.count(0), len(trace.wanted)) if asked else None,
        num_plain_steps=len(trace.plain_steps_s),
        plain_tokens_per_second=None if not plain_s else 1.0 / plain_s,
        speed_over_plain=ratio(plain_s, tpot_s) if asked and plain_s and tpot_s else None,
        acceptance_per_position=acceptance_per_position(trace.drafted, trace.accepted),
        draft_s=trace.draft_s,
        target_s=trace.target_s,
        other_s=trace.other_s,
        load_s=load_s,
        process_to_first_token_s=process_to_first_token_s,
        elapsed_s=now - trace.submitted,
        peak_blocks=trace.peak_blocks,
        block_size=trace.block_size,
        wasted_slots=trace.peak_blocks * trace.block_size - trace.peak_positions,
        contiguous_blocks=math.ceil(context / trace.block_size),
        itl_p50_s=percentile(gaps, 50.0),
        itl_p95_s=percentile(gaps, 95.0),
        itl_p99_s=percentile(gaps, 99.0),
        exact=exact,
        exact_reason=exact_reason,
    )


def acceptance_per_position(drafted: Sequence[int], accepted: Sequence[int]) -> tuple[float, ...]:
    """Entry i: rounds that accepted more than i tokens / rounds that drafted more than i."""
    tried = _rounds_longer_than(drafted)
    kept = _rounds_longer_than(accepted)
    kept += [0] * (len(tried) - len(kept))
    return tuple(k / t for k, t in zip(kept, tried, strict=True))


def ratio(part: float, whole: float) -> float | None:
    """`part / whole`, None when `whole` is zero."""
    return part / whole if whole else None


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The `percent`-th percentile, linear between the two nearest values; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100.0
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _rounds_longer_than(lengths: Sequence[int]) -> list[int]:
    """Entry i: how many of `lengths` are greater than i. One pass over the data, not one per position."""
    counts = [0] * max(lengths, default=0)
    for length in lengths:
        if length:
            counts[length - 1] += 1
    for i in range(len(counts) - 2, -1, -1):
        counts[i] += counts[i + 1]
    return counts


def _time_per_token(trace: Trace, num_tokens: int) -> float | None:
    """None for fewer than two tokens, and when all of them came in one commit: then there is nothing to time."""
    if num_tokens < 2 or trace.first_token is None or trace.last_token is None:
        return None
    return (trace.last_token - trace.first_token) / (num_tokens - 1) or None
