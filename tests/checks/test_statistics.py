"""The tests of counts: known values, and what they can and cannot find."""

from __future__ import annotations

import math

import numpy as np
import pytest

from helix_cli.checks.check import Result, Skip
from helix_cli.checks.counting import _judge_counts
from helix_cli.checks.law import Comparison, Sampled
from helix_cli.checks.statistics import chi_square, detectable_variation, holm, p_value


@pytest.mark.parametrize(
    ("statistic", "freedom", "wanted"), [(3.841, 1, 0.05), (18.307, 10, 0.05), (37.697, 15, 0.001), (0.0, 4, 1.0)]
)
def test_p_values_of_the_tables(statistic: float, freedom: int, wanted: float) -> None:
    assert p_value(statistic, freedom) == pytest.approx(wanted, rel=2e-3)


def test_counts_that_follow_a_law_and_counts_that_do_not() -> None:
    law = {"a": 0.5, "b": 0.3, "c": 0.2}
    assert p_value(*chi_square({"a": 50, "b": 30, "c": 20}, law, 100)) == pytest.approx(1.0)
    assert p_value(*chi_square({"a": 20, "b": 30, "c": 50}, law, 100)) < 1e-6


def test_rare_cells_are_pooled() -> None:
    law: dict[str | int, float] = {"often": 0.9, **{index: 0.01 for index in range(10)}}
    counts: dict[str | int, float] = {"often": 90.0, 3: 10.0}
    statistic, freedom = chi_square(counts, law, 100)
    assert (statistic, freedom) == (0.0, 1)


def test_what_the_law_forbids_is_never_followed() -> None:
    assert p_value(*chi_square({"a": 99, "z": 1}, {"a": 1.0}, 100)) == 0.0
    assert p_value(*chi_square({"a": 99, "z": 1}, {"a": 1.0, "z": 0.0}, 100)) == 0.0


def test_one_cell_says_nothing() -> None:
    assert p_value(*chi_square({"a": 5}, {"a": 1.0}, 5)) == 1.0
    assert detectable_variation(1000, 0, 1e-3) == 1.0


def test_holms_correction() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_detectable_variation_is_detected_nine_times_in_ten() -> None:
    """By simulation, for the law and the difference that are hardest to see: two equal halves, shifted."""
    samples, cells, alpha = 400, 4, 0.01
    variation = detectable_variation(samples, cells - 1, alpha)
    law = np.full(cells, 1 / cells)
    bent = law + np.array([1, 1, -1, -1]) * variation / 2
    generator = np.random.default_rng(0)
    found = 0
    for _ in range(400):
        counts = dict(enumerate(map(float, generator.multinomial(samples, bent))))
        found += p_value(*chi_square(counts, dict(enumerate(law)), samples)) < alpha
    assert 0.85 < found / 400 < 0.95


def test_more_samples_see_more() -> None:
    few, many = (detectable_variation(count, 10, 1e-3) for count in (100, 10000))
    assert many < few / 8 and math.isclose(few / many, 10, rel_tol=0.05)


def test_a_count_that_could_have_shown_nothing_is_no_pass() -> None:
    """100 texts of a law over thousands of tokens all go into one cell."""
    sampled = Sampled(dict.fromkeys([(token,) for token in range(100)], 1.0), 100, 300, 20)
    blind, seeing = (Comparison((0,), 0.0, freedom, 1.0, 0.9, []) for freedom in (0, 3))
    with pytest.raises(Skip, match="could not have shown any difference"):
        _judge_counts(sampled, [blind], [1.0], 1, 0.0)
    assert _judge_counts(sampled, [seeing], [1.0], 1, 0.0).result is Result.PASS
    assert _judge_counts(sampled, [blind], [1e-6], 1, 0.0).result is Result.FAIL
