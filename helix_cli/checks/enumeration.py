"""Every draft, every verdict: the law that a rule emits, in float64, from the functions that the rule itself calls.

A world gives the target and the draft a law after every prefix. Enumerated is the law of the first K + 1 tokens that a
round starts; where it emits fewer, the target's own law completes them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from helix_cli.core import Draft, SamplingParams
from helix_cli.sampling import adjust, probabilities
from helix_cli.verify import block, token
from helix_cli.verify.law import residual

Prefix = tuple[int, ...]
Law = npt.NDArray[np.float64]


def without(scores: torch.Tensor, *tokens: int) -> torch.Tensor:
    """The scores with some tokens made impossible."""
    scores = scores.clone()
    scores[list(tokens)] = -math.inf
    return scores


def certain(scores: torch.Tensor) -> torch.Tensor:
    """The likeliest token for certain."""
    return torch.full_like(scores, -math.inf).scatter_(0, scores.argmax()[None], 0.0)


AS_IT_IS = SamplingParams(temperature=1.0)


class World:
    """Scores of target and draft after every prefix of at most `depth` tokens; `params` warp either or both.

    With `point_mass` the draft's token is certain: its most likely one, and Draft.probs is None.
    """

    def __init__(
        self,
        vocab: int,
        depth: int,
        seed: int,
        make: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]] = lambda p, q: (p, q),
        target_params: SamplingParams = AS_IT_IS,
        draft_params: SamplingParams = AS_IT_IS,
        point_mass: bool = False,
    ) -> None:
        self.vocab, self.depth, self.point_mass = vocab, depth, point_mass
        generator = torch.Generator().manual_seed(seed)
        self.target: dict[Prefix, torch.Tensor] = {}
        self.draft_law: dict[Prefix, Law] = {}
        for length in range(depth + 1):
            for prefix in itertools.product(range(vocab), repeat=length):
                p, q = make(*torch.randn(2, vocab, generator=generator, dtype=torch.float64).mul(1.5))
                self.target[prefix] = adjust(p[None], target_params, prefix)[0]
                scores = adjust(q[None], draft_params, prefix)[0]
                self.draft_law[prefix] = probabilities(certain(scores) if point_mass else scores).numpy()
        self.joints: dict[tuple[Prefix, int], Law] = {}

    def drafts(self, ends: Callable[[Prefix], bool] = lambda prefix: False) -> Iterator[tuple[Prefix, float]]:
        """Every draft and its probability; a draft ends where it `ends`, or at the world's depth."""

        def grow(prefix: Prefix, weight: float) -> Iterator[tuple[Prefix, float]]:
            if len(prefix) == self.depth or ends(prefix):
                yield prefix, weight
                return
            for x, chance in enumerate(self.draft_law[prefix]):
                if chance > 0.0:
                    yield from grow((*prefix, x), weight * chance)

        return grow((), 1.0)

    def scores(self, tokens: Prefix) -> torch.Tensor:
        """What the rule judges by: [k + 1, V]."""
        return torch.stack([self.target[tokens[:i]] for i in range(len(tokens) + 1)])

    def as_draft(self, tokens: Prefix) -> Draft:
        """The drafted tokens with the laws they were drawn from."""
        laws = [torch.from_numpy(self.draft_law[tokens[:i]]) for i in range(len(tokens))]
        probs = None if self.point_mass or not laws else torch.stack(laws)
        return Draft(torch.tensor(tokens, dtype=torch.int64), len(tokens), probs)

    def target_joint(self, prefix: Prefix, length: int) -> Law:
        """The target's own law of the next `length` tokens: [V] * length."""
        if length == 0:
            return np.ones(())
        if (prefix, length) not in self.joints:
            first = probabilities(self.target[prefix]).numpy()
            rest = [self.target_joint((*prefix, x), length - 1) for x in range(self.vocab)]
            self.joints[prefix, length] = np.stack([chance * law for chance, law in zip(first, rest, strict=True)])
        return self.joints[prefix, length]


