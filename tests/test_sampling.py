"""The noise, the logits-processor chain against transformers', and the two ways to draw."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as hf

from helix_cli import sampling
from helix_cli.core import SamplingParams
from helix_cli.sampling import Noise, Purpose, adjust, draw, draw_from, first_argmax, penalise, probabilities, race

VOCAB = 97
LAST_UNIFORM = 1.0 - 2.0**-53


def random_logits(rows: int, vocab: int = VOCAB, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, vocab, generator=generator) * 3).to(dtype)


def kolmogorov_smirnov(cdf: np.ndarray) -> float:
    """Largest distance of `cdf` from uniform, times sqrt(n): above 1.95 once in 1000."""
    ordered, steps = np.sort(cdf), np.arange(cdf.size + 1) / cdf.size
    return float(np.maximum(steps[1:] - ordered, ordered - steps[:-1]).max() * math.sqrt(cdf.size))


def gumbel_cdf(noise: torch.Tensor) -> np.ndarray:
    return torch.exp(-torch.exp(-noise.double())).numpy()


# Noise


def test_noise_is_a_function_of_its_arguments() -> None:
    keys = list(itertools.product(range(5), Purpose))
    there, back = Noise(7, 3), Noise(7, 3)
    forward = [there.uniform(*key) for key in keys]
    assert [back.uniform(*key) for key in reversed(keys)] == forward[::-1]
    assert torch.equal(there.gumbel(2, Purpose.PICK, 50), back.gumbel(2, Purpose.PICK, 50))


def test_no_two_keys_share_noise() -> None:
    keys = itertools.product([0, 1, 2, -1, 2**63, 2**64], range(4), range(11, 15), Purpose)
    words = [Noise(seed, start).uniform(position, purpose) for seed, start, position, purpose in keys if purpose]
    assert len(set(words)) == len(words) == 6 * 4 * 4 * 3


def test_pick_alone_belongs_to_the_position_and_not_to_the_round() -> None:
    for purpose in Purpose:
        same = Noise(1, 5).uniform(9, purpose) == Noise(1, 8).uniform(9, purpose)
        assert same is (purpose is Purpose.PICK)
        assert torch.equal(Noise(1, 5).gumbel(9, purpose, 8), Noise(1, 8).gumbel(9, purpose, 8)) is same


def test_noise_for_some_tokens_is_the_noise_of_all() -> None:
    noise, tokens = Noise(3, 0), np.array([0, 7, 8, 300, 999])
    assert torch.equal(noise.gumbel(4, Purpose.PICK, 1000)[tokens], noise.gumbel_of(4, Purpose.PICK, tokens))
    assert torch.equal(noise.gumbel(4, Purpose.PICK, 1000)[:333], noise.gumbel(4, Purpose.PICK, 333))


def test_uniforms_are_uniform() -> None:
    uniforms = np.array([[Noise(seed, 0).uniform(p, Purpose.ACCEPT) for p in range(1000)] for seed in (0, 1, 2, 3)])
    assert uniforms.min() >= 0.0 and uniforms.max() < 1.0
    assert kolmogorov_smirnov(uniforms.ravel()) < 1.95
    correlations = np.corrcoef(uniforms) - np.eye(4)
    assert np.abs(correlations).max() < 0.12
    assert abs(np.corrcoef(uniforms[:, 1:].ravel(), uniforms[:, :-1].ravel())[0, 1]) < 0.06


@pytest.mark.parametrize("along", ["tokens", "positions"])
def test_gumbel_noise_is_gumbel(along: str) -> None:
    if along == "tokens":
        noise = torch.cat([Noise(seed, 0).gumbel(5, Purpose.PICK, 20_000) for seed in range(3)])
    else:
        noise = torch.cat([Noise(11, 0).gumbel(position, Purpose.PICK, 3) for position in range(2000)])
    assert noise.dtype == torch.float32 and noise.isfinite().all()
    assert kolmogorov_smirnov(gumbel_cdf(noise)) < 1.95


def test_neighbouring_gumbel_noise_is_uncorrelated() -> None:
    rows = [Noise(seed, 0).gumbel(position, Purpose.PICK, 5000) for seed in (0, 1) for position in (0, 1, 2)]
    rows += [rows[0].roll(1), rows[0].roll(4)]
    assert (torch.corrcoef(torch.stack(rows)) - torch.eye(len(rows))).abs().max() < 0.06


def test_gumbel_noise_is_finite_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_splitmix", lambda key, index: np.array([0, 1, 2**63, 2**64 - 1], dtype=np.uint64))
    noise = Noise(0, 0).gumbel(0, Purpose.PICK, 4)
    assert noise.isfinite().all() and (noise.diff() <= 0).all()
    assert noise[2].item() == pytest.approx(-math.log(math.log(2)), abs=1e-6)


# The chain

CHAINS = {
    "temperature": SamplingParams(temperature=0.6),
    "top_k": SamplingParams(temperature=1.0, top_k=5),
    "top_k of one": SamplingParams(temperature=1.0, top_k=1),
    "top_k beyond the vocabulary": SamplingParams(temperature=1.0, top_k=1000),
    "top_p": SamplingParams(temperature=1.0, top_p=0.8),
    "narrow top_p": SamplingParams(temperature=1.0, top_p=0.01),
    "wide top_p": SamplingParams(temperature=2.5, top_p=0.999),
    "min_p": SamplingParams(temperature=1.0, min_p=0.1),
    "min_p of one": SamplingParams(temperature=1.0, min_p=1.0),
    "penalty": SamplingParams(temperature=1.0, repetition_penalty=1.3),
    "reward": SamplingParams(temperature=1.0, repetition_penalty=0.7),
    "top_k and top_p": SamplingParams(temperature=0.9, top_k=20, top_p=0.7),
    "all": SamplingParams(temperature=1.4, top_k=30, top_p=0.9, min_p=0.05, repetition_penalty=1.2),
}


def transformers_chain(logits: torch.Tensor, params: SamplingParams, tokens: Sequence[int]) -> torch.Tensor:
    """One row [1, V] through the processors that `generate` would build."""
    ids = torch.tensor([list(tokens)], dtype=torch.long)
    processors: list[hf.LogitsProcessor] = []
    if params.repetition_penalty != 1.0:
        processors.append(hf.RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    processors.append(hf.TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        processors.append(hf.TopKLogitsWarper(params.top_k))
    if params.top_p < 1.0:
        processors.append(hf.TopPLogitsWarper(params.top_p))
    if params.min_p:
        processors.append(hf.MinPLogitsWarper(params.min_p))
    scores = logits.clone()
    for processor in processors:
        scores = processor(ids, scores)
    return scores


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_row_is_what_transformers_makes_of_it(name: str, dtype: torch.dtype) -> None:
    params, prefix, draft = CHAINS[name], [3, 90, 3, 41], [7, 3, 7, 55, 90]
    for seed in range(5):
        logits = random_logits(len(draft) + 1, seed=seed, dtype=dtype)
        before = logits.clone()
        scores = adjust(logits, params, prefix, draft)
        rows = [transformers_chain(logits[j : j + 1], params, prefix + draft[:j]) for j in range(len(draft) + 1)]
        assert torch.equal(scores, torch.cat(rows)) and scores.dtype == dtype
        assert torch.equal(adjust(logits, params, prefix, torch.tensor(draft)), scores)
        assert torch.equal(logits, before)


@pytest.mark.parametrize("name", CHAINS)
def test_what_runs_on_other_devices_gives_the_same(name: str) -> None:
    coarse = random_logits(20, vocab=1000).to(torch.bfloat16).float()  # full of ties
    for logits in (random_logits(20), coarse, torch.zeros(1, 8)):
        assert torch.equal(sampling._cut(logits, CHAINS[name]), sampling._cut_on_cpu(logits, CHAINS[name]))


def test_top_k_keeps_ties_and_top_p_breaks_them() -> None:
    logits = torch.tensor([[0.0, 1.0, 1.0, 1.0]])
    assert adjust(logits, SamplingParams(temperature=1.0, top_k=2), []).isfinite().tolist() == [
        [False, True, True, True]
    ]
    kept = adjust(torch.zeros(1, 4), SamplingParams(temperature=1.0, top_p=0.5), []).isfinite()
    assert kept.tolist() == [[False, False, True, True]]


def test_at_least_one_token_is_left() -> None:
    hard = SamplingParams(temperature=1.0, top_k=1, top_p=1e-9, min_p=1.0)
    assert (adjust(random_logits(7), hard, []).isfinite().sum(-1) == 1).all()
    padded = torch.tensor([[-math.inf, 2.0, -math.inf]])
    assert adjust(padded, hard, []).isfinite().tolist() == [[False, True, False]]


def test_equal_scores_leave_the_share_asked_for() -> None:
    for vocab in range(2, 60):
        for top_p, left in [(1e-9, 1), (0.5, -(-vocab // 2)), (1.0 - 1e-7, vocab)]:
            scores = adjust(torch.full((1, vocab), 0.1), SamplingParams(temperature=1.0, top_p=top_p), [])
            assert abs(int(scores.isfinite().sum()) - left) <= (top_p == 0.5)


def test_padding_of_the_vocabulary_stays_removed() -> None:
    logits = torch.cat([random_logits(3), torch.full((3, 5), -math.inf)], dim=-1)
    for params in CHAINS.values():
        assert (adjust(logits, params, [1, 2], [3, 4])[:, VOCAB:] == -math.inf).all()


def test_temperature_zero_is_one_hot_at_the_first_maximum() -> None:
    logits = torch.tensor([[1.0, 5.0, 5.0], [2.0, 0.0, -1.0]])
    assert adjust(logits, SamplingParams(), [], [0]).tolist() == [
        [-math.inf, 0.0, -math.inf],
        [0.0, -math.inf, -math.inf],
    ]


def test_temperature_zero_looks_at_the_penalised_logits_with_each_rows_own_prefix() -> None:
    logits = torch.tensor([[4.0, 3.9, 0.0]] * 3)
    params = SamplingParams(repetition_penalty=2.0)
    assert adjust(logits, params, [2], [0, 1]).argmax(-1).tolist() == [0, 1, 0]
    assert first_argmax(penalise(logits, params, [2], [0, 1])).tolist() == [0, 1, 0]


def test_nothing_is_copied_when_there_is_nothing_to_do() -> None:
    logits = random_logits(2)
    assert adjust(logits, SamplingParams(temperature=1.0), [1], [2]) is logits
    assert penalise(logits, SamplingParams(), [1], [2]) is logits
    assert adjust(logits.to(torch.bfloat16), SamplingParams(temperature=1.0), [1], [2]).dtype == torch.float32


# Drawing


def test_draw_inverts_the_cumulated_law() -> None:
    weights = torch.tensor([0.0, 1.0, 0.0, 2.0, 1.0, 0.0])
    assert [draw_from(weights, u) for u in (0.0, 0.2499, 0.25, 0.7499, 0.75, LAST_UNIFORM)] == [1, 1, 3, 3, 4, 4]
    scores = weights.log()
    assert [draw(scores, u) for u in (0.0, 0.24, 0.26, 0.74, 0.76, LAST_UNIFORM)] == [1, 1, 3, 3, 4, 4]


def test_a_removed_token_is_never_drawn() -> None:
    for seed in range(20):
        logits = random_logits(1, vocab=30_000, seed=seed)
        scores = adjust(logits, SamplingParams(temperature=1.0, top_p=0.7), [])[0]
        for uniform in (0.0, 2.0**-53, 0.5, 1.0 - 2.0**-52, LAST_UNIFORM):
            assert scores[draw(scores, uniform)] > -math.inf
    for weight in (1e-45, 1e-38, 0.1, 1 / 3, 1.0, 1.0 + 2**-23, 3.0, 1e38):
        assert draw_from(torch.tensor([0.0, weight, 0.0]), LAST_UNIFORM) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_laws_are_float32_or_wider(dtype: torch.dtype) -> None:
    law = probabilities(random_logits(2).to(dtype))
    assert law.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.allclose(law.sum(-1), torch.ones(2, dtype=law.dtype))


def test_race_takes_the_first_of_equals() -> None:
    assert race(torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]]), torch.tensor([0.0, 1.0, 0.0])).tolist() == [1, 0]
