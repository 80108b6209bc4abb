"""Every family over the paged pool against transformers' own forward pass of the same weights, in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helix_cli.cache.table import BlockTable
from helix_cli.model.runner import ModelRunner
from tests.model.hf.zoo import RUNNING, load, make, runner_over
from tests.model.parity import Text, contiguous_table, largest_difference, shuffled_table

TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=RUNNING)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelRunner, Any]:
    """A family over the pool, and transformers' model of the same weights."""
    model = make(request.param)
    path = tmp_path_factory.mktemp("model")
    model.save_pretrained(path)
    model.set_attn_implementation("eager")
    return runner_over(load(path)), model


def text_of(pair: tuple[ModelRunner, Any], count: int, table: BlockTable, seed: int = 0) -> Text:
    """Random tokens over a table."""
    generator = torch.Generator().manual_seed(seed)
    return Text(*pair, torch.randint(3, 96, (count,), generator=generator).tolist(), table)


@pytest.mark.parametrize("table", [contiguous_table, shuffled_table])
def test_prefill_decode_verification_and_rollback(pair: tuple[ModelRunner, Any], table: Any) -> None:
    text = text_of(pair, 40, table(10))
    assert text.feed(21, num_logits=21) < TOLERANCE
    assert text.feed(1) < TOLERANCE
    assert text.feed(5, num_logits=5, num_drafted=4, keep=2) < TOLERANCE
    # Other tokens over the slots of the three that were refused.
    text.tokens[24:] = text_of(pair, 16, table(10), seed=1).tokens
    assert text.feed(5, num_logits=5, num_drafted=4) < TOLERANCE
    assert text.feed(11, num_logits=2) < TOLERANCE


def test_a_mixed_batch(pair: tuple[ModelRunner, Any]) -> None:
    tables = [BlockTable([5, 6, 7, 8, 9]), BlockTable([40, 3, 22]), BlockTable([50, 51, 52, 53, 54, 55, 56, 57, 58])]
    texts = [
        text_of(pair, count, table, seed) for seed, (count, table) in enumerate(zip((20, 9, 36), tables, strict=True))
    ]
    assert largest_difference(texts[:2], [texts[0].row(15, 2), texts[1].row(8, 1)]) < TOLERANCE
    texts[0].table.num_computed, texts[1].table.num_computed = 15, 8
    rows = [texts[0].row(5, 5, num_drafted=4), texts[2].row(36, 1), texts[1].row(1, 1)]
    assert largest_difference([texts[0], texts[2], texts[1]], rows) < TOLERANCE


def test_a_chunk_without_logits(pair: tuple[ModelRunner, Any]) -> None:
    text = text_of(pair, 12, contiguous_table(3))
    assert pair[0].forward([text.row(8, 0)]).shape == (0, 96)
    text.table.num_computed = 8
    assert text.feed(4, num_logits=1) < TOLERANCE
