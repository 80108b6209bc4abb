"""A sequence ends at the same token, for the same reason and with the same K/V, wherever a draft was cut."""

from collections.abc import Callable

import pytest

from helix_cli.checks.stopping import CAUSES, Stops, StopString
from helix_cli.checks.workbench import Finished, Scripted
from helix_cli.checks.workbench import build as build_workbench
from helix_cli.core import FinishReason, Request, SamplingParams
from helix_cli.draft import DRAFTERS
from tests.harness import build, decoder, prompts

PROMPT = prompts(2, seed=1)[1]
LENGTH = 14
CONTEXT = 128


TARGET = decoder("target", 320)
"""Enough words that the first tokens of its text all differ: any of them can be made the EOS."""


def plain_text() -> list[int]:
    """What the target says when nothing stops it."""
    params = SamplingParams(max_tokens=40, ignore_eos=True)
    return build("none", target=TARGET).run([Request(PROMPT, params)])[0].tokens


TEXT = plain_text()


def test_the_text_is_fit_for_these_tests() -> None:
    assert len(set(TEXT[:8])) == 8


def run(k: int, params: SamplingParams, stop_at: int | None = None) -> Finished:
    """One request with a draft of depth `k` that knows the text; its watch stops the text after `stop_at` tokens."""
    bench = build_workbench(TARGET, Scripted({PROMPT: TEXT}), k)
    seen: list[int] = []

    def watch(token: int) -> bool:
        seen.append(token)
        return len(seen) == stop_at

    outcome = bench.run([Request(PROMPT, params)], watches={0: watch})[0]
    assert seen == outcome.tokens, "the watch sees each committed token once"
    return outcome


def stop_after(count: int) -> StopString:
    """A watch that stops the text after `count` tokens."""

    def make() -> Callable[[int], bool]:
        seen: list[int] = []

        def watch(token: int) -> bool:
            seen.append(token)
            return len(seen) == count

        return watch

    return StopString(make, count)


@pytest.mark.parametrize("cause", CAUSES)
def test_every_stop_at_every_offset(cause: str) -> None:
    offsets = range(1, 9)
    stops = Stops(TARGET, PROMPT, TEXT[:LENGTH], {offset: stop_after(offset) for offset in offsets})
    assert not list(stops.faults(cause, offsets, (0, 1, 3, 4, 7), close=1e-4))


def test_stop_beats_length() -> None:
    outcome = run(4, SamplingParams(max_tokens=5, ignore_eos=True), stop_at=5)
    assert outcome.finish is FinishReason.STOP


def test_counters_are_trimmed_at_a_stop() -> None:
    outcome = run(4, SamplingParams(max_tokens=4, ignore_eos=True))
    # One token from the prefill; then max_tokens clamps the draft to two, and one more is the target's own.
    assert (outcome.sequence.trace.drafted, outcome.sequence.trace.accepted) == ([2], [2])
    outcome = run(4, SamplingParams(max_tokens=LENGTH, ignore_eos=True), stop_at=3)
    assert (outcome.sequence.trace.drafted, outcome.sequence.trace.accepted) == ([2], [2])


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_the_context_end_is_a_length_stop(drafter: str) -> None:
    bench = build(drafter, context=len(PROMPT) + 6, target=TARGET, draft=decoder("draft", 320))
    outcome = bench.run([Request(PROMPT, SamplingParams(max_tokens=100, ignore_eos=True))])[0]
    assert (outcome.tokens, outcome.finish) == (TEXT[:6], FinishReason.LENGTH)


def test_a_draft_with_a_shorter_context_still_works() -> None:
    from dataclasses import replace

    draft = decoder("draft", 320)
    short = replace(draft, architecture=replace(draft.architecture, context=len(PROMPT) + 8))
    bench = build("model", 4, target=TARGET, draft=short)
    outcome = bench.run([Request(PROMPT, SamplingParams(max_tokens=30, ignore_eos=True))])[0]
    assert outcome.tokens == TEXT[:30]
    drafted = outcome.sequence.trace.drafted
    assert drafted[0] == 4 and drafted[-1] == 0
