"""A stage of the training: its schedule, its budget, and checkpoints that take it up where it was."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scripts import demo_stages
from scripts.demo_stages import Stage


class Place:
    """A stream of rows that only knows where it is."""

    def __init__(self) -> None:
        self.at = [0]

    def place(self) -> list[int]:
        return list(self.at)

    def move(self, place: list[int]) -> None:
        self.at = list(place)


class Toy(Stage):
    """Learns that its numbers should be zero."""

    name, lr = "toy", 0.1

    def losses(self, progress: float) -> Iterator[Tensor]:
        self.material.code.at[0] += 1  # type: ignore[attr-defined]
        self.rates.append(self.optimizers[0].param_groups[0]["lr"])
        yield self.model.weight.square().sum() + self.model.bias.square().sum()

    rates: list[float]


def new_stage(work: Path, tokens: int = 1000, minutes: float | None = None) -> Toy:
    torch.manual_seed(0)
    options = Namespace(work=work, tokens=tokens, batch=100, bfloat16=False, check_steps=10**6, save_minutes=60)
    material: Any = SimpleNamespace(code=Place(), questions=Place())
    stage = Toy(nn.Linear(4, 4), material, options, minutes)
    stage.rates = []
    return stage


@pytest.fixture(autouse=True)
def _short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_stages, "WARM_UP_TOKENS", 200)


def test_a_stage_ends_with_its_tokens_and_its_rate_rises_and_falls(tmp_path: Path) -> None:
    stage = new_stage(tmp_path)
    before = stage.model.weight.norm().item()
    stage.train()
    assert (stage.tokens, stage.step, stage.progress()) == (1000, 10, 1.0)
    # The rate seen at a step is the one that the step before set.
    assert stage.rates[1] == pytest.approx(0.05) and stage.rates[2] == pytest.approx(0.1)
    assert stage.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.1 / 0.2)
    assert stage.model.weight.norm().item() < before


def test_minutes_end_a_stage_too(tmp_path: Path) -> None:
    stage = new_stage(tmp_path, tokens=10**9, minutes=1e-9)
    stage.train()
    assert stage.step == 1


def test_a_stopped_stage_goes_on_where_it_was(tmp_path: Path) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = new_stage(tmp_path / "whole")
    whole.train()
    first = new_stage(tmp_path / "parts")
    for _ in range(4):
        first.train_step()
    first.save("last")
    second = new_stage(tmp_path / "parts")
    assert second.load("last") and second.tokens == 400 and second.material.code.place() == [4]
    second.train()
    assert torch.equal(second.model.weight, whole.model.weight)
    assert not new_stage(tmp_path / "parts").load("stable-of-another")


def test_the_point_before_the_decay_is_kept(tmp_path: Path) -> None:
    stage = new_stage(tmp_path)
    stage.train()
    longer = new_stage(tmp_path, tokens=2000)
    assert longer.load("stable") and longer.tokens == 800
    longer.train()
    assert longer.tokens == 2000
