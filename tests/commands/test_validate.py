"""`helix validate`: what goes where, which exit code, and what is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from helix_cli.__main__ import leave
from helix_cli.app import app
from helix_cli.checks import environment
from tests.commands.fakes import fails


def helix(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["validate", *arguments], prog_name="helix")


def test_the_table_and_the_verdict_go_to_stdout_and_progress_to_stderr() -> None:
    result = helix("--only", "environment.noise", "--only", "server")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[-1] == "All good: 1 checks passed, 1 skipped."
    assert any(line.startswith("pass") and "environment.noise" in line for line in lines)
    assert any(line.startswith("skipped") and "no server" in line for line in lines)
    assert result.stderr == "environment: 1 pass\nserver: 1 skipped\n"


def test_a_failure_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "KNOWN_UNIFORM", 0.5)
    result = helix("--only", "environment.noise")
    assert result.exit_code == 1 and "FAILED: 1 of 1 checks, environment.noise" in result.stdout


def test_json_and_html_files(tmp_path: Path) -> None:
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    result = helix("--only", "environment.noise", "--json", str(report), "--html", str(page), "--seed", "7", "--quick")
    assert result.exit_code == 0 and "All good" in result.stdout
    content = json.loads(report.read_text())
    assert (content["seed"], content["effort"], content["groups"]) == (7, "quick", ["environment"])
    assert page.read_text().startswith("<!doctype html>")


def test_json_on_stdout_comes_alone() -> None:
    result = helix("--only", "environment.noise", "--json", "-")
    assert json.loads(result.stdout)["exit_code"] == 0
    assert "All good" in result.stderr


def test_an_interruption_still_reports_what_is_finished(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # As in the program itself, where Ctrl-C while models load ends everything at once.
    before = signal.signal(signal.SIGINT, leave)
    try:
        monkeypatch.setattr(environment, "Noise", lambda *_: signal.raise_signal(signal.SIGINT))
        file = tmp_path / "report.json"
        result = helix("--only", "environment.python", "--only", "environment.noise", "--json", str(file))
        assert signal.getsignal(signal.SIGINT) is leave
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130 and "Interrupted, without a verdict: 1 checks passed, 1 skipped." in result.stdout
    content = json.loads(file.read_text())
    assert content["interrupted"] and content["exit_code"] == 130
    assert [one["result"] for one in content["checks"]] == ["pass", "skipped"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_report_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = helix("--only", "environment.noise", "--json", "/dev/full", "--html", str(page))
    assert result.exit_code == 2 and "no space left" in result.stderr
    assert "All good" in result.stdout and "All good" in page.read_text()


def test_a_model_that_is_not_there() -> None:
    fails(
        helix("--model", "./nowhere", "--drafter", "ngram", "--only", "files"), "There is no model directory ./nowhere"
    )


def test_models_that_cannot_be_opened_are_no_success(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    result = helix("--model", str(tmp_path), "--only", "files", "--only", "numerics.finite")
    assert result.exit_code == 1 and "FAILED" in result.stdout
    assert "skipped  numerics.finite" in result.stdout and "could not be opened" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--quick", "--full"], "--quick cannot take effect together with --full", "Leave one"),
        (["--only", "numeric"], "There is no group or check called numeric", "Did you mean numerics?"),
        (["--json", "/nowhere/x.json"], "/nowhere/x.json cannot be written", "a folder that exists"),
        (["--json", "x", "--html", "x"], "Two outputs have the same name", "a file of its own"),
        (["--seed", "-1"], "--seed -1 is out of range", "whole number"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments: list[str], message: str, hint: str) -> None:
    fails(helix(*arguments), message, hint)


def test_options_without_effect_do_not_exist() -> None:
    assert "No such option" in helix("--temperature", "1").stderr
