"""Masks are exact whether fresh, kept, grown or cut out of a larger one."""

from __future__ import annotations

import pytest
import torch

from helix_cli.attention import masks
from helix_cli.attention.masks import Masks


def wanted(length: int, before: int, window: int | None) -> torch.Tensor:
    mask = torch.full((length, before + length), float("-inf"))
    for token in range(length):
        for key in range(before + length):
            position = before + token
            if key <= position and (window is None or key > position - window):
                mask[token, key] = 0
    return mask


@pytest.mark.parametrize("kept", [1 << 20, 0])
@pytest.mark.parametrize("window", [None, 4, 7])
def test_every_place_in_a_sequence(monkeypatch: pytest.MonkeyPatch, window: int | None, kept: int) -> None:
    monkeypatch.setattr(masks, "KEPT_ELEMENTS", kept)
    made = Masks(torch.float32, torch.device("cpu"))
    for before in (0, 3, 1, 300, 2, 600) if window is None else (*range(window), window + 9, 2):
        for length in (2, 5, 9):
            assert torch.equal(made.get(length, before, window), wanted(length, before, window))
            copies = made.get(length, before, window, copies=3)
            assert torch.equal(copies, wanted(length, before, window).repeat(3, 1))


def test_a_small_mask_is_made_once() -> None:
    made = Masks(torch.float32, torch.device("cpu"))
    assert made.get(5, 100, None).untyped_storage().data_ptr() == made.get(5, 101, None).untyped_storage().data_ptr()


def test_large_masks_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "KEPT_ELEMENTS", 100)
    made = Masks(torch.float32, torch.device("cpu"))
    made.get(5, 100, None)
    assert not made._kept
