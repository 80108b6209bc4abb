"""Additive attention masks: causal among the fed tokens, and cut to a sliding window."""

from __future__ import annotations

import torch
from torch import Tensor

KEPT_TOKENS = 16
"""Only masks of decode windows are kept: a prefill chunk can have any length, and a mask for each would be too many."""
KEPT_ELEMENTS = 1 << 20
"""Masks up to this size are kept between steps; larger ones belong to long prefill chunks and would fill the memory."""


class Masks:
    """Makes and keeps masks of one number type on one device.

    The mask of a decode window moves along with the sequence without changing its shape's right end, so one kept mask
    per number of tokens serves every step as a view.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self._device = device
        self._kept: dict[tuple[int, int, int | None], Tensor] = {}

    def get(self, length: int, before: int, window: int | None, copies: int = 1) -> Tensor:
        """[copies * length, before + length]: 0 where token i (position `before` + i) sees key j, else -inf.

        `before` counts the keys that precede the fed tokens; with a window those it hides from all tokens may be left
        out. The rows are repeated `copies` times as a whole.
        """
        columns = before + length
        if length > KEPT_TOKENS or copies * length * columns > KEPT_ELEMENTS:
            return self._make(length, before, window, copies)
        key = (length, copies, window)
        kept = self._kept.get(key)
        if kept is None or kept.shape[1] < columns:
            reach = max(before, window - 1) if window is not None else 1 << max(8, before.bit_length())
            if copies * length * (reach + length) > KEPT_ELEMENTS:
                return self._make(length, before, window, copies)
            kept = self._kept[key] = self._make(length, reach, window, copies)
        return kept[:, kept.shape[1] - columns :]

    def _make(self, length: int, before: int, window: int | None, copies: int) -> Tensor:
        # Positions fit 32 bits, and not every GPU computes with 64.
        queries = torch.arange(before, before + length, dtype=torch.int32, device=self._device).unsqueeze(1)
        keys = torch.arange(before + length, dtype=torch.int32, device=self._device)
        hidden = keys > queries
        if window is not None:
            hidden |= keys <= queries - window
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=self._device).masked_fill_(hidden, float("-inf"))
        return mask if copies == 1 else mask.repeat(copies, 1)
