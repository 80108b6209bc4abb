"""Rows become one flat batch, with the logits wanted in the rows' order."""

from __future__ import annotations

import pytest
import torch

from helix_cli.cache.table import BlockTable
from helix_cli.core import Draft, Row
from helix_cli.model.batch import build_batch

CPU = torch.device("cpu")


def row(first: int, tokens: list[int], num_logits: int, drafted: list[int] | None = None) -> Row:
    table = BlockTable(list(range(20)))
    table.num_computed = first
    draft = None if drafted is None else Draft(torch.tensor(drafted, dtype=torch.int64), len(drafted))
    return Row(table, tokens, num_logits, draft)


@pytest.mark.parametrize(
    ("rows", "tokens", "wanted"),
    [
        ([row(3, [1], 1)], [1], [0]),
        ([row(0, [1, 2, 3], 1)], [1, 2, 3], [2]),
        ([row(0, [1, 2, 3], 0)], [1, 2, 3], []),
        ([row(9, [1], 3, [8, 9])], [1, 8, 9], [0, 1, 2]),
        ([row(9, [1, 2], 3, [8, 9])], [1, 2, 8, 9], [1, 2, 3]),
        ([row(9, [1], 1, [])], [1], [0]),
        ([row(3, [1], 1), row(7, [2], 1)], [1, 2], [0, 1]),
        ([row(0, [1, 2], 0), row(7, [3], 2, [4]), row(0, [5, 6], 1)], [1, 2, 3, 4, 5, 6], [2, 3, 5]),
        ([row(2, [1], 2, [4]), row(3, [2], 2, [5])], [1, 4, 2, 5], [0, 1, 2, 3]),
    ],
)
def test_tokens_and_wanted_logits(rows: list[Row], tokens: list[int], wanted: list[int]) -> None:
    batch = build_batch(rows, CPU)
    assert batch.tokens.dtype == torch.int64 and batch.tokens.tolist() == tokens
    assert batch.select(torch.arange(len(tokens))).tolist() == wanted


def test_spans_lie_one_behind_the_other() -> None:
    batch = build_batch([row(4, [1, 2], 1), row(0, [3], 3, [4, 5]), row(8, [6], 1)], CPU)
    assert [(span.start, span.length, span.first) for span in batch.spans] == [(0, 2, 4), (2, 3, 0), (5, 1, 8)]
