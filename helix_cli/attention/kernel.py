"""What a paged attention kernel is given and what it must do; a new kernel is one class and one line in KERNELS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from helix_cli.cache.table import BlockTable


@dataclass(frozen=True)
class Heads:
    """Head counts of one model; `num_heads` queries share `num_kv_heads` keys and values."""

    num_heads: int
    num_kv_heads: int
    head_dim: int

    @property
    def group(self) -> int:
        """Query heads that share one K/V head."""
        return self.num_heads // self.num_kv_heads

    @property
    def query_width(self) -> int:
        """Columns of all queries of a token."""
        return self.num_heads * self.head_dim

    @property
    def width(self) -> int:
        """Columns of a token's queries, keys and values together."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim


@dataclass(frozen=True)
class Span:
    """One sequence's part of a flat batch: tokens `start` to `start + length` - 1, at positions from `first` on.

    The table owns blocks for all of them, and everything before `first` is in the pool already.
    """

    table: BlockTable
    start: int
    length: int
    first: int


class Attend(Protocol):
    """Attention bound to a pool and to the spans of one forward pass; what they share is worked out once."""

    def __call__(self, layer: int, qkv: Tensor, window: int | None) -> Tensor:
        """Writes the tokens' K/V into the pool, then attends over it: [T, heads.width] -> [T, heads.query_width].

        `qkv` holds the queries of all heads, then the keys, then the values, rotated already. A token sees its
        sequence's positions up to its own, and only the last `window` of those unless that is None.
        """
        ...


class AttentionKernel(Protocol):
    """A kernel bound to the pool of one model; `layers[i]` is [2, Hkv, slots, d] with keys at 0 and values at 1.

    `fused`: `scaled_dot_product_attention` is one kernel on this device.
    """

    def __init__(self, layers: list[Tensor], block_size: int, heads: Heads, fused: bool) -> None: ...

    def plan(self, spans: Sequence[Span]) -> Attend:
        """Prepares one forward pass over `spans`, which lie one behind the other in the batch."""
        ...
