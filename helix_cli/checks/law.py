"""The law of what an engine writes, against the target's own."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from helix_cli.cache.paged import num_blocks_for
from helix_cli.checks.statistics import chi_square, detectable_variation, p_value
from helix_cli.checks.workbench import BLOCK_SIZE, build, cache_for
from helix_cli.core import Request, Row, SamplingParams
from helix_cli.core import Sequence as EngineSequence
from helix_cli.draft.vocabulary import Vocabulary
from helix_cli.model.language_model import LanguageModel
from helix_cli.model.runner import ModelRunner
from helix_cli.sampling import adjust, probabilities
from helix_cli.verify.rule import VerifyRule

Text = tuple[int, ...]
LENGTH = 4
"""Tokens of a text whose law is compared. The first comes from the prefill; a round makes the others: two drafted
tokens, and the one that follows them."""
PLACES = ((1,), (2,), (3,), (1, 2), (2, 3))
"""Which of those tokens are tested together."""
AT_ONCE = 50
"""Texts that are written side by side."""
SMALL_BLOCK = 4
"""So that all but the end of the prompt, which every text has, is computed once."""


ENDED, UNCLEAR = -1, -2
"""In place of a token: the text has ended before; it is one of those among which rounding decides (see `Law`)."""
WORDS = {ENDED: "end", UNCLEAR: "unclear"}


@dataclass(frozen=True)
class Law:
    """Probability of every text; of one that comes upon a token near the cut of top-k, up to that token.

    Where two ways to compute a logit differ by rounding, they may let different tokens through. What follows such a
    token is not compared, and the tokens that may replace one another count as one: UNCLEAR.
    """

    chances: dict[Text, float]
    near: dict[Text, frozenset[int]] = field(default_factory=dict)
    """By what stands before: the tokens of which rounding decides which are let through."""

    def fold(self, weights: Mapping[Text, float]) -> dict[Text, float]:
        """The weights of texts as the law tells them apart."""
        found: dict[Text, float] = {}
        for text, weight in weights.items():
            place = next((at for at, token in enumerate(text) if token in self.near.get(text[:at], ())), None)
            told = text if place is None else (*text[:place], UNCLEAR)
            found[told] = found.get(told, 0.0) + weight
        return found

    @property
    def unclear(self) -> float:
        """The share of texts that come upon a token near the cut."""
        return sum(chance for text, chance in self.chances.items() if UNCLEAR in text)


def near_cut(logits: Tensor, top_k: int, noise: float) -> frozenset[int]:
    """Tokens that a top-k of logits [V] may or may not let through, each of which is off by at most `noise`."""
    if not 0 < top_k < len(logits):
        return frozenset()
    values, ids = logits.cpu().float().sort(descending=True)
    last, first_out = float(values[top_k - 1]), float(values[top_k])
    if last - first_out > 2 * noise:
        return frozenset()
    return frozenset(ids[(values <= first_out + 2 * noise) & (values >= last - 2 * noise)].tolist())


def target_law(
    target: LanguageModel,
    prompt: Text,
    params: SamplingParams,
    eos_ids: frozenset[int],
    length: int = LENGTH,
    noise: float = 0.0,
) -> Law:
    """The law of texts of at most `length` tokens after `prompt`; a text ends at its EOS.

    The texts are those that top-k and the like have left, so `params` must leave few. Two ways to compute a logit may
    differ by `noise`.
    """
    room = num_blocks_for(len(prompt) + length, BLOCK_SIZE)
    runner = ModelRunner(target, cache_for(target, room, BLOCK_SIZE, prefix_reuse=False))
    cache = runner.cache

    def law(text: Text) -> tuple[list[tuple[int, float]], frozenset[int]]:
        from helix_cli.cache.table import BlockTable

        table, tokens = BlockTable(), prompt + text
        cache.grow(table, len(tokens))
        # The prompt's K/V stay where the first pass wrote them: every table of this pool is the same run of blocks.
        table.num_computed = len(prompt) if text else 0
        logits = runner.forward([Row(table, list(tokens[table.num_computed :]), num_logits=1)])
        cache.free(table)
        chances = probabilities(adjust(logits, params, tokens))[0].cpu().double()
        shares = [(int(token), float(chances[token])) for token in chances.nonzero().flatten()]
        return shares, near_cut(logits[0], params.top_k, noise)

    open_texts: dict[Text, float] = {(): 1.0}
    ended: dict[Text, float] = {}
    near: dict[Text, frozenset[int]] = {}
    for _ in range(length):
        longer: dict[Text, float] = {}
        for text, chance in open_texts.items():
            shares, unclear = law(text)
            if unclear:
                near[text] = unclear
                ended[(*text, UNCLEAR)] = chance * sum(share for token, share in shares if token in unclear)
            for token, share in shares:
                if token not in unclear:
                    place = ended if token in eos_ids else longer
                    place[(*text, token)] = chance * share
        open_texts = longer
    return Law(ended | open_texts, near)


def at(places: Text, weights: Mapping[Text, float]) -> dict[Text, float]:
    """The weights of what stands at some places of the texts; where a text has ended, ENDED."""
    found: dict[Text, float] = {}
    for text, weight in weights.items():
        tokens = tuple(text[place] if place < len(text) else ENDED for place in places)
        found[tokens] = found.get(tokens, 0.0) + weight
    return found


@dataclass(frozen=True)
class Sampled:
    """How many texts of each kind an engine wrote, and what became of its drafts."""

    counts: dict[Text, float]
    num_samples: int
    num_drafted: int
    num_accepted: int


def sample(
    target: LanguageModel,
    drafter: str,
    rule: VerifyRule,
    prompt: Text,
    params: SamplingParams,
    seeds: Iterable[int],
    eos_ids: frozenset[int],
    draft: LanguageModel | None = None,
    k: int = 2,
    vocabulary_of: Callable[[EngineSequence], Vocabulary] | None = None,
) -> Sampled:
    """Texts of LENGTH tokens, one for each seed, through the whole engine.

    One token more is asked for and not looked at: a draft reaches to the last place but one.
    """
    room = num_blocks_for(len(prompt) + LENGTH + 1 + k, SMALL_BLOCK)
    bench = build(
        target,
        drafter,
        k,
        eos_ids=eos_ids,
        draft=draft,
        vocabulary_of=vocabulary_of,
        block_size=SMALL_BLOCK,
        num_blocks=room * AT_ONCE,
        max_sequences=AT_ONCE,
        max_step_tokens=AT_ONCE * (k + 2) + len(prompt),
        context=target.architecture.context,
    )
    counts: Counter[Text] = Counter()
    queue = iter(seeds)
    num_samples = 0
    while chunk := list(itertools.islice(queue, AT_ONCE)):
        wanted = [Request(prompt, replace(params, max_tokens=LENGTH + 1, seed=seed)) for seed in chunk]
        counts.update(tuple(one.tokens[:LENGTH]) for one in bench.run(wanted, rule))
        num_samples += len(chunk)
    return Sampled(dict(counts), num_samples, bench.num_drafted, bench.num_accepted)


@dataclass(frozen=True)
class Comparison:
    """One chi-square test: the tokens at `places`, and the numbers behind the verdict."""

    places: Text
    statistic: float
    freedom: int
    p_value: float
    variation: float
    """Total variation between the counts and the law; sampling alone makes it positive."""
    rows: list[tuple[str, float, float]]
    """(tokens, expected share, seen share) of the likeliest texts."""

    def detectable(self, samples: int, alpha: float) -> float:
        """The total variation that this many samples would have revealed."""
        return detectable_variation(samples, self.freedom, alpha)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        statistic = self.statistic if self.statistic != float("inf") else None
        return {
            "places": list(self.places),
            "chi_square": statistic,
            "freedom": self.freedom,
            "p_value": self.p_value,
            "observed_variation": self.variation,
            "rows": [list(row) for row in self.rows],
        }


def compare(sampled: Sampled, law: Law, places: Sequence[Text] = PLACES) -> list[Comparison]:
    """The counts against the law, at each of `places`."""
    found = []
    told = law.fold(sampled.counts)
    for one in places:
        counts, wanted = at(one, told), at(one, law.chances)
        statistic, freedom = chi_square(counts, wanted, sampled.num_samples)
        shares = {key: count / sampled.num_samples for key, count in counts.items()}
        keys = sorted({*wanted, *shares}, key=lambda key: -wanted.get(key, 0.0))
        variation = sum(abs(wanted.get(key, 0.0) - shares.get(key, 0.0)) for key in keys) / 2
        rows = [
            (" ".join(WORDS.get(token, str(token)) for token in key), wanted.get(key, 0.0), shares.get(key, 0.0))
            for key in keys[:12]
        ]
        found.append(Comparison(one, statistic, freedom, p_value(statistic, freedom), variation, rows))
    return found
