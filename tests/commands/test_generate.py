"""`helix generate`: what it refuses before it loads anything, and where its text, events and results go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helix_cli.app import load_command
from helix_cli.commands.settings import OPTIONS
from helix_cli.errors import MemoryLimitError
from helix_cli.ui.stream import Renderer, open_renderer
from tests.commands.fakes import Helix, answer, fails


@pytest.fixture
def helix(monkeypatch: pytest.MonkeyPatch) -> Helix:
    """The program with sessions that need no model."""
    return Helix(monkeypatch)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Three prompts, the last one a conversation."""
    file = tmp_path / "prompts.jsonl"
    file.write_text(
        '{"prompt": "one two", "id": "a"}\n{"prompt": "three"}\n'
        '{"messages": [{"role": "user", "content": "four"}], "max_tokens": 9, "priority": 1}\n',
        encoding="utf-8",
    )
    return file


def results(file: Path) -> dict[int, dict[str, object]]:
    """The results of a file by index; each index occurs once."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len({line["index"] for line in lines}) == len(lines)
    return {line["index"]: line for line in lines}


def test_text_goes_to_stdout_and_nothing_else_does(helix: Helix) -> None:
    result = helix("generate", "def f():")
    assert (result.exit_code, result.stdout) == (0, "DEF F():\n")
    assert "speed" in result.stderr
    result = helix("generate", "def f():", "--no-stats")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "DEF F():\n", "")


def test_how_to_show_the_text_reaches_the_renderer(helix: Helix, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bool, bool, bool]] = []

    def open_quietly(json: bool, show_draft: bool, stats: bool) -> Renderer:
        asked.append((json, show_draft, stats))
        return open_renderer(json, False, False)

    monkeypatch.setattr("helix_cli.commands.generate.open_renderer", open_quietly)
    for option in ((), ("--json",), ("--show-draft",), ("--no-stats",)):
        assert helix("generate", "x", *option).exit_code == 0
    assert asked == [(False, False, True), (True, False, True), (False, True, True), (False, False, False)]


def test_argument_and_stdin_make_one_prompt(helix: Helix, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("b\n", encoding="utf-8")
    helix("generate", "a", "--file", str(tmp_path / "text"), stdin="c\n")
    helix("generate", "-", "--chat", stdin="hello")
    assert helix.sessions[0].prompts[0].text == "b\na\nc"
    assert helix.sessions[1].prompts[0].messages == ({"role": "user", "content": "hello"},)


def test_events_are_lines_of_json(helix: Helix) -> None:
    result = helix("generate", "one two three", "--json", "--k", "3")
    assert result.exit_code == 0
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["started", "text", "text", "text", "finished"]
    assert events[0]["target"] == "target" and events[0]["config"]["draft"]["k"] == 3
    assert "".join(event["text"] for event in events[1:-1]) == events[-1]["text"] == "ONE TWO THREE"
    assert events[-1]["finish_reason"] == "stop" and events[-1]["stats"]["num_tokens"] == 3


def test_options_reach_the_session(helix: Helix) -> None:
    helix("generate", "x", "--drafter", "ngram", "--seed", "7", "--stop", "a", "--stop", "b", "--set", "cache.blocks=9")
    config = helix.sessions[0].config
    assert (config.draft.kind, config.sampling.seed, config.sampling.stop) == ("ngram", 7, ("a", "b"))
    assert config.cache.blocks == 9


def test_a_foreign_target_without_a_draft_is_mentioned_once(helix: Helix) -> None:
    result = helix("generate", "x", "--model", "org/target", "--no-stats")
    assert result.stderr.count("No draft model was given for org/target") == 1
    assert helix.sessions[0].config.draft.kind == "ngram"


def test_help_has_every_option() -> None:
    options = {name for parameter in load_command("generate").params for name in parameter.opts}
    named = {"--file", "--input", "--output", "--resume", "--config", "--set", "--json", "--no-stats", "--show-draft"}
    assert options >= {"--chat", *named, *OPTIONS}
    assert all(parameter.help for parameter in load_command("generate").params)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ([], "There is no prompt.", "Write one"),
        ([" "], "There is no prompt.", "Write one"),
        (["-"], "There is no prompt.", "Write one"),
        (["--file", "missing"], "missing cannot be read: No such file", "Check the path"),
        (["--file", "."], ". cannot be read", "Check the path"),
        (["--input", "missing"], "missing cannot be read: No such file", "Check the path"),
        (["x", "--config", "missing.yaml"], "missing.yaml cannot be read", "path of a YAML file"),
        (["x", "--output", "o"], "--output cannot take effect without --input.", "Add --input"),
        (["x", "--resume"], "--resume cannot take effect without --output.", "Add --output"),
        (["x", "--input", "p"], "PROMPT cannot take effect together with --input.", "Leave one"),
        (["--file", "f", "--input", "p"], "--file cannot take effect together with --input.", "Leave one"),
        (["--json", "--input", "p"], "--json cannot take effect together with --input.", "Leave one"),
        (["--show-draft", "--input", "p"], "--show-draft cannot take effect together with --input.", "Leave one"),
        (["--no-stats", "--input", "p"], "--no-stats cannot take effect together with --input.", "Leave one"),
        (["x", "--no-stats", "--json"], "--no-stats cannot take effect together with --json.", "Leave one"),
        (["x", "--show-draft", "--json"], "--show-draft cannot take effect together with --json.", "Leave one"),
        (
            ["x", "--k", "99"],
            'draft.k must be auto or a whole number from 0 to 64, not "99".',
            "The most",
        ),
        (["x", "--k", "many"], 'draft.k must be auto or a whole number from 0 to 64, not "many".', "draft.k: The most"),
        (["x", "--k", "-1"], 'draft.k must be auto or a whole number from 0 to 64, not "-1".', "draft.k: The most"),
        (["x", "--k", "auto", "--drafter", "none"], "draft.k cannot take effect with drafter none.", "Remove draft.k"),
        (["x", "--temperature", "-1"], "sampling.temperature must be a number of at least 0", "How random"),
        (["x", "--max-tokens", "0"], "sampling.max_tokens must be a whole number of at least 1", "The most tokens"),
        (["x", "--device", "gpu"], "backend.device must be auto, cpu", "Where to run"),
        (["x", "--set", "draft.kk=1"], "There is no setting draft.kk.", "Did you mean draft.k?"),
        (["x", "--set", "k"], "'k' does not set anything.", "section.key=value"),
        (["x", "--draft", "d", "--drafter", "none"], "draft.path cannot take effect with drafter none.", "Remove"),
        (["x", "--model", "m", "--drafter", "model"], "Drafter model needs a draft model.", "--draft"),
        (["x", "--rule", "greedy", "--temperature", "1"], "Rule greedy cannot work at temperature 1.", "--rule"),
    ],
)
def test_mistakes_are_found_before_anything_is_loaded(
    helix: Helix, arguments: list[str], message: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fails(helix("generate", *arguments), message, hint)
    assert not helix.sessions


@pytest.mark.parametrize(
    "arguments", [["x", "--top-k", "many"], ["x", "--drafter", "magic"], ["x", "y"], ["x", "--modle", "m"]]
)
def test_usage_errors_go_to_stderr(helix: Helix, arguments: list[str]) -> None:
    result = helix("generate", *arguments)
    assert (result.exit_code, result.stdout) == (2, "") and "Usage: helix generate" in result.stderr


def test_mistakes_cost_no_import_of_torch() -> None:
    code = (
        "import sys\nfrom helix_cli.app import app\n"
        "try: app(['generate', '--input', 'missing.jsonl'], prog_name='helix')\n"
        "except SystemExit as end: assert end.code == 2, end.code\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "missing.jsonl cannot be read" in result.stderr, result.stderr


def test_a_batch_writes_a_result_for_each_prompt(helix: Helix, prompts: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    result = helix("generate", "--input", str(prompts), "--output", str(output))
    assert (result.exit_code, result.stdout) == (0, "")
    found = results(output)
    assert {index: line["text"] for index, line in found.items()} == {0: "ONE TWO", 1: "THREE", 2: "FOUR"}
    assert found[0]["id"] == "a" and found[0]["prompt"] == "one two" and found[1]["id"] is None
    assert found[2]["prompt"] == [{"role": "user", "content": "four"}]
    asked = helix.sessions[0].prompts[2]
    assert (asked.max_tokens, asked.priority) == (9, 1)


def test_a_batch_without_an_output_file_goes_to_stdout(helix: Helix, prompts: Path) -> None:
    result = helix("generate", "--input", "-", stdin=prompts.read_bytes())
    assert result.exit_code == 0
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["ONE TWO", "THREE", "FOUR"]


def test_mistakes_of_a_batch(helix: Helix, prompts: Path, tmp_path: Path) -> None:
    good, output = str(prompts), tmp_path / "out.jsonl"
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "x"}\n{"prompt": ""}\n', encoding="utf-8")
    fails(helix("generate", "--input", str(bad), "--output", str(output)), "Line 2 of")
    assert not output.exists()
    fails(helix("generate", "--input", good, "--output", str(tmp_path)), "cannot be written")
    fails(helix("generate", "--input", good, "--output", str(tmp_path / "no" / "out")), "cannot be written")
    fails(helix("generate", "--input", good, "--output", good), "--output is the same file as --input.")
    output.write_text("{}\n", encoding="utf-8")
    fails(helix("generate", "--input", good, "--output", str(output)), "already holds results", "--resume")
    fails(helix("generate", "--input", good, "--output", str(output), "--resume"), "Line 1 of")
    assert not helix.sessions


def test_a_batch_that_runs_out_of_memory_keeps_what_is_done(helix: Helix, prompts: Path, tmp_path: Path) -> None:
    def fail(place: int) -> None:
        if place == 2:
            raise MemoryLimitError("Memory ran out.", "Less.")

    output = tmp_path / "out.jsonl"
    helix.before = fail
    result = helix("generate", "--input", str(prompts), "--output", str(output))
    assert result.exit_code == 2 and "Error: Memory ran out.\nHint: Less." in result.stderr
    assert "1 of 3 prompts have their results. Run it again with --resume" in result.stderr
    assert [*results(output)] == [0]


def test_an_interrupted_batch_keeps_what_is_done_and_goes_on(helix: Helix, prompts: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    arguments = ("generate", "--input", str(prompts), "--output", str(output))
    helix.before = lambda place: signal.raise_signal(signal.SIGINT) if place == 2 else None
    result = helix(*arguments)
    assert result.exit_code == 130 and "1 of 3 prompts" in result.stderr and "--resume" in result.stderr
    assert [*results(output)] == [0]
    helix.before = lambda place: None
    assert helix(*arguments, "--resume").exit_code == 0
    assert [prompt.index for prompt in helix.sessions[-1].prompts] == [1, 2]
    assert [*results(output)] == [0, 1, 2]
    result = helix(*arguments, "--resume")
    assert result.exit_code == 0 and "All 3 prompts have their results already." in result.stderr
    assert len(helix.sessions) == 2


def test_ctrl_c_ends_the_text_and_keeps_the_statistics(helix: Helix) -> None:
    before = signal.getsignal(signal.SIGINT)
    helix.before = lambda place: signal.raise_signal(signal.SIGINT) if place == 2 else None
    result = helix("generate", "one two three four", "--json")
    last = json.loads(result.stdout.splitlines()[-1])
    assert (result.exit_code, last["finish_reason"], last["text"]) == (130, "abort", "ONE TWO")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_at_once(helix: Helix) -> None:
    def twice(place: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    helix.before = twice
    result = helix("generate", "one two")
    assert result.exit_code == 130 and result.stderr.endswith("Interrupted.\n")


def start(arguments: str, before: str = "") -> subprocess.Popen[str]:
    """A process that runs `helix` with fake sessions; both texts are Python, `before` runs first."""
    code = (
        "import os, signal, pytest\nfrom tests.commands.fakes import Helix\nfrom helix_cli.app import app\n"
        f"helix = Helix(pytest.MonkeyPatch())\n{before}\napp({arguments}, prog_name='helix')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_ctrl_c_while_loading_is_one_line() -> None:
    process = start("['generate', 'x']", "helix.loading = lambda: os.kill(os.getpid(), signal.SIGINT)")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr.splitlines()[-1]) == (130, "", "Interrupted.")
    assert "Traceback" not in stderr


def test_a_reader_that_leaves_ends_the_program_quietly() -> None:
    with start("['generate', 'word ' * 50_000 + 'end', '--no-stats']") as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(4) == "WORD"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) != 0


def test_the_fake_answers_in_capitals(helix: Helix) -> None:
    helix("generate", "x y")
    assert answer(helix.sessions[0].prompts[0]) == "X Y"
