"""`helix plan` says what fits, with an exit code for scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from helix_cli.app import app
from tests.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a tokenizer: none is needed."""
    return tiny_checkpoint(tmp_path_factory.mktemp("model"), max_position_embeddings=5000)


def plan(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan", "--set", "backend.threads=1", *arguments], env={"COLUMNS": "200"})


def free(monkeypatch: pytest.MonkeyPatch, num_bytes: int) -> None:
    """Makes the processor say that so much memory is free, of 4 GiB."""
    monkeypatch.setattr("helix_cli.backend.cpu.host.available_memory", lambda: num_bytes)
    monkeypatch.setattr("helix_cli.backend.cpu.host.total_memory", lambda: 4 * 2**30)


def test_a_model_that_fits(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2**30)
    result = plan("--model", str(model), "--drafter", "early_exit", "--weights", "float32")
    assert result.exit_code == 0, result.output
    assert "It fits: " in result.stdout and "enough for 16 texts of the model's 5,000." in result.stdout
    assert "1.0 GiB free of 4.0 GiB" in result.stdout
    assert "The draft adds no weights and 33 % to the keys and values." in result.stdout
    for words in ("2,048", "4,096", "5,000", "4 texts", "float32", "shared", "K/V a token"):
        assert words in result.stdout


def test_the_chosen_formats_and_the_parameters_are_told(model: Path) -> None:
    told = plan("--model", str(model), "--draft", "demo").stdout
    assert "Models (* as they would be loaded)" in told
    count = json.loads(plan("--model", str(model), "--json").stdout)["models"][0]["parameters"]
    assert f"{count:,}" in told and "1.6 M" in told


def test_a_context_that_does_not_fit_says_what_would(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2**30)
    result = plan("--model", str(model), "--set", "cache.blocks=200")
    assert result.exit_code == 0
    assert "a cache of 3,200 tokens, enough for a text of 3,200 of the model's 5,000." in result.stdout
    assert "cache.blocks=313 would hold all of it." in result.stdout and " no" in result.stdout


def test_a_model_that_does_not_fit(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2**20)
    result = plan("--model", str(model))
    assert result.exit_code == 1
    assert "It does not fit: The model and one step of it need" in result.stdout
    found = json.loads(plan("--model", str(model), "--json").stdout)
    assert found["fits"] is False and found["free"] == 2**20 and found["refusal"]


def test_the_embedded_pair_as_json() -> None:
    result = plan("--json", "--weights", "float32", "--draft-weights", "float32")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["fits"] and [one["role"] for one in found["models"]] == ["target", "draft"]
    assert all(one["weight_bytes"] >= 4 * one["parameters"] for one in found["models"])


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    result = plan("--model", str(tmp_path / "none"))
    assert result.exit_code == 2 and "Hint: " in result.stderr and result.stdout == ""
    assert plan("--temperature", "1").exit_code == 2
