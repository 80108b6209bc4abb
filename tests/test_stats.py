"""The reported numbers: by hand, and as properties of any run."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix_cli.stats import RequestStats, Trace, acceptance_per_position, percentile, summarise


def traced(rounds: list[tuple[int, int]] | None = None, commits: list[tuple[float, int]] | None = None) -> Trace:
    """A trace submitted at 100 s with the given rounds (drafted, accepted) and commits (time, tokens)."""
    trace = Trace(num_prompt_tokens=20, block_size=16, submitted=100.0)
    for drafted, accepted in rounds or []:
        trace.record_round(drafted, accepted)
    for now, count in commits or []:
        trace.record_commit(now, count)
    return trace


def summed(trace: Trace, context: int = 2048) -> RequestStats:
    """The summary at 110 s."""
    return summarise(trace, load_s=1.5, context=context, now=110.0, process_to_first_token_s=2.5)


def test_a_speculative_run_by_hand() -> None:
    trace = traced([(4, 2), (4, 4), (2, 0), (0, 0)], [(101.0, 1), (102.0, 3), (103.0, 5), (104.0, 1), (106.0, 1)])
    trace.num_reused = 16
    trace.num_evicted = 48
    trace.record_time(0.5, 2.0, 0.25)
    trace.record_time(0.5, 1.0, 0.25)
    trace.record_blocks(2, 20)
    trace.record_blocks(3, 33)
    trace.record_blocks(3, 31)
    trace.record_blocks(1, 16)
    stats = summed(trace)
    assert stats.num_tokens == 11
    assert (stats.num_reused_tokens, stats.num_computed_tokens) == (16, stats.num_prompt_tokens - 16)
    assert stats.num_evicted_tokens == 48
    assert stats.ttft_s == pytest.approx(1.0)
    assert stats.tpot_s == pytest.approx(0.5)
    assert stats.tokens_per_second == pytest.approx(2.0)
    assert (stats.num_rounds, stats.num_drafted, stats.num_accepted) == (4, 10, 6)
    assert stats.acceptance_rate == pytest.approx(0.6)
    assert stats.mean_acceptance_length == pytest.approx(2.5)
    assert stats.acceptance_per_position == pytest.approx((2 / 3, 2 / 3, 1 / 2, 1 / 2))
    assert (stats.draft_s, stats.target_s, stats.other_s) == (1.0, 3.0, 0.5)
    assert (stats.load_s, stats.process_to_first_token_s, stats.elapsed_s) == (1.5, 2.5, 10.0)
    assert (stats.peak_blocks, stats.wasted_slots, stats.contiguous_blocks) == (3, 3 * 16 - 33, 128)
    assert stats.itl_p50_s == pytest.approx(1.0)
    assert stats.itl_p99_s == pytest.approx(1.97)


def test_plain_decoding_has_no_acceptance_rate_but_a_length_of_one() -> None:
    stats = summed(traced([(0, 0), (0, 0)], [(101.0, 1), (102.0, 1), (103.0, 1)]))
    assert stats.acceptance_rate is None
    assert stats.mean_acceptance_length == 1.0
    assert stats.acceptance_per_position == ()


def test_one_token_has_a_first_token_time_and_no_speed() -> None:
    stats = summed(traced([], [(101.0, 1)]))
    assert stats.ttft_s == pytest.approx(1.0)
    assert (stats.tpot_s, stats.tokens_per_second, stats.itl_p50_s, stats.mean_acceptance_length) == (None,) * 4


def test_nothing_generated() -> None:
    stats = summed(traced())
    assert (stats.num_tokens, stats.num_rounds, stats.ttft_s, stats.tpot_s) == (0, 0, None, None)


def test_tokens_of_a_single_commit_have_no_speed() -> None:
    assert summed(traced([], [(101.0, 5)])).tokens_per_second is None


def test_only_the_first_start_counts() -> None:
    trace = traced()
    trace.record_start(100.5)
    trace.record_start(107.0)
    assert trace.started == 100.5


def test_a_partly_filled_last_block_counts_as_a_block() -> None:
    assert summed(traced(), context=2049).contiguous_blocks == 129


def test_accepting_more_than_was_drafted_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        traced().record_round(1, 2)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([3.0], 99.0, 3.0), ([4.0, 1.0, 2.0, 3.0], 50.0, 2.5), ([1.0, 2.0], 0.0, 1.0), ([1.0, 2.0], 100.0, 2.0)],
)
def test_percentile(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == pytest.approx(expected)


rounds = st.lists(st.integers(0, 8).flatmap(lambda k: st.tuples(st.just(k), st.integers(0, k))), max_size=30)
commits = st.lists(st.tuples(st.floats(0.0, 9.0), st.integers(1, 9)), max_size=30).map(
    lambda pairs: [(100.0 + time, count) for time, count in sorted(pairs)]
)


@settings(deadline=None)
@given(rounds, commits)
def test_every_number_is_in_its_range_and_json(rounds: list[tuple[int, int]], commits: list[tuple[float, int]]) -> None:
    stats = summed(traced(rounds, commits))
    assert json.loads(json.dumps(stats.to_dict(), allow_nan=False)) == stats.to_dict()
    if stats.acceptance_rate is not None:
        assert 0.0 <= stats.acceptance_rate <= 1.0
    if stats.mean_acceptance_length is not None:
        longest = max(drafted for drafted, _ in rounds)
        assert 1.0 <= stats.mean_acceptance_length <= longest + 1
    if stats.tokens_per_second is not None and stats.tpot_s is not None:
        assert math.isclose(stats.tokens_per_second * stats.tpot_s, 1.0)
    if stats.itl_p50_s is not None and stats.itl_p99_s is not None:
        assert 0.0 <= stats.itl_p50_s <= stats.itl_p99_s


@settings(deadline=None)
@given(rounds)
def test_rates_per_position_match_a_count_by_definition(rounds: list[tuple[int, int]]) -> None:
    drafted = [d for d, _ in rounds]
    accepted = [a for _, a in rounds]
    expected = [sum(a > i for a in accepted) / sum(d > i for d in drafted) for i in range(max(drafted, default=0))]
    assert list(acceptance_per_position(drafted, accepted)) == expected


@settings(deadline=None)
@given(st.integers(1, 8), st.lists(st.integers(0, 8), min_size=1, max_size=30))
def test_with_a_fixed_depth_the_rates_add_up_to_the_mean_length(depth: int, kept: list[int]) -> None:
    accepted = [min(depth, a) for a in kept]
    stats = summed(traced([(depth, a) for a in accepted]))
    assert stats.mean_acceptance_length == pytest.approx(1.0 + sum(stats.acceptance_per_position))


def test_every_round_has_the_time_of_its_step() -> None:
    trace = traced()
    trace.record_time(9.0, 9.0, 9.0)  # The prefill, which is no round.
    trace.record_commit(101.0, 1)
    for seconds in (0.1, 0.2):
        trace.record_time(seconds, 2 * seconds, 3 * seconds)
        trace.record_round(2, 1)
        trace.record_commit(102.0 + seconds, 2)
    assert [sum(times) for times in trace.round_times] == pytest.approx([0.6, 1.2])
    assert trace.gaps() == pytest.approx([1.1, 0.1])
    stats = summed(trace)
    assert stats.itl_p95_s == pytest.approx(0.1 + 0.95 * 1.0)


def test_what_depth_control_did_by_hand() -> None:
    trace = traced(commits=[(101.0, 1), (102.0, 4), (105.0, 4)])
    for wanted, plain_s in ((4, None), (2, None), (0, 0.7), (0, 0.8), (0, 0.9), (6, None)):
        trace.record_round(0, 0, wanted, plain_s)
    stats = summed(trace)
    assert (stats.depth_min, stats.depth_max, stats.depth_mean, stats.depth_off_share) == (0, 6, 2.0, 0.5)
    assert stats.num_plain_steps == 3
    assert stats.plain_tokens_per_second == pytest.approx(1.25)
    assert stats.speed_over_plain == pytest.approx(1.6)


def test_a_plain_speed_by_chance_is_none() -> None:
    trace = traced(commits=[(101.0, 1), (105.0, 8)])
    for plain_s in (None, 0.7, 0.8):
        trace.record_round(0, 0, 4, plain_s)
    stats = summed(trace)
    assert stats.num_plain_steps == 2
    assert stats.plain_tokens_per_second is None and stats.speed_over_plain is None


def test_plain_decoding_has_no_depth() -> None:
    stats = summed(traced([(0, 0)], [(101.0, 1), (102.0, 1)]))
    assert stats.depth_max is stats.depth_mean is stats.depth_off_share is stats.speed_over_plain is None
