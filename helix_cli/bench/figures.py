"""The figures of one row, computed from its raw runs. helix_cli/stats.py defines those of a single text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median

from helix_cli.bench.costs import costs, time_split
from helix_cli.bench.intervals import log_speeds, paired, ratio_interval
from helix_cli.bench.schema import Depths, Figures, Interval, Kind, Run, Setup, Text
from helix_cli.stats import RequestStats, acceptance_per_position, percentile, ratio, summarise

Speed = Callable[[Run], float | None]


def prompt_speed(run: Run) -> float | None:
    """Prompt tokens over the time to the first token, as llama-bench's pp; for one text."""
    [text] = run.texts
    return ratio(text.num_prompt_tokens - text.num_reused, text.commits[0][0]) if text.commits else None


def text_speed(run: Run) -> float | None:
    """Tokens after the first commit over the time from the first to the last; for one text."""
    [text] = run.texts
    if len(text.commits) < 2:
        return None
    return ratio(sum(count for _, count in text.commits[1:]), text.commits[-1][0] - text.commits[0][0])


def batch_speed(run: Run) -> float | None:
    """Tokens of all texts over the time of the whole run, prompts included."""
    return ratio(sum(len(text.token_ids) for text in run.texts), run.elapsed_s)


SPEEDS: Mapping[Kind, Speed] = {
    "prompt": prompt_speed,
    "shape": text_speed,
    "task": text_speed,
    "batch": batch_speed,
}
"""The speed of a workload by its kind."""


def figures(
    kind: Kind,
    runs: Sequence[Run],
    plain_runs: Sequence[Run],
    smallest_runs: Sequence[Run],
    setup: Setup,
    bandwidth: float | None,
) -> Figures | None:
    """All figures of a row; None where no run has a speed.

    `plain_runs` are the plain arm's in the same workload, `smallest_runs` the same arm's in the smallest batch.
    """
    speed = SPEEDS[kind]
    speeds = [value for run in runs if (value := speed(run)) is not None]
    together = overall_speed(kind, runs)
    if together is None:
        return None
    texts = [text for run in runs for text in run.texts]
    stats = [summarise(text.trace(), load_s=None, context=setup.context, now=text.commits[-1][0]) for text in texts]
    gaps = [gap for text in texts for gap in text.trace().gaps()]
    drafted, accepted = _joined(texts, "drafted"), _joined(texts, "accepted")
    bytes_per_round = _weight_bytes(setup, drafted)
    return Figures(
        num_texts=len(texts),
        num_tokens=sum(len(text.token_ids) for text in texts),
        speed=together,
        speed_range=(min(speeds), max(speeds)),
        speed_up=speed_up(runs, plain_runs, speed),
        batch_gain=batch_gain(runs, smallest_runs) if kind == "batch" else None,
        equal_texts=equal_texts(runs, plain_runs),
        ttft_s=_median(one.ttft_s for one in stats),
        tpot_s=_median(one.tpot_s for one in stats),
        itl_p50_s=percentile(gaps, 50.0),
        itl_p95_s=percentile(gaps, 95.0),
        itl_p99_s=percentile(gaps, 99.0),
        acceptance_rate=ratio(sum(accepted), sum(drafted)),
        mean_acceptance_length=tokens_per_round(texts),
        acceptance_per_position=acceptance_per_position(drafted, accepted),
        depths=depths(_joined(texts, "wanted")),
        costs=costs(runs, plain_runs),
        split=time_split(runs),
        **_cache_figures(runs, stats, setup),
        peak_memory=max((run.peak_memory for run in runs if run.peak_memory is not None), default=None),
        weight_bytes_per_round=bytes_per_round,
        bandwidth_share=_bandwidth_share(texts, bytes_per_round, bandwidth) if kind in ("shape", "task") else None,
    )


def overall_speed(kind: Kind, runs: Sequence[Run]) -> float | None:
    """The speed of a row: the median over runs; of batches all tokens over all time. None where no run has one."""
    if kind == "batch":
        return total_speed(runs) if runs else None
    return _median(map(SPEEDS[kind], runs))


