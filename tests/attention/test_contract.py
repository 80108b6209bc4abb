"""Every kernel against attention written out token by token, over pools that look like real ones."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helix_cli.attention import KERNELS, Heads, Span
from helix_cli.attention.compiled import can_run
from helix_cli.cache.table import BlockTable
from tests.attention.places import home

BLOCK_SIZE, NUM_BLOCKS, NUM_LAYERS = 4, 40, 2
HEADS = Heads(num_heads=6, num_kv_heads=2, head_dim=16)
INTERPRETED = [kernel for kernel in KERNELS if kernel.startswith("triton")]
"""Slow without a GPU."""


class Pool:
    """A pool with stale numbers in every slot, and what each sequence in it really holds."""

    def __init__(self, seed: int, heads: Heads = HEADS) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.heads = heads
        shape = (2, heads.num_kv_heads, NUM_BLOCKS * BLOCK_SIZE, heads.head_dim)
        self.layers = [100 * torch.randn(shape, generator=self.generator) for _ in range(NUM_LAYERS)]
        self.free = torch.randperm(NUM_BLOCKS, generator=self.generator).tolist()
        self.past: dict[BlockTable, list[Tensor]] = {}

    def sequence(self, first: int, length: int, contiguous: bool) -> tuple[BlockTable, int, int]:
        """A table with `first` computed positions and room for `length` more."""
        count = -(-(first + length) // BLOCK_SIZE)
        blocks = [self.free.pop() for _ in range(count)]
        if contiguous:
            self.free += blocks
            start = next(b for b in range(NUM_BLOCKS) if set(range(b, b + count)) <= set(self.free))
            blocks = list(range(start, start + count))
            self.free = [block for block in self.free if block not in blocks]
        table = BlockTable(blocks, num_computed=first)
        shape = (first, 2, self.heads.num_kv_heads, self.heads.head_dim)
        self.past[table] = [torch.randn(shape, generator=self.generator) for _ in range(NUM_LAYERS)]
        slots = table.slots(0, first, BLOCK_SIZE)
        for layer, past in zip(self.layers, self.past[table], strict=True):
            for position, slot in enumerate(slots):
                layer[:, :, slot] = past[position]
        return table, first, length

    def expected(self, layer: int, qkv: Tensor, spans: list[Span], window: int | None) -> Tensor:
        """One token, one head at a time, in float64."""
        heads, rows = self.heads, []
        queries, written = torch.split(qkv.double(), [heads.query_width, heads.width - heads.query_width], 1)
        written = written.view(len(qkv), 2, heads.num_kv_heads, heads.head_dim)
        for span in spans:
            held = torch.cat([self.past[span.table][layer].double(), written[span.start : span.start + span.length]])
            for offset in range(span.length):
                position = span.first + offset
                low = 0 if window is None else max(0, position - window + 1)
                seen = held[low : position + 1]
                query = queries[span.start + offset].view(heads.num_heads, heads.head_dim)
                for head in range(heads.num_heads):
                    keys, values = seen[:, :, head // heads.group].unbind(1)
                    rows.append(torch.softmax(keys @ query[head] * heads.head_dim**-0.5, 0) @ values)
        return torch.cat(rows).view(len(qkv), heads.query_width)


def check(pool: Pool, kernel: str, fused: bool, sequences: list[tuple[BlockTable, int, int]]) -> None:
    spans, start = [], 0
    for table, first, length in sequences:
        spans.append(Span(table, start, length, first))
        start += length
    if kernel.startswith("triton"):
        pytest.importorskip("triton")
    device = home(kernel)
    layers = [layer.to(device) for layer in pool.layers]
    before = [layer.clone() for layer in layers]
    if kernel.startswith("compiled") and not can_run(pool.heads, torch.float32, torch.device("cpu")):
        pytest.skip("no compiler here, or heads that fill no vector")
    plan = KERNELS[kernel](layers, BLOCK_SIZE, pool.heads, fused).plan(spans)
    for layer, window in [(0, None), (1, 5)]:
        qkv = torch.randn(start, pool.heads.width, generator=pool.generator)
        found = plan(layer, qkv.to(device), window).cpu()
        torch.testing.assert_close(found.double(), pool.expected(layer, qkv, spans, window), atol=1e-4, rtol=1e-4)
    written = [slot for table, first, length in sequences for slot in table.slots(first, first + length, BLOCK_SIZE)]
    for now, old in zip(layers, before, strict=True):
        changed = now.ne(old).any(-1).any(0).any(0).nonzero().flatten().tolist()
        assert changed == sorted(written), "a slot was written that no fed token owns, or one was not"


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize(
    ("first", "length"), [(0, 1), (0, 5), (0, 30), (9, 1), (3, 1), (4, 1), (9, 5), (2, 4), (9, 16), (9, 17), (1, 25)]
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_one_sequence(kernel: str, first: int, length: int, contiguous: bool, fused: bool) -> None:
    if kernel in INTERPRETED and not fused:
        pytest.skip("has one way only")
    pool = Pool(seed=first + length)
    check(pool, kernel, fused, [pool.sequence(first, length, contiguous)])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "heads", [Heads(4, 4, 8), Heads(4, 1, 16), Heads(1, 1, 4), Heads(5, 1, 64), Heads(6, 2, 80)], ids=str
)
def test_head_counts(kernel: str, heads: Heads) -> None:
    pool = Pool(seed=0, heads=heads)
    check(pool, kernel, True, [pool.sequence(7, 4, False), pool.sequence(3, 18, True)])


SHAPES = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20), st.booleans()), min_size=1, max_size=3)


@pytest.mark.parametrize("kernel", [kernel for kernel in KERNELS if kernel not in INTERPRETED])
@settings(max_examples=40, deadline=None)
@given(SHAPES, st.booleans())
def test_any_ragged_batch(kernel: str, shapes: list[tuple[int, int, bool]], fused: bool) -> None:
    check_ragged(kernel, shapes, fused)


@pytest.mark.parametrize("kernel", INTERPRETED)
@settings(max_examples=10, deadline=None)
@given(SHAPES)
def test_any_ragged_batch_interpreted(kernel: str, shapes: list[tuple[int, int, bool]]) -> None:
    check_ragged(kernel, shapes, True)


def check_ragged(kernel: str, shapes: list[tuple[int, int, bool]], fused: bool) -> None:
    pool = Pool(seed=len(shapes))
    contiguous_first = sorted(shapes, key=lambda shape: not shape[2])
    sequences = []
    for first, length, contiguous in contiguous_first:
        try:
            sequences.append(pool.sequence(first, length, contiguous))
        except StopIteration:
            sequences.append(pool.sequence(first, length, False))
    check(pool, kernel, fused, sequences)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_contiguous_table_is_read_without_a_copy(kernel: str) -> None:
    pool = Pool(seed=0)
    table, first, length = pool.sequence(20, 1, True)
    if kernel in INTERPRETED:
        pytest.skip("reads no table otherwise than another, and its interpreter copies what it likes")
    plan = KERNELS[kernel](pool.layers, BLOCK_SIZE, HEADS, True).plan([Span(table, 0, length, first)])
    qkv = torch.randn(1, HEADS.width)
    with torch.profiler.profile(record_shapes=True) as profile:
        plan(0, qkv, None)
    copying = {"aten::index_select", "aten::index", "aten::clone", "aten::contiguous", "aten::cat"}
    copied = [shape for event in profile.events() or () if event.name in copying for shape in event.input_shapes]
    # The answer itself may be brought into order.
    assert all(math.prod(shape) <= 2 * HEADS.query_width for shape in copied)
