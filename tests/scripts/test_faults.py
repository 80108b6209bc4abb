"""The judges of the fault runs: what they accept, and what they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import faults
from scripts.faults import FAULTS, Ended, Missing, before_helix, main, polite, results


def line(index: int) -> str:
    return json.dumps({"index": index, "token_ids": [index]}) + "\n"


def test_a_torn_last_line_is_no_result(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    assert results(file) == {}
    file.write_text(line(0) + line(1) + line(2)[:9])
    assert results(file) == {0: [0], 1: [1]}


def test_a_torn_line_in_the_middle_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text(line(0)[:9] + "\n" + line(1))
    with pytest.raises(json.JSONDecodeError):
        results(file)


OURS = 'Traceback (most recent call last):\n  File "/somewhere/helix_cli/app.py", line 1'
PYTHONS = 'Traceback (most recent call last):\n  File "<frozen runpy>", line 189'


@pytest.mark.parametrize(
    ("ended", "answer"),
    [
        (Ended(-2, b"", "", 1.0), True),
        (Ended(1, b"", PYTHONS + "\nKeyboardInterrupt", 1.0), True),
        (Ended(1, b"", PYTHONS, 1.0), False),
        (Ended(1, b"", OURS + "\nKeyboardInterrupt", 1.0), False),
        (Ended(130, b"", "Interrupted.", 1.0), False),
    ],
)
def test_an_interruption_of_python_itself(ended: Ended, answer: bool) -> None:
    assert before_helix(ended) == answer


@pytest.mark.parametrize("ended", [Ended(1, b"", "Error: it broke.", 1.0), Ended(2, b"", OURS, 1.0)])
def test_an_impolite_end(ended: Ended) -> None:
    with pytest.raises(AssertionError):
        polite(ended)


def test_every_fault_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def lost(world: object) -> str:
        raise AssertionError("a result is gone")

    def missing(world: object) -> str:
        raise Missing("not here")

    monkeypatch.setattr(faults, "FAULTS", {"good": lambda world: "kept", "bad": lost, "other": missing})
    monkeypatch.setattr("sys.argv", ["faults"])
    assert main() == 1
    assert capsys.readouterr().out == "good: kept\nbad: FAILED: a result is gone\nother: left out: not here\n"


def test_an_unknown_fault_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["faults", "flood"])
    with pytest.raises(SystemExit):
        main()
    assert len(FAULTS) == 7
