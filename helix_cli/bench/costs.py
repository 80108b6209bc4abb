"""What a speculative round costs in plain steps, and what speed-up follows from it. All from raw rounds.

With c the time of a draft token, v that of the target's pass, o that of everything else, all in units of the target's
pass in a plain step, and E tokens a round, the speed-up is E (1 + o_plain) / (K c + v + o). Leviathan et al., arXiv
2211.17192, with the costs of verification and of bookkeeping kept apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from statistics import fmean, median

from helix_cli.bench.schema import Costs, Run, Split
from helix_cli.stats import ratio

Round = tuple[int, int, float, float, float]
"""(drafted, accepted, draft seconds, target seconds, other seconds)."""


def rounds_of(runs: Iterable[Run]) -> Iterator[Round]:
    """Every round of every text. Texts that ran together report the same step, each for itself."""
    for run in runs:
        for text in run.texts:
            for drafted, accepted, times in zip(text.drafted, text.accepted, text.rounds, strict=True):
                yield drafted, accepted, *times


def costs(runs: Iterable[Run], plain_runs: Iterable[Run]) -> Costs | None:
    """The costs of an arm's rounds against the plain arm's steps; None where either has none.

    c and v are medians, so the rounds in which a draft model reads the prompt do not count towards them.
    """
    rounds, plain = list(rounds_of(runs)), list(rounds_of(plain_runs))
    if not rounds or not plain:
        return None
    step_s = median(target_s for _, _, _, target_s, _ in plain)
    if step_s <= 0.0:
        return None
    by_k: dict[int, list[float]] = defaultdict(list)
    for drafted, _, _, target_s, _ in rounds:
        by_k[drafted].append(target_s / step_s)
    draft = [draft_s / drafted / step_s for drafted, _, draft_s, _, _ in rounds if drafted]
    c = median(draft) if draft else None
    v = median(target_s for _, _, _, target_s, _ in rounds) / step_s
    o = median(other_s for *_, other_s in rounds) / step_s
    o_plain = median(other_s for *_, other_s in plain) / step_s
    mean_k = fmean(drafted for drafted, *_ in rounds)
    tokens_per_round = 1.0 + fmean(accepted for _, accepted, *_ in rounds)
    return Costs(
        step_s=step_s,
        mean_k=mean_k,
        c=c,
        v=v,
        v_by_k={k: median(values) for k, values in sorted(by_k.items())},
        o=o,
        o_plain=o_plain,
        tokens_per_round=tokens_per_round,
        expected_speed_up=expected_speed_up(tokens_per_round, mean_k * (c or 0.0), v, o, o_plain),
    )


def expected_speed_up(tokens_per_round: float, draft: float, v: float, o: float, o_plain: float) -> float:
    """E (1 + o_plain) / (K c + v + o); `draft` is K c."""
    return tokens_per_round * (1.0 + o_plain) / (draft + v + o)


def time_split(runs: Iterable[Run]) -> Split | None:
    """Where the time of decoding went, draft prefills included; None where the engine does not tell."""
    draft_s = target_s = other_s = 0.0
    for _, _, draft, target, other in rounds_of(runs):
        draft_s, target_s, other_s = draft_s + draft, target_s + target, other_s + other
    shares = [ratio(part, draft_s + target_s + other_s) for part in (draft_s, target_s, other_s)]
    if any(share is None for share in shares):
        return None
    return Split(draft=shares[0] or 0.0, target=shares[1] or 0.0, other=shares[2] or 0.0)
