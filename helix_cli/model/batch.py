"""Rows of different lengths as one flat batch: token ids, positions, and what attention needs to know of each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from helix_cli.cache.paged import PagedKVCache
from helix_cli.core import Row


@dataclass(frozen=True)
class Span:
    """One row of the batch: tokens `start` to `stop` of it, at positions from `first` on.

    Its sequence occupies `slots` (a slice where the table is one run, else the slot of every position fed), and all its
    positions so far are read from `blocks` (None where they are the slice of the pool that begins at `base`).
    """

    start: int
    stop: int
    first: int
    base: int
    blocks: Tensor | None

    @property
    def length(self) -> int:
        """Positions that the row's last token sees."""
        return self.first + self.stop - self.start


@dataclass(frozen=True)
class Batch:
    """A ragged forward pass over T tokens."""

    tokens: Tensor
    """int64 [T]."""
    positions: Tensor
    """int64 [T]."""
    slots: Tensor | slice
    """Where the K/V of each token go: int64 [T], or one slice of the pool."""
    wanted: Tensor | slice
    """Which of the T tokens' logits are asked for."""
    spans: tuple[Span, ...]


def build_batch(rows: Sequence[Row], cache: PagedKVCache, device: torch.device) -> Batch:
    """Flattens rows; each row's table must own blocks for all positions it feeds."""
    spans: list[Span] = []
    positions: list[int] = []
    wanted: list[int] = []
    start = 0
    for row in rows:
        first, length = row.table.num_computed, row.length
        positions.extend(range(first, first + length))
        wanted.extend(range(start + length - row.num_logits, start + length))
        spans.append(_span(row, start, cache, device))
        start += length
    return Batch(
        tokens=_tokens(rows, device),
        positions=torch.tensor(positions, device=device),
        slots=_slots(rows, cache, device),
        wanted=slice(0, start) if len(wanted) == start else torch.tensor(wanted, dtype=torch.long, device=device),
        spans=tuple(spans),
    )


def _span(row: Row, start: int, cache: PagedKVCache, device: torch.device) -> Span:
    first, table = row.table.num_computed, row.table
    base = table.blocks[0] * cache.block_size
    if table.contiguous:
        return Span(start, start + row.length, first, base, None)
    num_blocks = -(-(first + row.length) // cache.block_size)
    return Span(start, start + row.length, first, base, torch.tensor(table.blocks[:num_blocks], device=device))


def _tokens(rows: Sequence[Row], device: torch.device) -> Tensor:
    """All token ids [T]; drafted ones may already live on the device and are not fetched."""
    parts: list[Tensor] = []
    plain: list[int] = []
    for row in rows:
        plain.extend(row.tokens)
        if row.draft is not None and row.draft.length:
            parts += [torch.tensor(plain, dtype=torch.long, device=device), row.draft.tokens.to(device)]
            plain = []
    if not parts:
        return torch.tensor(plain, dtype=torch.long, device=device)
    return torch.cat([*parts, torch.tensor(plain, dtype=torch.long, device=device)])


def _slots(rows: Sequence[Row], cache: PagedKVCache, device: torch.device) -> Tensor | slice:
    if len(rows) == 1 and rows[0].table.contiguous:
        first = rows[0].table.slot(rows[0].table.num_computed, cache.block_size)
        return slice(first, first + rows[0].length)
    slots: list[int] = []
    for row in rows:
        first = row.table.num_computed
        slots += row.table.slots(first, first + row.length, cache.block_size)
    return torch.tensor(slots, device=device)
