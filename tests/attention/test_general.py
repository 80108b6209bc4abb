"""The general kernel against attention written out token by token: any widths, scale, window, soft cap and sinks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from helix_cli.attention import Span
from helix_cli.attention.torch_general import Form, GeneralPaged
from helix_cli.cache.paged import KVShape
from helix_cli.cache.table import BlockTable

BLOCK_SIZE, NUM_SLOTS, NUM_HEADS = 4, 160, 6
SHAPES = (KVShape(2, 8, 8), KVShape(6, 8, 4), KVShape(1, 4, 8))
SINKS = torch.linspace(-1.0, 2.0, NUM_HEADS)
FORMS = [
    Form(0.3, window, softcap, sinks)
    for window, softcap, sinks in itertools.product((None, 5), (None, 2.0), (None, SINKS))
]


def written_out(queries: Tensor, keys: Tensor, values: Tensor, form: Form, first: int) -> Tensor:
    """Tokens from position `first` on, one head at a time in float64: [H, T, dk] over [Hkv, n, d] -> [T, H, dv]."""
    group, rows = len(queries) // len(keys), []
    for offset in range(queries.shape[1]):
        position = first + offset
        low = 0 if form.window is None else max(0, position - form.window + 1)
        for head, query in enumerate(queries[:, offset].double()):
            seen, said = (side[head // group, low : position + 1].double() for side in (keys, values))
            scores = seen @ query * form.scale
            if form.softcap is not None:
                scores = form.softcap * torch.tanh(scores / form.softcap)
            sink = 0.0 if form.sinks is None else math.exp(form.sinks[head])
            shares = scores.exp() / (scores.exp().sum() + sink)
            rows.append(shares @ said)
    return torch.stack(rows).view(queries.shape[1], len(queries), -1)


@pytest.mark.parametrize(
    "form", FORMS, ids=lambda f: f"{f.window}-{f.softcap}-{'sinks' if f.sinks is not None else ''}"
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("fused", [True, False])
def test_every_form_over_every_shape(form: Form, shape: KVShape, fused: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def some(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    layer = 100 * some(*shape.pool(NUM_SLOTS))  # stale numbers in every slot
    kernel = GeneralPaged([layer], [shape], BLOCK_SIZE, fused)
    # (blocks, computed positions, tokens to feed): one token, a verification, a chunk, and a prompt from its beginning.
    texts = [
        ([7, 3, 11], 9, 1),
        ([20, 21, 22, 23], 8, 5),
        ([30, 2, 14, 4, 38, 6, 9, 31], 6, 21),
        ([24, 25, 26, 27, 28], 0, 19),
    ]
    total = sum(length for *_, length in texts)
    queries = some(NUM_HEADS, total, shape.key_dim)
    keys, values = some(shape.num_heads, total, shape.key_dim), some(shape.num_heads, total, shape.value_dim)
    spans, wanted, start = [], [], 0
    for blocks, first, length in texts:
        table, fed = BlockTable(blocks), slice(start, start + length)
        spans.append(Span(table, start, length, first))
        held = []
        for view, side in zip(shape.views(layer), (keys, values), strict=True):
            past = some(shape.num_heads, first, side.shape[-1])
            view[:, table.slots(0, first, BLOCK_SIZE)] = past
            held.append(torch.cat([past, side[:, fed]], 1))
        wanted.append(written_out(queries[:, fed], held[0], held[1], form, first))
        start += length
    found = kernel.plan(spans)(0, queries, keys, values, form)
    assert found.shape == (total, NUM_HEADS, shape.value_dim)
    assert (found - torch.cat(wanted)).abs().max() < 1e-5


def test_one_run_of_slots_is_written_in_place() -> None:
    """A lone text in neighbouring blocks needs no index; what lies around it stays."""
    shape = SHAPES[1]
    layer = torch.zeros(shape.pool(NUM_SLOTS))
    plan = GeneralPaged([layer], [shape], BLOCK_SIZE, True).plan([Span(BlockTable([3, 4]), 0, 3, 2)])
    ones = torch.ones(6, 3, 8)
    plan(0, ones, ones, torch.ones(6, 3, 4), Form(1.0))
    assert layer.sum() == 6 * 3 * 12 and layer[0, :, 14:17].sum() == 6 * 3 * 12
