"""Applies rotary position embeddings to queries and keys in place.

A rotation turns pairs of dimensions, i and i + rotary_dim / 2 in the order of the checkpoints. Attention does not care
for the order of a head's dimensions as long as queries and keys share it, so the loader sorts the rows of their
projections (`head_order`) such that the pairs, and the dimensions that are not rotated, suit the kernel here: each pair
side by side, which is one complex number. Values keep their order.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from helix_cli.native.pointwise import open_pointwise

FIRST_ROWS = 512


def head_order(head_dim: int, rotary_dim: int) -> list[int]:
    """Which of the checkpoint's dimensions is at each place of a sorted head: pairs side by side, the rest behind."""
    half = rotary_dim // 2
    pairs = [dimension for first in range(half) for dimension in (first, first + half)]
    return pairs + list(range(rotary_dim, head_dim))


class Rotation(Protocol):
    """The rotations of the T tokens of one forward pass."""

    def __call__(self, heads: Tensor) -> None:
        """Rotates [T, H, head_dim] in place."""
        ...


class ComplexRotation:
    """One complex product, for float32 on the CPU: half the time of three operations on real numbers, in C a tenth."""

    def __init__(self, turns: Tensor) -> None:
        self._turns = turns
        """Complex [T, 1, head_dim / 2]."""
        self._compiled = open_pointwise()

    def __call__(self, heads: Tensor) -> None:
        tokens, num_heads, head_dim = heads.shape
        if self._compiled is not None and heads.stride(1) == head_dim:
            self._compiled.rotate(heads, self._turns)
            return
        torch.view_as_complex(heads.view(tokens, num_heads, head_dim // 2, 2)).mul_(self._turns)


class RealRotation:
    """x * cos + swap(x) * signed sin, for every number type and device."""

    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        self._cos = cos
        self._sin = sin
        """[T, 1, head_dim]; the sine of the first of a pair is negative."""

    def __call__(self, heads: Tensor) -> None:
        tokens, num_heads, head_dim = heads.shape
        swapped = heads.view(tokens, num_heads, head_dim // 2, 2).flip(-1).flatten(-2)
        heads.mul_(self._cos).addcmul_(swapped, self._sin)


class RotaryTable:
    """Cosines and sines of every position, in the model's number type as transformers has them; grows as needed."""

    def __init__(
        self, frequencies: Tensor, magnitude: float, head_dim: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """`frequencies` [rotary_dim / 2] are those of the pairs in turn; `magnitude` scales what is rotated."""
        self._frequencies = frequencies
        self._magnitude = magnitude
        self._num_still = head_dim // 2 - len(frequencies)
        self._dtype = dtype
        self._device = device
        self._complex = dtype == torch.float32 and torch.zeros((), device=device).is_cpu
        self._tables = self._make(FIRST_ROWS)
        # Passes that were recorded still read them; together they are no larger than the table that followed.
        self._outgrown: list[Tensor] = []

    def run(self, first: int, count: int) -> Rotation:
        """For `count` positions from `first` on; a view of the table."""
        self.reach(first + count)
        return self._rotation([table.narrow(0, first, count) for table in self._tables])

    def pick(self, positions: list[int]) -> Rotation:
        """For any positions."""
        self.reach(max(positions, default=0) + 1)
        return self.at(torch.tensor(positions, device=self._device))

    def at(self, positions: Tensor) -> Rotation:
        """For positions [T] on the device, all of which the table has been made to reach."""
        return self._rotation([table.index_select(0, positions) for table in self._tables])

    def _rotation(self, rows: list[Tensor]) -> Rotation:
        return ComplexRotation(rows[0]) if self._complex else RealRotation(*rows)

    def reach(self, length: int) -> None:
        """Makes the table hold the positions below `length`; where it does already, it stays where it is."""
        if length > len(self._tables[0]):
            self._outgrown += self._tables
            self._tables = self._make(1 << (length - 1).bit_length())

    def _make(self, length: int) -> list[Tensor]:
        angles = torch.arange(length).float().outer(self._frequencies)
        still = (0, self._num_still)
        cos = torch.nn.functional.pad(angles.cos() * self._magnitude, still, value=1.0).unsqueeze(1)
        sin = torch.nn.functional.pad(angles.sin() * self._magnitude, still, value=0.0).unsqueeze(1)
        if self._complex:
            return [torch.complex(cos, sin)]
        twice = [cos.repeat_interleave(2, -1), torch.stack([-sin, sin], -1).flatten(-2)]
        return [table.to(self._dtype).to(self._device) for table in twice]
