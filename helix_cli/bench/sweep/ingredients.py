"""What rounds are made of, and the speed-up that follows for a depth: S(K) = E / (K c + v(K) + o).

Leviathan et al., arXiv 2211.17192, with acceptance by position instead of one rate for all, and with drafts that may be
shorter than was asked for. Times come from all depths of a drafter together, acceptance from those that go far enough.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from statistics import median

from helix_cli.bench.costs import expected_speed_up, rounds_of
from helix_cli.bench.schema import Run
from helix_cli.bench.sweep.schema import ALL, Acceptance, Ingredients

RunsByDepth = Mapping[int, Sequence[Run]]


def ingredients(drafter: str, runs: Mapping[str, RunsByDepth], plain_runs: Sequence[Run]) -> Ingredients | None:
    """A drafter's, from its runs by kind of work and depth; None where plain decoding or the drafter has no rounds."""
    together = [run for by_depth in runs.values() for depth_runs in by_depth.values() for run in depth_runs]
    rounds, plain = list(rounds_of(together)), list(rounds_of(plain_runs))
    step_s = median(target_s for _, _, _, target_s, _ in plain) if plain else 0.0
    if not rounds or step_s <= 0.0:
        return None
    passes: dict[int, list[float]] = defaultdict(list)
    for drafted, _, _, target_s, _ in rounds:
        passes[drafted].append(target_s / step_s)
    draft = [draft_s / drafted / step_s for drafted, _, draft_s, _, _ in rounds if drafted]
    kinds = [acceptance(workload, by_depth) for workload, by_depth in runs.items()]
    return Ingredients(
        drafter=drafter,
        step_s=step_s,
        c=median(draft) if draft else None,
        v={drafted: median(times) for drafted, times in sorted(passes.items())},
        o=median(other_s for *_, other_s in rounds) / step_s,
        o_plain=median(other_s for *_, other_s in plain) / step_s,
        acceptance=(*kinds, total(kinds)) if len(kinds) > 1 else tuple(kinds),
    )


def acceptance(workload: str, by_depth: RunsByDepth) -> Acceptance:
    """The counts of one kind of work; position i from all depths beyond i."""
    kept: Counter[int] = Counter()
    tried: Counter[int] = Counter()
    for run in chain.from_iterable(by_depth.values()):
        for text in run.texts:
            for wanted, accepted in zip(text.wanted, text.accepted, strict=True):
                tried.update(range(min(accepted + 1, wanted)))
                kept.update(range(accepted))
    places = range(max(tried, default=-1) + 1)
    return Acceptance(workload=workload, kept=tuple(kept[at] for at in places), tried=tuple(tried[at] for at in places))


def total(kinds: Sequence[Acceptance]) -> Acceptance:
    """All work together."""
    places = range(max(len(one.tried) for one in kinds))
    kept, tried = (
        tuple(sum(counts[at] for counts in column if at < len(counts)) for at in places)
        for column in ([one.kept for one in kinds], [one.tried for one in kinds])
    )
    return Acceptance(workload=ALL, kept=kept, tried=tried)


def expected_tokens(rates: Sequence[float], k: int) -> float:
    """E: tokens a round at depth `k`, from conditional acceptance by position."""
    return 1.0 + sum(accumulate(rates[:k], lambda reached, rate: reached * rate))


def predict(found: Ingredients, rates: Sequence[float], k: int, runs: Iterable[Run]) -> float | None:
    """The speed-up of depth `k` with this acceptance; `runs` of that depth say how long its drafts are.

    A drafter that always has something to say drafts k tokens in every round; n-grams do not.
    """
    lengths = [
        drafted
        for run in runs
        for text in run.texts
        for wanted, drafted in zip(text.wanted, text.drafted, strict=True)
        if wanted == k
    ]
    if not lengths:
        return None
    draft = sum(lengths) / len(lengths) * (found.c or 0.0)
    verify = sum(found.v[drafted] for drafted in lengths) / len(lengths)
    return expected_speed_up(expected_tokens(rates, k), draft, verify, found.o, found.o_plain)
