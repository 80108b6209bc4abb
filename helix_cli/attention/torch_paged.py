"""Paged attention in plain torch: the reference, on every device.

K/V are written by slot and read by block table. A table that is one run of blocks is read as a view of the pool; any
other is gathered block by block. Query heads that share K/V heads are folded into rows, so K/V are never repeated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from helix_cli.model.batch import Batch, Span


@dataclass(frozen=True)
class Heads:
    """Head counts of one model."""

    num_heads: int
    num_kv_heads: int
    head_dim: int

    @property
    def group(self) -> int:
        """Query heads that share one K/V head."""
        return self.num_heads // self.num_kv_heads


class TorchPaged:
    """The kernel for one forward pass; masks are made once and shared by all layers."""

    def __init__(self, batch: Batch, heads: Heads, block_size: int, fused: bool, dtype: torch.dtype) -> None:
        self.batch = batch
        self.heads = heads
        self.block_size = block_size
        self.fused = fused
        self.dtype = dtype
        self._masks: dict[int | None, list[Tensor | None]] = {}

    def write(self, layer: Tensor, keys_values: Tensor) -> None:
        """Stores K/V [T, 2, Hkv, d] into one layer of the pool [2, Hkv, slots, d]."""
        layer[:, :, self.batch.slots] = keys_values.permute(1, 2, 0, 3)

    def read(self, layer: Tensor, queries: Tensor, window: int | None) -> Tensor:
        """Attention of queries [T, H, d] over their sequences: [T, H * d]. `window` is the positions a token sees."""
        masks = self._masks_for(window, queries.device)
        parts = [
            self._attend(layer, queries[span.start : span.stop], span, mask)
            for span, mask in zip(self.batch.spans, masks, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _attend(self, layer: Tensor, queries: Tensor, span: Span, mask: Tensor | None) -> Tensor:
        heads, count = self.heads, queries.shape[0]
        keys, values = self._keys_values(layer, span)
        # [T, Hkv * G, d] -> [Hkv, G * T, d]
        folded = queries.view(count, heads.num_kv_heads, heads.group, heads.head_dim).permute(1, 2, 0, 3)
        folded = folded.reshape(heads.num_kv_heads, heads.group * count, heads.head_dim)
        if self.fused:
            out = functional.scaled_dot_product_attention(
                folded.unsqueeze(0), keys.unsqueeze(0), values.unsqueeze(0), attn_mask=mask
            ).squeeze(0)
        else:
            scores = folded @ keys.transpose(-1, -2) * (1.0 / math.sqrt(heads.head_dim))
            if mask is not None:
                scores = scores + mask
            out = torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype) @ values
        out = out.view(heads.num_kv_heads, heads.group, count, heads.head_dim).permute(2, 0, 1, 3)
        return out.reshape(count, heads.num_heads * heads.head_dim)

    def _keys_values(self, layer: Tensor, span: Span) -> tuple[Tensor, Tensor]:
        """Keys and values [Hkv, length, d] of one sequence."""
        if span.blocks is None:
            view = layer[:, :, span.base : span.base + span.length]
            return view[0], view[1]
        blocks = layer.unflatten(2, (-1, self.block_size))[:, :, span.blocks]
        gathered = blocks.flatten(2, 3)[:, :, : span.length]
        return gathered[0], gathered[1]

    def _masks_for(self, window: int | None, device: torch.device) -> list[Tensor | None]:
        if window not in self._masks:
            self._masks[window] = [self._mask(span, window, device) for span in self.batch.spans]
        return self._masks[window]

    def _mask(self, span: Span, window: int | None, device: torch.device) -> Tensor | None:
        """What each query row [G * T, length] may not see, as -inf to add; None when it sees everything."""
        count = span.stop - span.start
        if count == 1 and (window is None or span.length <= window):
            return None
        positions = torch.arange(span.first, span.length, device=device).unsqueeze(1)
        keys = torch.arange(span.length, device=device).unsqueeze(0)
        hidden = keys > positions
        if window is not None:
            hidden = hidden | (keys <= positions - window)
        mask = torch.zeros(hidden.shape, dtype=self.dtype, device=device).masked_fill(hidden, float("-inf"))
        return mask.repeat(self.heads.group, 1)
