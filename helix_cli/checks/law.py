"""The law of what an engine writes, against the target's own."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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


def target_law(
    target: LanguageModel, prompt: Text, params: SamplingParams, eos_ids: frozenset[int], length: int = LENGTH
) -> dict[Text, float]:
    """Probability of every text of at most `length` tokens after `prompt`; a text ends at its EOS.

    The texts are those that top-k and the like have left, so `params` must leave few.
    """
    room = num_blocks_for(len(prompt) + length, BLOCK_SIZE)
    runner = ModelRunner(target, cache_for(target, room, BLOCK_SIZE, prefix_reuse=False))
    cache = runner.cache

    def law(text: Text) -> list[tuple[int, float]]:
        from helix_cli.cache.table import BlockTable

        table, tokens = BlockTable(), prompt + text
        cache.grow(table, len(tokens))
        # The prompt's K/V stay where the first pass wrote them: every table of this pool is the same run of blocks.
        table.num_computed = len(prompt) if text else 0
        logits = runner.forward([Row(table, list(tokens[table.num_computed :]), num_logits=1)])
        cache.free(table)
        chances = probabilities(adjust(logits, params, tokens))[0].cpu().double()
        return [(int(token), float(chances[token])) for token in chances.nonzero().flatten()]

    open_texts: dict[Text, float] = {(): 1.0}
    ended: dict[Text, float] = {}
    for _ in range(length):
        longer: dict[Text, float] = {}
        for text, chance in open_texts.items():
            for token, share in law(text):
                place = ended if token in eos_ids else longer
                place[(*text, token)] = chance * share
        open_texts = longer
    return ended | open_texts


def at(places: Text, weights: Mapping[Text, float]) -> dict[Text, float]:
    """The weights of what stands at some places of the texts; a text that has ended has nothing (-1) there."""
    found: dict[Text, float] = {}
    for text, weight in weights.items():
        tokens = tuple(text[place] if place < len(text) else -1 for place in places)
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


def compare(sampled: Sampled, law: dict[Text, float], places: Sequence[Text] = PLACES) -> list[Comparison]:
    """The counts against the law, at each of `places`."""
    found = []
    for one in places:
        counts, wanted = at(one, sampled.counts), at(one, law)
        statistic, freedom = chi_square(counts, wanted, sampled.num_samples)
        shares = {key: count / sampled.num_samples for key, count in counts.items()}
        keys = sorted({*wanted, *shares}, key=lambda key: -wanted.get(key, 0.0))
        variation = sum(abs(wanted.get(key, 0.0) - shares.get(key, 0.0)) for key in keys) / 2
        rows = [(" ".join(map(str, key)), wanted.get(key, 0.0), shares.get(key, 0.0)) for key in keys[:12]]
        found.append(Comparison(one, statistic, freedom, p_value(statistic, freedom), variation, rows))
    return found
