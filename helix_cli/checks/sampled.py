"""Group sampled: the law of sampled text is the target's own, by enumeration and by counting."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import torch

from helix_cli.checks.check import Check, Outcome, Result, Skip, judged
from helix_cli.checks.counting import COUNTED_DRAFTERS, RANDOM_RULES, counted, draft_logits, mutant, rounds
from helix_cli.checks.enumeration import WARPS, World, emitted, structured_worlds, total_variation
from helix_cli.checks.mutants import MUTANTS
from helix_cli.checks.subject import Subject
from helix_cli.checks.workbench import scores
from helix_cli.core import Draft, Request, SamplingParams
from helix_cli.sampling import probabilities
from helix_cli.verify import token

EXACT = 1e-12
"""Total variation that float64 rounding explains."""
FULL = 1e-5
"""The same in float32, over a whole vocabulary."""
FEW = 4
"""Tokens of the user's vocabulary that the enumeration over real logits keeps."""
COUPLED = SamplingParams(temperature=0.8, top_p=0.95)


def enumeration(subject: Subject, rule: str) -> Outcome:
    """Every draft and every verdict, on laws with zeros, ties and certainties, and under every link of the chain."""
    worlds = structured_worlds()
    worlds |= {name: World(3, 2, 11, target_params=warp) for name, warp in WARPS.items()}
    worlds |= {f"random {size}": World(size, 2, seed=size) for size in (2, 3, 4)}
    variations = {name: _variation(rule, world) for name, world in worlds.items()}
    worst = max(variations, key=lambda name: variations[name])
    reason = f"total variation {variations[worst]:.1g} at most, over {len(worlds)} pairs of laws (limit {EXACT:.0e})"
    return judged(variations[worst] < EXACT, reason, variations=variations)


def _variation(rule: str, world: World) -> float:
    law, _ = emitted(rule, world)
    return total_variation(law, world.target_joint((), world.depth + 1))


