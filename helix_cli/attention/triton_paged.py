"""Paged attention for CUDA and ROCm: two Triton kernels a layer, three where a long context is split.

`triton_kernels.py` has the kernels; here is what surrounds them: which tiles a batch is cut into, how far a context is
split, and whether all this works on a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from helix_cli.attention.kernel import Heads, Span
from helix_cli.attention.torch_paged import TorchPaged
from helix_cli.backend.triton import why_no_triton, why_unusable
from helix_cli.cache.table import BlockTable

UNSEEN: Final = 1 << 30
"""The window of layers that have none: longer than any context, and far enough from the end of int32."""
FEWEST_ROWS: Final = 16
"""Matrix units take no fewer rows, columns or inner elements."""
MOST_ROWS: Final = 64
"""Of one tile, unless a single token has more query heads that share K/V."""
MOST_SPLITS: Final = 64
SPLIT_KEYS: Final = 128
"""A split shorter than this is not worth being joined."""
PROGRAMS: Final = 2
"""A context is split until each processor of the device has so many programs."""
CPU_PROCESSORS: Final = 8
"""What the interpreter pretends to have."""
PROBE_TOLERANCE: Final = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}


class Shape(NamedTuple):
    """How a batch is cut: the longest stretch of tokens in a tile, its rows of queries, and splits of the context."""

    tokens: int
    rows: int
    splits: int


class TritonPaged:
    """See `AttentionKernel`. `soft_cap` bends scores to cap * tanh(score / cap). Only where `why_not` is None."""

    def __init__(
        self,
        layers: list[Tensor],
        block_size: int,
        heads: Heads,
        fused: bool,
        soft_cap: float | None = None,
    ) -> None:
        # Triton decides when it is imported whether it compiles or interprets, and takes a quarter of a second.
        from helix_cli.attention import triton_kernels

        self.kernels: Any = triton_kernels
        self.layers, self.block_size, self.heads, self.soft_cap = layers, block_size, heads, soft_cap
        self.num_slots = layers[0].shape[2]
        self.device = layers[0].device
        self.padded_dim = max(FEWEST_ROWS, power_of_two(heads.head_dim))
        self.keys = keys_at_once(self.padded_dim * layers[0].itemsize)
        self._processors = num_processors(self.device)

    def plan(self, spans: Sequence[Span]) -> TritonPlan:
        length = max((span.length for span in spans), default=1)
        longest = max((span.first + span.length for span in spans), default=1)
        tokens, rows = self.tile(length)
        tiles, tables = lay_out(spans, tokens, self.block_size)
        numbers = torch.tensor(tiles + tables, dtype=torch.int32).to(self.device)
        shape = Shape(tokens, rows, self.splits(len(tiles) // 4, longest))
        return TritonPlan(self, numbers[: len(tiles)], numbers[len(tiles) :], shape)

    def tile(self, length: int) -> tuple[int, int]:
        """Tokens and rows of queries of a tile, for spans of up to `length` tokens."""
        group = self.heads.group
        rows = min(power_of_two(length * group), max(MOST_ROWS, power_of_two(group)))
        rows = max(FEWEST_ROWS, rows)
        return rows // group, rows

    def splits(self, num_tiles: int, longest: int) -> int:
        """Into how many parts, a power of two, contexts of up to `longest` positions are cut."""
        programs = max(1, num_tiles * self.heads.num_kv_heads)
        useful = min(MOST_SPLITS, longest // SPLIT_KEYS, PROGRAMS * self._processors // programs)
        return 1 << max(0, useful.bit_length() - 1)


class TritonPlan:
    """One forward pass; see `Attend`. `tiles` int32 [4 n] and `tables` int32 are on the device and may change there."""

    def __init__(self, kernel: TritonPaged, tiles: Tensor, tables: Tensor, shape: Shape) -> None:
        self._kernel, self._tiles, self._tables, self._shape = kernel, tiles, tables, shape

    def __call__(self, layer: int, qkv: Tensor, window: int | None) -> Tensor:
        # Triton launches on the thread's own device, wherever the tensors are.
        with torch.cuda.device(qkv.get_device()):
            return self._attend(layer, qkv, window)

    def _attend(self, layer: int, qkv: Tensor, window: int | None) -> Tensor:
        kernel, shape, heads = self._kernel, self._shape, self._kernel.heads
        pool, num_tiles, count = kernel.layers[layer], len(self._tiles) // 4, qkv.shape[0]
        out = torch.empty(count, heads.query_width, dtype=qkv.dtype, device=qkv.device)
        common = {"HEAD_DIM": heads.head_dim, "PADDED_DIM": kernel.padded_dim}
        paged = {"KV_HEADS": heads.num_kv_heads, "BLOCK_SIZE": kernel.block_size}
        kernel.kernels.write_kernel[(num_tiles, heads.num_kv_heads)](
            qkv,
            pool,
            self._tiles,
            self._tables,
            qkv.stride(0),
            kernel.num_slots,
            QUERY_WIDTH=heads.query_width,
            TOKENS=power_of_two(shape.tokens),
            **common,
            **paged,
        )
        parts, marks = self._room(count, out)
        kernel.kernels.attend_kernel[(num_tiles, heads.num_kv_heads, shape.splits)](
            qkv,
            pool,
            self._tiles,
            self._tables,
            out,
            parts,
            marks,
            marks.numel() // 2,
            qkv.stride(0),
            kernel.num_slots,
            UNSEEN if window is None else window,
            heads.head_dim**-0.5,
            kernel.soft_cap or 1.0,
            NUM_HEADS=heads.num_heads,
            ROWS=shape.rows,
            KEYS=kernel.keys,
            INNER=kernel.kernels.inner_type(qkv.dtype),
            SPLITS=shape.splits,
            CAPPED=kernel.soft_cap is not None,
            num_warps=8 if kernel.padded_dim > 128 else 4,
            num_stages=1 if qkv.dtype == torch.float32 else 2,
            **common,
            **paged,
        )
        if shape.splits > 1:
            kernel.kernels.join_kernel[(count * heads.num_heads,)](
                parts, marks, out, marks.numel() // 2, SPLITS=shape.splits, **common
            )
        return out

    def _room(self, count: int, out: Tensor) -> tuple[Tensor, Tensor]:
        """Where splits leave what they found; without splits any tensor will do, because it is not touched."""
        heads, splits = self._kernel.heads, self._shape.splits
        if splits == 1:
            return out, out
        parts = torch.empty(count, heads.num_heads, splits, heads.head_dim, device=out.device)
        return parts, torch.empty(2, count, heads.num_heads, splits, device=out.device)


def lay_out(spans: Sequence[Span], tokens: int, block_size: int) -> tuple[list[int], list[int]]:
    """The tiles, four numbers each (see `triton_kernels.py`), and the block tables that they point into."""
    tiles: list[int] = []
    tables: list[int] = []
    for span in spans:
        for offset in range(0, span.length, tokens):
            tiles += (span.start + offset, min(tokens, span.length - offset), span.first + offset, len(tables))
        tables += span.table.blocks[: -(-(span.first + span.length) // block_size)]
    return tiles, tables


def power_of_two(number: int) -> int:
    """The smallest one that is not below `number`."""
    return 1 << max(0, number - 1).bit_length()


def keys_at_once(row_bytes: int) -> int:
    """How many keys one turn takes: fewer where they are wide, because a processor's own memory is small."""
    return 64 if row_bytes <= 256 else 32 if row_bytes <= 512 else FEWEST_ROWS


