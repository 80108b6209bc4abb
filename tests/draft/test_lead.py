"""What a draft costs before its first pass: told by lengths that differ, kept while they do not."""

from __future__ import annotations

import random

import pytest

from helix_cli.draft.lead import LONGEST, Lead


def after(seconds: list[tuple[int, float]], lead: Lead | None = None) -> float:
    lead = lead or Lead()
    for passes, one in seconds:
        lead.observe(passes, one)
    return lead.passes


@pytest.mark.parametrize("start", [0.0, 0.5, 2.0])
def test_lengths_that_differ_tell_the_start_from_the_passes(start: float) -> None:
    numbers = random.Random(0)
    lengths = [numbers.choice((1, 2, 4)) for _ in range(200)]
    found = after([(passes, (start + passes) * numbers.gauss(1.0, 0.05)) for passes in lengths])
    assert found == pytest.approx(start, abs=0.1 + 0.15 * start)


def test_equal_lengths_tell_nothing() -> None:
    assert after([(3, 1.0)] * 50) == 0.0
    known = Lead(1.5)
    assert after([(1, 2.5)] * 300, known) == 1.5, "what was found stays"


def test_a_stall_says_little() -> None:
    calm = [(passes, 1.0 + passes) for passes in (1, 2, 4) * 20]
    assert after([*calm, (1, 1000.0)]) == pytest.approx(1.0, abs=0.3)


def test_a_draft_that_is_all_start_has_a_limit() -> None:
    assert after([(passes, 1.0 + 1e-6 * passes) for passes in (1, 2, 4, 8) * 10]) == LONGEST
