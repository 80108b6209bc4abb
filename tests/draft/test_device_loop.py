"""Drafts drawn in one go leave the drafter's cache and the text as drafts drawn token by token do."""

from __future__ import annotations

from typing import Any

import pytest

from helix_cli.draft.model import ModelDrafter
from tests.harness import build, requests
from tests.on_device import on_device, plain

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
