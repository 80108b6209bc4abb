"""Counts of the texts that an engine writes, tested against the target's law: this pair's, and a mutant's."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from helix_cli.cache.table import BlockTable
from helix_cli.checks.check import Outcome, Skip, judged
from helix_cli.checks.checkpoints import TINY_EOS, TINY_VOCABULARY, tiny_pair
from helix_cli.checks.law import LENGTH, PLACES, Comparison, Sampled, compare, sample, target_law
from helix_cli.checks.mutants import MUTANTS
from helix_cli.checks.statistics import holm
from helix_cli.checks.subject import Subject
from helix_cli.checks.workbench import scores
from helix_cli.core import SamplingParams
from helix_cli.core import Sequence as EngineSequence
from helix_cli.draft.vocabulary import SameIds, Vocabulary
from helix_cli.model.language_model import LanguageModel
from helix_cli.stats import Trace
from helix_cli.verify import RULES

ALPHA = 1e-3
"""A right engine fails any of the counted checks of one run with a chance below this."""
COUNTED = SamplingParams(temperature=1.0, top_k=4)
"""Sampling of the counted texts: few enough that the law of LENGTH tokens is computed, not estimated."""
LEAST_TINY, MOST_TINY = 250, 600
"""Texts of the tiny pair: fewer would not show every mistake, and more show nothing else."""
RANDOM_RULES = ("token", "block", "coupled")
COUNTED_DRAFTERS = ("model", "ngram")


def drafting(subject: Subject) -> LanguageModel:
    """The draft model, or the target's own first layer where there is none."""
    return subject.draft if subject.draft is not None else subject.target.truncated(1)


def draft_logits(subject: Subject, tokens: list[int]) -> torch.Tensor:
    """The draft's logits [V] after the target's `tokens`, in the target's ids; raises Skip where it has none."""
    vocabulary: Vocabulary = SameIds(subject.target.architecture.vocab_size, frozenset())
    sequence = EngineSequence(
        0, tokens, 1, SamplingParams(temperature=1.0), 0, 0, 0, RULES["token"], BlockTable(), Trace(1, 1, 0.0)
    )
    if subject.vocabulary_of is not None:
        vocabulary = subject.vocabulary_of(sequence)
    reading = vocabulary.read(sequence)
    vocabulary.forget(sequence.id)
    if reading is None or vocabulary.name == "text":
        raise Skip("The draft proposes text and no law of its own.")
    return vocabulary.fit(scores(drafting(subject), reading.tokens, len(reading.tokens) - 1, 1))[0]


def counted(subject: Subject, drafter: str, rule: str) -> Outcome:
    """Chi-square of the texts that the whole engine writes, corrected for all such tests of the run."""
    if drafter not in subject.effort.counted_drafters:
        raise Skip("--quick counts the texts of one drafter only.")
    found, unclear = subject.remember("counted", lambda: _count_all(subject))
    sampled, comparisons, adjusted = found[drafter, rule]
    return _judge_counts(sampled, comparisons, adjusted, len(found) * len(PLACES), unclear)


Counts = dict[tuple[str, str], tuple[Sampled, list[Comparison], list[float]]]
"""By drafter and rule: the texts, their comparisons with the law, and the adjusted p-values."""


def _count_all(subject: Subject) -> tuple[Counts, float]:
    """Every drafter and rule, since Holm's correction needs all p-values; and the law's unclear share."""
    prompt = subject.prompts[min(1, len(subject.prompts) - 1)]
    law = target_law(subject.target, prompt, COUNTED, subject.eos_ids, noise=subject.noise())
    base, count = subject.seed * 10**6, subject.effort.num_samples
    results: dict[tuple[str, str], tuple[Sampled, list[Comparison]]] = {}
    for number, (drafter, rule) in enumerate(itertools.product(subject.effort.counted_drafters, RANDOM_RULES)):
        seeds = range(base + number * count, base + (number + 1) * count)
        sampled = sample(
            subject.target,
            drafter,
            RULES[rule],
            prompt,
            COUNTED,
            seeds,
            subject.eos_ids,
            drafting(subject),
            vocabulary_of=subject.vocabulary_of,
        )
        results[drafter, rule] = sampled, compare(sampled, law)
    adjusted = iter(holm([one.p_value for _, several in results.values() for one in several]))
    counts = {key: (sampled, several, [next(adjusted) for _ in several]) for key, (sampled, several) in results.items()}
    return counts, law.unclear


