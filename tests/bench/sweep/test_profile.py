"""What depth control is handed after a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from helix_cli.bench.sweep.profile import kept_by_position, profile_of_runs
from helix_cli.draft.profile import ProfileKey, depth_from, load_profile, save_profile
from helix_cli.storage import Storage
from tests.bench.made import plain_text, run, text

PLAIN = [run("a", plain_text(9, 0.1))]
DRAFTED = [run("a", text([(2, 1)] * 20, (0.04, 0.12, 0.01))), run("b", text([(4, 4)] * 20, (0.08, 0.15, 0.01)))]


def test_a_profile_is_made_of_medians_in_seconds() -> None:
    found = profile_of_runs("model", DRAFTED, PLAIN)
    assert found is not None
    assert found.target_s == {1: pytest.approx(0.1), 3: pytest.approx(0.12), 5: pytest.approx(0.15)}
    assert found.overhead_s == pytest.approx(0.01)
    source = found.sources["model"]
    assert source.draft_s == {1: pytest.approx(0.02)} and source.catch_up_s == pytest.approx(0.0)
    assert source.acceptance == pytest.approx((1.0, 0.5, 1.0, 1.0))


def test_the_first_round_says_what_reading_the_prompt_costs() -> None:
    one = text([(2, 1)] * 40, (0.04, 0.12, 0.01))
    late = one.model_copy(update={"rounds": ((0.20, 0.12, 0.01), *one.rounds[1:])})
    found = profile_of_runs("model", [run("a", late)], PLAIN)
    assert found is not None and found.sources["model"].catch_up_s == pytest.approx(0.16 / 8)


def test_too_little_is_no_profile() -> None:
    assert profile_of_runs("model", [run("a", text([(2, 1)] * 20))], PLAIN) is None
    assert profile_of_runs("model", DRAFTED, []) is None
    assert kept_by_position([text([(2, 2)] * 3)]) == ()


def test_depth_control_starts_from_it(tmp_path: Path) -> None:
    found = profile_of_runs("model", DRAFTED, PLAIN)
    assert found is not None
    key = ProfileKey("cpu", ("target", "draft"), ("float32",), "model", 1)
    save_profile(Storage(tmp_path), key, found)
    assert load_profile(Storage(tmp_path), key) == found
    depth = depth_from(found)
    assert depth.costs.step.seconds(3) == pytest.approx(0.13) and depth.costs.draft_s("model", 1.0) == pytest.approx(
        0.02
    )
    assert depth.acceptance["model"].by_position() == pytest.approx((1.0, 0.5, 1.0, 1.0))
