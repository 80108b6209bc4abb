"""The line of statistics below an answer. helix_cli/stats.py defines every number in it."""

from __future__ import annotations

from helix_cli.core import FinishedEvent, FinishReason
from helix_cli.stats import RequestStats
from helix_cli.ui.tables import per_second, percent, seconds


def turn_line(event: FinishedEvent) -> str:
    """Tokens, speed, first token, what the cache saved, how the draft fared."""
    stats = event.stats
    parts = [f"{stats.num_tokens} tokens", per_second(stats.tokens_per_second)]
    parts.append(f"first token {seconds(stats.ttft_s)}")
    if stats.num_reused_tokens:
        parts.append(f"{stats.num_reused_tokens} of {stats.num_prompt_tokens} prompt tokens reused")
    if stats.num_evicted_tokens:
        parts.append(f"{stats.num_evicted_tokens} kept tokens evicted")
    parts.extend(_draft_parts(stats))
    if event.finish_reason is FinishReason.ABORT:
        parts.append("stopped")
    return ", ".join(parts)


def context_meter(used: int, capacity: int, columns: int) -> str:
    """How full the context is, for the margin of a prompt; shorter on a narrow terminal."""
    share = percent(min(1.0, used / capacity))
    return share if columns < 60 else f"context {share}"


def _draft_parts(stats: RequestStats) -> list[str]:
    if not stats.num_drafted:
        return []
    accepted = f"{percent(stats.acceptance_rate)} of the draft accepted"
    return [accepted] if stats.depth_mean is None else [accepted, f"mean depth {stats.depth_mean:.1f}"]
