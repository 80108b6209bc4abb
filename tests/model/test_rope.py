"""Rotations in sorted heads are those of transformers in the checkpoint's order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.phi3.modeling_phi3 import apply_rotary_pos_emb

from helix_cli.model.rope import ComplexRotation, RealRotation, RotaryTable, head_order


def table(rotary_dim: int = 8, head_dim: int = 8, magnitude: float = 1.0, is_complex: bool = True) -> RotaryTable:
    frequencies = 1.0 / 100.0 ** (torch.arange(0, rotary_dim, 2) / rotary_dim)
    made = RotaryTable(frequencies, magnitude, head_dim, torch.float32, torch.device("cpu"))
    if not is_complex:
        made._complex = False
        made._tables = made._make(8)
    return made


@pytest.mark.parametrize("is_complex", [True, False])
@pytest.mark.parametrize("rotary_dim", [4, 8])
@pytest.mark.parametrize("positions", [[5], [0, 1, 2], [7, 8, 9], [3, 0, 700, 3]], ids=str)
def test_like_transformers(positions: list[int], rotary_dim: int, is_complex: bool) -> None:
    found_table = table(rotary_dim, magnitude=1.5, is_complex=is_complex)
    heads = torch.randn(len(positions), 3, 8, generator=torch.Generator().manual_seed(0))
    angles = torch.tensor(positions).float().outer(1.0 / 100.0 ** (torch.arange(0, rotary_dim, 2) / rotary_dim))
    angles = torch.cat([angles, angles], -1)
    rotate: Any = apply_rotary_pos_emb
    wanted, _ = rotate(heads, heads, angles.cos() * 1.5, angles.sin() * 1.5)

    order = torch.tensor(head_order(8, rotary_dim))
    wide = torch.zeros(len(positions), 5, 8)  # the heads are a part of a wider tensor, as in the decoder
    found = wide.narrow(1, 1, 3)
    found.copy_(heads[..., order])
    rotation = found_table.pick(positions)
    assert isinstance(rotation, ComplexRotation if is_complex else RealRotation)
    rotation(found)
    torch.testing.assert_close(found, wanted[..., order], atol=1e-4, rtol=1e-4)
    assert wide[:, 0].abs().sum() == 0 and wide[:, 4].abs().sum() == 0


def test_a_run_is_a_pick_of_neighbours() -> None:
    for is_complex in (True, False):
        one, other = torch.ones(4, 1, 8), torch.ones(4, 1, 8)
        table(is_complex=is_complex).run(1000, 4)(one)
        table(is_complex=is_complex).pick([1000, 1001, 1002, 1003])(other)
        assert torch.equal(one, other)


def test_every_dimension_is_somewhere_in_a_sorted_head() -> None:
    assert head_order(8, 8) == [0, 4, 1, 5, 2, 6, 3, 7]
    assert head_order(8, 4) == [0, 2, 1, 3, 4, 5, 6, 7]
