"""`helix drafts` lists what can draft for a target, and what cannot and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helix_cli.app import app
from helix_cli.candidates.measure import Speed
from helix_cli.errors import ModelError
from tests.tiny import tiny_checkpoint, tiny_tokenizer


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target, a draft, and a folder that holds neither."""
    root = tmp_path_factory.mktemp("models")
    tiny_tokenizer(tiny_checkpoint(root / "target"))
    tiny_tokenizer(tiny_checkpoint(root / "small", num_hidden_layers=1))
    (root / "bad").mkdir()
    (root / "bad" / "config.json").write_text("{}")
    return root


@pytest.fixture(autouse=True)
def no_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No checkpoint of the machine that runs the test."""
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_table_and_the_refusals(machine: Path) -> None:
    result = CliRunner().invoke(app, ["drafts", str(machine / "target"), str(machine)])
    assert result.exit_code == 0, result.output
    table, refused = result.stdout.split("Refused:")
    assert str(machine / "small") in table and "same" in table and "256" in table
    assert f"{machine / 'target'}: It is the target itself." in refused and f"{machine / 'bad'}: " in refused


def test_json_is_an_object_a_line(machine: Path) -> None:
    result = CliRunner().invoke(app, ["drafts", str(machine / "target"), str(machine), "--json"])
    lines = {Path(one["path"]).name: one for one in map(json.loads, result.stdout.splitlines())}
    assert set(lines) == {"target", "small", "bad"}
    assert lines["small"]["refusal"] is None and lines["small"]["vocabulary"] == "same"
    assert lines["bad"]["refusal"] and lines["bad"]["num_parameters"] is None
    assert all(one["measured"] is None and one["target"] == str(machine / "target") for one in lines.values())


def test_nothing_found_is_said(machine: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["drafts", str(machine / "target"), str(tmp_path)])
    assert result.exit_code == 0 and result.stdout == "" and "No checkpoint" in result.stderr


def test_measured_speeds_stand_beside_each(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helix_cli.candidates.measure.measure", lambda *_: Speed(20.0, 10.0, 0.5, 2.0, "same"))
    arguments = ["drafts", str(machine / "target"), str(machine), "--measure"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "10.0 tok/s" in result.stdout and "20.0 tok/s" in result.stdout and "2.00 times" in result.stdout
    [line] = [one for one in CliRunner().invoke(app, [*arguments, "--json"]).stdout.splitlines() if "small" in one]
    assert json.loads(line)["measured"]["acceptance_rate"] == 0.5


def test_a_draft_that_fails_when_it_is_measured_is_refused(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Speed:
        raise ModelError("It is broken inside.", "Hint.")

    monkeypatch.setattr("helix_cli.candidates.measure.measure", fail)
    result = CliRunner().invoke(app, ["drafts", str(machine / "target"), str(machine), "--measure"])
    assert result.exit_code == 0 and "It is broken inside." in result.stdout.split("Refused:")[1]


@pytest.mark.parametrize("arguments", [["bad"], ["target", "missing"]])
def test_what_cannot_be_searched_is_an_error_with_a_hint(machine: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["drafts", *(str(machine / name) for name in arguments)])
    assert result.exit_code == 2 and result.stdout == ""
    assert "Error: " in result.stderr and "Hint: " in result.stderr
