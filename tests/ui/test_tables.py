"""The table of statistics: right numbers, any width."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from helix_cli.core import FinishedEvent, FinishReason
from helix_cli.stats import Trace, summarise
from helix_cli.ui.tables import bar, counted, percent, seconds, stats_table
from tests.ui.screens import INFO, finished_event


def shown(event: FinishedEvent, width: int = 80, ascii_only: bool = False, info: dict[str, Any] = INFO) -> str:
    """The table as text."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(stats_table(event, info, ascii_only))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_number_is_there() -> None:
    lines = {line[:11].strip(): line[11:].strip() for line in shown(finished_event()).splitlines()}
    assert lines == {
        "prompt": "7 tokens, 3 of them cached",
        "answer": "5 tokens, ended at a stop",
        "speed": "10.0 tok/s",
        "first token": "500 ms",
        "per token": "100 ms",
        "rounds": "2",
        "drafted": "8 tokens",
        "accepted": "4 tokens, 50 %",
        "per round": "3.00 tokens",
        "draft 1": "██████████ 100 %",
        "draft 2": "██████████ 100 %",
        "draft 3": "░░░░░░░░░░ 0 %",
        "draft 4": "░░░░░░░░░░ 0 %",
        "time": "draft 25 %, target 75 %, rest 0 %",
        "gaps": "200 ms median, 298 ms p99",
        "cache": "2 blocks of 16, 15 slots empty",
        "contiguous": "would hold 128 blocks",
        "loading": "1.25 s",
        "start": "3.50 s to the first token, all counted",
        "threads": "2",
        "exact": "yes: no sum depends on company",
    }


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("same", "the same ids"),
        ("mapped", "ids mapped; 1,500 of 2,000 tokens shared, 90 % of ordinary text"),
        ("shared", "shared tokens; 1,500 of 2,000 tokens shared, 90 % of ordinary text"),
        ("text", "text, tokenised anew; 1,500 of 2,000 tokens shared, 90 % of ordinary text"),
    ],
)
def test_how_target_and_draft_talk_is_said_with_the_overlap(way: str, words: str) -> None:
    facts = {"way": way, "shared": 1500, "target": 2000, "draft": 1800, "coverage": 0.9}
    text = shown(finished_event(), 200, info=INFO | {"vocabulary": facts})
    assert f"vocabulary {words}" in " ".join(text.split())


@pytest.mark.parametrize("width", [20, 40, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(len(line) for line in shown(finished_event(drafted=12), width).splitlines()) <= width


def test_plain_decoding_has_no_rows_about_drafts() -> None:
    text = shown(finished_event(drafted=0))
    assert "draft " not in text.replace("draft 25 %", "")
    assert "accepted" not in text


def test_what_is_not_defined_is_a_dash() -> None:
    trace = Trace(num_prompt_tokens=1, block_size=16, submitted=0.0)
    stats = summarise(trace, load_s=None, context=64, now=1.0)
    text = shown(FinishedEvent(0, "", (), FinishReason.ABORT, stats))
    assert "speed        -" in text
    assert "interrupted" in text
    assert "loading" not in text and "start" not in text


def test_a_terminal_without_unicode_gets_ascii() -> None:
    assert shown(finished_event(), ascii_only=True).isascii()
    assert bar(0.34, ascii_only=True) == "###......."


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.00123, "1.23 ms"), (0.0123, "12.3 ms"), (0.123, "123 ms"), (1.5, "1.50 s"), (250.0, "250 s")],
)
def test_durations(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_one_of_a_thing_is_no_plural() -> None:
    assert [counted(number, "token") for number in (0, 1, 3000)] == ["0 tokens", "1 token", "3,000 tokens"]


def test_shares() -> None:
    assert (percent(0.125), percent(None)) == ("12 %", "-")


@pytest.mark.parametrize(("end", "verdict"), [(105.0, "1.60 times ("), (113.0, "0.53 times: speculation did not pay")])
def test_what_depth_control_did_and_whether_it_paid(end: float, verdict: str) -> None:
    trace = Trace(20, 16, 100.0)
    for wanted, plain_s in ((4, None), (0, 0.8), (0, 0.8), (2, 0.8)):
        trace.record_round(0, 0, wanted, plain_s)
    trace.record_commit(101.0, 1)
    trace.record_commit(end, 8)
    stats = summarise(trace, load_s=1.0, context=64, now=end, process_to_first_token_s=1.0)
    text = shown(replace(finished_event(), stats=stats), 120)
    assert "0-4, mean 1.5; off for 50" in text
    assert verdict in text and "over 3 steps" in text