def token_outcomes(scores: torch.Tensor, draft: Draft) -> Iterator[tuple[int, float, torch.Tensor]]:
    """(accepted, probability, weights of the next token) by the token rule's functions."""
    p = probabilities(scores[: draft.length])
    reached = 1.0
    for index, chance in enumerate(token.acceptances(p, draft)):
        yield index, reached * (1.0 - chance), token.replacement(p, draft, index)
        reached *= chance
    yield draft.length, reached, probabilities(scores[draft.length])


def block_outcomes(scores: torch.Tensor, draft: Draft) -> Iterator[tuple[int, float, torch.Tensor]]:
    """The same by the block rule's functions."""
    k = draft.length
    p = probabilities(scores[:k])
    survival = block.survivals(p, draft)
    yield k, survival[k], probabilities(scores[k])
    lacking = block.lacks(p, draft, survival)
    refused = 1.0 - survival[k]
    for i in range(k - 1, -1, -1):
        chance = block.keep(survival[i], float(lacking[i].sum())) if i else 1.0
        yield i, refused * chance, residual(lacking[i], p[i])
        refused *= 1.0 - chance


OUTCOMES = {"token": token_outcomes, "block": block_outcomes}


def emitted(name: str, world: World, ends: Callable[[Prefix], bool] = lambda prefix: False) -> tuple[Law, float]:
    """The law of the first depth + 1 tokens, and how many drafted tokens are accepted on average."""
    length = world.depth + 1
    law, accepted = np.zeros([world.vocab] * length), 0.0
    for tokens, weight in world.drafts(ends):
        for kept, chance, weights in OUTCOMES[name](world.scores(tokens), world.as_draft(tokens)):
            accepted += weight * chance * kept
            following = (weights / weights.sum()).numpy()
            for x in np.flatnonzero(following) if weight * chance > 0.0 else []:
                prefix = (*tokens[:kept], int(x))
                rest = world.target_joint(prefix, length - kept - 1)
                law[prefix] += weight * chance * following[x] * rest
    return law, accepted


def total_variation(one: Law, other: Law) -> float:
    """Half the sum of absolute differences."""
    return float(np.abs(one - other).sum() / 2)


def structured_worlds() -> dict[str, World]:
    """Laws with zeros, ties and certainties, where a rule has the most to get wrong."""
    return {
        "q zero where p is not": World(3, 3, 1, lambda p, q: (p, without(q, 0))),
        "p zero where q is not": World(3, 3, 2, lambda p, q: (without(p, 2), q)),
        "each zero somewhere": World(4, 2, 3, lambda p, q: (without(p, 0), without(q, 3))),
        "nothing in common": World(4, 2, 4, lambda p, q: (without(p, 0, 1), without(q, 2, 3))),
        "equal": World(3, 3, 5, lambda p, q: (p, p)),
        "equal but for rounding": World(3, 3, 5, lambda p, q: (p, p * (1 + 2**-52))),
        "certain target": World(3, 3, 6, lambda p, q: (certain(p), q)),
        "certain draft with its law": World(3, 3, 7, lambda p, q: (p, certain(q))),
        "certain draft without": World(3, 3, 7, point_mass=True),
        "both certain": World(3, 3, 8, lambda p, q: (certain(p), certain(q)), point_mass=True),
        "certain and impossible": World(3, 3, 9, lambda p, q: (without(p, int(q.argmax())), q), point_mass=True),
        "almost never": World(3, 3, 10, lambda p, q: (p * 20, q * 20)),
    }


WARPS = {
    "cold": SamplingParams(temperature=0.5),
    "hot": SamplingParams(temperature=2.0),
    "top_k": SamplingParams(temperature=1.0, top_k=2),
    "top_p": SamplingParams(temperature=1.0, top_p=0.7),
    "min_p": SamplingParams(temperature=1.0, min_p=0.3),
    "penalty": SamplingParams(temperature=1.0, repetition_penalty=1.8),
    "greedy": SamplingParams(),
}
"""Every link of the sampling chain."""
