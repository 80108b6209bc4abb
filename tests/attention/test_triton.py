"""The Triton kernel's own corners, interpreted or on a GPU: number types, odd sizes, splits, caps and no tokens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helix_cli.attention import Heads, Span, TritonPaged, kernel_for, triton_paged
from helix_cli.attention.triton_paged import Shape, TritonPlan, largest_error, lay_out, why_not
from helix_cli.cache.table import BlockTable
from tests.attention.places import home

pytest.importorskip("triton")
DEVICE = home("triton_paged")
SHARED_MEMORY = 64 << 10
"""Bytes that every card has which Triton compiles for."""
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


class Case:
    """A pool of random numbers, with shuffled tables of which everything before the fed tokens is computed."""

    def __init__(
        self,
        heads: Heads,
        lengths: list[tuple[int, int]],
        block_size: int = 16,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`lengths` are (first position, fed tokens) of each sequence."""
        generator = torch.Generator().manual_seed(heads.width)
        counts = [-(-(first + length) // block_size) for first, length in lengths]
        free = torch.randperm(sum(counts) + 1, generator=generator).tolist()
        self.heads, self.block_size, self.dtype = heads, block_size, dtype
        shape = (2, heads.num_kv_heads, len(free) * block_size, heads.head_dim)
        self.pool = torch.randn(shape, generator=generator).to(dtype).to(DEVICE)
        self.spans: list[Span] = []
        start = 0
        for (first, length), count in zip(lengths, counts, strict=True):
            self.spans.append(Span(BlockTable([free.pop() for _ in range(count)]), start, length, first))
            start += length
        self.qkv = torch.randn(start, heads.width, generator=generator).to(dtype).to(DEVICE)

    def expected(self, window: int | None, cap: float | None) -> Tensor:
        """Attention of one token after the other, in float64, from a pool that holds the fed tokens already."""
        heads, rows = self.heads, []
        for span in self.spans:
            slots = span.table.slots(0, span.first + span.length, self.block_size)
            held = self.pool[:, :, slots].double().cpu()
            queries = self.qkv[span.start : span.start + span.length, : heads.query_width].double().cpu()
            for offset, query in enumerate(queries):
                stop = span.first + offset + 1
                low = 0 if window is None else max(0, stop - window)
                keys, values = held[:, :, low:stop].repeat_interleave(heads.group, 1)
                scores = (keys @ query.view(heads.num_heads, heads.head_dim, 1)).squeeze(-1) * heads.head_dim**-0.5
                scores = scores if cap is None else cap * torch.tanh(scores / cap)
                rows.append((scores.softmax(-1).unsqueeze(1) @ values).flatten())
        return torch.stack(rows)

    def check(self, window: int | None = None, cap: float | None = None) -> TritonPaged:
        kernel = TritonPaged([self.pool], self.block_size, self.heads, True, cap)
        found = kernel.plan(self.spans)(0, self.qkv, window)
        assert found.dtype == self.dtype
        tolerance = TOLERANCE[self.dtype]
        expected = self.expected(window, cap)
        torch.testing.assert_close(found.double().cpu(), expected, atol=tolerance, rtol=tolerance)
        return kernel


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("block_size", [16, 32, 128])
def test_number_types_and_block_sizes(block_size: int, dtype: torch.dtype) -> None:
    Case(Heads(4, 2, 16), [(40, 1), (150, 5), (0, 20)], block_size, dtype).check()


@pytest.mark.parametrize("heads", [Heads(6, 2, 80), Heads(5, 1, 24), Heads(2, 2, 96), Heads(71, 1, 8)], ids=str)
def test_sizes_that_are_no_powers_of_two(heads: Heads) -> None:
    Case(heads, [(33, 3), (5, 20)]).check(window=20)


@pytest.mark.parametrize(("window", "cap"), [(None, None), (7, None), (150, 1.5)])
def test_a_context_that_is_split(monkeypatch: pytest.MonkeyPatch, window: int | None, cap: float | None) -> None:
    monkeypatch.setattr(triton_paged, "SPLIT_KEYS", 32)
    case = Case(Heads(4, 2, 16), [(200, 1), (3, 5)])
    kernel = case.check(window, cap)
    assert kernel.splits(2, 201) == 4


@pytest.mark.parametrize(("split_keys", "splits"), [(32, 4), (1000, 1)])
def test_large_scores_of_either_sign(monkeypatch: pytest.MonkeyPatch, split_keys: int, splits: int) -> None:
    """Their exponentials are no numbers, or zero, unless the largest is taken off in each split and between them."""
    monkeypatch.setattr(triton_paged, "SPLIT_KEYS", split_keys)
    case = Case(Heads(4, 2, 16), [(200, 1)], dtype=torch.float16)
    width = case.heads.query_width
    case.qkv[:, : width // 2], case.qkv[:, width // 2 : width] = 10.0, -10.0
    case.qkv[:, width : width + width // 2] += 3.0
    case.pool[0] += 3.0
    assert case.check().splits(1, 201) == splits


def test_tokens_of_a_tile_that_see_nothing_of_the_first_keys() -> None:
    """Wide heads are looked at few keys at a time, and the window of a tile's last tokens begins behind the first."""
    case = Case(Heads(1, 1, 256), [(30, 40)])
    assert case.check(window=5).keys < 40


def test_a_long_chunk_is_several_tiles() -> None:
    case = Case(Heads(4, 1, 16), [(10, 40), (0, 1)])
    kernel = case.check(window=25)
    tokens, _ = kernel.tile(40)
    tiles, _ = lay_out(case.spans, tokens, case.block_size)
    assert [tiles[place : place + 3] for place in range(0, len(tiles), 4)] == [
        [0, 16, 10],
        [16, 16, 26],
        [32, 8, 42],
        [40, 1, 0],
    ]


@pytest.mark.parametrize("splits", [1, 4])
def test_a_tile_without_tokens_touches_nothing(splits: int) -> None:
    """What fills up a batch of a fixed size: its row may hold anything, its table and position nothing."""
    case = Case(Heads(4, 2, 16), [(90, 1)])
    kernel = TritonPaged([case.pool], 16, case.heads, True)
    tiles, tables = lay_out(case.spans, 1, 16)
    numbers = torch.tensor([*tiles, 1, 0, 0, len(tables), *tables], dtype=torch.int32).to(DEVICE)
    qkv = torch.cat([case.qkv, torch.full_like(case.qkv, float("nan"))])
    before = case.pool.clone()
    found = TritonPlan(kernel, numbers[:8], numbers[8:], Shape(1, 16, splits))(0, qkv, None)
    torch.testing.assert_close(found[:1].double().cpu(), case.expected(None, None), atol=2e-5, rtol=2e-5)
    changed = case.pool.ne(before).any(-1).any(0).any(0).nonzero().flatten().tolist()
    assert changed == [case.spans[0].table.slot(90, 16)]


def test_the_probe_sees_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    heads, dtype = Heads(4, 2, 16), torch.float32
    assert largest_error(heads, dtype, DEVICE) < 1e-5
    right = TritonPlan.__call__

    def wrong(plan: TritonPlan, layer: int, qkv: Tensor, window: int | None) -> Tensor:
        return right(plan, layer, qkv, 9)

    monkeypatch.setattr(TritonPlan, "__call__", wrong)
    assert largest_error(heads, dtype, DEVICE) > 1e-2


def test_a_cpu_is_left_to_other_kernels() -> None:
    cpu = torch.device("cpu")
    assert why_not(Heads(4, 2, 16), torch.float32, cpu) == "it runs on CUDA and ROCm only"
    assert kernel_for(Heads(4, 2, 17), torch.float32, cpu, exact=False) == "torch_paged"


@pytest.mark.parametrize("target", [("cuda", "80", "32"), ("hip", "gfx942", "64")], ids=" ".join)
def test_every_kernel_compiles_for_real_cards(target: tuple[str, str, str], tmp_path: Path) -> None:
    """What the interpreter accepts the compiler may not; it needs no card to say so."""
    surroundings = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.triton_compiling", *target]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(command, cwd=root, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shared = {name: int(size) for name, size in map(str.split, done.stdout.splitlines())}
    assert list(shared) == ["write_kernel", "attend_kernel", "join_kernel", "product_kernel"]
    assert max(shared.values()) <= SHARED_MEMORY
