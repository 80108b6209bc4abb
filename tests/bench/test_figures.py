"""Figures by hand: speeds, intervals, costs, the verdict."""

from __future__ import annotations

import math

import pytest

from helix_cli.bench.costs import costs, expected_speed_up, time_split
from helix_cli.bench.figures import batch_gain, depths, figures
from helix_cli.bench.intervals import log_speeds, paired, ratio_interval, t_975, unpaired_rounds
from helix_cli.bench.schema import Costs, Interval
from helix_cli.bench.verdict import verdict, weakness
from tests.bench.made import plain_setup, plain_text, report, row, run, setup, text


def test_the_interval_of_a_ratio_by_hand() -> None:
    found = ratio_interval([math.log(value) for value in (1.0, 2.0, 4.0)])
    assert found is not None and found.low is not None and found.high is not None
    assert found.ratio == pytest.approx(2.0) and found.num_pairs == 3
    half = 4.303 * math.log(2.0) / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((2 * math.exp(-half), 2 * math.exp(half)))
    assert ratio_interval([]) is None
    one = ratio_interval([math.log(3.0)])
    assert one is not None and one.ratio == pytest.approx(3.0)
    assert (one.low, one.high, one.num_pairs) == (None, None, 1)


def test_student_t_meets_its_table_and_the_normal() -> None:
    assert t_975(1) == 12.706
    assert t_975(40) == pytest.approx(2.021, abs=2e-3) and t_975(120) == pytest.approx(1.980, abs=1e-3)
    assert all(t_975(n) > t_975(n + 1) for n in range(1, 100))


def test_pairs_are_jobs_and_only_rounds_that_both_ran_count() -> None:
    mine = {"a": {0: 2.0, 1: 4.0}, "b": {0: 1.0}, "only mine": {0: 9.0}}
    base = {"a": {0: 1.0, 1: 1.0, 2: 100.0}, "b": {1: 0.0}}
    assert paired(mine, base) == [2.0]
    assert sorted(unpaired_rounds(mine, base)) == [pytest.approx(1.0), pytest.approx(3.0 - 34.0)][::-1]
    assert log_speeds([run("a", plain_text(2))], lambda one: None) == {}


def test_figures_of_a_speculative_row_by_hand() -> None:
    plain = [run("a", plain_text(13)), run("b", plain_text(13))]
    drafted = [run(job, text([(4, 2), (4, 4), (4, 0)], (0.04, 0.15, 0.01))) for job in ("a", "b")]
    found = row("speculative", "chat", drafted, plain).figures
    # 9 tokens after the first in 0.6 s.
    assert found.speed == pytest.approx(15.0) and found.tpot_s == pytest.approx(1 / 15.0)
    assert found.speed_up is not None and found.speed_up.ratio == pytest.approx(1.5)
    assert found.ttft_s == pytest.approx(0.5) and found.itl_p95_s == pytest.approx(0.2)
    assert found.acceptance_rate == pytest.approx(0.5) and found.mean_acceptance_length == pytest.approx(3.0)
    assert found.acceptance_per_position == pytest.approx((2 / 3, 2 / 3, 1 / 3, 1 / 3))
    assert found.costs is not None
    assert (found.costs.c, found.costs.v) == pytest.approx((0.1, 1.5))
    assert found.costs.v_by_k == {4: pytest.approx(1.5)} and found.costs.o == pytest.approx(0.1)
    assert found.costs.expected_speed_up == pytest.approx(3.0 / (0.4 + 1.5 + 0.1))
    assert found.split is not None and found.split.draft == pytest.approx(0.2)
    assert (found.peak_blocks, found.wasted_slots, found.contiguous_blocks, found.kv_bytes) == (5, 2, 32, 320)
    assert found.weight_bytes_per_round == pytest.approx(1400.0)
    assert found.bandwidth_share == pytest.approx(1400.0 / 0.2 / 10e3)
    assert found.equal_texts == (0, 2)
    base = row("plain", "chat", plain, plain).figures
    assert base.speed == pytest.approx(10.0) and base.speed_up is None and base.acceptance_rate is None
    assert base.weight_bytes_per_round == 1000.0


def test_prompts_have_the_speed_of_their_first_token() -> None:
    found = row("plain", "pp8", [run("pp8", text([], first_s=0.25))], [], kind="prompt").figures
    assert found.speed == pytest.approx(32.0) and found.tpot_s is None and found.bandwidth_share is None


