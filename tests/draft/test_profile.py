"""What a run learned comes back in the next; what is damaged is as good as missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helix_cli.draft.auto_depth import AutoDepth
from helix_cli.draft.depth import Room
from helix_cli.draft.profile import (
    KIND,
    Profile,
    ProfileKey,
    SourceProfile,
    depth_from,
    load_profile,
    profile_of,
    save_profile,
)
from helix_cli.storage import Storage, read_record, write_record
from tests.draft.simulator import Machine, simulate

KEY = ProfileKey("cpu", ("target", "draft"), ("float32",), "model", 2)
ROOM = Room(9, 40, 100, "model")


def learned() -> AutoDepth:
    """Depth control after a text with a good draft."""
    depth = AutoDepth()
    simulate(depth, Machine(), lambda place: 0.9)
    return depth


def test_a_profile_survives_the_disk_and_saves_the_first_rounds(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    profile = profile_of(learned())
    assert profile is not None and min(profile.target_s) == 1
    assert profile.sources["model"].acceptance[0] == pytest.approx(0.9, abs=0.1)
    save_profile(storage, KEY, profile)
    assert load_profile(storage, KEY) == profile
    [choice] = depth_from(load_profile(storage, KEY)).choose([ROOM])
    assert choice.depth >= 3 and choice.step_floor > choice.token_floor > 0.0
    assert depth_from(None).choose([ROOM])[0].depth == 0


def test_a_useless_draft_is_not_tried_at_once() -> None:
    profile = Profile({1: 1.0, 5: 1.2}, 0.1, {"model": SourceProfile({1: 0.3}, 0.0, (0.01, 0.01))})
    assert depth_from(profile).choose([ROOM])[0].depth == 0


def test_too_little_is_not_kept() -> None:
    depth = AutoDepth()
    simulate(depth, Machine(), lambda place: 0.9, length=8)
    assert profile_of(depth) is None and profile_of(AutoDepth()) is None


def test_profiles_of_other_machines_and_pairs_are_others() -> None:
    others = [
        KEY,
        ProfileKey("cuda", KEY.models, KEY.formats, "model", 2),
        ProfileKey("cpu", ("target", "x"), KEY.formats, "model", 2),
        ProfileKey("cpu", KEY.models, ("int8",), "model", 2),
        ProfileKey("cpu", KEY.models, KEY.formats, "auto", 2),
        ProfileKey("cpu", KEY.models, KEY.formats, "model", 1),
    ]
    assert len({key.name() for key in others}) == len(others)


@pytest.mark.parametrize(
    "change",
    [
        {"target_s": {}},
        {"target_s": {"0": 1.0}},
        {"target_s": {"1": -1.0}},
        {"target_s": {"one": 1.0}},
        {"target_s": {"1": float("nan")}},
        {"overhead_s": None},
        {"overhead_s": True},
        {"sources": []},
        {"sources": {"model": {"draft_s": {"1": 0.1}, "catch_up_s": 0.0}}},
        {"sources": {"model": {"draft_s": {"1": 0.1}, "catch_up_s": 0.0, "acceptance": ["x"]}}},
    ],
)
def test_a_damaged_profile_is_as_good_as_none(tmp_path: Path, change: dict[str, Any]) -> None:
    storage = Storage(tmp_path)
    profile = profile_of(learned())
    assert profile is not None
    save_profile(storage, KEY, profile)
    record = read_record(storage, KIND, KEY.name())
    write_record(storage, KIND, KEY.name(), "a test", record | change)
    assert load_profile(storage, KEY) is None
