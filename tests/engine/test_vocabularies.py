"""Every drafter with a model x rule x way to talk of a text: plain text at temperature 0, and the target's law else."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest

from helix_cli.checks.law import at
from helix_cli.checks.law import target_law as law_of
from helix_cli.checks.statistics import chi_square
from helix_cli.checks.workbench import Workbench
from helix_cli.core import Request, SamplingParams
from helix_cli.draft import DRAFTERS
from helix_cli.verify import RULES
from tests.harness import EOS, SMALL, requests
from tests.harness import build as build_bench
from tests.pairs import WAYS, tiny_pair

LENGTH = 24
# Enough for one sequence to finish, too little for all: sequences are preempted.
TIGHT, ROOMY = 18, 64
SETTINGS = [(1, (1, 64)), (4, (4, TIGHT)), (4, (16, ROOMY))]
WITH_A_MODEL = [drafter for drafter in DRAFTERS if drafter not in ("none", "ngram", "early_exit")]
SAMPLES = 2000
SIGMAS = 4.3
"""See tests/engine/test_law.py."""


def build(way: str, drafter: str, k: int = 4, **settings: Any) -> Workbench:
    """An engine over one of the pairs."""
    pair = tiny_pair(way)
    settings |= {} if drafter == "none" else {"draft": pair.draft, "vocabulary_of": pair.vocabulary_of(way)}
    return build_bench(drafter, k, target=pair.target, **settings)


def texts(way: str, drafter: str, rule: str, count: int, cache: tuple[int, int], **params: Any) -> list[list[int]]:
    """The tokens of each request."""
    bench = build(way, drafter, block_size=cache[0], num_blocks=cache[1])
    outcomes = bench.run(requests(count, max_tokens=LENGTH, ignore_eos=count > 1, **params), rule)
    if cache == (4, TIGHT) and count > 1:
        assert any(output.preempted for output in bench.outputs), "this case is meant to preempt"
    if count > 1 and drafter != "none":
        assert bench.num_accepted, "nothing that was drafted was kept, so nothing was tried"
    return [outcome.tokens for outcome in outcomes]


@pytest.mark.parametrize(
    ("way", "drafter", "rule", "setting"), [*itertools.product(WAYS, WITH_A_MODEL, RULES, SETTINGS)], ids=str
)
def test_greedy_text_is_the_plain_text(way: str, drafter: str, rule: str, setting: tuple[int, tuple[int, int]]) -> None:
    count, cache = setting
    assert texts(way, drafter, rule, count, cache) == texts(way, "none", "greedy", count, (16, ROOMY))


@pytest.mark.parametrize(("way", "drafter", "setting"), [*itertools.product(WAYS, WITH_A_MODEL, SETTINGS)], ids=str)
def test_coupled_text_is_a_function_of_the_seed(way: str, drafter: str, setting: tuple[int, tuple[int, int]]) -> None:
    count, cache = setting
    sampling: dict[str, Any] = {"temperature": 1.5, "top_p": 0.9, "repetition_penalty": 1.2, "seed": 5}
    plain = texts(way, "none", "coupled", count, (16, ROOMY), **sampling)
    assert texts(way, drafter, "coupled", count, cache, **sampling) == plain


@pytest.mark.parametrize(("way", "rule"), [*itertools.product(WAYS, ["token", "block", "coupled"])])
def test_emitted_texts_follow_the_targets_law(way: str, rule: str) -> None:
    prompt = tuple(range(3, SMALL["vocab_size"])) * 2
    params = SamplingParams(temperature=0.7, max_tokens=3)
    law = law_of(tiny_pair(way).target, prompt, params, EOS, 3).chances
    bench = build(way, "model", 2, max_sequences=100, max_step_tokens=400, num_blocks=400)
    seeds = [SamplingParams(temperature=0.7, max_tokens=3, seed=seed) for seed in range(SAMPLES)]
    counts = Counter(tuple(one.tokens) for one in bench.run([Request(prompt, one) for one in seeds], rule))
    assert set(counts) <= set(law), "a text that the target cannot say"
    for places in ((0,), (1,), (2,), (0, 1), (1, 2)):
        statistic, freedom = chi_square(at(places, counts), at(places, law), SAMPLES)
        assert statistic < freedom + SIGMAS * (2 * freedom) ** 0.5, f"tokens {places} do not follow the target's law"
    assert bench.num_accepted >= 20, "too few accepted drafts to say anything"
