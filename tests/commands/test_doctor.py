"""`helix doctor` in words, as JSON and as a config, with an exit code; one run of the real thing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import yaml
from typer.testing import CliRunner, Result

from helix_cli.app import app
from helix_cli.doctor import examination
from helix_cli.doctor.children import Answer, ask
from helix_cli.doctor.diagnosis import Findings
from tests.doctor.made import ABSENT, CPU, findings

BROKEN = replace(ABSENT, present=True, text="The GPU fails.", hint="Update the driver.")
Doctor = Callable[..., Result]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Runs `helix doctor` on made-up findings."""

    def run(*arguments: str, found: Findings | None = None) -> Result:
        monkeypatch.setattr(examination, "examine", lambda asked_for: replace(found or findings(), asked_for=asked_for))
        return CliRunner().invoke(app, ["doctor", *arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})

    return run


def test_a_sound_machine(doctor: Doctor) -> None:
    result = doctor()
    assert result.exit_code == 0, result.output
    for words in (
        "Chip 9",
        "avx2",
        "20.0 GB/s",
        "torch 2.13.0+cpu",
        "no",
        "without GPU support",
        "device: cpu",
        "1.0 MiB",
    ):
        assert words in result.stdout
    assert "Problem" not in result.stdout and "Note" not in result.stdout


def test_a_problem_is_a_sentence_a_hint_and_an_exit_code(doctor: Doctor) -> None:
    result = doctor(found=findings(devices=[BROKEN, CPU], threads=8))
    assert result.exit_code == 1
    assert "Problem: The GPU fails.\nHint: Update the driver.\n" in result.stdout
    assert "Note: 8 threads" in result.stdout


def test_as_json(doctor: Doctor) -> None:
    result = doctor("--json", found=findings(devices=[BROKEN, CPU]))
    found = json.loads(result.stdout)
    assert result.exit_code == 1 and found["problems"][0]["message"] == "The GPU fails."
    assert found["bandwidth"] == {"cpu": 2e10} and "device: cpu" in found["suggestion"]


def test_a_suggestion_is_all_of_stdout(doctor: Doctor) -> None:
    result = doctor("--suggest")
    assert result.exit_code == 0 and yaml.safe_load(result.stdout)["backend"] == {"device": "cpu", "threads": 2}


def test_mistakes(doctor: Doctor) -> None:
    for arguments in (["--suggest", "--json"], ["--device", "gpu"]):
        result = doctor(*arguments)
        assert result.exit_code == 2 and "Hint: " in result.stderr and result.stdout == ""


def test_a_device_that_was_asked_for_must_work(doctor: Doctor) -> None:
    assert doctor("--device", "cuda", found=findings(devices=[ABSENT])).exit_code == 1


def test_an_examination_measures_last_and_only_what_works() -> None:
    asked: list[dict[str, tuple[str, ...]]] = []

    def asking(questions: dict[str, tuple[str, ...]]) -> dict[str, Answer]:
        asked.append(questions)
        if "measures" in questions:
            return {"measures": Answer(({"threads": 2, "cores": 2}, {"bandwidth": {"cpu": 1e9}}), None)}
        works = ({"present": True}, {"opened": "x"}, {"dtype": "float32", "problem": None})
        return {name: Answer(works if name in ("mps", "cpu") else ({"refused": "No."},), None) for name in questions}

    found = examination.examine(asking=asking)  # type: ignore[arg-type]
    assert asked[-1] == {"measures": ("helix_cli.doctor.measures", "cpu", "mps")}
    assert found.best is not None and found.best.name == "mps" and found.bandwidth == {"cpu": 1e9}
    assert not found.wrong_packages and not found.mismatches and found.versions["torch"]


def test_a_machine_without_torch_is_still_examined() -> None:
    def asking(questions: dict[str, tuple[str, ...]]) -> dict[str, Answer]:
        return {name: Answer((), "ModuleNotFoundError: No module named 'torch'") for name in questions}

    found = examination.examine(asking=asking)  # type: ignore[arg-type]
    assert found.best is None and "No module named 'torch'" in found.devices[-1].text and found.measuring_failed


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes are really started; the memory probe is left out for its gigabyte."""
    monkeypatch.setattr(examination, "_worth_measuring", lambda devices: [])
    found = examination.examine("cpu", partial(ask, timeout_s=300.0))
    assert found.best is not None and found.best.name == "cpu" and found.measuring_failed is None
    assert set(found.best.number_types) == {"float32", "bfloat16", "float16"} and found.threads and found.kernels


def test_the_doctors_own_process_imports_no_torch() -> None:
    code = (
        "import sys\nimport helix_cli.commands.doctor, helix_cli.doctor.examination, helix_cli.doctor.suggestion\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
