"""Rows of different lengths as one flat batch: token ids, spans for attention, positions, and the logits wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from helix_cli.attention import Span
from helix_cli.core import Row
from helix_cli.model.rope import RotaryTable, Rotation


@dataclass(frozen=True)
class Batch:
    """T tokens of one or more sequences, those of a row side by side."""

    tokens: Tensor
    """int64 [T], on the device."""
    spans: tuple[Span, ...]
    """Where each row lies."""
    wanted: Tensor | slice | None
    """Which tokens' logits are asked for, in order; None for all."""

    def rotation(self, table: RotaryTable) -> Rotation:
        """The rotary embedding of every token."""
        if len(self.spans) == 1:
            return table.run(self.spans[0].first, self.spans[0].length)
        return table.pick([span.first + offset for span in self.spans for offset in range(span.length)])

    def select(self, x: Tensor) -> Tensor:
        """The rows of `x` [T, ...] whose logits are asked for: [R, ...]."""
        return x if self.wanted is None else x[self.wanted]


def build_batch(rows: Sequence[Row], device: torch.device) -> Batch:
    """Flattens rows. Drafted tokens that live on the device are not copied to the host."""
    spans: list[Span] = []
    wanted: list[int] = []
    start = 0
    for row in rows:
        length = row.length
        spans.append(Span(row.table, start, length, row.table.num_computed))
        start += length
        wanted += range(start - row.num_logits, start)
    return Batch(_tokens(rows, device), tuple(spans), selection(wanted, start, device))


def _tokens(rows: Sequence[Row], device: torch.device) -> Tensor:
    """Ids of all rows; tokens known to the host are collected, so that each stretch of them is one copy."""
    parts: list[Tensor] = []
    known: list[int] = []
    for row in rows:
        known += row.tokens
        if row.draft is not None and row.draft.length:
            parts.append(torch.tensor(known, dtype=torch.int64).to(device))
            parts.append(row.draft.tokens.to(device=device, dtype=torch.int64))
            known = []
    if known or not parts:
        parts.append(torch.tensor(known, dtype=torch.int64).to(device))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def selection(wanted: list[int], total: int, device: torch.device) -> Tensor | slice | None:
    """What picks the ascending places `wanted` out of `total`; None for all."""
    if len(wanted) == total:
        return None
    if not wanted or wanted[-1] - wanted[0] + 1 == len(wanted):
        return slice(wanted[0], wanted[-1] + 1) if wanted else slice(0, 0)
    return torch.tensor(wanted, device=device)
