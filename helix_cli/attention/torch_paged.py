"""Paged attention in plain torch: the reference, on every device.

K/V are written by slot. A table that is one run of blocks is read as a view of the pool, with no copy; any other is
gathered, whole blocks at a time. Keys that a sliding window hides from every fed token are not read at all, so that a
single token never needs a mask.

Query heads that share K/V are never served by repeating K/V. A few tokens are folded, the group's heads one under the
other as rows of one product, which reads K/V once: on two AVX2 cores 5 tokens take 138 us instead of 170 over 1000 keys
and 373 instead of 475 over 4000 (2 groups of 2 heads of 64; no difference over 100 keys). Many tokens keep their heads
and see K/V expanded with stride 0, which needs no copy of the mask for each head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from helix_cli.attention.kernel import Heads, Span
from helix_cli.attention.masks import Masks
from helix_cli.cache.table import is_run

FOLDED_TOKENS = 16
"""Spans up to this length are folded."""


@dataclass(frozen=True)
class Read:
    """`count` keys, from slot `begin` of the pool or of the gathered `blocks`, for some tokens that lie side by side.

    `mask` is None where every token sees all keys, or, with `causal`, all up to its own.
    """

    start: int
    length: int
    begin: int
    count: int
    blocks: Tensor | None
    mask: Tensor | None
    causal: bool


class TorchPaged:
    """See `AttentionKernel`."""

    def __init__(self, layers: list[Tensor], block_size: int, heads: Heads, fused: bool) -> None:
        self.num_slots = layers[0].shape[2]
        shape = (2, heads.num_kv_heads, self.num_slots // block_size, block_size * heads.head_dim)
        self.layers = layers
        self.blocks = [layer.view(shape) for layer in layers]
        self.keys_values = [layer.unsqueeze(1).unbind(0) for layer in layers]
        self.block_size = block_size
        self.heads = heads
        self.fused = fused
        self.attention = fused_attention if fused else plain_attention
        self.device = layers[0].device
        # A mask has the number type of what it is added to: devices differ in how they take two.
        self.masks = Masks(layers[0].dtype if fused else torch.float32, self.device)

    def plan(self, spans: Sequence[Span]) -> TorchPlan:
        return TorchPlan(self, spans)


class TorchPlan:
    """One forward pass; see `Attend`. What a window's reads need is made when its first layer asks, for all layers."""

    def __init__(self, kernel: TorchPaged, spans: Sequence[Span]) -> None:
        self._kernel = kernel
        self._spans = spans
        self._reads: dict[int | None, list[Read]] = {}
        self._slots = self._find_slots()

    def __call__(self, layer: int, qkv: Tensor, window: int | None) -> Tensor:
        self._write(layer, qkv)
        reads = self._reads.get(window)
        if reads is None:
            reads = self._reads[window] = [read for span in self._spans for read in self._plan_reads(span, window)]
        if len(reads) == 1:
            return self._attend(layer, qkv, reads[0])
        return torch.cat([self._attend(layer, qkv.narrow(0, read.start, read.length), read) for read in reads])

    def _find_slots(self) -> int | Tensor:
        """The first slot where the fed tokens' slots are one run of the pool, else the slot of each."""
        size = self._kernel.block_size
        if len(self._spans) == 1 and (self._spans[0].length == 1 or self._spans[0].table.contiguous):
            return self._spans[0].table.slot(self._spans[0].first, size)
        slots: list[int] = []
        for span in self._spans:
            slots += span.table.slots(span.first, span.first + span.length, size)
        return slots[0] if is_run(slots) else torch.tensor(slots, device=self._kernel.device)

    def _write(self, layer: int, qkv: Tensor) -> None:
        heads, pool = self._kernel.heads, self._kernel.layers[layer]
        count = qkv.shape[0]
        written = qkv.narrow(1, heads.query_width, heads.width - heads.query_width)
        written = written.view(count, 2, heads.num_kv_heads, heads.head_dim).permute(1, 2, 0, 3)
        if isinstance(self._slots, int):
            pool.narrow(2, self._slots, count).copy_(written)
        else:
            pool[:, :, self._slots] = written

    def _plan_reads(self, span: Span, window: int | None) -> list[Read]:
        """What the span's tokens read, in their order."""
        size, table = self._kernel.block_size, span.table
        low = 0 if window is None else max(0, span.first - window + 1)
        stop = span.first + span.length
        if table.contiguous:
            begin, blocks = table.slot(low, size), None
        else:
            begin = low % size
            ids = table.blocks[low // size : (stop - 1) // size + 1]
            blocks = torch.tensor(ids, device=self._kernel.device)
        mask, causal = self._see(span.length, span.first - low, window)
        return [Read(span.start, span.length, begin, stop - low, blocks, mask, causal)]

    def _see(self, length: int, before: int, window: int | None) -> tuple[Tensor | None, bool]:
        """The mask for `length` tokens after `before` keys, or that a plain causal one does."""
        if length == 1:
            return None, False
        if window is not None and before + length <= window:
            window = None
        if length > FOLDED_TOKENS:
            if before == 0 and window is None and self._kernel.fused:
                return None, True
            return self._kernel.masks.get(length, before, window), False
        return self._kernel.masks.get(length, before, window, self._kernel.heads.group), False

    def _attend(self, layer: int, qkv: Tensor, read: Read) -> Tensor:
        """Attention of one read's tokens, [length, heads.width] -> [length, heads.query_width]."""
        heads, length, count = self._kernel.heads, read.length, read.count
        kv_heads, group, head_dim = heads.num_kv_heads, heads.group, heads.head_dim
        queries = qkv.narrow(1, 0, heads.query_width)
        keys, values = self._keys_values(layer, read)
        attention = self._kernel.attention
        if length == 1:
            out = attention(queries.view(1, kv_heads, group, head_dim), keys, values, None, False)
            return out.reshape(1, heads.query_width)
        # [T, Hkv, G, d] -> [Hkv, G, T, d]
        queries = queries.view(length, kv_heads, group, head_dim).permute(1, 2, 0, 3)
        if length <= FOLDED_TOKENS:
            folded = queries.reshape(1, kv_heads, group * length, head_dim)
            out = attention(folded, keys, values, read.mask, False).view(kv_heads, group, length, head_dim)
        else:
            shape = (kv_heads, group, count, head_dim)
            keys, values = keys.transpose(0, 1).expand(shape), values.transpose(0, 1).expand(shape)
            out = attention(queries, keys, values, read.mask, read.causal)
        return out.permute(2, 0, 1, 3).reshape(length, heads.query_width)

    def _keys_values(self, layer: int, read: Read) -> tuple[Tensor, Tensor]:
        """Keys and values [1, Hkv, count, d] of one read."""
        if read.blocks is None:
            keys, values = self._kernel.keys_values[layer]
        else:
            heads = self._kernel.heads
            gathered = self._kernel.blocks[layer].index_select(2, read.blocks)
            keys, values = gathered.view(2, 1, heads.num_kv_heads, -1, heads.head_dim).unbind(0)
        return keys.narrow(2, read.begin, read.count), values.narrow(2, read.begin, read.count)


def fused_attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Attention of [B, H, T, d] over [B, H, count, d] in one kernel."""
    return scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal)


def plain_attention(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """The same as a chain of products, for devices without the kernel; the softmax is taken in float32.

    Always with a mask where one is needed: `causal` is for the kernel, which needs none.
    """
    assert not causal
    # Scaled before the product: a float16 product of large queries and keys overflows.
    scores = torch.matmul(queries * queries.shape[-1] ** -0.5, keys.transpose(-2, -1)).float()
    if mask is not None:
        scores = scores + mask
    return torch.matmul(torch.softmax(scores, -1).to(values.dtype), values)
