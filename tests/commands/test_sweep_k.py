"""`helix sweep-k` over a tiny pair, from its command line to its files."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from helix_cli.app import app, load_command
from helix_cli.bench.arms import HelixArm
from helix_cli.bench.sweep.schema import Sweep
from helix_cli.commands.settings import OPTIONS
from helix_cli.config import load_config
from helix_cli.draft.auto_depth import AutoDepth
from helix_cli.session import open_session
from tests.commands.fakes import fails
from tests.test_session import save_pair

SMALL = ("--k", "0,2", "--categories", "chat", "--limit", "2", "--tokens", "6")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_pair(tmp_path_factory.mktemp("pair"), max_position_embeddings=1024)


@pytest.fixture(autouse=True)
def small_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helix_cli.bench.machine.read_bandwidth", lambda device: 1e9)


def helix(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="helix")


def sweep(pair: tuple[Path, Path], *arguments: str) -> Result:
    models = ("--model", str(pair[0]), "--draft", str(pair[1]), "--set", "backend.threads=1")
    return helix("sweep-k", *models, *arguments)


def measured(pair: tuple[Path, Path], directory: Path, *arguments: str) -> tuple[Result, Sweep]:
    result = sweep(pair, *arguments, "--json", str(directory / "s.json"))
    return result, Sweep.model_validate_json((directory / "s.json").read_bytes())


def test_three_drafters_from_the_command_line_to_the_files(pair: tuple[Path, Path], tmp_path: Path) -> None:
    files = ("--csv", str(tmp_path / "s.csv"), "--markdown", str(tmp_path / "s.md"), "--plot", str(tmp_path / "s.svg"))
    asked = ("--k", "0,1,3", "--drafter", "ngram,model,early_exit", "--categories", "chat,code", "--limit", "2")
    result, found = measured(pair, tmp_path, *asked, "--tokens", "12", "--precision", "0", *files)
    assert result.exit_code == 0, result.output
    names = {"plain", *(f"{kind} K={k}" for kind in ("ngram", "model", "early_exit") for k in (1, 3))}
    assert {(row.arm, row.workload) for row in found.rows} == {
        (name, work) for name in names for work in ("chat", "code")
    }
    for row in found.rows:
        assert row.figures.equal_texts in (None, (2, 2)), (row.arm, row.workload)
        drafted = [count for run in row.runs for text in run.texts for count in text.drafted]
        assert max(drafted, default=0) <= int(row.setup.k)
        assert row.setup.config["draft"]["kind"] == row.setup.drafter or row.setup.k == 0
    facts = {row.setup.drafter: row.setup.draft for row in found.rows}
    assert facts["model"] is not None and facts["model"].name == str(pair[1])
    assert facts["early_exit"] is not None and facts["early_exit"].name == "the first 1 layers of the target"
    assert facts["ngram"] is None and facts["none"] is None
    parts = {one.drafter: one for one in found.ingredients}
    assert parts["model"].c and {1, 3} <= parts["model"].v.keys() and 0 in parts["ngram"].v
    assert len(found.gains) == 3 * 7 and all(one.predicted for one in found.gains if one.k)
    assert found.verdict in result.stdout and "Speed by depth: all" in result.stdout
    assert (tmp_path / "s.csv").read_text().count("\n") == 22
    assert "### Acceptance at 1, 2" in (tmp_path / "s.md").read_text()
    assert "<svg" in (tmp_path / "s.svg").read_text()


def test_the_choice_is_saved(pair: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        f"model:\n  path: {pair[0]} # mine\ndraft:\n  kind: model\n  path: {pair[1]}\n  k: 9 # to be found\n"
    )
    result, found = measured(pair, tmp_path, *SMALL, "--save", str(file))
    assert result.exit_code == 0, result.output
    assert found.choice is not None and load_config(file).draft.k == found.choice.k
    assert "# mine" in file.read_text() and "# to be found" in file.read_text()
    assert f"{file} now has {found.choice.arm}." in result.stderr


def test_depth_control_starts_from_what_was_measured(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIX_CACHE_DIR", str(tmp_path / "cache"))
    result = sweep(pair, "--k", "1,2,3", "--categories", "chat", "--limit", "2", "--tokens", "24")
    assert "What drafter model costs and gains here is kept for draft.k: auto." in result.stderr
    chosen = [f"model.path={pair[0]}", f"draft.path={pair[1]}", "backend.threads=1", "draft.k=auto"]
    depth = open_session(load_config(None, chosen)).engine.scheduler.depth
    assert isinstance(depth, AutoDepth) and depth.costs.draft_known("model") and depth.costs.step.known


def test_a_setting_that_fails_makes_the_exit_code_1(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = HelixArm.run

    def fail(self: HelixArm, job: Any) -> Any:
        if self.name == "model K=2":
            raise RuntimeError("no kernel for this")
        return run(self, job)

    monkeypatch.setattr(HelixArm, "run", fail)
    result, found = measured(pair, tmp_path, *SMALL)
    assert result.exit_code == 1 and "RuntimeError: no kernel for this" in result.stdout
    assert {row.arm for row in found.rows} == {"plain"} and found.choice is None


def test_ctrl_c_reports_what_is_finished_and_saves_nothing(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = HelixArm.run, []

    def interrupted(self: HelixArm, job: Any) -> Any:
        asked.append(self.name)
        if len(asked) == 5:  # Two warm-ups, and a text of each arm.
            signal.raise_signal(signal.SIGINT)
        return run(self, job)

    monkeypatch.setattr(HelixArm, "run", interrupted)
    result, found = measured(pair, tmp_path, *SMALL, "--save", str(tmp_path / "x.yaml"))
    assert result.exit_code == 130 and found.interrupted
    assert [(row.arm, len(row.runs)) for row in found.rows] == [("plain", 1), ("model K=2", 1)]
    assert not (tmp_path / "x.yaml").exists() and "was left as it is: the run was interrupted" in result.stderr


def test_a_file_of_prompts_and_stdout(pair: tuple[Path, Path], tmp_path: Path) -> None:
    prompts = tmp_path / "mine.jsonl"
    prompts.write_text('{"prompt": "The quick brown fox"}\n{"prompt": "Please"}\n', encoding="utf-8")
    result = sweep(pair, "--k", "1", "--tokens", "6", "--prompts", str(prompts), "--json", "-")
    assert result.exit_code == 0, result.output
    found = Sweep.model_validate_json(result.stdout)
    assert {one.workload for one in found.gains} == {"mine.jsonl"} and found.verdict in result.stderr


def test_prompts_of_which_no_text_has_a_speed(pair: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    asked = ("--k", "0,2", "--prompts", str(file), "--tokens", "6")
    for line, message, code in (
        ('{"prompt": "ab", "max_tokens": 1}', "no text was long enough to have a speed", 1),
        ('{"prompt": "ab", "max_tokens": 5000}', "needs 5002 positions", 0),
    ):
        file.write_text(line)
        result, found = measured(pair, tmp_path, *asked)
        assert result.exit_code == code and message in result.stdout, result.output
        assert found.choice is None and not found.gains
        assert "nothing to compare" in found.verdict


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--k", "8-0"], "--k 8-0 is not a list of depths."),
        (["--k", "0"], "Depth 0 alone"),
        (["--drafter", "magic"], "There is no drafter 'magic' to sweep."),
        (["--categories", "poems"], "There is no category 'poems'."),
        (["--plot", "x.pdf"], "x.pdf does not end in"),
        (["--set", "draft.k=3"], "draft.k cannot take effect"),
        (["--prompts", "missing.jsonl", "--categories", "chat"], "--categories cannot take effect together"),
        (["--save", "no/such/x.yaml"], "no/such/x.yaml cannot be written."),
        (["--save", "broken.yaml"], "does not parse as YAML"),
    ],
)
def test_mistakes_are_found_before_anything_is_loaded(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text("draft: [")
    monkeypatch.setattr("helix_cli.session.open_session", lambda *given: pytest.fail("something was loaded"))
    fails(helix("sweep-k", *arguments), message)


def test_mistakes_cost_no_import_of_torch() -> None:
    code = (
        "import sys\nfrom helix_cli.app import app\n"
        "try: app(['sweep-k', '--save', 'no/such.yaml'], prog_name='helix')\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        "assert not {'torch', 'transformers', 'numpy', 'matplotlib'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "cannot be written" in result.stderr, result.stderr


def test_help_leaves_out_what_cannot_take_effect() -> None:
    options = {name for parameter in load_command("sweep-k").params for name in parameter.opts}
    assert OPTIONS.keys() - options == {"--max-tokens", "--stop", "--ignore-eos", "--prompt-cache"}
    assert {"--k", "--drafter", "--precision", "--save", "--plot"} <= options
