"""What is a problem, what is a note, and what is neither."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from helix_cli.doctor.devices import Device
from helix_cli.doctor.diagnosis import find_notes, find_problems
from helix_cli.packages import Mismatch
from tests.doctor.made import ABSENT, CARD, CPU, findings

BROKEN = replace(ABSENT, present=True, has_driver=True, text="The GPU fails.", hint="Update the driver.")

NO_TORCH = Device("cpu", False, "cpu fails: no torch.", "Install PyTorch again.")


def test_a_sound_machine_has_neither() -> None:
    assert list(find_problems(findings())) == [] and list(find_notes(findings())) == []
    assert findings().best == CPU and findings(devices=[CARD, CPU]).best == CARD


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"python": ("3.9.1", ">=3.11", False)}, "Python 3.9.1 is outside >=3.11.", "environment"),
        ({"wrong_packages": ["tokenizers is not installed"]}, "Tokenizers is not installed.", "Install helix-cli"),
        ({"mismatches": [Mismatch("A bad pair.", "Part them.")]}, "A bad pair.", "Part them."),
        ({"devices": [BROKEN, CPU]}, "The GPU fails.", "Update the driver."),
        ({"devices": [ABSENT], "asked_for": "cuda"}, ABSENT.text, ABSENT.hint),
        ({"devices": [ABSENT, NO_TORCH]}, "cpu fails: no torch.", "Install PyTorch again."),
    ],
)
def test_problems(changes: dict[str, Any], message: str, hint: str) -> None:
    (problem,) = find_problems(findings(**changes))
    assert problem.message == message and hint in problem.hint


def test_a_problem_is_said_once() -> None:
    twice = findings(mismatches=[Mismatch("The GPU fails.", "First.")], devices=[BROKEN, CPU])
    assert [one.hint for one in find_problems(twice)] == ["First."]


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"devices": [replace(ABSENT, has_driver=True), CPU]}, "has a driver for cuda", "CUDA build"),
        ({"devices": [replace(CPU, number_types={"float16": "off", "float32": None})]}, "float16 does not", "--dtype"),
        ({"kernels": {"attention": False}, "compiler": None}, "Not compiled here", "Install a C compiler"),
        ({"kernels": {"attention": False}}, "Not compiled here", "another compiler"),
        ({"threads": 8}, "8 threads would run on 2", "OMP_NUM_THREADS"),
        ({"measuring_failed": "it gave no answer"}, "it gave no answer", "again"),
    ],
)
def test_notes(changes: dict[str, Any], message: str, hint: str) -> None:
    (note,) = find_notes(findings(**changes))
    assert message in note.message and hint in note.hint
    assert list(find_problems(findings(**changes))) == []


def test_everything_is_json() -> None:
    found = json.loads(json.dumps(findings(devices=[BROKEN, CPU]).to_dict()))
    assert found["problems"] == [{"message": "The GPU fails.", "hint": "Update the driver."}]
    assert found["devices"][1]["number_types"]["float32"] is None
