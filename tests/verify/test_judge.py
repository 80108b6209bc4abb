"""What `judge` and `draw` really do, exactly.

A verdict is a step function of its uniforms, and bisection finds the steps: so the law of whole verdicts is measured
through the rules' front door, every row, uniform and residual included.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable

import pytest
import torch

from helix_cli.core import Draft, SamplingParams, Verdict
from helix_cli.sampling import Noise, Purpose, adjust, probabilities
from helix_cli.verify import RULES

Key = tuple[int, Purpose]
POSITION = 40
LAST = 1.0 - 2.0**-53


class Asked(Exception):
    """A uniform was wanted that nobody has decided on yet."""

    def __init__(self, key: Key) -> None:
        self.key = key


class Chosen(Noise):
    """Uniforms that the test chooses."""

    def __init__(self, uniforms: dict[Key, float]) -> None:
        super().__init__(0, POSITION)
        self.uniforms = uniforms

    def uniform(self, position: int, purpose: Purpose) -> float:
        """The chosen one, or Asked."""
        if (position, purpose) not in self.uniforms:
            raise Asked((position, purpose))
        return self.uniforms[position, purpose]


def law_of(decide: Callable[[Noise], Hashable], uniforms: dict[Key, float] | None = None) -> dict[Hashable, float]:
    """The law of what `decide` returns when every uniform it asks for is uniform and independent."""
    fixed = uniforms or {}
    law: dict[Hashable, float] = defaultdict(float)
    try:
        return {decide(Chosen(fixed)): 1.0}
    except Asked as asked:
        key = asked.key

    def next_event(u: float) -> Hashable:
        try:
            return decide(Chosen({**fixed, key: u}))
        except Asked as asked:
            return asked.key

    start = 0.0
    while start < 1.0:
        here, low, high = next_event(start), start, 1.0
        if next_event(LAST) == here:
            low = 1.0
        while high - low > 1e-15 and low < 1.0:
            middle = (low + high) / 2
            low, high = (middle, high) if next_event(middle) == here else (low, middle)
        for result, chance in law_of(decide, {**fixed, key: start}).items():
            law[result] += (high - start) * chance
        start = high
    return dict(law)


def random_draft(
    vocab: int, k: int, seed: int, point_mass: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Target scores [k + 1, V] after each of the tokens [k], and the laws [k, V] they come from; all float64."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(k + 1, vocab, generator=generator, dtype=torch.float64)
    probs = probabilities(torch.randn(k, vocab, generator=generator, dtype=torch.float64))
    return scores, torch.randint(vocab, (k,), generator=generator), None if point_mass else probs


def expected_token(p: list[list[float]], q: list[list[float]], tokens: list[int]) -> dict[Hashable, float]:
    """The rejection rule of the papers, written out with plain numbers."""
    law: dict[Hashable, float] = defaultdict(float)
    reached = 1.0
    for i, x in enumerate(tokens):
        chance = min(1.0, p[i][x] / q[i][x])
        rest = [max(0.0, a - b) for a, b in zip(p[i], q[i], strict=True)]
        for y, weight in enumerate(rest):
            if weight and chance < 1.0:
                law[i, y] += reached * (1 - chance) * weight / sum(rest)
        reached *= chance
    for y, weight in enumerate(p[-1]):
        law[len(tokens), y] += reached * weight
    return law


def expected_block(p: list[list[float]], q: list[list[float]], tokens: list[int]) -> dict[Hashable, float]:
    """The block rule's formulas in the order of the paper, written out with plain numbers."""
    k, survival = len(tokens), [1.0]
    for i, x in enumerate(tokens):
        survival.append(min(1.0, survival[-1] * p[i][x] / q[i][x]))
    rests = [[max(0.0, survival[i] * a - b) for a, b in zip(p[i], q[i], strict=True)] for i in range(k)] + [p[k]]
    tests = [1.0] + [sum(rests[i]) / (sum(rests[i]) + 1 - survival[i]) for i in range(1, k)] + [survival[k]]
    law: dict[Hashable, float] = defaultdict(float)
    left = 1.0
    for i in range(k, -1, -1):
        chance = tests[i] if i else 1.0
        for y, weight in enumerate(rests[i]):
            if weight and left * chance:
                law[i, y] += left * chance * weight / sum(rests[i])
        left *= 1 - chance
    return law


