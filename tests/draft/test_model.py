"""The model drafter keeps its cache true to what was committed, whatever was rejected in between."""

from typing import Any

import torch

from helix_cli.cache.table import BlockTable
from helix_cli.checks.workbench import cache_for
from helix_cli.core import SamplingParams, Sequence, Wanted
from helix_cli.draft.model import ModelDrafter
from helix_cli.draft.vocabulary import SameIds
from helix_cli.model.runner import ModelRunner
from helix_cli.stats import Trace
from helix_cli.verify import RULES
from tests.harness import EOS, SMALL, build, decoder, requests


def drafter(num_blocks: int = 64) -> ModelDrafter:
    """A fresh drafter over the tiny draft model."""
    model = decoder("draft")
    runner = ModelRunner(model, cache_for(model, num_blocks, 4))
    same = SameIds(SMALL["vocab_size"], EOS)
    return ModelDrafter(runner, lambda sequence: same, max_step_tokens=64)


def sequence(tokens: list[int]) -> Sequence:
    """A sampled sequence that ignores EOS, so that drafts come with their laws."""
    params = SamplingParams(temperature=1.0, ignore_eos=True)
    return Sequence(0, tokens, 1, params, 0, 0, 0, RULES["token"], BlockTable(), Trace(1, 4, 0.0))


def test_drafts_do_not_depend_on_what_was_drafted_before() -> None:
    lasting = drafter()
    one = sequence([5, 9, 3, 7])
    # Some rounds pass without this drafter, so that what it drafted last is overtaken by more than one token.
    for num_accepted, others in ((0, [4]), (2, [6, 5, 9]), (4, [3]), (1, [15, 4]), (3, [8]), (0, [3, 3, 3]), (4, [5])):
        proposed, fresh = lasting.propose([Wanted(one, 4)])[0], drafter().propose([Wanted(one, 4)])[0]
        assert proposed.probs is not None and fresh.probs is not None
        # The law shows what the cache holds; the drawn token alone may hide a stale position.
        torch.testing.assert_close(proposed.probs, fresh.probs, atol=1e-5, rtol=1e-4)
        lasting.check()
        one.tokens += [*proposed.tokens[:num_accepted].tolist(), *others]


def test_the_target_as_its_own_draft_has_everything_accepted() -> None:
    cases: list[dict[str, Any]] = [
        {},
        {"temperature": 1.0, "seed": 3},
        {"temperature": 1.0, "top_p": 0.8, "repetition_penalty": 1.3},
    ]
    for params in cases:
        bench = build("model", k=4, draft=decoder("target"))
        outcomes = bench.run(requests(3, max_tokens=21, ignore_eos=True, **params))
        for outcome in outcomes:
            # The last round has no room for four tokens.
            assert outcome.sequence.trace.accepted == outcome.sequence.trace.drafted == [4, 4, 4, 4]


def test_forget_gives_the_blocks_back() -> None:
    one = drafter()
    one.propose([Wanted(sequence([5, 9, 3, 7]), 4)])
    assert one.cache.pool.num_used > 0
    one.forget(0)
    one.forget(0)
    assert one.cache.pool.num_used == 0
    one.check()


def test_a_draft_with_a_smaller_vocabulary_skips_what_it_cannot_read() -> None:
    model = decoder("draft", 12)
    bench = build("model", draft=model)
    several = requests(3, max_tokens=20, ignore_eos=True, temperature=3.0, seed=4)
    spoken = [outcome.tokens for outcome in bench.run(several)]
    assert max(max(tokens) for tokens in spoken) >= 12
    assert spoken == [outcome.tokens for outcome in build("none").run(several)]