def real_world(subject: Subject) -> World:
    """Target and draft after a prompt of the user's pair, over the FEW tokens that the target likes best."""
    prompt = subject.prompts[0]
    # A token that the draft does not have is never drafted, and says nothing here.
    unknown = draft_logits(subject, list(prompt)).isinf().cpu()
    wanted = subject.next_logits(prompt).float().cpu().masked_fill(unknown, float("-inf"))
    likeliest = wanted.topk(FEW).indices.tolist()
    rows = []
    for length in range(3):
        for tokens in itertools.product(likeliest, repeat=length):
            text = [*prompt, *tokens]
            pair = scores(subject.target, text, len(text) - 1, 1)[0], draft_logits(subject, text)
            rows.append([logits.cpu().double()[likeliest] for logits in pair])
    remaining = iter(rows)

    def next_row(*_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        target, drafted = next(remaining)
        return target, drafted

    return World(FEW, 2, 0, next_row)


def real(subject: Subject, rule: str) -> Outcome:
    """Drafts of two on the pair's own logits."""
    world: World = subject.remember("real world", lambda: real_world(subject))
    law, accepted = emitted(rule, world)
    variation = total_variation(law, world.target_joint((), world.depth + 1))
    reason = f"total variation {variation:.1g} over three tokens (limit {EXACT:.0e}); {accepted:.2f} of 2 kept"
    return judged(variation < EXACT, reason, variation=variation, accepted=accepted)


def whole_vocabulary(subject: Subject) -> Outcome:
    """One drafted token, in float32, over every token of the vocabulary: what the rule does, summed up."""
    prompt = subject.prompts[0]
    p = probabilities(subject.next_logits(prompt)).cpu()
    size = len(p)
    q = probabilities(draft_logits(subject, list(prompt))).cpu()
    # One row for each token that might have been drafted; the rows are views of one.
    draft = Draft(torch.arange(size), size, q.expand(size, size))
    chances = torch.tensor(token.acceptances(p.expand(size, size), draft), dtype=torch.float64)
    kept = q.double() * chances
    weights = token.replacement(p.expand(size, size), draft, 0).double()
    law = kept + (1.0 - kept.sum()) * weights / weights.sum()
    variation = float((law - p.double()).abs().sum() / 2)
    reason = (
        f"total variation {variation:.1g} over {size} tokens (limit {FULL:.0e}); {100 * float(kept.sum()):.0f} % kept"
    )
    return judged(variation < FULL, reason, variation=variation, acceptance=float(kept.sum()))


def coupled(subject: Subject, drafter: str) -> Outcome:
    """Rule coupled: the sampled text equals plain text of the same seed."""
    if drafter == "model" and subject.draft is None:
        raise Skip("This pair has no draft model.")
    length = min(subject.effort.num_tokens, 32)
    requests = [
        Request(prompt, SamplingParams(**(vars(COUPLED) | {"max_tokens": length, "seed": subject.seed + seed})))
        for seed in range(subject.effort.num_seeds)
        for prompt in subject.prompts[:2]
    ]
    room: dict[str, Any] = {"num_blocks": len(requests) * 16, "max_sequences": len(requests)}
    plain = [one.tokens for one in subject.bench("none", **room).run(requests, "coupled")]
    bench = subject.bench(drafter, **room)
    texts = [one.tokens for one in bench.run(requests, "coupled")]
    if bench.num_drafted == 0:
        raise Skip(f"Drafter {drafter} found nothing to propose.")
    differing = sum(one != other for one, other in zip(plain, texts, strict=True))
    kept = f"{bench.num_accepted} of {bench.num_drafted} drafted tokens kept"
    evidence = {"texts": len(texts), "differing": differing, "accepted": bench.num_accepted}
    if not differing:
        return Outcome(Result.PASS, f"{len(texts)} sampled texts equal; {kept}", evidence)
    if subject.exact:
        return Outcome(Result.FAIL, f"{differing} of {len(texts)} texts part in exact mode; {kept}", evidence)
    return _explain(subject, requests, plain, texts, evidence)


def _explain(
    subject: Subject, requests: list[Request], plain: list[list[int]], texts: list[list[int]], evidence: dict[str, Any]
) -> Outcome:
    """Rounding explains a difference where the race between both tokens is that close."""
    from helix_cli.sampling import Noise, Purpose, adjust

    for request, one, other in zip(requests, plain, texts, strict=True):
        place = next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
        if place is None:
            continue
        prefix = [*request.prompt, *one[:place]]
        row = adjust(subject.next_logits(prefix)[None], request.params, prefix)[0].cpu()
        assert request.params.seed is not None
        race = row + Noise(request.params.seed, 0).gumbel(len(prefix), Purpose.PICK, len(row))
        margin = float(race[one[place]] - race[other[place]])
        # A token that top-p has cut on one side and not on the other is as close a call.
        if margin > 2 * subject.noise() / request.params.temperature and margin != float("inf"):
            return Outcome(Result.FAIL, f"a text parts at token {place} by a margin of {margin:.2g}", evidence)
    return Outcome(Result.TIE, f"{evidence['differing']} texts part where the race is within rounding", evidence)


CHECKS = (
    *(
        Check(
            f"sampled.enumeration.{rule}",
            f"Rule {rule} leaves every law as it is, summed over all drafts and verdicts.",
            partial(enumeration, rule=rule),
        )
        for rule in ("token", "block")
    ),
    *(
        Check(f"sampled.real.{rule}", f"Rule {rule} keeps the law of this pair's own logits.", partial(real, rule=rule))
        for rule in ("token", "block")
    ),
    Check("sampled.vocabulary", "So does one drafted token over the whole vocabulary in float32.", whole_vocabulary),
    *(
        Check(
            f"sampled.law.{drafter}.{rule}",
            f"Texts of the whole engine follow the target's law, with drafter {drafter} and rule {rule}.",
            partial(counted, drafter=drafter, rule=rule),
        )
        for drafter, rule in itertools.product(COUNTED_DRAFTERS, RANDOM_RULES)
    ),
    *(
        Check(
            f"sampled.coupled.{drafter}",
            f"With rule coupled a seed gives the plain text, with drafter {drafter}.",
            partial(coupled, drafter=drafter),
        )
        for drafter in ("model", "ngram", "early_exit")
    ),
    Check("sampled.rounds", "Refused drafts do not bend the law of what comes after them.", rounds),
    *(
        Check(f"sampled.mutant.{name}", f"This test would notice the mistake: {rule.name}.", partial(mutant, name=name))
        for name, rule in MUTANTS.items()
    ),
)