def test_texts_together_against_one_by_one() -> None:
    alone = [run(f"{at}", plain_text(11), round=at // 2) for at in range(4)]
    together = [run("1 to 2", plain_text(11), plain_text(11), round=at) for at in range(2)]
    found = figures("batch", together, together, alone, plain_setup(), None)
    assert found is not None and found.speed == pytest.approx(22 / 1.5)
    assert found.batch_gain is not None and found.batch_gain.ratio == pytest.approx(2.0)
    assert (found.batch_gain.num_pairs, found.peak_blocks, found.contiguous_blocks) == (2, 10, 64)
    assert batch_gain(alone, alone) is None
    # A round in which an interrupted arm lacks a prompt is no pair.
    assert (batch_gain(together, alone[:3]) or found.batch_gain).num_pairs == 1


def test_a_text_of_one_token_has_no_speed() -> None:
    assert figures("task", [run("a", text([]))], [], [], setup(), None) is None


def test_an_engine_that_tells_nothing_of_its_rounds() -> None:
    silent = text([(4, 2)] * 3).model_copy(update={"drafted": (), "accepted": (), "wanted": (), "rounds": ()})
    found = figures("task", [run("a", silent)], [], [], setup(kv_block_bytes=None), 10e3)
    assert found is not None and found.mean_acceptance_length == pytest.approx(3.0)
    assert found.acceptance_rate is None and found.costs is None and found.split is None
    assert found.peak_blocks is None and found.bandwidth_share is None


def test_what_the_choice_of_depth_came_to() -> None:
    found = depths([0, 4, 2, 0])
    assert found is not None
    assert (found.least, found.most, found.mean, found.off_share) == (0, 4, 1.5, 0.5)
    assert depths([0, 0]) is None and depths([]) is None


def test_costs_do_not_count_the_draft_reading_the_prompt() -> None:
    one = text([(2, 1)] * 5, (0.02, 0.1, 0.0))
    slow = one.model_copy(update={"rounds": ((9.0, 0.1, 0.0), *one.rounds[1:])})
    found = costs([run("a", slow)], [run("a", plain_text(9))])
    assert found is not None and found.c == pytest.approx(0.1)
    split = time_split([run("a", slow)])
    assert split is not None and split.draft > 0.9, "but the split does"
    assert costs([], [run("a", plain_text(9))]) is None and time_split([]) is None


def some_costs(**changes: float) -> Costs:
    """Costs of K = 4 that pay, unless changed."""
    values = {"mean_k": 4.0, "c": 0.05, "v": 1.1, "o": 0.05, "o_plain": 0.02, "tokens_per_round": 3.0} | changes
    expected = expected_speed_up(
        values["tokens_per_round"], values["mean_k"] * values["c"], values["v"], values["o"], values["o_plain"]
    )
    return Costs(step_s=0.1, v_by_k={4: values["v"]}, expected_speed_up=expected, **values)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"c": 0.7}, "the draft is too slow (a draft token takes 0.70"),
        ({"v": 3.6}, "verification is too dear (checking 4.0 tokens takes 3.60"),
        ({"o": 2.4}, "overhead (each round spends 2.40"),
        ({"tokens_per_round": 1.04, "c": 0.01, "v": 1.05}, "acceptance is too low (0.01"),
        ({"tokens_per_round": 1.2, "c": 0.02, "v": 1.5}, "verification is too dear"),
        # Not even with every token accepted: the cost is named, although acceptance is low too.
        ({"c": 1.5, "tokens_per_round": 1.1}, "the draft is too slow"),
    ],
)
def test_the_reason_is_read_from_the_costs(changes: dict[str, float], reason: str) -> None:
    slower = Interval(ratio=0.8, low=0.7, high=0.9, num_pairs=5)
    said = verdict("speculative", slower, some_costs(**changes))
    assert said.startswith("Speculation does not pay here: ") and reason in said
    assert said.endswith("(0.80 times plain speed, 95 % interval 0.70 to 0.90, 5 prompts).")


def test_the_other_verdicts() -> None:
    faster = Interval(ratio=1.4, low=1.3, high=1.5, num_pairs=5)
    assert verdict("speculative", faster, None).startswith("Speculation pays here: 1.40 times plain speed")
    unsure = faster.model_copy(update={"low": 0.9})
    assert verdict("speculative", unsure, some_costs()).startswith("No difference beyond the noise")
    alone = Interval(ratio=1.4, low=None, high=None, num_pairs=1)
    assert "One prompt is too few" in verdict("speculative", alone, None)
    assert "no pair" in verdict("speculative", None, None)
    assert weakness(None).startswith("its rounds were not timed")
    assert weakness(some_costs(mean_k=0.0)) == "nothing was drafted"


def test_a_report_of_made_up_runs_is_what_it_says() -> None:
    drafted = report().rows[1].figures
    assert drafted.speed_up is not None and drafted.speed_up.ratio == pytest.approx(2.0, rel=0.05)