EXPECTED = {"token": expected_token, "block": expected_block}
CASES = [(3, 2, seed, point_mass) for seed, point_mass in itertools.product(range(3), (False, True))]


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize(
    ("vocab", "k", "seed", "point_mass"), [*CASES, (2, 4, 3, False), (4, 3, 4, False), (3, 1, 5, True)]
)
def test_the_law_of_a_verdict(name: str, vocab: int, k: int, seed: int, point_mass: bool) -> None:
    scores, tokens, probs = random_draft(vocab, k, seed, point_mass)

    def decide(noise: Noise) -> Hashable:
        verdict = RULES[name].judge(scores, Draft(tokens, k, probs), noise, POSITION)
        return verdict.num_accepted, verdict.next_token

    measured = law_of(decide)
    q = torch.nn.functional.one_hot(tokens, vocab).double() if probs is None else probs
    q = torch.where(q == 0, 1e-300, q)
    expected = EXPECTED[name](probabilities(scores).tolist(), q.tolist(), tokens.tolist())
    assert set(measured) <= set(expected)
    for outcome, chance in expected.items():
        assert measured.get(outcome, 0.0) == pytest.approx(chance, abs=1e-13)


@pytest.mark.parametrize("name", EXPECTED)
def test_uniforms_are_keyed_by_position_and_purpose(name: str) -> None:
    scores, tokens, probs = random_draft(3, 3, 0, False)
    keys = {(POSITION + i, Purpose.ACCEPT) for i in range(3)} | {(POSITION + i, Purpose.NEXT) for i in range(4)}
    uniforms: dict[Key, float] = {}
    for u in (0.0, 0.3, LAST):
        uniforms.update(dict.fromkeys(keys, u))
        verdict = RULES[name].judge(scores, Draft(tokens, 3, probs), Chosen(uniforms), POSITION)
        others = {key: 0.5 for key in keys if key[1] is Purpose.NEXT and key[0] != POSITION + verdict.num_accepted}
        assert verdict == RULES[name].judge(scores, Draft(tokens, 3, probs), Chosen(uniforms | others), POSITION)


@pytest.mark.parametrize("name", ["token", "block"])
def test_the_law_of_a_drafted_token_is_the_law_it_hands_on(name: str) -> None:
    scores = adjust(torch.randn(1, 5, dtype=torch.float64), SamplingParams(temperature=0.8, top_k=4), [])[0]
    rule, handed_on = RULES[name], probabilities(scores)
    measured = law_of(lambda noise: int(rule.draw(scores, noise, POSITION).token))
    drawn = rule.draw(scores, Noise(0, 0), POSITION)
    assert drawn.probs is not None and torch.equal(drawn.probs, handed_on) and drawn.token.shape == ()
    for x, chance in enumerate(handed_on.tolist()):
        assert measured.get(x, 0.0) == pytest.approx(chance, abs=1e-13)


@pytest.mark.parametrize("name", ["token", "block"])
def test_an_empty_draft_is_plain_sampling(name: str) -> None:
    scores = torch.randn(1, 4, dtype=torch.float64)
    empty = Draft(torch.empty(0, dtype=torch.int64), 0)

    def decide(noise: Noise) -> Hashable:
        verdict = RULES[name].judge(scores, empty, noise, POSITION)
        assert verdict.num_accepted == 0
        return verdict.next_token

    measured = law_of(decide)
    for x, chance in enumerate(probabilities(scores)[0].tolist()):
        assert measured[x] == pytest.approx(chance, abs=1e-13)


@pytest.mark.parametrize("name", ["token", "block"])
def test_an_impossible_token_is_refused_even_at_uniform_zero(name: str) -> None:
    scores = torch.tensor([[-torch.inf, 0.0, 0.0], [0.0, 0.0, 0.0]])
    zeros = Chosen({(POSITION + i, purpose): 0.0 for i in range(2) for purpose in Purpose})
    for probs in (None, torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.5, 0.5]])):
        draft = Draft(torch.tensor([0]), 1, probs)
        assert RULES[name].judge(scores, draft, zeros, POSITION) == Verdict(0, 1)


@pytest.mark.parametrize("name", ["token", "block"])
def test_greedy_params_make_every_rule_greedy(name: str) -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [5.0, 1.0, 2.0], [0.0, 1.0, 0.0]])
    for tokens, verdict in [([2, 0], Verdict(2, 1)), ([2, 1], Verdict(1, 0)), ([1, 0], Verdict(0, 2))]:
        scores = adjust(logits, SamplingParams(), [], tokens)
        draft = Draft(torch.tensor(tokens), 2, probabilities(torch.zeros(2, 3)))
        for seed in range(20):
            assert RULES[name].judge(scores, draft, Noise(seed, POSITION), POSITION) == verdict


@pytest.mark.parametrize("name", ["token", "block"])
def test_no_verdict_changes_its_arguments(name: str) -> None:
    scores, tokens, probs = random_draft(5, 3, 1, False)
    assert probs is not None
    copies = scores.clone(), tokens.clone(), probs.clone()
    for seed in range(10):
        for laws in (probs, None):
            RULES[name].judge(scores, Draft(tokens, 3, laws), Noise(seed, 0), 0)
    assert all(torch.equal(a, b) for a, b in zip((scores, tokens, probs), copies, strict=True))
