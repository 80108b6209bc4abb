"""The statistics of one request as a table that fits a narrow terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from helix_cli.core import FinishedEvent, FinishReason
from helix_cli.stats import RequestStats, ratio

if TYPE_CHECKING:
    from rich.table import Table

_UNDEFINED = "-"
_BAR_LENGTH = 10
_ENDS = {
    FinishReason.STOP: "at a stop",
    FinishReason.LENGTH: "at the length limit",
    FinishReason.ABORT: "interrupted",
}


def stats_table(event: FinishedEvent, info: Mapping[str, Any], ascii_only: bool = False) -> Table:
    """Two columns: what is measured, and the value. helix_cli/stats.py defines every number.

    `info` is `SessionInfo.to_dict`, empty where the run never started.
    """
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(event.stats, _ENDS[event.finish_reason], ascii_only):
        table.add_row(name, value)
    if info.get("vocabulary"):
        table.add_row("vocabulary", vocabulary(info["vocabulary"]))
    if info.get("threads") is not None:
        table.add_row("threads", str(info["threads"]))
    return table


def seconds(value: float | None) -> str:
    """A duration, with three digits or so."""
    if value is None:
        return _UNDEFINED
    if value < 1.0:
        return f"{value * 1000:.3g} ms" if value < 0.1 else f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if value < 100.0 else f"{value:.0f} s"


def per_second(value: float | None) -> str:
    """A speed in tokens per second."""
    return _UNDEFINED if value is None else f"{value:.1f} tok/s"


def counted(number: int, word: str) -> str:
    """1 token, 2 tokens, 3,000 tokens."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def percent(value: float | None) -> str:
    """A share of 1."""
    return _UNDEFINED if value is None else f"{value:.0%}".replace("%", " %")


def bar(share: float, ascii_only: bool) -> str:
    """A share of 1 as a bar of fixed length."""
    full, empty = ("#", ".") if ascii_only else ("█", "░")
    length = round(share * _BAR_LENGTH)
    return full * length + empty * (_BAR_LENGTH - length)


def vocabulary(facts: Mapping[str, Any]) -> str:
    """How draft and target talk to each other, with how much of their vocabularies they share."""
    ways = {"same": "the same ids", "mapped": "ids mapped", "shared": "shared tokens", "text": "text, tokenised anew"}
    if facts["way"] == "same":
        return ways["same"]
    shared = f"{facts['shared']:,} of {facts['target']:,} tokens shared"
    return f"{ways[facts['way']]}; {shared}, {percent(facts['coverage'])} of ordinary text"


def _rows(stats: RequestStats, end: str, ascii_only: bool) -> Iterator[tuple[str, str]]:
    reused = f", {stats.num_reused_tokens} of them cached" if stats.num_reused_tokens else ""
    yield "prompt", f"{counted(stats.num_prompt_tokens, 'token')}{reused}"
    if stats.num_evicted_tokens:
        yield "evicted", f"{stats.num_evicted_tokens} kept tokens of other texts"
    yield "answer", f"{counted(stats.num_tokens, 'token')}, ended {end}"
    yield "speed", per_second(stats.tokens_per_second)
    yield "first token", seconds(stats.ttft_s)
    yield "per token", seconds(stats.tpot_s)
    yield "rounds", str(stats.num_rounds)
    if stats.num_drafted:
        yield from _draft_rows(stats, ascii_only)
    if stats.depth_max is not None:
        yield from _depth_rows(stats)
    yield from _time_rows(stats)
    yield "exact", f"{'yes' if stats.exact else 'no'}: {stats.exact_reason}"
    yield (
        "cache",
        f"{counted(stats.peak_blocks, 'block')} of {stats.block_size}, {counted(stats.wasted_slots, 'slot')} empty",
    )
    yield "contiguous", f"would hold {counted(stats.contiguous_blocks, 'block')}"
    if stats.load_s is not None:
        yield "loading", seconds(stats.load_s)
    if stats.process_to_first_token_s is not None:
        yield "start", f"{seconds(stats.process_to_first_token_s)} to the first token, all counted"


def _draft_rows(stats: RequestStats, ascii_only: bool) -> Iterator[tuple[str, str]]:
    yield "drafted", counted(stats.num_drafted, "token")
    yield "accepted", f"{counted(stats.num_accepted, 'token')}, {percent(stats.acceptance_rate)}"
    if stats.mean_acceptance_length is not None:
        yield "per round", f"{stats.mean_acceptance_length:.2f} tokens"
    for place, share in enumerate(stats.acceptance_per_position, start=1):
        yield f"  draft {place}", f"{bar(share, ascii_only)} {percent(share)}"


def _depth_rows(stats: RequestStats) -> Iterator[tuple[str, str]]:
    off = f"; off for {percent(stats.depth_off_share)} of the steps" if stats.depth_off_share else ""
    yield "depth", f"{stats.depth_min}-{stats.depth_max}, mean {stats.depth_mean:.1f}{off}"
    if stats.speed_over_plain is None:
        yield "over plain", "plain speed not measured in this text"
    else:
        verdict = "" if stats.speed_over_plain >= 1.0 else ": speculation did not pay here"
        plain = f"plain {per_second(stats.plain_tokens_per_second)} over {stats.num_plain_steps} steps"
        yield "over plain", f"{stats.speed_over_plain:.2f} times{verdict} ({plain})"


def _time_rows(stats: RequestStats) -> Iterator[tuple[str, str]]:
    total = stats.draft_s + stats.target_s + stats.other_s
    parts = (("draft", stats.draft_s), ("target", stats.target_s), ("rest", stats.other_s))
    if total > 0.0:
        yield "time", ", ".join(f"{name} {percent(ratio(part, total))}" for name, part in parts)
    if stats.itl_p50_s is not None:
        yield "gaps", f"{seconds(stats.itl_p50_s)} median, {seconds(stats.itl_p99_s)} p99"
