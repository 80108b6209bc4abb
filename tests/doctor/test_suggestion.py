"""The suggested config is one that Helix takes, and says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helix_cli.config import load_config
from helix_cli.doctor.suggestion import suggest
from tests.doctor.made import ABSENT, CARD, CPU, findings


@pytest.mark.parametrize(
    ("changes", "device", "threads", "words"),
    [
        ({}, "cpu", 2, ("8.0 GiB", "1.7 in float32", "3.4 in bfloat16", "6.9 in int8", "20 tokens/s", "20.0 GB/s")),
        ({"int8": None}, "cpu", 2, ("3.4 in bfloat16", "10 tokens/s")),
        ({"threads": 8}, "cpu", 2, ()),
        ({"devices": [CARD, CPU], "bandwidth": {"cpu": 2e10, "cuda": 1e12}}, "cuda", None, ("1.7 in float16", "500 ")),
        ({"bandwidth": {}}, "cpu", 2, ("8.0 GiB",)),
    ],
)
def test_a_suggestion_is_a_config(
    tmp_path: Path, changes: dict[str, Any], device: str, threads: int | None, words: tuple[str, ...]
) -> None:
    text = suggest(findings(**changes))
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    config = load_config(file)
    assert (config.backend.device, config.backend.threads) == (device, threads)
    assert config.model.weights == "auto" and config.draft.k == "auto"
    for word in words:
        assert word in text
    assert max(map(len, text.splitlines())) <= 120


def test_nothing_to_suggest() -> None:
    assert suggest(findings(devices=[ABSENT])).startswith("# No device")
    # Of the others nothing is known when only one was asked about.
    assert suggest(findings(devices=[ABSENT], asked_for="cuda")).startswith("# cuda cannot be used")
    assert CPU.usable