def num_processors(device: torch.device) -> int:
    """Multiprocessors of a GPU."""
    if not torch.empty(0, device=device).is_cuda:
        return CPU_PROCESSORS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@cache
def why_not(heads: Heads, dtype: torch.dtype, device: torch.device) -> str | None:
    """Why this kernel cannot serve a model here, in a few words; None where it can."""
    reason = why_no_triton(device)
    return reason or why_unusable(lambda: largest_error(heads, dtype, device), PROBE_TOLERANCE[dtype])


@torch.no_grad()
def largest_error(heads: Heads, dtype: torch.dtype, device: torch.device) -> float:
    """The largest difference from `TorchPaged`: a decode step beside a verification, whole and split, and a chunk."""
    block_size, num_blocks, worst = 16, 84, 0.0
    generator = torch.Generator().manual_seed(0)
    pool = torch.randn(2, heads.num_kv_heads, num_blocks * block_size, heads.head_dim, generator=generator)
    pool = pool.to(dtype).to(device)
    tables = [BlockTable(list(range(one, num_blocks, 2))) for one in range(2)]
    for first, length in ((37, 5), (5 * SPLIT_KEYS - 9, 5), (3, MOST_ROWS)):
        spans = [Span(tables[0], 0, 1, first), Span(tables[1], 1, length, first)]
        qkv = torch.randn(1 + length, heads.width, generator=generator).to(dtype).to(device)
        found = TritonPaged([pool], block_size, heads, False).plan(spans)(0, qkv, None)
        wanted = TorchPaged([pool], block_size, heads, False).plan(spans)(0, qkv, None)
        worst = max(worst, float((found.float() - wanted.float()).abs().max().nan_to_num(float("inf"))))
    return worst
