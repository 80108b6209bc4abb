"""The engine under depth control says what it says plainly, whatever depths are chosen."""

from typing import Any

import pytest

from helix_cli.draft import DRAFTERS
from helix_cli.draft.auto_depth import AutoDepth
from tests.harness import build, decoder, requests


@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 5}], ids=["greedy", "coupled"])
def test_text_is_the_plain_text(drafter: str, sampling: dict[str, Any]) -> None:
    asked = requests(3, max_tokens=40, ignore_eos=True, **sampling)
    plain = [outcome.tokens for outcome in build("none").run(asked)]
    depth = AutoDepth()
    outcomes = build(drafter, depth).run(asked)
    assert [outcome.tokens for outcome in outcomes] == plain
    assert not depth._texts, "ended texts are forgotten"


def test_a_perfect_draft_is_asked_for_more_and_its_rounds_are_recorded() -> None:
    depth = AutoDepth()
    [outcome] = build("model", depth, draft=decoder("target")).run(requests(1, max_tokens=80, ignore_eos=True))
    trace = outcome.sequence.trace
    assert depth.num_rounds > 0 and depth.costs.draft_known("model")
    assert len(trace.wanted) == len(trace.drafted) and max(trace.wanted) >= max(trace.drafted) > 0