def _judge_counts(
    sampled: Sampled, comparisons: list[Comparison], adjusted: list[float], num_tests: int, unclear: float
) -> Outcome:
    if sampled.num_drafted == 0:
        raise Skip("Nothing was drafted, so the texts are plain ones.")
    detectable = max(one.detectable(sampled.num_samples, ALPHA / num_tests) for one in comparisons)
    least = min(adjusted)
    if detectable >= 1 and least >= ALPHA:
        raise Skip(
            f"{sampled.num_samples} texts of so flat a law could not have shown any difference; --full counts the most."
        )
    reason = (
        f"smallest p {least:.2g} after Holm (limit {ALPHA:g}), {sampled.num_samples} texts; a total variation of "
        f"{detectable:.3f} would have been found; {sampled.num_accepted} of {sampled.num_drafted} drafted tokens kept"
    )
    if unclear:
        reason += f"; in {unclear:.1%} of the texts rounding decides which tokens top-k lets through"
    evidence: dict[str, Any] = {
        "samples": sampled.num_samples,
        "drafted": sampled.num_drafted,
        "accepted": sampled.num_accepted,
        "alpha": ALPHA,
        "tests": num_tests,
        "detectable_variation": detectable,
        "unclear": unclear,
        "p_adjusted": adjusted,
        "comparisons": [one.to_dict() for one in comparisons],
    }
    return judged(least >= ALPHA, reason, **evidence)


def _tiny_seeds(subject: Subject) -> range:
    count = max(LEAST_TINY, min(MOST_TINY, subject.effort.num_samples))
    return range(subject.seed * 10**6, subject.seed * 10**6 + count)


def mutant(subject: Subject, name: str) -> Outcome:
    """A rule with a classic mistake, over the built-in tiny pair, through the same sampling and the same test."""
    target, draft = tiny_pair()
    prompt = tuple(range(3, TINY_VOCABULARY)) * 2
    law = target_law(target, prompt, COUNTED, TINY_EOS)
    seeds = _tiny_seeds(subject)

    def least_p(rule: Any) -> tuple[float, Sampled]:
        sampled = sample(target, "model", rule, prompt, COUNTED, seeds, TINY_EOS, draft)
        return min(holm([one.p_value for one in compare(sampled, law)])), sampled

    caught, sampled = least_p(MUTANTS[name])
    sound, _ = subject.remember("sound", lambda: least_p(RULES["token"]))
    reason = f"{MUTANTS[name].name}: p {caught:.1g} with the mistake, {sound:.2g} without (limit {ALPHA:g})"
    return judged(
        caught < ALPHA <= sound, reason, p_mutant=caught, p_sound=sound, samples=sampled.num_samples, alpha=ALPHA
    )


def rounds(subject: Subject) -> Outcome:
    """Long texts of a rule that refuses often: what rounds share must not bend the law of a later token."""
    target, draft = tiny_pair()
    prompt = tuple(range(3, TINY_VOCABULARY))
    params = SamplingParams(temperature=1.5, top_k=3)
    law = target_law(target, prompt, params, TINY_EOS)
    seeds = _tiny_seeds(subject)
    sampled = sample(target, "model", RULES["block"], prompt, params, seeds, TINY_EOS, draft, k=3)
    comparisons = compare(sampled, law, ((0,), *PLACES, tuple(range(LENGTH))))
    return _judge_counts(
        sampled, comparisons, holm([one.p_value for one in comparisons]), len(comparisons), law.unclear
    )
