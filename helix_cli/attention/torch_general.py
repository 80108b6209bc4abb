"""Paged attention in plain torch for layers that differ: any widths, scale, window, soft cap, and sinks.

The models that run through transformers' modules hand over queries, keys and values one by one, each layer in a form of
its own. What is read, and how heads that share K/V are served, is as in attention/torch_paged.py. Every operation used
has a kernel on every device, DirectML's short list included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from helix_cli.attention.kernel import Span
from helix_cli.attention.masks import Masks
from helix_cli.attention.torch_paged import FOLDED_TOKENS
from helix_cli.cache.paged import KVShape
from helix_cli.cache.table import is_run


@dataclass(frozen=True)
class Form:
    """What one layer's attention is, beside its shapes."""

    scale: float
    """Queries are multiplied by it."""
    window: int | None = None
    """Positions that a token sees, itself included; None sees all."""
    softcap: float | None = None
    """Scores are squeezed to within it, by tanh."""
    sinks: Tensor | None = None
    """[H]: a score for each head that takes its share of the attention and gives nothing."""


@dataclass(frozen=True)
class _Read:
    """`count` keys for one span's tokens: from slot `begin` of the pool, or of the gathered `blocks`."""

    span: Span
    begin: int
    count: int
    blocks: Tensor | None


class GeneralPaged:
    """Bound to the pool of one model, whose layers have these shapes. `fused` as for `AttentionKernel`."""

    def __init__(self, layers: list[Tensor], shapes: Sequence[KVShape], block_size: int, fused: bool) -> None:
        self.block_size = block_size
        self.fused = fused
        self.dtype, self.device = layers[0].dtype, layers[0].device
        self.sides = [shape.views(layer) for shape, layer in zip(shapes, layers, strict=True)]
        # Without the fused kernel a mask is added to scores, which are float32.
        self.masks = Masks(self.dtype if fused else torch.float32, self.device)

    def plan(self, spans: Sequence[Span]) -> GeneralPlan:
        """Prepares one forward pass over `spans`, which lie one behind the other in the batch."""
        return GeneralPlan(self, spans)


class GeneralPlan:
    """One forward pass. What a window's reads need is made when its first layer asks, for all layers."""

    def __init__(self, kernel: GeneralPaged, spans: Sequence[Span]) -> None:
        self._kernel = kernel
        self._spans = spans
        self._reads: dict[int | None, list[_Read]] = {}
        slots = [
            slot for one in spans for slot in one.table.slots(one.first, one.first + one.length, kernel.block_size)
        ]
        self._slots = slots[0] if is_run(slots) else torch.tensor(slots, device=kernel.device)

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, form: Form) -> Tensor:
        """Writes the tokens' K/V [Hkv, T, d] into the pool, then attends: queries [H, T, key_dim] -> [T, H, value_dim].

        A token sees its sequence's positions up to its own, as far as the form's window lets it.
        """
        for side, fed in zip(self._kernel.sides[layer], (keys, values), strict=True):
            self._write(side, fed)
        reads = self._reads.get(form.window)
        if reads is None:
            reads = self._reads[form.window] = [self._plan_read(span, form.window) for span in self._spans]
        parts = [
            self._attend(layer, queries.narrow(1, read.span.start, read.span.length), read, form) for read in reads
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _write(self, side: Tensor, fed: Tensor) -> None:
        if isinstance(self._slots, int):
            side.narrow(1, self._slots, fed.shape[1]).copy_(fed)
        else:
            side[:, self._slots] = fed.to(side.dtype)

    def _plan_read(self, span: Span, window: int | None) -> _Read:
        size, table = self._kernel.block_size, span.table
        low = 0 if window is None else max(0, span.first - window + 1)
        stop = span.first + span.length
        if table.contiguous:
            return _Read(span, table.slot(low, size), stop - low, None)
        ids = table.blocks[low // size : (stop - 1) // size + 1]
        return _Read(span, low % size, stop - low, torch.tensor(ids, device=self._kernel.device))

    def _attend(self, layer: int, queries: Tensor, read: _Read, form: Form) -> Tensor:
        """Attention of one span, [H, length, key_dim] -> [length, H, value_dim]."""
        keys, values = (self._gather(side, read) for side in self._kernel.sides[layer])
        num_heads, length, _ = queries.shape
        group = num_heads // keys.shape[0]
        folded = length <= FOLDED_TOKENS
        mask = self._mask(length, read.count - length, form.window, group if folded else 1)
        causal = mask is None and length > 1
        queries = queries.to(keys.dtype).reshape(keys.shape[0], group, length, -1)
        sinks = None if form.sinks is None else form.sinks.view(keys.shape[0], group, 1, 1).expand(-1, -1, length, 1)
        if folded:
            # The group's heads one under the other, as rows of one product that reads K/V once.
            queries, keys, values = queries.flatten(1, 2)[None], keys[None], values[None]
            sinks = None if sinks is None else sinks.flatten(1, 2)[None]
        else:
            keys, values = (side.unsqueeze(1).expand(-1, group, -1, -1) for side in (keys, values))
        out = attention(queries, keys, values, mask, causal, form, sinks, self._kernel.fused)
        return out.reshape(num_heads, length, -1).transpose(0, 1)

    def _mask(self, length: int, before: int, window: int | None, copies: int) -> Tensor | None:
        """The mask for `length` tokens after `before` keys; None where all are seen, or a plain causal one does."""
        if window is not None and before + length <= window:
            window = None
        if length == 1 or (length > FOLDED_TOKENS and before == 0 and window is None):
            return None
        return self._kernel.masks.get(length, before, window, copies)

    def _gather(self, side: Tensor, read: _Read) -> Tensor:
        """Keys or values [Hkv, count, d] of one read."""
        if read.blocks is not None:
            heads, slots, width = side.shape
            blocks = side.view(heads, slots // self._kernel.block_size, self._kernel.block_size, width)
            side = blocks.index_select(1, read.blocks).flatten(1, 2)
        return side.narrow(1, read.begin, read.count)


def attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    causal: bool,
    form: Form,
    sinks: Tensor | None,
    fused: bool,
) -> Tensor:
    """[..., T, key_dim] over [..., count, key_dim] and [..., count, value_dim]; `sinks` [..., T, 1].

    `mask` is added to the scores; `causal` stands for the one of tokens with nothing before them.
    """
    if fused and form.softcap is None and sinks is None:
        return scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal, scale=form.scale)
    # Scaled before the product: a float16 product of large queries and keys overflows.
    scores = torch.matmul(queries * form.scale, keys.transpose(-2, -1)).float()
    if form.softcap is not None:
        scores = torch.tanh(scores / form.softcap) * form.softcap
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(hidden, float("-inf"))
    elif mask is not None:
        scores = scores + mask
    if sinks is not None:
        scores = torch.cat([scores, sinks.float()], -1)
    shares = torch.softmax(scores, -1).narrow(-1, 0, keys.shape[-2])
    return torch.matmul(shares.to(values.dtype), values)
