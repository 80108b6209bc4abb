"""Paged attention in C, for float32 on the CPU: one call a layer where torch needs ten, and every token by itself.

A token's bits depend on its own positions only, so the kernel serves exact mode as well; a table may be shuffled at no
cost. Without exact mode, many tokens are left to torch's flash attention, which shares its work among them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Final

import torch
from torch import Tensor

from helix_cli.attention.kernel import Attend, Heads, Span
from helix_cli.attention.torch_paged import TorchPaged
from helix_cli.native.compile import Function, open_function, pointer
from helix_cli.native.pointwise import vector_width

FEW_TOKENS: Final = 16
"""Up to so many tokens of a pass are attended to in C."""
TOKENS: Final = 4
"""Tokens that one thread takes together; as in attention.c."""
PADDED: Final = 16
"""Rows of scores are multiples of so many floats, the widest vector there is."""
_P, _N = ctypes.c_void_p, ctypes.c_long
ARGUMENTS = (_P, _P, _N, _N, _N, _N, _N, _N, _P, _N, _P, _P, _P, _N, ctypes.c_int)


class Compiled:
    """See `AttentionKernel`. Only where `can_run` says so."""

    most: int = FEW_TOKENS

    def __init__(self, layers: list[Tensor], block_size: int, heads: Heads, fused: bool) -> None:
        function = open_attention()
        assert function is not None, "can_run has asked"
        self.function = function
        self.layers, self.block_size, self.heads = layers, block_size, heads
        self.num_slots = layers[0].shape[2]
        self._many = TorchPaged(layers, block_size, heads, fused)

    def plan(self, spans: Sequence[Span]) -> Attend:
        return CompiledPlan(self, spans) if sum(span.length for span in spans) <= self.most else self._many.plan(spans)


class CompiledExact(Compiled):
    """The same for any number of tokens, so that a token's kernel does not depend on how many are fed beside it."""

    most = 1 << 62


class CompiledPlan:
    """One forward pass; see `Attend`."""

    def __init__(self, kernel: Compiled, spans: Sequence[Span]) -> None:
        self._kernel = kernel
        rows: list[int] = []
        tables: list[int] = []
        most = 0
        for span in spans:
            stop = span.first + span.length
            rows += (len(tables), span.start, span.length, span.first)
            tables += span.table.blocks[: -(-stop // kernel.block_size)]
            most = max(most, stop)
        self._num_spans = len(spans)
        self._spans = torch.tensor(rows, dtype=torch.int64)
        self._tables = torch.tensor(tables, dtype=torch.int32)
        self._stride = -(-most // PADDED) * PADDED
        self._threads = torch.get_num_threads()
        self._room = torch.empty(self._threads * TOKENS * kernel.heads.group * self._stride)

    def __call__(self, layer: int, qkv: Tensor, window: int | None) -> Tensor:
        kernel, heads = self._kernel, self._kernel.heads
        out = torch.empty(qkv.shape[0], heads.query_width)
        kernel.function(
            pointer(qkv),
            kernel.layers[layer].data_ptr(),
            heads.num_heads,
            heads.num_kv_heads,
            heads.head_dim,
            kernel.block_size,
            kernel.num_slots,
            window or 0,
            self._spans.data_ptr(),
            self._num_spans,
            self._tables.data_ptr(),
            out.data_ptr(),
            self._room.data_ptr(),
            self._stride,
            self._threads,
        )
        return out


def can_run(heads: Heads, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this kernel works for a model here."""
    is_cpu = torch.empty(0, device=device).is_cpu
    suits = is_cpu and dtype == torch.float32 and heads.head_dim % vector_width() == 0
    return suits and open_attention() is not None


@cache
def open_attention() -> Function | None:
    """The C function, if it can be compiled here."""
    return open_function("attention.c", "helix_attention", ARGUMENTS)
