"""The law of what the engine emits is the target's own, drafts of a model included, an EOS in a draft included."""

import itertools
from collections import Counter
from collections.abc import Iterable
from functools import cache

import pytest
import torch

from helix_cli.cache.table import BlockTable
from helix_cli.checks.law import at
from helix_cli.checks.law import target_law as law_of
from helix_cli.checks.statistics import chi_square
from helix_cli.core import Request, SamplingParams, Sequence, Wanted
from helix_cli.draft.depth import Choice, FixedDepth, Room
from helix_cli.stats import Trace
from helix_cli.verify import RULES
from tests.harness import EOS, SMALL, build, decoder

LENGTH, SAMPLES = 3, 2000
PROMPT = tuple(range(3, SMALL["vocab_size"])) * 2
VOCABULARY = SMALL["vocab_size"]
# A peak of chi-square that a right engine passes once in 10^5 runs; the seeds are fixed, so it passes always or never.
SIGMAS = 4.3


@cache
def target_law(
    params: SamplingParams, prompt: tuple[int, ...] = PROMPT, length: int = LENGTH
) -> dict[tuple[int, ...], float]:
    """Of the tiny target."""
    return law_of(decoder("target"), prompt, params, EOS, length).chances


@pytest.mark.parametrize(
    ("drafter", "rule"), [*itertools.product(["model", "ngram"], ["token", "block"]), ("model", "coupled")]
)
@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_emitted_texts_follow_the_targets_law(drafter: str, rule: str, temperature: float) -> None:
    params = SamplingParams(temperature=temperature, max_tokens=LENGTH)
    law = target_law(params)
    assert sum(law.values()) == pytest.approx(1.0, abs=1e-5)
    bench = build(drafter, k=2, max_sequences=100, max_step_tokens=400, num_blocks=400)
    seeds = [SamplingParams(temperature=temperature, max_tokens=LENGTH, seed=seed) for seed in range(SAMPLES)]
    outcomes = bench.run([Request(PROMPT, one) for one in seeds], rule)
    counts = Counter(tuple(outcome.tokens) for outcome in outcomes)
    assert set(counts) <= set(law), "a text that the target cannot say"
    for places in ((0,), (1,), (2,), (0, 1), (1, 2)):
        statistic, freedom = chi_square(at(places, counts), at(places, law), SAMPLES)
        assert statistic < freedom + SIGMAS * (2 * freedom) ** 0.5, f"tokens {places} do not follow the target's law"
    accepted = sum(one.num_accepted for output in bench.outputs for one in output.committed)
    assert accepted >= 20, "too few accepted drafts to say anything"


class Bold(FixedDepth):
    """A fixed depth whose drafts are asked to end early, at prices that make drafts of none, one and two tokens."""

    def choose(self, rooms: Iterable[Room]) -> list[Choice]:
        return [Choice(choice.depth, 0.15, 0.15) for choice in super().choose(list(rooms))]


@pytest.mark.parametrize("rule", ["token", "block", "coupled"])
def test_a_draft_that_ends_by_its_confidence_leaves_the_law_as_it_is(rule: str) -> None:
    # Four tokens: the first comes from the prompt, so the first draft may have two.
    law = target_law(SamplingParams(temperature=0.7, max_tokens=LENGTH), length=4)
    bench = build("model", Bold(2), max_sequences=100, max_step_tokens=400, num_blocks=400)
    seeds = [SamplingParams(temperature=0.7, max_tokens=4, seed=seed) for seed in range(SAMPLES)]
    counts = Counter(tuple(outcome.tokens) for outcome in bench.run([Request(PROMPT, one) for one in seeds], rule))
    for places in ((0,), (1,), (2,), (3,), (0, 1), (1, 2), (2, 3)):
        statistic, freedom = chi_square(at(places, counts), at(places, law), SAMPLES)
        assert statistic < freedom + SIGMAS * (2 * freedom) ** 0.5, f"tokens {places} do not follow the target's law"
    committed = [one for output in bench.outputs for one in output.committed if one.sequence.trace.wanted]
    lengths = Counter(one.draft.length if one.draft else 0 for one in committed)
    assert min(lengths[0], lengths[1], lengths[2]) > 200, lengths


def test_a_draft_that_ends_by_its_confidence_drops_no_drawn_token() -> None:
    """What is drafted with floors is the beginning of what is drafted without, under the same noise."""
    one = build("model", max_sequences=4).engine.drafter
    other = build("model", max_sequences=4).engine.drafter
    for seed in range(20):
        params = SamplingParams(temperature=1.0, ignore_eos=True)
        sequence = Sequence(
            seed, list(PROMPT), len(PROMPT), params, 0, 0, seed, RULES["token"], BlockTable(), Trace(26, 4, 0.0)
        )
        whole = one.propose([Wanted(sequence, 6)])[seed]
        short = other.propose([Wanted(sequence, 6, 0.1, 0.15)]).get(seed)
        assert short is None or torch.equal(short.tokens, whole.tokens[: short.length])
        for drafter in (one, other):
            drafter.forget(seed)


def test_a_drawn_eos_stays_in_its_draft() -> None:
    bench = build("model", k=4, max_sequences=32, max_step_tokens=400, num_blocks=400)
    requests = [Request(PROMPT, SamplingParams(temperature=3.0, max_tokens=12, seed=seed)) for seed in range(64)]
    bench.run(requests, "token")
    drafts = [one.draft for output in bench.outputs for one in output.committed if one.draft is not None]
    with_eos = [draft.tokens.tolist() for draft in drafts if bool(torch.isin(draft.tokens, torch.tensor([*EOS])).any())]
    assert with_eos, "no draft met an EOS"
    assert all(tokens[-1] in EOS and not EOS & set(tokens[:-1]) for tokens in with_eos)


def test_running_out_of_blocks_does_not_bend_the_law() -> None:
    """A draft that ends early at its EOS needs fewer blocks; it must not keep its step because of that."""
    params = SamplingParams(temperature=2.0, max_tokens=LENGTH)
    prompt = (5, 9, 3, 7)
    others = SamplingParams(temperature=2.0, max_tokens=12, ignore_eos=True)
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(SAMPLES // 2):
        bench = build("model", k=4, num_blocks=5, draft_blocks=8)
        mine = SamplingParams(temperature=2.0, max_tokens=LENGTH + 3, seed=seed)
        outcomes = bench.run([Request((3,) * 7, others), Request(prompt, mine)], "token")
        counts[tuple(outcomes[1].tokens[:2])] += 1
    law = at((0, 1), target_law(params, prompt))
    seen = {(*text, -1) if len(text) < 2 else text: float(count) for text, count in counts.items()}
    statistic, freedom = chi_square(at((1,), seen), at((1,), law), SAMPLES // 2)
    assert statistic < freedom + SIGMAS * (2 * freedom) ** 0.5
