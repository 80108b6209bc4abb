"""Every drafter x rule x batch x block size x preemption says what plain decoding says."""

import itertools
from typing import Any

import pytest

from helix_cli.draft import DRAFTERS
from helix_cli.verify import RULES
from tests.harness import build, requests

LENGTH = 24
# Enough for one sequence to finish, too little for all: sequences are preempted.
TIGHT, ROOMY = 18, 64
SETTINGS = [(1, (1, 64)), (4, (4, TIGHT)), (4, (4, ROOMY)), (1, (16, ROOMY))]
CASES = [(drafter, rule, *setting) for drafter, rule, setting in itertools.product(DRAFTERS, RULES, SETTINGS)]


def texts(drafter: str, rule: str, count: int, cache: tuple[int, int], k: int = 4, **params: Any) -> list[list[int]]:
    """The tokens of each request."""
    block_size, num_blocks = cache
    bench = build(drafter, k, block_size=block_size, num_blocks=num_blocks)
    # Alone a sequence may meet its EOS; together they run to the end, so that memory gets tight.
    outcomes = bench.run(requests(count, max_tokens=LENGTH, ignore_eos=count > 1, **params), rule)
    if cache == (4, TIGHT) and count > 1:
        assert any(output.preempted for output in bench.outputs), "this case is meant to preempt"
    return [outcome.tokens for outcome in outcomes]


@pytest.mark.parametrize(("drafter", "rule", "count", "cache"), CASES)
def test_greedy_text_is_the_plain_text(drafter: str, rule: str, count: int, cache: tuple[int, int]) -> None:
    plain = texts("none", "greedy", count, (16, ROOMY))
    assert texts(drafter, rule, count, cache) == plain
    assert all(plain)


@pytest.mark.parametrize(("drafter", "count", "cache"), sorted({(d, c, b) for d, _, c, b in CASES}))
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_coupled_text_is_a_function_of_the_seed(
    drafter: str, count: int, cache: tuple[int, int], temperature: float
) -> None:
    sampling: dict[str, Any] = {"temperature": temperature, "top_p": 0.9, "repetition_penalty": 1.2, "seed": 5}
    plain = texts("none", "coupled", count, (16, ROOMY), **sampling)
    assert texts(drafter, "coupled", count, cache, **sampling) == plain


def test_another_seed_gives_another_text() -> None:
    sampling: dict[str, Any] = {"temperature": 1.5, "seed": 5}
    plain = texts("none", "coupled", 4, (16, ROOMY), **sampling)
    assert texts("none", "coupled", 4, (16, ROOMY), **(sampling | {"seed": 6})) != plain


@pytest.mark.parametrize("k", [0, 1, 2, 3, 7, 11])
@pytest.mark.parametrize("drafter", DRAFTERS)
def test_any_depth_gives_the_same_text(drafter: str, k: int) -> None:
    assert texts(drafter, "greedy", 2, (4, ROOMY), k) == texts("none", "greedy", 2, (4, ROOMY))


@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("rule", ["token", "block"])
def test_sampled_text_repeats_with_its_seed(drafter: str, rule: str) -> None:
    sampling: dict[str, Any] = {"temperature": 1.0, "seed": 3}
    assert texts(drafter, rule, 3, (4, ROOMY), **sampling) == texts(drafter, rule, 3, (4, ROOMY), **sampling)
