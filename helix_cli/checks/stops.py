"""Group stops: a text ends where it would have ended without a draft, for the same reason."""

from __future__ import annotations

from functools import partial

from helix_cli.checks.check import Check, Outcome, Skip, judged
from helix_cli.checks.stopping import Stops, StopString
from helix_cli.checks.subject import TOLERANCES, Subject
from helix_cli.checks.workbench import Scripted, Workbench
from helix_cli.core import FinishReason, Request, SamplingParams
from helix_cli.text import TextStream

STOP_CHARACTERS = 4
"""A stop string is this much of the end of what the text says up to the place; so it spans tokens."""


def _stops(subject: Subject) -> Stops:
    """The first prompt, its greedy text, and a stop string for each place."""
    text = subject.plain[0]
    found: dict[int, StopString] = {}
    for offset in subject.effort.offsets:
        said = subject.tokenizer.decode(text[:offset])[-STOP_CHARACTERS:].rpartition("\N{REPLACEMENT CHARACTER}")[2]
        if not said.strip():
            continue

        def make(stop: str = said) -> TextStream:
            return TextStream(subject.tokenizer, (stop,))

        stream = make()
        expected = next((count for count, token in enumerate(text, start=1) if stream.push(token)), None)
        if expected is not None:
            found[offset] = StopString(lambda make=make: make().push, expected)  # type: ignore[misc]
    return Stops(subject.target, subject.prompts[0], text, found)


def stop(subject: Subject, cause: str) -> Outcome:
    """Every offset, every depth."""
    stops, effort = _stops(subject), subject.effort
    offsets = [offset for offset in effort.offsets if offset <= len(stops.text)]
    if cause == "stop_string":
        offsets = [offset for offset in offsets if offset in stops.stop_strings]
        if not offsets:
            raise Skip("The text holds no characters that could be a stop string.")
    # Keys and values are about as large as the states that they come from.
    close = 10 * TOLERANCES[subject.number_format]
    faults = list(stops.faults(cause, offsets, effort.depths, close))
    runs = len(offsets) * len(effort.depths)
    reason = faults[0] if faults else f"{runs} runs: same tokens, reason, count and K/V as without a draft"
    return judged(not faults, reason, offsets=list(offsets), depths=list(effort.depths), faults=faults[:20])


def precedence(subject: Subject) -> Outcome:
    """A token that is an EOS and the last one allowed."""
    text, prompt = subject.plain[0], subject.prompts[0]
    place = text.index(text[min(4, len(text) - 1)]) + 1
    params = SamplingParams(max_tokens=place)
    eos = frozenset({text[place - 1]})
    reasons = {}
    for k in subject.effort.depths:
        bench = subject.bench(Scripted({prompt: text}), k, eos_ids=eos)
        reasons[k] = bench.run([Request(prompt, params)])[0].finish
    wrong = [k for k, reason in reasons.items() if reason is not FinishReason.STOP]
    reason = f"reason {reasons[wrong[0]]} with drafts of {wrong[0]}" if wrong else "an EOS at the limit is a stop"
    return judged(not wrong, reason, place=place)


def clamped(subject: Subject) -> Outcome:
    """Drafts near the limit of the text."""
    prompt, text = subject.prompts[0], subject.plain[0]
    longest: list[int] = []

    def note(bench: Workbench) -> None:
        for one in bench.outputs[-1].committed:
            if one.draft is not None:
                longest.append(len(one.sequence.tokens) - len(one.tokens) + one.draft.length - len(prompt))

    length = min(7, len(text))
    bench = subject.bench(Scripted({prompt: text}), 16)
    finished = bench.run([Request(prompt, SamplingParams(max_tokens=length, ignore_eos=True))], after_step=note)[0]
    right = finished.tokens == text[:length] and max(longest, default=0) < length
    reason = f"{len(finished.tokens)} tokens of at most {length}; drafts reached place {max(longest, default=0)}"
    return judged(right, reason, max_tokens=length)


CHECKS = (
    Check("stops.eos", "An EOS at any place of an accepted block ends the text there.", partial(stop, cause="eos")),
    Check(
        "stops.stop_string",
        "A stop string that is complete at any place of an accepted block ends the text there.",
        partial(stop, cause="stop_string"),
    ),
    Check(
        "stops.max_tokens",
        "The token limit is kept at any place of an accepted block.",
        partial(stop, cause="max_tokens"),
    ),
    Check(
        "stops.context", "The context's end is kept at any place of an accepted block.", partial(stop, cause="context")
    ),
    Check("stops.precedence", "An EOS that is also the last token allowed counts as a stop.", precedence),
    Check("stops.clamp", "No draft reaches the last place of a text, which is the target's own.", clamped),
)
