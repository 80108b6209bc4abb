"""The token and the block rule are exact: every draft, every verdict, in float64, from the functions the rules call."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from helix_cli.checks.enumeration import (
    AS_IT_IS,
    OUTCOMES,
    WARPS,
    Prefix,
    World,
    emitted,
    structured_worlds,
    total_variation,
)

STRUCTURED = structured_worlds()


def check(name: str, world: World, ends: Callable[[Prefix], bool] = lambda prefix: False) -> float:
    """Asserts exactness; returns the mean number of accepted tokens."""
    law, accepted = emitted(name, world, ends)
    assert total_variation(law, world.target_joint((), world.depth + 1)) < 1e-12
    return accepted


@pytest.mark.parametrize("name", OUTCOMES)
@pytest.mark.parametrize(("vocab", "depth"), [(2, 1), (2, 4), (3, 2), (3, 3), (4, 2), (4, 3)])
def test_exact_on_random_laws(name: str, vocab: int, depth: int) -> None:
    check(name, World(vocab, depth, seed=vocab * depth))


@pytest.mark.parametrize("name", OUTCOMES)
def test_exact_at_full_size(name: str) -> None:
    check(name, World(4, 4, seed=0))


@pytest.mark.parametrize("name", OUTCOMES)
@pytest.mark.parametrize("case", STRUCTURED)
def test_exact_on_structured_laws(name: str, case: str) -> None:
    check(name, STRUCTURED[case])


@pytest.mark.parametrize("name", OUTCOMES)
@pytest.mark.parametrize("warp", WARPS)
@pytest.mark.parametrize("both", [False, True], ids=["target only", "both"])
def test_exact_under_the_sampling_chain(name: str, warp: str, both: bool) -> None:
    draft_params = WARPS[warp] if both else AS_IT_IS
    check(name, World(3, 3, 11, target_params=WARPS[warp], draft_params=draft_params))


@pytest.mark.parametrize("name", OUTCOMES)
def test_exact_when_a_draft_ends_where_its_tokens_say(name: str) -> None:
    def ends(prefix: Prefix) -> bool:
        return prefix[-1:] == (0,) or prefix == (1, 2)

    check(name, World(3, 3, 12), ends)
    check(name, World(3, 3, 12), lambda prefix: True)  # no draft at all


@pytest.mark.parametrize("seed", range(3))
def test_block_accepts_at_least_as_many_tokens(seed: int) -> None:
    world = World(3, 3, seed)
    assert check("block", world) > check("token", world)


@pytest.mark.parametrize("case", STRUCTURED)
def test_block_accepts_no_fewer_on_structured_laws(case: str) -> None:
    assert emitted("block", STRUCTURED[case])[1] >= emitted("token", STRUCTURED[case])[1] - 1e-12


def test_the_papers_example() -> None:
    """Sun et al., section 2: p = (1/3, 2/3), q = (2/3, 1/3), two tokens: 10/9 against 11/9 accepted."""
    p, q = (
        torch.tensor([1 / 3, 2 / 3], dtype=torch.float64).log(),
        torch.tensor([2 / 3, 1 / 3], dtype=torch.float64).log(),
    )
    world = World(2, 2, 0, lambda *_: (p, q))
    assert check("token", world) == pytest.approx(10 / 9, abs=1e-12)
    assert check("block", world) == pytest.approx(11 / 9, abs=1e-12)


@pytest.mark.parametrize("name", OUTCOMES)
def test_equal_laws_accept_everything(name: str) -> None:
    assert check(name, STRUCTURED["equal"]) == pytest.approx(3.0, abs=1e-12)
