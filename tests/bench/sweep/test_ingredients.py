"""Costs and acceptance from rounds that are known, and the speed-up that follows."""

from __future__ import annotations

import pytest

from helix_cli.bench.sweep.ingredients import acceptance, expected_tokens, ingredients, predict
from helix_cli.bench.sweep.schema import ALL, Ingredients
from tests.bench.made import plain_text, run, text

PLAIN = [run("a", plain_text(9, 0.1))]


def found_in(*args: object) -> Ingredients:
    found = ingredients(*args)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_costs_are_in_target_steps_by_what_was_drafted() -> None:
    by_depth = {
        2: [run("a", text([(2, 1)] * 5, (0.04, 0.12, 0.01)))],
        4: [run("a", text([(4, 4)] * 3, (0.08, 0.15, 0.01)))],
    }
    found = found_in("model", {"chat": by_depth}, PLAIN)
    assert found.step_s == pytest.approx(0.1) and found.c == pytest.approx(0.2)
    assert found.v == {2: pytest.approx(1.2), 4: pytest.approx(1.5)}
    assert found.o == pytest.approx(0.1) and found.o_plain == 0.0


def test_acceptance_is_conditional_and_joins_depths() -> None:
    # Depth 3 kept 3, 1 and 0 tokens, depth 1 one. The last round of depth 3 has room for two tokens only.
    deep = run("a", text([(3, 3), (3, 1), (3, 0), (2, 2)]))
    found = acceptance("chat", {3: [deep], 1: [run("a", text([(1, 1), (0, 0)]))]})
    assert found.tried == (5, 3, 1) and found.kept == (4, 2, 1)
    assert found.rates == pytest.approx((0.8, 2 / 3, 1.0))


def test_a_shorter_draft_than_wanted_was_not_kept() -> None:
    # Two tokens were wanted four times, and then there was room for one and for none.
    rounds = [(0, 0), (2, 2), (0, 0), (0, 0), (0, 0), (0, 0)]
    found = acceptance("chat", {2: [run("a", text(rounds, wanted=(2, 2, 2, 2, 1, 0)))]})
    assert found.tried == (5, 1) and found.kept == (1, 1)


def test_all_work_together_comes_last() -> None:
    kinds = {name: {2: [run(name, text([(2, kept)] * 4))]} for name, kept in (("chat", 2), ("code", 0))}
    found = found_in("model", kinds, PLAIN)
    chat, code, total = found.acceptance
    assert total.workload == ALL
    assert total.kept[0] == chat.kept[0] + code.kept[0] and total.tried[0] == chat.tried[0] + code.tried[0]


def test_expected_tokens() -> None:
    assert expected_tokens((0.5, 0.5, 1.0), 3) == pytest.approx(1.0 + 0.5 + 0.25 + 0.25)
    assert expected_tokens((0.72,) * 8, 8) == pytest.approx((1 - 0.72**9) / (1 - 0.72))
    assert expected_tokens((), 4) == 1.0


def test_the_prediction_is_the_measured_speed_up_where_every_round_is_alike() -> None:
    """Five rounds of three tokens in 0.2 s each, against steps of 0.1 s: three tokens in the time of two."""
    runs = [run("a", text([(2, 2)] * 5, (0.06, 0.13, 0.01)))]
    found = found_in("model", {"chat": {2: runs}}, PLAIN)
    assert predict(found, found.acceptance[0].rates, 2, runs) == pytest.approx(3 * 0.1 / 0.2)


def test_the_prediction_weighs_drafts_by_their_length() -> None:
    """Half the rounds have nothing to copy: they cost a plain step and bring one token."""
    runs = [run("a", text([(0, 0), (2, 2)] * 4, (0.0, 0.1, 0.0), wanted=(2,) * 8))]
    found = found_in("ngram", {"chat": {2: runs}}, PLAIN).model_copy(update={"v": {0: 1.0, 2: 1.5}})
    rates = found.acceptance[0].rates
    assert rates == (0.5, 1.0)
    assert predict(found, rates, 2, runs) == pytest.approx((1.0 + 0.5 + 0.5) / 1.25)


def test_nothing_is_predicted_without_rounds() -> None:
    assert ingredients("model", {"chat": {2: []}}, PLAIN) is None
    assert ingredients("model", {"chat": {2: [run("a", text([(2, 2)]))]}}, []) is None
    found = found_in("model", {"chat": {2: [run("a", text([(2, 2)] * 3))]}}, PLAIN)
    assert predict(found, (1.0, 1.0), 4, []) is None
