"""`helix bench` over a tiny pair, from its command line to its files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from helix_cli.app import app, load_command
from helix_cli.bench.arms import HelixArm
from helix_cli.bench.reporting import read_report
from helix_cli.bench.schema import Report
from helix_cli.bench.transformers_arms import TransformersArm
from helix_cli.commands.settings import OPTIONS
from helix_cli.session import Session
from tests.commands.fakes import fails
from tests.test_session import save_pair

SMALL = ("--shapes", "none", "--categories", "chat", "--limit", "2", "--tokens", "6", "--rounds", "1")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return save_pair(tmp_path_factory.mktemp("pair"), max_position_embeddings=1024)


@pytest.fixture(autouse=True)
def small_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helix_cli.bench.machine.read_bandwidth", lambda device: 1e9)


def helix(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="helix")


def bench(pair: tuple[Path, Path], *arguments: str) -> Result:
    """The benchmark of a pair, whose draft is named where some arm drafts."""
    arms = arguments[arguments.index("--arms") + 1] if "--arms" in arguments else "plain,speculative"
    draft = ("--draft", str(pair[1])) if {"speculative", "transformers-assisted"} & set(arms.split(",")) else ()
    return helix("bench", "--model", str(pair[0]), *draft, "--set", "backend.threads=1", *arguments)


def measured(pair: tuple[Path, Path], directory: Path, *arguments: str) -> tuple[Result, Report]:
    result = bench(pair, *arguments, "--json", str(directory / "r.json"))
    return result, read_report(directory / "r.json")


def test_four_arms_from_the_command_line_to_the_files(pair: tuple[Path, Path], tmp_path: Path) -> None:
    names = {"plain", "speculative", "transformers", "transformers-assisted"}
    files = [part for kind in ("csv", "markdown") for part in (f"--{kind}", str(tmp_path / f"r.{kind}"))]
    work = ("--shapes", "pp8,tg6,tg8@d2048", "--categories", "chat,code", "--limit", "2", "--tokens", "6")
    plot = ("--plot", str(tmp_path / "r.html"))
    result, report = measured(pair, tmp_path, "--arms", ",".join(names), "--rounds", "1", *work, *files, *plot)
    assert result.exit_code == 0, result.output
    assert {(row.arm, row.workload) for row in report.rows} == {
        (n, w) for n in names for w in ("pp8", "tg6", "chat", "code")
    }
    rows = {(row.arm, row.workload): row for row in report.rows}
    for row in report.rows:
        assert row.figures.equal_texts in (None, (row.figures.num_texts, row.figures.num_texts)), (
            row.arm,
            row.workload,
        )
        assert all(len(text.token_ids) == {"prompt": 1}.get(row.kind, 6) for run in row.runs for text in run.texts)
        assert all(text.num_reused == 0 for run in row.runs for text in run.texts)
    drafting = rows["speculative", "chat"]
    assert drafting.figures.costs is not None and drafting.figures.split is not None
    assert drafting.setup.draft is not None and drafting.setup.draft.sha256 != drafting.setup.target.sha256
    assert drafting.setup.k == "auto" and rows["transformers-assisted", "chat"].setup.k == "auto"
    assert rows["plain", "chat"].figures.depths is None
    assert rows["plain", "chat"].setup.draft is None and rows["plain", "chat"].figures.costs is not None
    assert (
        rows["plain", "chat"].figures.weight_bytes_per_round
        == rows["transformers", "chat"].figures.weight_bytes_per_round
    )
    assert {one.workload for one in report.problems} == {"tg8@d2048"} and not report.failed
    assert "needs 2056 positions, and the model's context has 1024" in result.stdout
    assert report.verdict in result.stdout and "Speed, tokens a second" in result.stdout
    assert (tmp_path / "r.csv").read_text().startswith("created,") and "| chat | plain |" in (
        tmp_path / "r.markdown"
    ).read_text()
    assert "<svg" in (tmp_path / "r.html").read_text()


def test_batches_and_a_file_of_prompts(pair: tuple[Path, Path], tmp_path: Path) -> None:
    prompts = tmp_path / "mine.jsonl"
    lines = [
        {"prompt": "The quick brown fox"},
        {"messages": [{"role": "user", "content": "Hello"}]},
        {"prompt": "Please"},
    ]
    prompts.write_text("\n".join(map(json.dumps, [*lines, {"prompt": "def f", "max_tokens": 4}])), encoding="utf-8")
    asked = ("--prompts", str(prompts), "--batch", "1,4", "--tokens", "6", "--rounds", "2", "--shapes", "none")
    arms = ("--arms", "plain,speculative,transformers,transformers-assisted")
    result, report = measured(pair, tmp_path, *asked, *arms)
    assert result.exit_code == 0, result.output
    assert {row.workload for row in report.rows} == {"mine.jsonl", "batch 1", "batch 4"}
    rows = {(row.arm, row.workload): row for row in report.rows}
    together = rows["speculative", "batch 4"]
    assert together.batch == 4 and [len(run.texts) for run in together.runs] == [4, 4]
    gain = together.figures.batch_gain
    assert gain is not None and gain.num_pairs == 2 and rows["speculative", "batch 1"].figures.batch_gain is None
    assert [len(text.token_ids) for run in rows["plain", "mine.jsonl"].runs[:4] for text in run.texts] == [6, 6, 6, 4]
    assert rows["transformers", "batch 4"].figures.ttft_s is not None
    assert [(one.arm, one.workload) for one in report.problems] == [("transformers-assisted", "batch 4")]


def test_an_arm_that_fails_makes_the_exit_code_1(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: TransformersArm, job: Any) -> Any:
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr(TransformersArm, "run", fail)
    result, report = measured(pair, tmp_path, *SMALL, "--arms", "plain,transformers")
    assert result.exit_code == 1 and "RuntimeError: no kernel for this" in result.stdout
    assert {row.arm for row in report.rows} == {"plain"} and report.failed


def test_ctrl_c_writes_what_is_finished(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = HelixArm.run, []

    def interrupted(self: HelixArm, job: Any) -> Any:
        asked.append(self.name)
        if len(asked) == 5:  # Two warm-ups, and a text of each arm.
            signal.raise_signal(signal.SIGINT)
        return run(self, job)

    monkeypatch.setattr(HelixArm, "run", interrupted)
    result, report = measured(pair, tmp_path, *SMALL)
    assert result.exit_code == 130 and report.interrupted and "interrupted" in result.stdout
    assert [(row.arm, len(row.runs)) for row in report.rows] == [("plain", 1), ("speculative", 1)]
    assert report.condition.read_bandwidth is None and not report.failed


def test_ctrl_c_at_the_very_end_of_a_text_ends_the_run(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is finished and the session forgets the request; the benchmark must not."""
    run, asked = Session.run, []

    def late(self: Session, requests: Any) -> Any:
        found = run(self, requests)
        asked.append(found)
        if len(asked) == 3:  # Two warm-ups, and the first text.
            signal.raise_signal(signal.SIGINT)
            self._stop_flag.is_set = False
        return found

    monkeypatch.setattr(Session, "run", late)
    result, report = measured(pair, tmp_path, *SMALL)
    assert result.exit_code == 130 and report.interrupted
    assert [(row.arm, len(row.runs)) for row in report.rows] == [("plain", 1)]


