"""The file of results: whole lines only, nothing lost, nothing mixed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helix_cli.commands.results import open_results, unanswered
from helix_cli.core import FinishedEvent, FinishReason
from helix_cli.errors import InputError
from helix_cli.prompt import Prompt
from tests.commands.fakes import some_stats

PROMPTS = [
    Prompt(0, "one", id="\ud800"),
    Prompt(1, messages=({"role": "user", "content": "zwei 😀"},), id={"a": 1}),
    Prompt(2, "three"),
]


def finished(index: int) -> FinishedEvent:
    """The end of one prompt."""
    return FinishedEvent(index, "é\n", (1, 2), FinishReason.LENGTH, some_stats())


def write(file: Path, *indexes: int) -> None:
    """Results of these prompts, at the end of `file`."""
    with open_results(file) as results:
        for index in indexes:
            results.write(PROMPTS[index], finished(index))


def test_a_line_holds_question_answer_and_statistics(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    with open_results(file) as results:
        results.write(PROMPTS[1], finished(1))
        assert file.read_bytes().endswith(b"}\n"), "a line is on disk before the next text ends"
    (line,) = file.read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {
        "index": 1,
        "id": {"a": 1},
        "prompt": [{"role": "user", "content": "zwei 😀"}],
        "text": "é\n",
        "token_ids": [1, 2],
        "finish_reason": "length",
        "stats": some_stats().to_dict(),
    }


def test_resuming_leaves_out_what_is_done(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    assert unanswered(PROMPTS, None, resume=False) == PROMPTS
    assert unanswered(PROMPTS, file, resume=True) == PROMPTS
    write(file, 2, 0)
    assert unanswered(PROMPTS, file, resume=True) == [PROMPTS[1]]
    write(file, 1)
    assert unanswered(PROMPTS, file, resume=True) == []


def test_a_line_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    write(file, 0)
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"index": 1, "te')
    assert unanswered(PROMPTS, file, resume=True) == PROMPTS[1:]
    assert file.read_bytes() == whole


def test_results_are_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    write(file, 0)
    with pytest.raises(InputError, match="already holds results"):
        unanswered(PROMPTS, file, resume=False)


@pytest.mark.parametrize(
    "line", ["{", "5", "{}", '{"index": 9}', '{"index": -1}', '{"index": 2, "id": null, "prompt": "x"}']
)
def test_results_of_other_prompts_are_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "out.jsonl"
    file.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"Line 1 of .* is not the result of any of these prompts"):
        unanswered(PROMPTS, file, resume=True)


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "out.jsonl"):
        with pytest.raises(InputError, match="cannot be written"), open_results(path):
            pass


@pytest.mark.parametrize("content", [b"My thesis, no newline", b"line 1\nprecious last line"])
def test_a_file_that_holds_no_results_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "thesis.txt"
    file.write_bytes(content)
    with pytest.raises(InputError):
        unanswered([Prompt(0, "a")], file, resume=True)
    assert file.read_bytes() == content
