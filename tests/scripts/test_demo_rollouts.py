"""What the target writes by itself, and which of it counts as a loop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from scripts import demo_rollouts
from scripts.demo_questions import Entry
from scripts.demo_rollouts import Rollouts, repeats


class Counting:
    """A model whose greedy text counts on from its last token."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def generate(self, prompts: torch.Tensor, **options: Any) -> Any:
        self.calls.append(options)
        assert options["eos_token_id"] is None, "a text that ends early would be of another length"
        more = prompts[:, -1:] + 1 + torch.arange(options["max_new_tokens"])
        logits = [torch.nn.functional.one_hot(tokens, 2000) * 20.0 for tokens in more.unbind(1)]
        return SimpleNamespace(sequences=torch.cat([prompts, more], 1), logits=logits)


class Words:
    """A tokenizer: a token for each word."""

    def __call__(self, texts: list[str], add_special_tokens: bool) -> dict[str, list[list[int]]]:
        assert not add_special_tokens
        return {"input_ids": [[len(word) for word in text.split()] for text in texts]}


@pytest.fixture
def rollouts(monkeypatch: pytest.MonkeyPatch) -> Rollouts:
    monkeypatch.setattr(demo_rollouts, "TOGETHER", 4)
    monkeypatch.setattr(demo_rollouts, "WRITTEN", 8)
    known = [Entry(f"math.f{number}", "Return a number that nobody knows.", None, False) for number in range(30)]
    material: Any = SimpleNamespace(code_tokens=np.arange(1000), known=known, tokenizer=Words())
    return Rollouts(Counting(), material, seed=1)


def test_repeats_marks_the_ends_of_runs_that_were_there_before() -> None:
    rows = torch.tensor([[1, 2, 3, 4, 1, 2, 3, 4, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9]])
    assert repeats(rows).tolist() == [[0, 0, 0, 0, 0, 0, 0, 1, 0], [0] * 9]
    assert repeats(torch.ones(1, 6)).tolist() == [[0, 0, 0, 0, 1, 1]]


def test_code_is_continued_from_random_places(rollouts: Rollouts) -> None:
    rows, prompt, likely, chances = rollouts.write(3, 5, greedy=True)
    assert likely.shape == chances.shape == (3, 5, demo_rollouts.LIKELY)
    assert torch.equal(likely[..., 0].long(), rows[:, prompt:]) and float(chances[..., 0].min()) > 0.99
    assert prompt == demo_rollouts.CODE_PROMPT and rows.shape == (3, prompt + 5)
    assert all(torch.equal(row, torch.arange(int(row[0]), int(row[0]) + prompt + 5)) for row in rows)
    assert len(set(rows[:, 0].tolist())) > 1
    model: Any = rollouts.model
    assert model.calls[0]["do_sample"] is False
    rollouts.write(3, 5, greedy=False)
    assert model.calls[1]["do_sample"] is True and model.calls[1]["temperature"] == demo_rollouts.TEMPERATURE


def test_questions_of_one_batch_are_of_one_length(rollouts: Rollouts) -> None:
    prompts = rollouts.question_prompts(4)
    assert prompts.shape[0] == 4 and prompts.shape[1] > 1
    rare = rollouts.question_prompts(10**6)
    assert rare.ndim == 2 and len(rare) > 1, "as many as there are of the commonest length"


def test_texts_are_replayed_and_new_ones_come_now_and_then(rollouts: Rollouts) -> None:
    model: Any = rollouts.model
    for step in range(12):
        batches = list(rollouts.replayed(step, 2 * 4 * 8))
        assert len(batches) == 2 and all(rows.shape[1] > prompt for rows, prompt, *_ in batches)
    assert len(model.calls) == 2 * 2, "two in each of the steps 0 and 6"
    assert {call["do_sample"] for call in model.calls} == {True, False}