def speed_up(runs: Sequence[Run], plain_runs: Sequence[Run], speed: Speed) -> Interval | None:
    """Against the plain arm, paired by job; None for the plain arm itself."""
    if runs is plain_runs:
        return None
    return ratio_interval(paired(log_speeds(runs, speed), log_speeds(plain_runs, speed)))


def total_speed(runs: Sequence[Run]) -> float:
    """Tokens of all runs over their time, one after the other."""
    return sum(len(text.token_ids) for run in runs for text in run.texts) / sum(run.elapsed_s for run in runs)


def batch_gain(runs: Sequence[Run], smallest_runs: Sequence[Run]) -> Interval | None:
    """Total speed against the smallest batch's, paired by round; only rounds in which both had all prompts count."""
    if runs is smallest_runs:
        return None
    logs = []
    for at in sorted({run.round for run in runs}):
        mine, base = ([run for run in some if run.round == at] for some in (runs, smallest_runs))
        if sum(len(run.texts) for run in mine) == sum(len(run.texts) for run in base):
            logs.append(math.log(total_speed(mine) / total_speed(base)))
    return ratio_interval(logs)


def equal_texts(runs: Sequence[Run], plain_runs: Sequence[Run]) -> tuple[int, int] | None:
    """Texts with the plain arm's tokens, of those that both have; None for the plain arm itself."""
    if runs is plain_runs:
        return None
    plain = {(run.job, run.round): run.texts for run in plain_runs}
    pairs = [
        (mine.token_ids, base.token_ids)
        for run in runs
        for mine, base in zip(run.texts, plain.get((run.job, run.round), ()), strict=False)
    ]
    return (sum(mine == base for mine, base in pairs), len(pairs)) if pairs else None


def tokens_per_round(texts: Sequence[Text]) -> float | None:
    """Mean acceptance length: 1 + accepted / rounds; tokens a commit where the engine tells no more."""
    rounds = sum(len(text.drafted) for text in texts)
    if rounds:
        return 1.0 + sum(_joined(texts, "accepted")) / rounds
    later = [count for text in texts for _, count in text.commits[1:]]
    return fmean(later) if later else None


def depths(wanted: Sequence[int]) -> Depths | None:
    """What the choice of depth came to, from the tokens asked for in each round."""
    if not any(wanted):
        return None
    off = wanted.count(0) / len(wanted)
    return Depths(least=min(wanted), most=max(wanted), mean=fmean(wanted), off_share=off)


def _joined(texts: Sequence[Text], name: str) -> list[int]:
    return [value for text in texts for value in getattr(text, name)]


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _cache_figures(runs: Sequence[Run], stats: Sequence[RequestStats], setup: Setup) -> dict[str, int | None]:
    """Of the run whose texts held most blocks together."""
    if setup.kv_block_bytes is None:
        return dict.fromkeys(("peak_blocks", "wasted_slots", "contiguous_blocks", "kv_bytes"))
    held, place = [], 0
    for run in runs:
        group = stats[place : place + len(run.texts)]
        place += len(run.texts)
        blocks, waste = sum(one.peak_blocks for one in group), sum(one.wasted_slots for one in group)
        held.append((blocks, waste, sum(one.contiguous_blocks for one in group)))
    blocks, waste, contiguous = max(held)
    return {
        "peak_blocks": blocks,
        "wasted_slots": waste,
        "contiguous_blocks": contiguous,
        "kv_bytes": blocks * setup.kv_block_bytes,
    }


def _weight_bytes(setup: Setup, drafted: Sequence[int]) -> float | None:
    """Weights that a round reads: the target's once, the draft's once a token; None if nobody knows how many."""
    if setup.draft is None:
        return float(setup.target.weight_bytes)
    return setup.target.weight_bytes + fmean(drafted) * setup.draft.weight_bytes if drafted else None


def _bandwidth_share(texts: Sequence[Text], bytes_per_round: float | None, bandwidth: float | None) -> float | None:
    if bytes_per_round is None or not bandwidth:
        return None
    seconds = sum(text.commits[-1][0] - text.commits[0][0] for text in texts)
    num_rounds = sum(len(text.commits) - 1 for text in texts)
    return bytes_per_round * num_rounds / seconds / bandwidth if seconds > 0.0 else None
