"""The shared arithmetic at its corners."""

from __future__ import annotations

import pytest
import torch

from helix_cli.core import Draft
from helix_cli.verify.law import acceptance, drafted_probabilities, excess, residual


@pytest.mark.parametrize(
    ("p", "q", "chance"),
    [
        (0.2, 0.8, 0.25),
        (0.8, 0.2, 1.0),
        (0.5, 0.5, 1.0),
        (0.0, 0.5, 0.0),
        (0.0, 0.0, 0.0),
        (0.1, 0.0, 1.0),
        (0.3, 1.0, 0.3),
    ],
)
def test_acceptance(p: float, q: float, chance: float) -> None:
    assert acceptance(p, q) == chance


def test_a_point_mass_is_its_own_one_hot_law() -> None:
    p, tokens = torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.25, 0.75]]), torch.tensor([1, 2])
    certain, one_hot = Draft(tokens, 2), Draft(tokens, 2, torch.nn.functional.one_hot(tokens, 3).float())
    assert drafted_probabilities(p, certain) == drafted_probabilities(p, one_hot) == [(0.25, 1.0), (0.75, 1.0)]
    for rows in (0, 1, slice(None), slice(1, 2)):
        assert torch.equal(excess(p[rows], certain, rows), excess(p[rows], one_hot, rows))


def test_when_rounding_leaves_no_residual_the_target_is_drawn_from() -> None:
    p = torch.tensor([0.5, 0.5])
    assert torch.equal(residual(torch.zeros(2), p), p)
    assert residual(torch.tensor([0.0, 1e-9]), p).tolist() == pytest.approx([0.0, 1e-9])
