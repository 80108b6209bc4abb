"""A sequence ends at the same token, for the same reason and with the same K/V, wherever a draft was cut."""

from typing import Any

import pytest
import torch

from helix_cli.core import FinishReason, Request, SamplingParams
from helix_cli.draft import DRAFTERS
from helix_cli.draft.none import NoDrafter
from tests.harness import Bench, Outcome, build, decoder, prompts

PROMPT = prompts(2, seed=1)[1]
LENGTH = 14
CONTEXT = 128


class Oracle(NoDrafter):
    """Drafts the text that is known to come, so that every offset of a stop inside an accepted run is met."""

    def __init__(self, text: list[int]) -> None:
        self.text = text

    def propose(self, wanted: Any) -> Any:
        from helix_cli.core import Draft

        drafts = {}
        for sequence, depth, *_ in wanted:
            tokens = self.text[sequence.num_generated :][:depth]
            drafts[sequence.id] = Draft(torch.tensor(tokens), len(tokens))
        return drafts


TARGET = decoder("target", 320)
"""Enough words that the first tokens of its text all differ: any of them can be made the EOS."""


def plain_text() -> list[int]:
    """What the target says when nothing stops it."""
    params = SamplingParams(max_tokens=40, ignore_eos=True)
    return build("none", target=TARGET).run([Request(PROMPT, params)])[0].tokens


TEXT = plain_text()


def test_the_text_is_fit_for_these_tests() -> None:
    assert len(set(TEXT[:8])) == 8


def run(k: int, params: SamplingParams, stop_at: int | None = None, context: int = CONTEXT) -> tuple[Outcome, Bench]:
    """One request with an oracle draft of depth `k`; its watch stops the text after `stop_at` tokens."""
    bench = build("none", k, context=context, target=TARGET)
    bench.engine.drafter = Oracle(TEXT)
    seen: list[int] = []

    def watch(token: int) -> bool:
        seen.append(token)
        return len(seen) == stop_at

    outcome = bench.run([Request(PROMPT, params)], watches={0: watch})[0]
    assert seen == outcome.tokens, "the watch sees each committed token once"
    return outcome, bench


def keys_and_values(bench: Bench, num_positions: int) -> torch.Tensor:
    """The K/V of the first positions; the only sequence of a fresh pool starts in its first slot."""
    return torch.stack([layer[:, :, :num_positions] for layer in bench.target_cache.layers])


@pytest.mark.parametrize("stop_at", range(1, 9))
@pytest.mark.parametrize("cause", ["eos", "stop string", "max_tokens", "context"])
def test_every_stop_at_every_offset(cause: str, stop_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    params = SamplingParams(max_tokens=stop_at if cause == "max_tokens" else LENGTH, ignore_eos=cause != "eos")
    context = len(PROMPT) + stop_at if cause == "context" else CONTEXT
    eos = TEXT[stop_at - 1]
    if cause == "eos":
        monkeypatch.setattr("tests.harness.EOS", frozenset({eos}))
    outcomes = {}
    for k in (0, 1, 3, 4, 7):
        outcome, bench = run(k, params, stop_at if cause == "stop string" else None, context)
        expected = FinishReason.STOP if cause in ("eos", "stop string") else FinishReason.LENGTH
        assert (outcome.tokens, outcome.finish) == (TEXT[:stop_at], expected)
        trace = outcome.sequence.trace
        assert sum(count for _, count in trace.commit_times) == stop_at
        assert stop_at == 1 + len(trace.drafted) + sum(trace.accepted) - stopped_by_a_draft(trace, stop_at)
        outcomes[k] = keys_and_values(bench, len(PROMPT) + stop_at - 1)
    for k, found in outcomes.items():
        torch.testing.assert_close(found, outcomes[0], atol=1e-4, rtol=1e-4, msg=f"K/V differ at k={k}")


def stopped_by_a_draft(trace: Any, num_tokens: int) -> int:
    """1 when the last round ended inside its draft, and so brought no token of the target's own."""
    return int(bool(trace.drafted) and num_tokens > 1 and trace.commit_times[-1][1] == trace.accepted[-1])


def test_stop_beats_length() -> None:
    outcome, _ = run(4, SamplingParams(max_tokens=5, ignore_eos=True), stop_at=5)
    assert outcome.finish is FinishReason.STOP


def test_counters_are_trimmed_at_a_stop() -> None:
    outcome, _ = run(4, SamplingParams(max_tokens=4, ignore_eos=True))
    # One token from the prefill; then max_tokens clamps the draft to two, and one more is the target's own.
    assert (outcome.sequence.trace.drafted, outcome.sequence.trace.accepted) == ([2], [2])
    outcome, _ = run(4, SamplingParams(max_tokens=LENGTH, ignore_eos=True), stop_at=3)
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
