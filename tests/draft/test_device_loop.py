"""Drafts drawn in one go leave the drafter's cache and the text as drafts drawn token by token do."""

from __future__ import annotations

from typing import Any

import pytest

from helix_cli.cache.table import BlockTable
from helix_cli.core import SamplingParams, Sequence, Wanted
from helix_cli.draft.model import ModelDrafter
from helix_cli.stats import Trace
from helix_cli.verify import RULES
from tests.harness import build, requests
from tests.on_device import on_device, plain
from tests.pairs import tiny_pair

pytest.importorskip("triton")
SHALLOW: dict[str, Any] = {"num_hidden_layers": 1}


@pytest.mark.parametrize("params", [{}, {"ignore_eos": True}], ids=["stopping", "going on"])
def test_greedy_texts_and_drafts_are_the_same(params: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"max_tokens": 11, **params}
    target, draft = plain(on_device(**SHALLOW)), on_device("draft", **SHALLOW)
    token_by_token = build("model", k=3, target=target, draft=plain(draft))
    expected = token_by_token.run(requests(2, **settings))
    bench = build("model", k=3, target=target, draft=draft)
    found = bench.run(requests(2, **settings))
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    assert [one.sequence.trace.accepted for one in found] == [one.sequence.trace.accepted for one in expected]
    assert bench.num_drafted == token_by_token.num_drafted
    drafter = bench.engine.drafter
    assert isinstance(drafter, ModelDrafter) and drafter.runner.windows is not None
    assert any(size.depth == 3 for size, _ in drafter.runner.windows._ready), "no loop ran"


@pytest.mark.parametrize(
    "params", [{"temperature": 1.0, "seed": 1}, {"repetition_penalty": 1.3}], ids=["sampled", "penalised"]
)
def test_other_drafts_are_drawn_token_by_token(params: dict[str, Any]) -> None:
    target, draft = plain(on_device(**SHALLOW)), on_device("draft", **SHALLOW)
    bench = build("model", k=2, target=target, draft=draft)
    found = bench.run(requests(1, max_tokens=5, ignore_eos=True, **params))
    expected = build("model", k=2, target=target, draft=plain(draft)).run(
        requests(1, max_tokens=5, ignore_eos=True, **params)
    )
    assert found[0].tokens == expected[0].tokens
    drafter = bench.engine.drafter
    assert isinstance(drafter, ModelDrafter) and drafter.runner.windows is not None
    assert not any(size.depth for size, _ in drafter.runner.windows._seen)


def drafter_that_draws(tokens: list[int]) -> tuple[ModelDrafter, list[int]]:
    """A drafter whose device draws these tokens for every row, and the depths that it was asked for."""
    drafter, asked = build("model").engine.drafter, list[int]()
    assert isinstance(drafter, ModelDrafter)

    def draw(rows: Any, depth: int, vocab_size: int) -> list[list[int]]:
        asked.append(depth)
        return [list(tokens) for _ in rows]

    drafter.runner.draft = draw  # type: ignore[method-assign]
    return drafter, asked


def sequence(**params: Any) -> Sequence:
    """A greedy one that is decoding."""
    sampling = SamplingParams(temperature=0.0, **params)
    return Sequence(0, [3, 4, 5], 1, sampling, 0, 0, 0, RULES["greedy"], BlockTable(), Trace(1, 4, 0.0))


@pytest.mark.parametrize(
    ("drawn", "ignore_eos", "proposed"),
    [([7, 2, 9], False, [7, 2]), ([7, 2, 9], True, [7, 2, 9]), ([7, 8, 9], False, [7, 8, 9]), ([2, 2, 9], False, [2])],
)
def test_a_draft_ends_with_its_end_and_the_cache_holds_what_was_fed(
    drawn: list[int], ignore_eos: bool, proposed: list[int]
) -> None:
    drafter, _ = drafter_that_draws(drawn)
    draft = drafter.propose([Wanted(sequence(ignore_eos=ignore_eos), 3)])[0]
    assert draft.tokens.tolist() == proposed and draft.probs is None
    held = drafter._held[0]
    assert held.tokens == [3, 4, 5, *drawn[:2]] and held.table.num_computed == 5


def test_what_the_host_decides_is_left_to_it() -> None:
    """Where a draft may end early, where its prompt has not been read, and where its ids are not the target's."""
    drafter, asked = drafter_that_draws([7, 8, 9])
    for floors in ((0.1, 0.0), (0.0, 0.1)):
        drafter.propose([Wanted(sequence(), 3, *floors)])
    drafter.forget(0)
    drafter.max_step_tokens = 2
    assert drafter.propose([Wanted(sequence(), 3)]) == {}
    drafter.forget(0)
    drafter.max_step_tokens = 64
    pair, same = tiny_pair("mapped"), drafter.vocabulary_of
    drafter.vocabulary_of = pair.vocabulary_of("mapped")
    drafter.propose([Wanted(sequence(), 3)])
    assert asked == []
    drafter.forget(0)
    drafter.vocabulary_of = same
    drafter.propose([Wanted(sequence(), 3)])
    assert asked == [3]


def test_behind_a_token_that_is_none_nothing_is_true() -> None:
    target = plain(on_device(**SHALLOW))
    bench = build("model", k=4, target=target, draft=on_device("draft", **SHALLOW))
    drafter = bench.engine.drafter
    assert isinstance(drafter, ModelDrafter)

    def half(rows: Any, depth: int, vocab_size: int) -> list[list[int]]:
        drafter.runner.forward(rows)
        return [[5, -1, 7, 8] for _ in rows]

    drafter.runner.draft = half  # type: ignore[method-assign]
    found = bench.run(requests(1, max_tokens=6, ignore_eos=True))
    expected = build("none", target=target).run(requests(1, max_tokens=6, ignore_eos=True))
    assert found[0].tokens == expected[0].tokens
    assert {length for output in bench.outputs for one in output.committed if (length := one.num_drafted)} == {1}
