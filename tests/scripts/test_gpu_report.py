"""The GPU's report without a GPU: what it says then, and what it makes of made-up measurements."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helix_cli.app import load_command
from helix_cli.backend import open_backend
from helix_cli.bench.reporting import to_json
from helix_cli.errors import DeviceError
from scripts import gpu_report
from scripts.gpu_report import BENCH, TESTED, Goal, goals, main
from tests.bench.made import plain_text, report, row, run
from tests.tiny import tiny_checkpoint

ROOT = Path(__file__).parent.parent.parent


class Commands:
    """Runs nothing; a benchmark writes a made-up report, unless told that it fails."""

    def __init__(self, tests: int = 0, fails: bool = False) -> None:
        self.asked: list[list[str]] = []
        self._tests, self._fails = tests, fails

    def __call__(self, arguments: Sequence[str]) -> tuple[int, str]:
        self.asked.append(list(arguments))
        if arguments[1] == "pytest":
            return self._tests, "......\n6 passed in 1 s"
        if "--json" in arguments and not self._fails:
            Path(arguments[arguments.index("--json") + 1]).write_text(to_json(report()))
        return int(self._fails), ""


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    for role in ("target", "draft"):
        tiny_checkpoint(tmp_path / "pair" / role)
    return tmp_path / "pair"


def start(monkeypatch: pytest.MonkeyPatch, *arguments: Path | str) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_report", *map(str, arguments)])


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU plays the GPU, so that no Triton kernel can be used."""
    backend = replace(open_backend("cpu", 1), description="A card", automatic={torch.bfloat16: torch.bfloat16})
    monkeypatch.setattr(gpu_report, "open_backend", lambda name: backend)


def test_without_a_gpu_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> None:
        raise DeviceError("PyTorch finds no GPU.", "Look for one.")

    start(monkeypatch, tmp_path / "out")
    monkeypatch.setattr(gpu_report, "open_backend", refuse)
    commands = Commands()
    assert main(commands) == 2 and not commands.asked and not (tmp_path / "out").exists()
    assert capsys.readouterr().err == "There is no GPU to report on: PyTorch finds no GPU. Look for one.\n"


def test_the_report_says_what_ran_and_what_was_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pair: Path
) -> None:
    start(monkeypatch, tmp_path / "out", "--pair", pair)
    pretend(monkeypatch)
    assert main(Commands()) == 0
    record = json.loads((tmp_path / "out" / "gpu_report.json").read_text())
    assert record["device"] == "A card" and record["tests"]["exit_code"] == 0
    assert record["why_no_triton_attention"] == record["why_no_int8_weights"] == "it runs on CUDA and ROCm only"
    assert list(record["reports"]) == ["weights-auto"] and record["reports"]["weights-auto"]["rows"]
    text = (tmp_path / "out" / "gpu_report.md").read_text()
    assert "# Helix on A card" in text and "Passed: 6 passed in 1 s" in text and "A verdict." in text
    assert "| speculative against transformers | 10 | " in text and "not measured |" in text


@pytest.mark.parametrize("failing", [{"tests": 1}, {"fails": True}])
def test_what_fails_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pair: Path, failing: dict[str, Any]
) -> None:
    start(monkeypatch, tmp_path / "out", "--pair", pair)
    pretend(monkeypatch)
    assert main(Commands(**failing)) == 1
    text = (tmp_path / "out" / "gpu_report.md").read_text()
    assert ("Failed: 6 passed" in text) == ("tests" in failing)
    assert ("There is no report" in text) == ("fails" in failing)


def test_a_pair_that_cannot_be_made_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(monkeypatch, tmp_path / "out")
    pretend(monkeypatch)
    commands = Commands()
    assert main(commands) == 2
    assert "no pair of models" in capsys.readouterr().err
    assert commands.asked == [["-m", "scripts.make_timing_pair", str(tmp_path / "out" / "pair"), *gpu_report.PAIR[2:]]]


def test_goals_are_means_over_the_work_that_both_did() -> None:
    plain = [run("job", plain_text(11, 0.1))]
    twice, thrice = [run("job", plain_text(11, 0.05))], [run("job", plain_text(11, 0.1 / 8))]
    slow = [run("job", plain_text(11, 1.0))]
    made = report().model_copy(
        update={
            "rows": (
                row("plain", "chat", plain, plain),
                row("speculative", "chat", twice, plain),
                row("plain", "code", plain, plain),
                row("speculative", "code", thrice, plain),
                row("transformers", "code", slow, plain),
                row("speculative", "pp512", thrice, plain, "prompt"),
            )
        }
    )
    share, speed_up, against = goals(made)
    assert speed_up.found == pytest.approx(4.0) and speed_up.verdict == "reached"
    assert against.found == pytest.approx(80.0) and against.verdict == "reached"
    assert share.found == pytest.approx(1000 / 0.1 / 10e3) and share.verdict == "reached"
    assert Goal("x", 1.0, None).verdict == "not measured" and Goal("x", 1.0, 0.5).verdict == "missed"


def test_the_commands_exist() -> None:
    known = {name for parameter in load_command("bench").params for name in parameter.opts}
    assert {one for one in BENCH if one.startswith("--")} | {"--json", "--weights", "--dtype", "--device"} <= known
    assert all((ROOT / one).exists() for one in TESTED)
