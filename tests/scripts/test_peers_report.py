"""The numbers of the comparison, and how a failure shows."""

import json
from typing import Any

import pytest

from scripts.peer_protocol import Run
from scripts.peers_arms import Arm
from scripts.peers_report import COLUMNS, Result, numbers, page, record, row, speed, table

ABOUT: dict[str, Any] = {
    "hardware": {"processor": "P", "instructions": ["avx2"], "cores": 2, "memory_gib": 23.5, "system": "Linux"},
    "threads": 2,
    "rounds": 3,
    "tokens": 9,
    "prompt_tokens": [60, 66],
    "long_prompt_tokens": 512,
    "conditions": [
        {"read_bandwidth_gb_s": 20.0, "load_average": None},
        {"read_bandwidth_gb_s": 10.0, "load_average": 1},
    ],
}


def text(decode_s: float, rounds: int, tokens: int = 9, num_first: int = 1) -> Run:
    """A text of token ids from 0."""
    return Run(list(range(tokens)), 0.2, num_first, decode_s, rounds)


def results() -> list[Result]:
    """One engine plain and with a draft over two prompts, and an arm that failed after its first text."""
    plain, drafted, other = (Arm("Engine", w, k, None) for w, k in (("int8", 0), ("int8", 4), ("bf16", 0)))
    fast = text(0.5, 2)
    odd = Run([*range(8), 99], 0.4, 1, 2.0, 4)
    return [
        Result(plain, {(0, 0): text(1.0, 8), (0, 1): text(4.0, 8)}, [1.5], [2.0], 2**31, {"engine": "1.0"}),
        Result(drafted, {(0, 0): fast, (0, 1): odd}, [1.0], [2.0], None, {"engine": "1.0"}),
        Result(other, {(0, 0): text(1.0, 8)}, problem="failed: it said\n a | b"),
    ]


def test_speed_counts_what_came_after_the_first_tokens() -> None:
    """An engine that drafts before its first token gets no speed for tokens that cost no counted time."""
    assert speed(text(2.0, 8)) == 4.0
    assert speed(text(2.0, 4, tokens=9, num_first=3)) == 3.0


def test_ratios_are_taken_text_by_text() -> None:
    """Speeds 8 and 2 against 16 and 4: twice as fast in each text, whatever the medians say."""
    all_results = results()
    found = numbers(all_results[1], all_results)
    assert found["tokens_per_second"] == 10.0
    assert found["tokens_per_second_range"] == [4.0, 16.0]
    assert found["against_plain"] == 2.0
    assert found["round_ms"] == 375.0
    assert found["tokens_per_round"] == 3.0
    assert (found["equal_texts"], found["compared_texts"]) == (1, 2)
    assert found["first_ms"] == pytest.approx(300.0)
    assert found["peak_gib"] is None
    assert numbers(all_results[0], all_results)["peak_gib"] == 2.0


def test_without_a_plain_arm_that_worked_there_is_no_ratio() -> None:
    all_results = results()
    all_results[0].problem = "failed: gone"
    assert numbers(all_results[1], all_results)["against_plain"] is None
    assert row(all_results[1], all_results)[4] == "-"


def test_a_failed_arm_is_its_message_and_no_number() -> None:
    all_results = results()
    line = row(all_results[2], all_results)
    assert line[:4] == ["Engine", "bf16", "none", "failed: it said  a / b"]
    assert set(line[4:]) == {"-"}
    assert record(all_results)[2] == {
        "engine": "Engine",
        "weights": "bf16",
        "k": 0,
        "problem": "failed: it said\n a | b",
    }
    assert all_results[2].failed


def test_absent_is_shown_but_is_no_failure_and_nothing_measured_is_said_so() -> None:
    absent = Result(Arm("Engine", "int8", 0, None), problem="not installed: name it")
    idle = Result(Arm("Engine", "int8", 4, None))
    assert not absent.failed and not idle.failed
    assert row(absent, [absent])[3] == "not installed: name it"
    assert row(idle, [idle])[3] == "not measured"
    assert "runs" not in record([idle])[0]


def test_every_line_of_the_table_has_every_column() -> None:
    lines = table(results()).splitlines()
    assert len(lines) == 5
    assert all(line.count(" | ") == len(COLUMNS) - 1 for line in lines)
    assert lines[2].startswith(
        "| Engine | int8 | none | 5.0 (2.0 to 8.0) | 1.00 | 312.5 | 1.00 | - | 200 | 1500 | 2.00 |"
    )
    assert lines[3].startswith("| Engine | int8 | K = 4 | 10.0 (4.0 to 16.0) | 2.00 | 375.0 | 3.00 | 1 of 2 |")


def test_the_record_is_strict_json_with_every_run() -> None:
    written = json.loads(json.dumps(record(results()), allow_nan=False))
    assert [run["prompt"] for run in written[1]["runs"]] == [0, 1]
    assert written[1]["runs"][1]["tokens"][-1] == 99


def test_the_page_says_what_was_measured_and_how_far_it_came() -> None:
    said = page(ABOUT, results())
    assert "Read bandwidth 10.0 to 20.0 GB/s, load average 1.0 to 1.0" in said
    assert "2 prompts of 60 to 66 tokens and one of 512; 9 new tokens, greedy; 2 of 3 rounds" in said
    assert "\nVersions: engine 1.0.\n" in said