def test_stdout_holds_one_thing(pair: tuple[Path, Path]) -> None:
    result = bench(pair, *SMALL, "--arms", "plain", "--json", "-")
    assert result.exit_code == 0, result.output
    report = Report.model_validate_json(result.stdout)
    assert report.verdict in result.stderr and {row.setup.drafter for row in report.rows} == {"none"}


def test_reuse_is_off_unless_asked_for(pair: tuple[Path, Path], tmp_path: Path) -> None:
    _, report = measured(pair, tmp_path, *SMALL, "--arms", "plain", "--reuse-prefixes")
    assert any(text.num_reused for row in report.rows for run in row.runs for text in run.texts)


def test_what_the_choice_of_depth_came_to(pair: tuple[Path, Path], tmp_path: Path) -> None:
    result, report = measured(pair, tmp_path, *SMALL, "--k", "2")
    [drafting] = [row.figures for row in report.rows if row.arm == "speculative"]
    # Six tokens: the first comes alone, and the last rounds have room for less.
    assert drafting.depths is not None and drafting.depths.most == 2
    assert drafting.depths.off_share < 1.0 and "Depth" in result.stdout


def test_comparing_two_reports(pair: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        assert bench(pair, *SMALL, "--json", str(tmp_path / name)).exit_code == 0
    result = helix("bench", "compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"))
    assert result.exit_code == 0 and "What changed" in result.stdout and "speculative" in result.stdout
    fails(helix("bench", "compare", str(tmp_path / "a.json"), "missing"), "missing cannot be read")
    fails(helix("bench", "--rounds", "3", "compare", "a", "b"), "--rounds cannot take effect together with compare.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arms", "magic"], "There is no arm 'magic'."),
        (["--shapes", "pp"], "There is no shape 'pp'."),
        (["--plot", "x.pdf"], "x.pdf does not end in"),
        (["--json", "no/such/x.json"], "no/such/x.json cannot be written."),
        (["--json", "x", "--csv", "./x"], "Two outputs have the same name."),
        (
            ["--prompts", "mine.jsonl", "--json", "./mine.jsonl"],
            "mine.jsonl holds the prompts and would be written over.",
        ),
        (["--prompts", "missing.jsonl"], "missing.jsonl cannot be read"),
        (["--prompts", "missing.jsonl", "--limit", "2"], "--limit cannot take effect together with --prompts."),
        (["--set", "sampling.max_tokens=5"], "sampling.max_tokens cannot take effect in a benchmark."),
        (["--drafter", "none"], "Arm speculative needs a drafter"),
        (["--arms", "transformers-assisted", "--drafter", "ngram"], "needs a draft model"),
    ],
)
def test_mistakes_are_found_before_anything_is_loaded(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("helix_cli.session.open_session", lambda *given: pytest.fail("something was loaded"))
    fails(helix("bench", *arguments), message)


def test_mistakes_cost_no_import_of_torch() -> None:
    code = (
        "import sys\nfrom helix_cli.app import app\n"
        "try: app(['bench', '--plot', 'x.pdf'], prog_name='helix')\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        "assert not {'torch', 'transformers', 'numpy', 'matplotlib'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "x.pdf does not end in" in result.stderr, result.stderr


def test_help_leaves_out_what_cannot_take_effect() -> None:
    options = {name for parameter in load_command("bench").params for name in parameter.opts}
    assert OPTIONS.keys() - options == {"--max-tokens", "--stop", "--ignore-eos", "--prompt-cache"}
    assert {"--arms", "--shapes", "--batch", "--json", "--csv", "--markdown", "--plot", "--set"} <= options
